"""``graph_tools.gradient`` against autograd: every architecture out of every exporter and opset, and in full size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parity.against_autograd import autograd, distance, find_inside, ours, switched_units
from tests.parity.architectures import ALL, Architecture
from tests.parity.exports import FORMS, REFUSED, Exported, exported, run
from tests.parity.ledger import SWITCHED

pytestmark = pytest.mark.parity

LIMIT = 1e-5  # ‖ours − autograd's‖ / ‖autograd's‖, float32, against the nearer of autograd in float32 and float64
OWN = 1e-5  # the program's outputs beside the untouched file's
ROUNDING = 1e-4  # a unit that may be switched: its distance from the kink, in multiples of the largest input there


def pairs(refused: bool) -> Iterator[object]:
    """Architecture by architecture, so that one is built once."""
    for a in ALL:
        for form in FORMS:
            if ((a.name, form) in REFUSED) == refused:
                yield pytest.param(a.name, form, id=f"{a.name}-{form}")


def hold(file: Exported) -> None:
    """The input's gradient and three inside beside autograd's, and the outputs beside the file's own."""
    inside = find_inside(file)
    got = ours(file, list(inside.values()))
    plain = run(file.proto, file.feeds)
    for y in file.outputs:
        assert distance(got.outputs[y], plain[y]) <= OWN, f"{file.name}: the program's {y} is not the file's"
    narrow, exact = (autograd(module, file.inputs, list(inside)) for module in (file.module, file.wide))
    near = [min(distance(g, a), distance(g, b)) for g, a, b in zip(got.gradients, narrow, exact, strict=True)]
    if max(near) > LIMIT:
        units, near = switched_units(file, list(inside), list(inside.values()))
        assert all(unit.near <= ROUNDING for unit in units), [str(unit) for unit in units]
        SWITCHED[file.name] = [str(unit) for unit in units]
    told = dict(zip(got.names, [f"{d:.1e}" for d in near], strict=True))
    assert max(near) <= LIMIT, f"{file.name}: distances from autograd {told}; units switched: {SWITCHED.get(file.name)}"


@pytest.mark.parametrize(("name", "form"), list(pairs(refused=False)))
def test_small_form(name: str, form: str) -> None:
    hold(exported(name, form))


@pytest.mark.parametrize(("name", "form"), list(pairs(refused=True)))
def test_torch_still_refuses(name: str, form: str) -> None:
    with pytest.raises(Exception, match=REFUSED[name, form]):
        exported(name, form)


@pytest.mark.parametrize("architecture", ALL, ids=lambda a: f"{a.name}-{a.full_form}")
def test_full_form(architecture: Architecture) -> None:
    hold(exported(architecture.name, architecture.full_form, full=True))
    exported.cache_clear()  # tens of millions of weights


@pytest.mark.parametrize("architecture", ALL, ids=lambda a: f"{a.name}-{a.dynamic_form}")
def test_any_number_of_rows(architecture: Architecture) -> None:
    """Exported with an open batch axis from two rows, asked for three."""
    made = exported(architecture.name, architecture.dynamic_form, rows=None)
    assert made.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    inputs = architecture.inputs(rows=3)
    hold(Exported(f"{made.name}, 3 rows", made.proto, made.module, inputs, made.outputs))


def test_the_table_of_refusals_names_what_is_tested() -> None:
    assert {name for name, _ in REFUSED} <= {a.name for a in ALL}
    assert {form for _, form in REFUSED} <= set(FORMS)
