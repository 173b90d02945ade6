"""Bodies of ONNX Runtime's transformer operators: its own kernel's values, and the gradient of central differences."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graph_tools
from tests.graph_tools.contrib_transformer import CASES, PAST, PROJECTED
from tests.graph_tools.harness import Case, build, check_case, run_ort, run_reference

KERNELS = [c for c in CASES if c.ort]
OPEN = [c for c in KERNELS if c.open_dims]


def lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    """The loaded model, in which no operator of another domain is left."""
    loaded = graph_tools.load(model)
    assert {n.domain for n in loaded.graph.all_nodes()} <= {""}
    assert "SimplifiedLayerNormalization" not in {n.op_type for n in loaded.graph.all_nodes()}
    return ir.to_proto(loaded)


def run_lowered(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of the loaded model by the reference evaluator."""
    return run_reference(lowered(model), feeds)


def check_forward(case: Case, open_dims: bool) -> None:
    """The loaded model's outputs equal those of the operator's own kernel."""
    model, feeds = build(case, np.float32, open_dims)
    want, got = run_ort(model, feeds), run_ort(lowered(model), feeds)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-5)
        assert got[name].dtype == want[name].dtype


@pytest.mark.parametrize("case", KERNELS, ids=[c.label for c in KERNELS])
def test_computes_what_the_kernel_does(case: Case) -> None:
    check_forward(case, open_dims=False)


@pytest.mark.parametrize("case", OPEN, ids=[c.label for c in OPEN])
def test_with_unknown_dimensions(case: Case) -> None:
    check_forward(case, open_dims=True)


def run_lowered_float32(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of the loaded model by ONNX Runtime."""
    return run_ort(lowered(model), feeds)


@pytest.mark.parametrize("case", CASES, ids=[c.label for c in CASES])
def test_gradient(case: Case) -> None:
    if case.op == "QAttention":  # dequantising to float64 is not defined
        check_case(case, np.float32, run_lowered_float32, step=1e-2, tolerance=1e-2)
        return
    step, tolerance = (1e-6, 1e-5) if case.reference else (1e-3, 1e-3)
    check_case(case, np.float64, run_lowered, step=step, tolerance=tolerance)


def test_a_form_without_body_stays_and_is_named() -> None:
    shared = Case("Attention", (*PROJECTED, None, PAST), {"num_heads": 2, "past_present_share_buffer": 1},
                  domain="com.microsoft")  # fmt: skip
    model, _ = build(shared, np.float32)
    with pytest.raises(graph_tools.UnsupportedGradient, match=r"com.microsoft::Attention.*the_node"):
        graph_tools.gradient(model, ["y0"], ["x0"])
