"""The benchmarks' machinery: contenders start and answer, ratios are what they are called, gradients are checked."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.bench import light, nets, numeric
from tests.bench.__main__ import main
from tests.bench.process import (
    PARITY,
    Contender,
    Refused,
    Spec,
    geometric_mean,
    interleave,
    ratio,
    started,
    times_of,
)
from tests.bench.report import against
from tests.bench.sections import build
from tests.bench.sections.light import CLOSE, check, difference


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A file of a transformer of one narrow block, batch 2."""
    path = tmp_path_factory.mktemp("bench") / "tiny.onnx"
    onnx.save(nets.fixed(nets.vit(16, 1, 2, size=16, patch=8), 2), path)
    return path


def test_the_ratio_is_the_median_of_pairs():
    assert ratio([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == 3.0
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0, 2.0], [1.0])
    assert geometric_mean([0.5, 8.0]) == pytest.approx(2.0)


def test_short_runs_are_many_in_a_turn():
    assert [times_of(s) for s in (2.0, 0.1, 0.0)] == [1, 4, 30]


def test_aims():
    assert against(2.0, 2.0) == "2.00 (≤ 2)"
    assert against(2.1, 2.0) == "2.10 (≤ 2, missed)"
    assert against(0.9, 1.0, least=True) == "0.90 (≥ 1, missed)"


def test_contenders_take_turns_and_answer(tiny, tmp_path):
    specs = {
        "forward": Spec("ort_forward", {"path": tiny, "threads": 1}),
        **{s: Spec("gradient", {"path": tiny, "setting": s, "threads": 1, "save": tmp_path / f"{s}.npy"})
           for s in ("fast", "low")},
        "many": Spec("gradient", {"path": tiny, "setting": "shared", "threads": 1, "programs": 2}),
        "none": Spec("gradient", {"path": tiny.with_name("missing.onnx")}),
    }  # fmt: skip
    with started(specs, optional=("none",)) as contenders:
        assert list(contenders) == ["forward", "fast", "low", "many"]
        found = interleave(contenders, turns=2)
        memory = contenders["fast"].memory(2)
        counts = {name: c.facts["nodes"] for name, c in contenders.items()}
    assert all(len(turns) == 2 and min(turns) > 0 for turns in found.values())
    assert set(memory) == {"held", "peak"}
    assert counts["forward"] < counts["fast"]
    fast, low = (np.load(tmp_path / f"{s}.npy") for s in ("fast", "low"))
    assert fast.shape == (2, 3, 16, 16)
    assert difference(fast, low) < 1e-5


def test_a_contender_that_fails_says_why(tiny):
    with pytest.raises(Refused, match=r"gradient: \w+: .*nowhere"):
        Contender(Spec("gradient", {"path": tiny, "output": "nowhere"}))
    with pytest.raises(Refused, match="no contender 'unknown'"):
        Contender(Spec("unknown", {}))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [("torch_gradient", {"net": "squeezenet", "batch": 1, "side": 64}), ("onnx_ad", {})],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_peers_answer(kind, arguments, tmp_path):
    if not PARITY.exists():
        pytest.skip("the parity environment is not installed (make parity)")
    if kind == "onnx_ad":
        arguments = {"path": light.save(tmp_path, "squeezenet")}
    with started({kind: Spec(kind, {**arguments, "threads": 1}, PARITY)}) as contenders:
        (seconds,) = contenders[kind].run(1)
    assert seconds > 0


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_gradients_of_light_networks(name):
    assert max(check(light.load(name))) < CLOSE


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_light_networks_have_all_their_weights(name):
    model = light.load(name)
    held = {t.name for t in model.graph.initializer}
    assert [n.op_type for n in model.graph.node if n.op_type == "ConstantOfShape"] == []
    assert len(model.graph.input) == 1
    assert model.graph.input[0].name not in held
    assert light.interior(model) in {o for n in model.graph.node if n.op_type == "Conv" for o in n.output}
    onnx.checker.check_model(model)


def test_central_differences_find_a_wrong_gradient():
    matrix = np.random.default_rng(0).standard_normal((3, 4))
    true = matrix.sum(0)

    def value(step):
        return float((matrix @ (1.0 + step)).sum())

    assert numeric.error(value, true) < 1e-6
    assert numeric.error(value, true * 1.1) > 0.05


def test_a_kink_within_the_step_is_unstable():
    with pytest.raises(numeric.Unstable):
        numeric.derivative(lambda d: float(np.sign(d.sum())), np.ones(1), 1.0)


def test_transformers_have_the_nodes_asked_for():
    assert len(build.transformer(500, 8, 2).graph.node) == pytest.approx(500, rel=0.1)


def test_an_unknown_section_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["speed"])
    assert "gradient, light, memory, build, service" in capsys.readouterr().err
