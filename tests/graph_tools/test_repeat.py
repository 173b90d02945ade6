"""K cotangents per row over one forward pass: every row of the rule tables against K separate runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

import graph_tools
from graph_tools import batching
from graph_tools.backward import backward
from graph_tools.emit import Emitter
from graph_tools.model import values_by_name
from tests.graph_tools.harness import Case, arrays, build, run_ort
from tests.graph_tools.test_vjp import ORT

K = 3


def batched(case: Case) -> Case | None:
    """The row with its first float operand (and integers of as many rows) as inputs, if that leaves y0 batched."""
    operands = arrays(case)
    first = next(i for i, a in enumerate(operands) if a is not None and a.dtype == np.float64)
    x = operands[first]
    assert x is not None
    if first in case.constants or x.ndim == 0 or x.shape[0] == 0:
        return None
    same_rows = tuple(
        i for i in case.runtime if (a := operands[i]) is not None and a.ndim > 1 and a.shape[0] == x.shape[0]
    )
    others = {i for i, a in enumerate(operands) if a is not None} - {first, *same_rows}
    row = replace(case, constants=tuple(others), runtime=same_rows, wrt=(first,))
    marked = batching.batch_values(graph_tools.load(build(row, np.float32)[0]))
    return row if all(f"y{i}" in marked for i in case.through) else None


ROWS = [row for case in ORT if (row := batched(case)) is not None]


@pytest.mark.parametrize("open_dims", [False, True], ids=["known", "open"])
@pytest.mark.parametrize("case", ROWS, ids=[c.label for c in ROWS])
def test_k_cotangents_per_row(case: Case, open_dims: bool) -> None:
    if open_dims and not case.open_dims:
        pytest.skip("this row needs known dimensions")
    proto, feeds = build(case, np.float32, open_dims)
    name, ys = f"x{case.wrt[0]}", [f"y{i}" for i in case.through]
    model = graph_tools.load(proto)
    b, values = Emitter(model), values_by_name(model)
    repeat = b.input("k", ir.DataType.INT64, [])
    seeds = {values[y]: b.input(f"cotangent_{y}", ir.DataType.FLOAT, _open(values[y])) for y in ys}
    (found,) = backward(model, seeds, [values[name]], repeat=repeat)
    rng = np.random.default_rng(2)
    own = run_ort(proto, feeds)
    cts = {y: rng.uniform(-1, 1, (K * own[y].shape[0], *own[y].shape[1:])).astype(np.float32) for y in ys}
    plain = ir.to_proto(graph_tools.gradient(proto, ys, [name]))
    single = [
        run_ort(plain, {**feeds, **{f"cotangent_{y}": ct[k::K] for y, ct in cts.items()}})[f"grad_{name}"]
        for k in range(K)
    ]
    want = np.stack(single, axis=1).reshape(-1, *feeds[name].shape[1:])
    if found is None:
        assert not want.any()
        return
    b.output(found, "grad")
    together = {**feeds, "k": np.array(K), **{f"cotangent_{y}": ct for y, ct in cts.items()}}
    got = run_ort(ir.to_proto(model), together)["grad"]
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-5)


def _open(v: ir.Value) -> list[int | str | None] | None:
    """The shape of K cotangents per row of ``v``: axis 0 open."""
    return None if v.shape is None else [None, *(d if isinstance(d, int) else d.value for d in v.shape[1:])]
