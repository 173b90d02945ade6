"""MatMulInteger and ConvInteger: the gradient of the product of the numbers that the integers stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import graph_tools
from tests.graph_tools.harness import run_ort
from tests.graph_tools.test_quantization import model

RNG = np.random.default_rng(4)
F32, U8, I8 = np.float32, np.uint8, np.int8


def integers(kind: type, *shape: int) -> np.ndarray:
    return RNG.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, endpoint=True).astype(kind)


def product(op: str, x: np.ndarray, w: np.ndarray, zeros: list[Any], dims: list[Any], **attrs: Any) -> onnx.ModelProto:
    """x, w -> op -> Cast -> y."""
    names = ["" if z is None else f"z{i}" for i, z in enumerate(zeros)]
    nodes = [
        helper.make_node(op, ["x", "w", *names], ["i"], "product", **attrs),
        helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    kinds = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in (x, w)]
    inputs = {"x": (kinds[0], dims), "w": (kinds[1], w.shape)}
    return model(nodes, inputs, {n: z for n, z in zip(names, zeros, strict=True) if n}, {"y": 1})


def float_gradient(op: str, a: np.ndarray, w: np.ndarray, ct: np.ndarray, **attrs: Any) -> dict[str, np.ndarray]:
    nodes = [helper.make_node(op, ["x", "w"], ["y"], **attrs)]
    proto = model(nodes, {"x": (1, a.shape), "w": (1, w.shape)}, {}, {"y": 1})
    program = ir.to_proto(graph_tools.gradient(proto, ["y"], ["x", "w"]))
    return run_ort(program, {"x": a.astype(F32), "w": w.astype(F32), "cotangent_y": ct})


def check(
    proto: onnx.ModelProto, feeds: dict[str, np.ndarray], numbers: list[np.ndarray], op: str, **attrs: Any
) -> None:
    ct = RNG.uniform(-1, 1, run_ort(proto, feeds)["y"].shape).astype(F32)
    program = ir.to_proto(graph_tools.gradient(proto, ["y"], ["x", "w"]))
    got = run_ort(program, {**feeds, "cotangent_y": ct})
    np.testing.assert_array_equal(got["y"], run_ort(proto, feeds)["y"])
    want = float_gradient(op, *numbers, ct, **attrs)
    for name in ("grad_x", "grad_w"):
        assert got[name].dtype == F32
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("open_dims", [False, True])
@pytest.mark.parametrize("kind", [U8, I8])
@pytest.mark.parametrize("zeros", ["none", "one", "each"])
def test_matmul(zeros: str, kind: type, open_dims: bool) -> None:
    x, w = integers(kind, 2, 3, 8), integers(I8, 8, 5)
    given = {"none": [None, None], "one": [np.array(7, kind), np.array(2, I8)],
             "each": [np.array(7, kind), integers(I8, 5)]}[zeros]  # fmt: skip
    proto = product("MatMulInteger", x, w, given, ["a", "b", "c"] if open_dims else list(x.shape))
    numbers = [a.astype(F32) - (0 if z is None else z.astype(F32)) for a, z in zip((x, w), given, strict=True)]
    check(proto, {"x": x, "w": w}, numbers, "MatMul")


@pytest.mark.parametrize("zeros", ["none", "one"])  # ONNX Runtime takes one zero point for all channels
def test_convolution(zeros: str) -> None:
    x, w = integers(U8, 1, 2, 6, 5), integers(U8, 3, 2, 3, 3)
    given = {"none": [None], "one": [np.array(7, U8), np.array(2, U8)]}[zeros]
    attrs: dict[str, Any] = {"strides": [2, 1], "pads": [1, 0, 1, 1]}
    proto = product("ConvInteger", x, w, given, list(x.shape), **attrs)
    shift = [given[i].astype(F32) if i < len(given) and given[i] is not None else np.zeros((), F32) for i in range(2)]
    numbers = [x.astype(F32) - shift[0], w.astype(F32) - shift[1].reshape(-1, *[1] * (3 if shift[1].ndim else 0))]
    check(proto, {"x": x, "w": w}, numbers, "Conv", **attrs)


def dynamic(op: str, w: np.ndarray, dims: list[Any], **attrs: Any) -> onnx.ModelProto:
    """What quantize_dynamic writes: x -> DynamicQuantizeLinear -> op -> Cast -> Mul (x's scale · w's scale)."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node(op, ["q", "w", "z"], ["i"], **attrs),
        helper.make_node("Cast", ["i"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["scales"]),
        helper.make_node("Mul", ["c", "scales"], ["y"]),
    ]
    return model(nodes, {"x": (1, dims)}, {"w": w, "ws": F32(0.01)}, {"y": 1})


@pytest.mark.parametrize("op", ["MatMulInteger", "ConvInteger"])
def test_dynamic_quantisation_has_the_gradient_of_the_float_product(op: str) -> None:
    shape, w = ((2, 3, 8), integers(I8, 8, 5)) if op == "MatMulInteger" else ((1, 2, 6, 5), integers(U8, 3, 2, 3, 3))
    proto = dynamic(op, w, list(shape))
    x = RNG.normal(size=shape).astype(F32)
    ct = RNG.uniform(-1, 1, run_ort(proto, {"x": x})["y"].shape).astype(F32)
    program = ir.to_proto(graph_tools.gradient(proto, ["y"], ["x"]))
    got = run_ort(program, {"x": x, "cotangent_y": ct})["grad_x"]
    want = float_gradient(op.removesuffix("Integer"), x, w.astype(F32) * F32(0.01), ct)["grad_x"]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_the_scale_of_a_dynamic_quantisation_follows_the_extremes_where_nothing_else_is_asked() -> None:
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "y", "z"])]
    proto = model(nodes, {"x": (1, (2, 3))}, {}, {"y": 1})
    program = ir.to_proto(graph_tools.gradient(proto, ["y"], ["x"]))
    ct = np.array(2.0, F32)
    got = run_ort(program, {"x": np.array([[3, -1, 3], [0, 1, 2]], F32), "cotangent_y": ct})["grad_x"]
    np.testing.assert_allclose(got, np.array([[0.5, -1, 0.5], [0, 0, 0]]) * 2 / 255, rtol=1e-6)
    got = run_ort(program, {"x": np.array([[3, 1, 2], [0.5, 1, 2]], F32), "cotangent_y": ct})["grad_x"]
    np.testing.assert_allclose(got, np.array([[1, 0, 0], [0, 0, 0]]) * 2 / 255, rtol=1e-6)
