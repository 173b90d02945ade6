"""Every row in ONNX Runtime's other float types: where the model itself runs, so does its gradient, and is right."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graph_tools
from graph_tools.vjp.table import SAMPLERS
from tests.graph_tools.harness import Case, build, check_case, run_ort
from tests.graph_tools.test_vjp import CASES, ORT

SINGLE_INSIDE = {"Shrink", "GroupNormalization"}  # float64 kernels that compute in float32


def _runs(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> bool:
    try:
        run_ort(model, feeds)
    except Exception:  # no kernel for this type
        return False
    return True


@pytest.mark.parametrize("case", ORT, ids=[c.label for c in ORT])
def test_float64(case: Case) -> None:
    if not case.numeric or case.op in SINGLE_INSIDE or not _runs(*build(case, np.float64)):
        pytest.skip("ONNX Runtime does not compute this operator in float64")
    check_case(case, np.float64, run_ort, step=1e-6, tolerance=1e-5)


HALF = [c for c in CASES if c.ort and c.op not in SAMPLERS]  # exact rows too: float32 is what is compared with


@pytest.mark.parametrize("case", HALF, ids=[c.label for c in HALF])
def test_float16_equals_float32(case: Case) -> None:
    half, feeds = build(case, np.float16)
    if not _runs(half, feeds):
        pytest.skip("ONNX Runtime has no float16 kernel for this operator")
    single, _ = build(case, np.float32)
    wrt = [f"x{i}" for i in case.wrt] if case.wrt else [n for n, a in feeds.items() if a.dtype == np.float16]
    ys = [f"y{i}" for i in case.through]
    rng = np.random.default_rng(11)
    own = run_ort(half, feeds)
    cts = {f"cotangent_{y}": rng.uniform(-1, 1, own[y].shape).astype(np.float16) for y in ys}
    got = run_ort(ir.to_proto(graph_tools.gradient(half, ys, wrt)), {**feeds, **cts})
    widened = {n: a.astype(np.float32) if a.dtype == np.float16 else a for n, a in {**feeds, **cts}.items()}
    want = run_ort(ir.to_proto(graph_tools.gradient(single, ys, wrt)), widened)
    for name in wrt:
        a, b = got[f"grad_{name}"], want[f"grad_{name}"]
        assert a.dtype == np.float16
        np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-2 * max(1.0, float(np.abs(b).max(initial=0.0))))
