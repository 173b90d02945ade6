"""ONNX Runtime's fused operators: the body computes what the kernel does, and differentiates."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

import graph_tools
from tests.graph_tools.harness import Case, arrays, build, check_case, run_ort, run_reference

MS = "com.microsoft"
I32, I64 = np.int32, np.int64
RNG = np.random.default_rng(3)


def ms(op: str, *operands: Any, **rest: Any) -> Case:
    return Case(op, operands, rest.pop("attrs", {}), domain=MS, **rest)


def lowered(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs the bodies in float64."""
    return run_reference(ir.to_proto(graph_tools.load(model)), feeds)


IMAGE, WEIGHTS, BIAS = (2, 4, 6, 5), (6, 4, 3, 3), (6,)
WINDOW = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
GEMM = {"transB": 1, "alpha": 0.5, "beta": 2.0}
ACTIVATIONS = {
    "Relu": {}, "Sigmoid": {}, "Tanh": {}, "LeakyRelu": {"activation_params": [0.2]},
    "Clip": {"activation_params": [-0.3, 0.4]}, "HardSigmoid": {"activation_params": [0.3, 0.45]},
}  # fmt: skip
CASES = [
    ms("FusedConv", IMAGE, WEIGHTS, BIAS, attrs=WINDOW, id="plain"),
    ms("FusedConv", IMAGE, WEIGHTS, BIAS, (2, 6, 6, 5), attrs={**WINDOW, "activation": "Relu"}, id="sum"),
    ms("FusedConv", IMAGE, WEIGHTS, None, (2, 6, 6, 5), attrs={**WINDOW, "activation": "Relu"}, id="sum-no-bias"),
    ms("FusedConv", IMAGE, WEIGHTS, attrs={**WINDOW, "strides": [2, 2], "activation": "Tanh"}, id="strides"),
    *(
        ms("FusedConv", IMAGE, WEIGHTS, BIAS, attrs={**WINDOW, "activation": a, **p}, id=a)
        for a, p in ACTIVATIONS.items()
    ),
    ms("FusedMatMul", (3, 4), (4, 5), attrs={"alpha": 0.7}, id="alpha"),
    ms("FusedMatMul", (2, 4, 3), (2, 5, 4), attrs={"transA": 1, "transB": 1, "alpha": 1.5}, id="both"),
    ms("FusedMatMul", (4,), (2, 4, 5), attrs={"transA": 1}, id="vector"),
    ms("FusedMatMul", (3, 2, 4), (2, 4, 5), attrs={"transBatchA": 1}, id="batch-a"),
    ms("FusedMatMul", (4, 2, 3), (5, 2, 4), attrs=dict.fromkeys(("transBatchA", "transBatchB", "transA", "transB"), 1),
       id="everything"),
    ms("FusedMatMul", (3, 2, 3, 4), (2, 3, 4, 2), attrs={"transBatchA": 1}, id="batch-a-4d"),
    ms("TransposeMatMul", (4, 3), (4, 5), attrs={"transA": 1, "alpha": 2.0}),
    *(
        ms("FusedGemm", (3, 4), (5, 4), (5,), attrs={**GEMM, "activation": a, **p}, id=a)
        for a, p in {
            "Relu": {}, "Sigmoid": {}, "Tanh": {}, "Softplus": {}, "Softsign": {},
            "LeakyRelu": {"activation_alpha": 0.2}, "Elu": {"activation_alpha": 0.7},
            "HardSigmoid": {"activation_alpha": 0.3, "activation_beta": 0.4},
        }.items()
    ),
    ms("FusedGemm", (4, 3), (4, 5), attrs={"transA": 1, "activation": "Relu"}, id="no-c"),
    ms("ConvTransposeWithDynamicPads", (2, 4, 5, 4), (4, 3, 3, 3), np.array([1, 0, 0, 1], I64), (3,),
       attrs={"strides": [2, 2]}, id="constant"),
    ms("ConvTransposeWithDynamicPads", (2, 4, 5, 4), (4, 3, 3, 3), np.array([1, 0, 0, 1], I64), (3,),
       attrs={"strides": [2, 2], "output_padding": [1, 0]}, runtime=(2,), id="runtime"),
    ms("Pad", (3, 4), np.array([1, 0, 2, 1], I64), np.array([0.5])),
    ms("Pad", (3, 4), np.array([1, 0, 1, 1], I64), attrs={"mode": "reflect"}, id="reflect"),
    ms("Trilu", (3, 4), attrs={"upper": 0}),
    ms("ExpandDims", (3, 4), np.array(1, I32)),
    ms("ExpandDims", (3, 4), np.array(-1, I32), runtime=(1,), id="runtime"),
    ms("GatherND", (3, 4), np.array([[0, 1], [2, 2]], I32)),
    ms("GridSample", (1, 2, 4, 4), (1, 3, 3, 2), attrs={"mode": "bilinear", "padding_mode": "border"}, numeric=False),
    ms("GridSample", (1, 2, 4, 4), (1, 3, 3, 2), attrs={"mode": "bilinear"}, opset=21, id="opset-21", numeric=False),
    ms("SampleOp", (3, 4)),
    ms("UnfoldTensor", (3, 8), attrs={"size": 3, "dim": 1, "step": 2}),
    ms("UnfoldTensor", (5, 2, 3), attrs={"size": 2, "dim": 0}, id="front"),
    ms("CDist", (3, 4), (5, 4), attrs={"metric": "euclidean"}),
    ms("CDist", (3, 4), (5, 4), attrs={"metric": "sqeuclidean"}, id="squares"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[c.label for c in CASES])
def test_body(case: Case) -> None:
    proto, feeds = build(case, np.float32)
    loaded = ir.to_proto(graph_tools.load(proto))
    assert {n.domain for n in loaded.graph.node} == {""}
    np.testing.assert_allclose(run_ort(loaded, feeds)["y0"], run_ort(proto, feeds)["y0"], rtol=1e-5, atol=1e-5)
    if case.numeric:  # else a rule of its own covers the gradient
        check_case(case, np.float64, lowered, step=1e-6, tolerance=1e-5)


def test_unique_in_the_order_of_appearance() -> None:
    x = np.array([3, 1, 3, 2, 1], np.float32)
    proto, _ = build(Case("Unique", (x.astype(np.float64),), domain=MS, outputs=3), np.float32)
    for i, kind in ((1, 7), (2, 7)):
        proto.graph.output.append(helper.make_tensor_value_info(f"y{i}", kind, None))
    want, got = run_ort(proto, {"x0": x}), run_ort(ir.to_proto(graph_tools.load(proto)), {"x0": x})
    for name in ("y0", "y1", "y2"):
        np.testing.assert_array_equal(got[name], want[name])


@pytest.mark.parametrize("op", ["NhwcConv", "NhwcFusedConv"])
def test_channels_last_convolution(op: str) -> None:
    """No CPU kernel: compared with Conv."""
    x, w, z = RNG.normal(size=(2, 5, 6, 4)), RNG.normal(size=(6, 4, 3, 3)), RNG.normal(size=(2, 5, 6, 6))
    fused = op == "NhwcFusedConv"
    stored = w if fused else np.ascontiguousarray(w.transpose(0, 2, 3, 1))
    operands = [x, stored, *([None, z] if fused else [])]
    attrs = {**WINDOW, **({"activation": "Relu"} if fused else {})}
    proto, feeds = build(Case(op, tuple(operands), attrs, domain=MS), np.float32)
    got = run_ort(ir.to_proto(graph_tools.load(proto)), feeds)["y0"]
    plain, feeds = build(
        Case("Conv", (x.transpose(0, 3, 1, 2).astype(np.float64), w.astype(np.float64)), WINDOW), np.float32
    )
    want = run_ort(plain, feeds)["y0"].transpose(0, 2, 3, 1)
    want = np.maximum(want + z, 0) if fused else want
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_channels_last_max_pool(kind: type) -> None:
    x: np.ndarray = RNG.integers(0, 100, (1, 5, 6, 3)).astype(kind)
    elem = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    node = helper.make_node(
        "NhwcMaxPool", ["x"], ["y"], domain=MS, kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 0]
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", elem, x.shape)],
        [helper.make_tensor_value_info("y", elem, None)],
    )
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(MS, 1)], ir_version=10
    )
    np.testing.assert_array_equal(
        run_ort(ir.to_proto(graph_tools.load(proto)), {"x": x})["y"], run_ort(proto, {"x": x})["y"]
    )


def test_dropout_of_the_optimiser_drops_nothing() -> None:
    case = Case("BiasDropout", ((3, 4), (4,), (3, 4)), domain=MS)
    proto, feeds = build(case, np.float32)
    x, bias, residual = (np.asarray(a, np.float32) for a in arrays(case))
    got = run_ort(ir.to_proto(graph_tools.load(proto)), feeds)["y0"]
    np.testing.assert_allclose(got, x + bias + residual, rtol=1e-6)


@pytest.mark.parametrize("op", ["Conv", "MaxPool", "GlobalAveragePool", "InstanceNormalization", "BatchNormalization"])
def test_the_internal_channels_last_domain(op: str) -> None:
    """No CPU kernel: compared with the standard operator on turned data."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 5, 6, 4))
    rest = {"Conv": [rng.normal(size=(6, 4, 3, 3)), rng.normal(size=6)],
            "InstanceNormalization": [np.ones(4), np.ones(4)],
            "BatchNormalization": [np.full(4, v) for v in (1.5, 0.2, 0.1, 2.0)]}.get(op, [])  # fmt: skip
    attrs = {"Conv": WINDOW, "MaxPool": {"kernel_shape": [2, 2], "pads": [0, 1, 0, 0]}}.get(op, {})
    turned = {**attrs, "activation": "Relu"} if op == "Conv" else attrs
    proto, feeds = build(Case(op, (x, *rest), turned, domain="com.ms.internal.nhwc"), np.float32)
    got = run_ort(ir.to_proto(graph_tools.load(proto)), feeds)["y0"]
    plain, feeds = build(Case(op, (x.transpose(0, 3, 1, 2), *rest), attrs), np.float32)
    want = run_ort(plain, feeds)["y0"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(got, np.maximum(want, 0) if op == "Conv" else want, rtol=1e-5, atol=1e-5)
