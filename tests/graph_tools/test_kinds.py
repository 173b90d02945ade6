"""Every row of the rule tables in float16 and float64, against float32, in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import graph_tools
from tests.graph_tools.harness import Case, build, run_ort
from tests.graph_tools.test_vjp import ORT


def gradients(case: Case, kind: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None:
    """(feeds, gradients by operand), or None where ONNX Runtime does not run the operator itself in ``kind``."""
    proto, feeds = build(case, kind)
    try:
        own = run_ort(proto, feeds)
    except Exception:
        return None
    wrt = [f"x{i}" for i in case.wrt] if case.wrt else [n for n, a in feeds.items() if a.dtype == kind]
    ys = [f"y{i}" for i in case.through]
    program = ir.to_proto(graph_tools.gradient(proto, ys, wrt))
    rng = np.random.default_rng(4)
    cts = {f"cotangent_{y}": rng.choice([-1.0, 0.5, 1.0, 2.0], own[y].shape).astype(kind) for y in ys}
    got = run_ort(program, {**feeds, **cts})
    return feeds, {name: got[f"grad_{name}"] for name in wrt}


@pytest.mark.parametrize("kind", [np.float16, np.float64])
@pytest.mark.parametrize("case", ORT, ids=[c.label for c in ORT])
def test_other_floats(case: Case, kind: Any) -> None:
    found = gradients(case, kind)
    if found is None:
        pytest.skip("ONNX Runtime has no CPU kernel of the operator itself for this dtype")
    single = gradients(case, np.float32)
    assert single is not None
    tolerance = 2e-2 if kind == np.float16 else 1e-4
    for name, want in single[1].items():
        got = found[1][name]
        assert got.dtype == kind
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, atol=tolerance * max(1.0, np.abs(want).max(initial=0)), rtol=0)
