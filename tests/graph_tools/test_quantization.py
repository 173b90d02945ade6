"""Straight-through gradients against their formula: that of the float function the quantised graph stands for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import graph_tools
from graph_tools.errors import UnsupportedGradient
from tests.graph_tools.harness import run_ort

RNG = np.random.default_rng(5)
KINDS = {
    "uint8": (TensorProto.UINT8, 0, 255, 128, 18),
    "int8": (TensorProto.INT8, -128, 127, -3, 18),
    "uint16": (TensorProto.UINT16, 0, 65535, 300, 21),
    "int16": (TensorProto.INT16, -32768, 32767, 0, 21),
    "uint4": (TensorProto.UINT4, 0, 15, 8, 21),
    "int4": (TensorProto.INT4, -8, 7, 0, 21),
}


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    constants: dict[str, Any],
    outputs: dict[str, int],
    opset: int = 18,
) -> onnx.ModelProto:
    """inputs: name -> (element type, shape); constants: name -> array or TensorProto."""
    tensors = []
    for name, value in constants.items():
        tensor = value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value), name)
        tensor.name = name
        tensors.append(tensor)
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(n, kind, None) for n, kind in outputs.items()],
        tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def there_and_back(
    kind: int,
    zero: Any,
    scale: Any,
    shape: tuple[int | str, ...],
    opset: int,
    float_type: int = TensorProto.FLOAT,
    **attrs: Any,
) -> onnx.ModelProto:
    scale = np.asarray(scale, helper.tensor_dtype_to_np_dtype(float_type))
    zeros = np.asarray(zero)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "quantize", **attrs),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], "dequantize", **attrs),
    ]
    constants = {"scale": scale, "zero": helper.make_tensor("zero", kind, zeros.shape, zeros.reshape(-1).tolist())}
    return model(nodes, {"x": (float_type, shape)}, constants, {"y": float_type}, opset)


def gradient_of(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], ct: np.ndarray, wrt: str = "x") -> np.ndarray:
    program = ir.to_proto(graph_tools.gradient(proto, ["y"], [wrt]))
    onnx.checker.check_model(program)
    return run_ort(program, {**feeds, "cotangent_y": ct})[f"grad_{wrt}"]


def rounded(x: np.ndarray, scale: Any, zero: Any) -> np.ndarray:
    return np.round(np.asarray(x, np.float32) / np.float32(scale)) + np.float32(zero)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("open_dims", [False, True])
def test_inside_the_range_the_cotangent_passes_outside_it_stops(name: str, open_dims: bool) -> None:
    kind, low, high, zero, opset = KINDS[name]
    scale = np.float32(0.25)
    edges = (np.array([low, high]) - zero) * scale
    around = np.array([-2, -1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 2]) * scale
    x = np.concatenate([edges[0] + around, edges[1] + around, [0.0, 0.3]]).astype(np.float32)[None]
    proto = there_and_back(kind, zero, scale, ("a", "b") if open_dims else x.shape, opset)
    ct = RNG.uniform(0.5, 1, x.shape).astype(np.float32)
    inside = (rounded(x, scale, zero) >= low) & (rounded(x, scale, zero) <= high)
    assert inside.any()
    assert not inside.all()
    np.testing.assert_allclose(gradient_of(proto, {"x": x}, ct), np.where(inside, ct, 0), rtol=1e-6)


def test_integers_have_cotangents_in_their_own_unit() -> None:
    proto = there_and_back(TensorProto.UINT8, 3, 0.5, (2, 2), 18)
    program = ir.to_proto(graph_tools.gradient(proto, ["y"], ["q", "x"]))
    ct = np.array([[1, 2], [3, 4]], np.float32)
    got = run_ort(program, {"x": np.ones((2, 2), np.float32), "cotangent_y": ct})
    assert got["grad_q"].dtype == np.float32
    np.testing.assert_array_equal(got["grad_q"], ct * 0.5)
    np.testing.assert_array_equal(got["grad_x"], ct)


@pytest.mark.parametrize("axis", [1, -3])
def test_per_axis(axis: int) -> None:
    scale, zero = np.array([0.1, 0.5, 2.0], np.float32), np.array([0, 100, 255])
    x = RNG.uniform(-40, 40, (2, 3, 4, 5)).astype(np.float32)
    ct = RNG.uniform(-1, 1, x.shape).astype(np.float32)
    proto = there_and_back(TensorProto.UINT8, zero, scale, ("n", 3, 4, 5), 18, axis=axis)
    r = rounded(x, scale[:, None, None], zero[:, None, None])
    want = np.where((r >= 0) & (r <= 255), ct, 0)
    np.testing.assert_allclose(gradient_of(proto, {"x": x}, ct), want, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 5, 3), ("a", "b", "c")])
def test_per_block(shape: tuple[int | str, ...]) -> None:
    x = RNG.uniform(-5, 5, (2, 5, 3)).astype(np.float32)
    scale = RNG.uniform(0.02, 0.05, (2, 3, 3)).astype(np.float32)  # 5 rows in blocks of 2: the last has one
    zero = RNG.integers(0, 255, (2, 3, 3))
    ct = RNG.uniform(-1, 1, x.shape).astype(np.float32)
    proto = there_and_back(TensorProto.UINT8, zero, scale, shape, 21, axis=1, block_size=2)
    wide, zeros = (np.repeat(a, 2, axis=1)[:, :5] for a in (scale, zero))
    r = rounded(x, wide, zeros)
    inside = (r >= 0) & (r <= 255)
    assert inside.any()
    assert not inside.all()
    np.testing.assert_allclose(gradient_of(proto, {"x": x}, ct), np.where(inside, ct, 0), rtol=1e-5)


def test_no_zero_point_means_uint8() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["y"]),
    ]
    proto = model(nodes, {"x": (1, (4,))}, {"scale": np.float32(0.1)}, {"y": 1})
    x = np.array([-1, 0, 25.5, 26], np.float32)
    np.testing.assert_allclose(gradient_of(proto, {"x": x}, np.ones(4, np.float32)), [0, 1, 1, 0], rtol=1e-6)


def test_float16() -> None:
    proto = there_and_back(TensorProto.INT8, 0, 0.5, (3,), 19, TensorProto.FLOAT16)
    x, ct = np.array([-100, 1, 2], np.float16), np.array([1, 2, 3], np.float16)
    got = gradient_of(proto, {"x": x}, ct)
    assert got.dtype == np.float16
    np.testing.assert_array_equal(got, [0, 2, 3])


def test_eight_bit_floats() -> None:
    proto = there_and_back(TensorProto.FLOAT8E4M3FN, 0.0, 0.5, (4,), 19)
    x, ct = np.array([-300, 0.3, 100, 224.5], np.float32), np.array([1, 2, 3, 4], np.float32)
    np.testing.assert_array_equal(gradient_of(proto, {"x": x}, ct), [0, 2, 3, 0])


def test_dynamic_quantisation_is_the_identity() -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    proto = model(nodes, {"x": (1, ("n", 3))}, {}, {"y": 1})
    x, ct = (RNG.uniform(-1, 1, (2, 3)).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(gradient_of(proto, {"x": x}, ct), ct, rtol=1e-6)


def test_uint8_input() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("DequantizeLinear", ["t", "scale", "zero"], ["y"]),
    ]
    constants = {"scale": np.float32(0.25), "zero": np.uint8(7)}
    proto = model(nodes, {"x": (TensorProto.UINT8, ("n", 2, 3))}, constants, {"y": 1})
    ct = RNG.uniform(-1, 1, (2, 3, 2)).astype(np.float32)
    x = RNG.integers(0, 255, (2, 2, 3)).astype(np.uint8)
    np.testing.assert_allclose(gradient_of(proto, {"x": x}, ct), ct.transpose(0, 2, 1) * 0.25, rtol=1e-6)


I64 = np.int64
MOVES = {
    "Reshape": ([np.array([4, 6], I64)], {}),
    "Flatten": ([], {"axis": 2}),
    "Transpose": ([], {"perm": [2, 0, 1]}),
    "Unsqueeze": ([np.array([0], I64)], {}),
    "Squeeze": ([np.array([1], I64)], {}),
    "Expand": ([np.array([2, 3, 1, 4], I64)], {}),
    "Tile": ([np.array([1, 2, 2], I64)], {}),
    "Slice": ([np.array([1], I64), np.array([3], I64), np.array([2], I64)], {}),
    "Pad": ([np.array([0, 0, 1, 0, 1, 0], I64)], {}),
    "Gather": ([np.array([[0, 2], [1, 1]], I64)], {"axis": 2}),
    "GatherElements": ([np.zeros((2, 1, 2), I64)], {"axis": 2}),
    "GatherND": ([np.array([[0, 0, 2]], I64)], {}),
    "Compress": ([np.array([True, False, True])], {"axis": 2}),
    "DepthToSpace": ([], {"blocksize": 2}),
    "SpaceToDepth": ([], {"blocksize": 2}),
}


@pytest.mark.parametrize("op", MOVES)
def test_integers_that_are_moved_carry_their_cotangents(op: str) -> None:
    """x → QuantizeLinear → move → DequantizeLinear has the gradient of x → move."""
    operands, attrs = MOVES[op]
    space = "Space" in op
    shape = (1, 4, 2, 4) if space else (2, 1, 3, 4) if op == "Expand" else (2, 3, 4)
    shape = (2, 1, 4) if op in ("Squeeze", "GatherElements", "GatherND") else shape
    constants = {f"c{i}": a for i, a in enumerate(operands)}
    quantised = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node(op, ["q", *constants], ["m"], **attrs),
        helper.make_node("DequantizeLinear", ["m", "scale", "zero"], ["y"]),
    ]
    parameters = {"scale": np.float32(1 / 64), "zero": np.uint8(128)}
    plain = [helper.make_node(op, ["x", *constants], ["y"], **attrs)]
    x = RNG.uniform(-1, 1, shape).astype(np.float32)
    one = model(quantised, {"x": (1, shape)}, {**constants, **parameters}, {"y": 1})
    two = model(plain, {"x": (1, shape)}, constants, {"y": 1})
    ct = RNG.uniform(-1, 1, run_ort(two, {"x": x})["y"].shape).astype(np.float32)
    np.testing.assert_allclose(gradient_of(one, {"x": x}, ct), gradient_of(two, {"x": x}, ct), rtol=1e-6)


def test_concat_and_split_of_integers() -> None:
    quantise = ["scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *quantise], ["q"]),
        helper.make_node("Split", ["q"], ["a", "b"], axis=1, num_outputs=2),
        helper.make_node("Concat", ["b", "a", "b"], ["c"], axis=1),
        helper.make_node("DequantizeLinear", ["c", *quantise], ["y"]),
    ]
    proto = model(nodes, {"x": (1, ("n", 4))}, {"scale": np.float32(0.25), "zero": np.uint8(128)}, {"y": 1})
    ct = np.arange(6, dtype=np.float32)[None]
    got = gradient_of(proto, {"x": np.zeros((1, 4), np.float32)}, ct)
    np.testing.assert_array_equal(got, [[2, 3, 0 + 4, 1 + 5]])


def test_integers_that_are_not_quantised_carry_nothing() -> None:
    nodes = [
        helper.make_node("ArgMax", ["x"], ["i"], "the_argmax", axis=1),
        helper.make_node("Reshape", ["i", "shape"], ["r"]),
        helper.make_node("Cast", ["r"], ["y"], to=TensorProto.FLOAT),
    ]
    proto = model(nodes, {"x": (1, (2, 3))}, {"shape": np.array([2], I64)}, {"y": 1})
    with pytest.raises(UnsupportedGradient, match=r"ArgMax.*the_argmax"):
        graph_tools.gradient(proto, ["y"], ["x"])


@pytest.mark.parametrize("form", ["tensor", "axis", "block"])
def test_a_scale_has_the_gradient_of_the_learned_step_size(form: str) -> None:
    """x → quantise → dequantise by s: dy/ds = round(x/s) − x/s inside the range, the end of the range outside."""
    scale = {"tensor": np.array(0.3, np.float32), "axis": np.array([0.1, 0.2, 0.3], np.float32),
             "block": RNG.uniform(0.1, 0.3, (2, 3)).astype(np.float32)}[form]  # fmt: skip
    attrs = {"tensor": {}, "axis": {"axis": 0}, "block": {"axis": 0, "block_size": 2}}[form]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "zero"], ["q"], **attrs),
        helper.make_node("DequantizeLinear", ["q", "s", "zero"], ["y"], **attrs),
    ]
    zero = np.full(scale.shape, 5, np.int8)
    proto = model(nodes, {"x": (1, (3, 3)), "s": (1, scale.shape)}, {"zero": zero}, {"y": 1}, opset=21)
    x, ct = (RNG.uniform(-1, 1, (3, 3)).astype(np.float32) for _ in range(2))
    x[0, 0] = 90  # beyond the range
    program = ir.to_proto(graph_tools.gradient(proto, ["y"], ["s"]))
    got = run_ort(program, {"x": x, "s": scale, "cotangent_y": ct})["grad_s"]
    wide = {"tensor": scale, "axis": scale[:, None] if form == "axis" else scale,
            "block": np.repeat(scale, 2, axis=0)[:3] if form == "block" else scale}[form]  # fmt: skip
    units = x / wide
    slope = ct * np.where(np.abs(units) < 122, np.round(units) - units, 122)
    want = {"tensor": slope.sum(), "axis": slope.sum(1), "block": np.stack([slope[:2].sum(0), slope[2]])}[form]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["uint16", "int16"])
def test_sixteen_bits_below_opset_21(kind: str) -> None:
    """ONNX Runtime's own QuantizeLinear and DequantizeLinear (com.microsoft) take them at any opset."""
    elem, low, high, zero, _ = KINDS[kind]
    proto = there_and_back(elem, zero, 0.25, (2, 4), 18)
    for node in proto.graph.node:
        node.domain = "com.microsoft"
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    x = np.array([[-1e5, -3, 0, 0.3], [7, 1e5, low * 0.25, 1]], np.float32)
    ct = RNG.uniform(0.5, 1, x.shape).astype(np.float32)
    r = rounded(x, 0.25, zero)
    loaded = graph_tools.load(proto)
    assert {v.name: v.dtype.name for n in loaded.graph for v in n.outputs}["q"] == kind.upper()
    program = ir.to_proto(graph_tools.gradient(proto, ["y"], ["x"]))
    got = run_ort(program, {"x": x, "cotangent_y": ct})["grad_x"]
    np.testing.assert_allclose(got, np.where((r >= low) & (r <= high), ct, 0), rtol=1e-6)
