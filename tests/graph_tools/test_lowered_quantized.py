"""Quantised operators as DequantizeLinear -> float operator -> QuantizeLinear: the kernel's output to one quantum."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import graph_tools
from tests.graph_tools.harness import run_ort, run_plain

MS = "com.microsoft"
RNG = np.random.default_rng(8)
F32, U8, I8, I32 = np.float32, np.uint8, np.int8, np.int32


def node_model(
    op: str, operands: list[Any], attrs: dict[str, Any], out: int, *, inputs: tuple[int, ...] = (0,), domain: str = MS,
    opset: int = 18,
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:  # fmt: skip
    """One node; ``operands`` at ``inputs`` are graph inputs, the others initializers, None is absent."""
    names = ["" if a is None else f"x{i}" for i, a in enumerate(operands)]
    feeds = {f"x{i}": np.asarray(operands[i]) for i in inputs}
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], "the_node", domain=domain, **attrs)], "g",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()],
        [helper.make_tensor_value_info("y", out, None)],
        [numpy_helper.from_array(np.asarray(a), f"x{i}") for i, a in enumerate(operands)
         if a is not None and i not in inputs],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), feeds


def integers(kind: type, *shape: int) -> np.ndarray:
    info = np.iinfo(kind)
    return RNG.integers(info.min, int(info.max) + 1, shape).astype(kind)


def scale(value: float) -> np.ndarray:
    """A scale of about ``value``, with no short decimals: no sum of products ends on half a quantum."""
    return np.array(value * (1 + RNG.uniform(0.001, 0.01)), F32)


def per(n: int) -> np.ndarray:
    return RNG.uniform(0.01, 0.03, n).astype(F32)


X = (1, 4, 6, 5)
SAME = {"pads": [1, 1, 1, 1]}


def conv(kind: type, weights: type, *, channels: bool = False, last: bool = False) -> tuple[Any, ...]:
    w_scale = per(6) if channels else scale(0.02)
    w_zero = np.zeros(6 if channels else (), weights) if weights == I8 else np.array(120, U8)
    shape = (1, 6, 5, 4) if last else X
    operands = [integers(kind, *shape), scale(0.03), np.array(3, kind), integers(weights, 6, 4, 3, 3), w_scale, w_zero,
                scale(0.2), np.array(7, kind), RNG.integers(-3000, 3000, 6).astype(I32)]  # fmt: skip
    return operands, {**SAME, **({"channels_last": 1} if last else {})}


def one(kind: type, out: float = 0.01, zero: int = 2) -> list[Any]:
    return [integers(kind, *X), scale(0.03), np.array(5, kind), scale(out), np.array(zero, kind)]


CASES: dict[str, tuple[str, str, Any, dict[str, Any], tuple[int, ...]]] = {}


def case(
    name: str, op: str, operands: Any, attrs: Any = None, inputs: tuple[int, ...] = (0,), domain: str = MS
) -> None:
    CASES[name] = (domain, op, operands, attrs or {}, inputs)


for _kind in (U8, I8):
    _n = _kind.__name__
    for _weights in (U8, I8):
        if not (_kind == I8 and _weights == U8):
            case(f"QLinearConv-{_n}-{_weights.__name__}", "QLinearConv", *conv(_kind, _weights), domain="")
    case(f"QLinearConv-per-channel-{_n}", "QLinearConv", *conv(_kind, I8, channels=True), domain="")
    case(f"QLinearConv-last-{_n}", "QLinearConv", *conv(_kind, I8, channels=True, last=True))
    case(f"QLinearMatMul-{_n}", "QLinearMatMul",
         [integers(_kind, 2, 3, 8), scale(0.03), np.array(4, _kind), integers(_kind, 8, 5), scale(0.02),
          np.array(0, _kind), scale(0.2), np.array(9, _kind)], domain="")  # fmt: skip
    case(f"QLinearMatMul-columns-{_n}", "QLinearMatMul",
         [integers(_kind, 3, 8), scale(0.03), np.array(4, _kind), integers(I8, 8, 5), per(5), np.zeros(5, I8),
          scale(0.2), np.array(9, _kind)], domain="")  # fmt: skip
    for _op in ("QLinearAdd", "QLinearMul"):
        case(f"{_op}-{_n}", _op, [integers(_kind, *X), scale(0.03), np.array(5, _kind), integers(_kind, 4, 1, 1),
             scale(0.05), np.array(1, _kind), scale(0.1), np.array(2, _kind)], None, (0, 3))  # fmt: skip
    case(f"QLinearAdd-no-zero-{_n}", "QLinearAdd", [integers(_kind, *X), scale(0.03), np.array(5, _kind),
         integers(_kind, *X), scale(0.05), np.array(5, _kind), scale(0.1)], None, (0, 3))  # fmt: skip
    case(f"QLinearSigmoid-{_n}", "QLinearSigmoid", one(_kind, 1 / 256))
    case(f"QLinearLeakyRelu-{_n}", "QLinearLeakyRelu", one(_kind, 0.02), {"alpha": 0.1})
    case(
        f"QLinearAveragePool-{_n}",
        "QLinearAveragePool",
        one(_kind, 0.02),
        {"kernel_shape": [2, 3], "strides": [2, 1], "pads": [0, 1, 0, 1], "count_include_pad": 1},
    )
    case(
        f"QLinearAveragePool-plain-{_n}",
        "QLinearAveragePool",
        one(_kind, 0.02),
        {"kernel_shape": [2, 3], "pads": [0, 1, 0, 1], "ceil_mode": 1, "strides": [2, 2]},
    )
    case(f"QLinearGlobalAveragePool-{_n}", "QLinearGlobalAveragePool", one(_kind, 0.02))
    case(f"QLinearSoftmax-{_n}", "QLinearSoftmax", one(_kind, 1 / 256, 0), {"axis": -1, "opset": 13})
    case(f"QLinearSoftmax-old-{_n}", "QLinearSoftmax", one(_kind, 1 / 256, 0), {"axis": 2, "opset": 11})
    case(f"QLinearConcat-{_n}", "QLinearConcat", [scale(0.04), np.array(3, _kind), integers(_kind, 2, 3), scale(0.03),
         np.array(1, _kind), integers(_kind, 2, 4), scale(0.05), np.array(5, _kind)], {"axis": 1}, (2, 5))  # fmt: skip
    case(f"QLinearWhere-{_n}", "QLinearWhere", [np.array([True, False, True]), integers(_kind, 2, 3), scale(0.03),
         np.array(1, _kind), integers(_kind, 2, 3), scale(0.05), np.array(2, _kind), scale(0.04),
         np.array(0, _kind)], None, (0, 1, 4))  # fmt: skip
    case(f"QGemm-{_n}", "QGemm", [integers(_kind, 3, 8), scale(0.03), np.array(4, _kind), integers(I8, 5, 8), per(5),
         np.zeros(5, I8), RNG.integers(-300, 300, 5).astype(I32), scale(0.3), np.array(9, _kind)],
         {"transB": 1, "alpha": 1.5})  # fmt: skip
    case(f"QGemm-float-{_n}", "QGemm", [integers(_kind, 3, 8), scale(0.03), np.array(4, _kind), integers(_kind, 8, 5),
         scale(0.02), np.array(2, _kind), RNG.integers(-300, 300, 5).astype(I32)])  # fmt: skip
case("MatMulIntegerToFloat", "MatMulIntegerToFloat", [integers(U8, 3, 8), integers(I8, 8, 5), scale(0.03), per(5),
     np.array(120, U8), np.zeros(5, I8), per(5)])  # fmt: skip
case("DynamicQuantizeMatMul", "DynamicQuantizeMatMul", [RNG.normal(size=(3, 8)).astype(F32), integers(I8, 8, 5),
     per(5), np.zeros(5, I8), per(5)])  # fmt: skip
case("DynamicQuantizeMatMul-plain", "DynamicQuantizeMatMul", [RNG.normal(size=(2, 3, 8)).astype(F32),
     integers(U8, 8, 5), scale(0.02), np.array(120, U8)])  # fmt: skip


def test_quantised_embeddings() -> None:
    """QEmbedLayerNormalization, the tables uint8 with a scale each."""
    sizes = ((9, 8), (6, 8), (2, 8), (8,), (8,))
    tables = [RNG.integers(1, 200, s).astype(U8) for s in sizes]
    ids = [RNG.integers(0, n, (2, 5)).astype(I32) for n in (9, 2)]
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], I32)
    scales = [scale(0.02) for _ in sizes]
    operands = [*ids, *tables, mask, *scales, *(np.array(3 + i, U8) for i in range(5))]
    proto, feeds = node_model("QEmbedLayerNormalization", operands, {}, 1, inputs=(0, 1, 7))
    proto.graph.node[0].output.append("mask_index")
    want = run_ort(proto, feeds)["y"]
    np.testing.assert_allclose(run_plain(ir.to_proto(graph_tools.load(proto)), feeds)["y"], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_body_computes_what_the_kernel_does(name: str) -> None:
    domain, op, operands, attrs, inputs = CASES[name]
    first = operands[{"QLinearConcat": 2, "QLinearWhere": 1}.get(op, 0)]
    floats = "float" in name or "Float" in op or op == "DynamicQuantizeMatMul"
    out = TensorProto.FLOAT if floats else helper.np_dtype_to_tensor_dtype(first.dtype)
    proto, feeds = node_model(op, operands, attrs, out, inputs=inputs, domain=domain)
    want = run_ort(proto, feeds)["y"]
    loaded = ir.to_proto(graph_tools.load(proto))
    assert {n.domain for n in loaded.graph.node} == {""}
    got = run_plain(loaded, feeds)["y"]
    assert got.dtype == want.dtype
    if floats:
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
        return
    assert want.std() > 1  # the test would say nothing of a saturated output
    away = np.abs(got.astype(int) - want.astype(int))
    assert away.max() <= 1
    assert (away > 0).sum() <= (0.1 * away.size if op == "QLinearSoftmax" else 1)  # its exponentials are in fixed point


@pytest.mark.parametrize("name", [n for n in CASES if n.endswith("int8") and "QLinearConcat" not in n
                                  and "QLinearWhere" not in n and "Float" not in n])  # fmt: skip
def test_the_gradient_is_that_of_the_dequantised_function(name: str) -> None:
    """x -> quantise -> operator -> dequantise against central differences of the float form without rounding.

    The float form is the lowered graph without its QuantizeLinear and DequantizeLinear of activations, at the point
    that x was rounded to; what the operator's output clips is left out of the cotangent.
    """
    domain, op, operands, attrs, _ = CASES[name]
    kind = operands[0].dtype
    elem = helper.np_dtype_to_tensor_dtype(kind)
    proto, _ = node_model(op, operands, attrs, elem, inputs=(0,), domain=domain)
    x = ((operands[0].astype(F32) - operands[2].astype(F32)) * operands[1]).astype(F32)
    graph = proto.graph
    nodes = [helper.make_node("QuantizeLinear", ["x", "x1", "x2"], ["x0"]), *graph.node]
    scale_at = {"QLinearConv": 6, "QLinearMatMul": 6, "QGemm": 7, "QLinearAdd": 6, "QLinearMul": 6}.get(op, 3)
    zero = f"x{scale_at + 1}" if len(operands) > scale_at + 1 and operands[scale_at + 1] is not None else None
    floats = "float" in name
    if not floats:
        given = ["y", f"x{scale_at}", *([zero] if zero else [])]
        nodes.append(helper.make_node("DequantizeLinear", given, ["z"]))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape))
    del graph.output[:]
    out = "y" if floats else "z"
    graph.output.append(helper.make_tensor_value_info(out, TensorProto.FLOAT, None))
    y = run_plain(proto, {"x": x})[out]
    smooth = _without_rounding(ir.to_proto(graph_tools.load(proto)))
    ends = np.iinfo(kind)
    inside = np.ones_like(y) if floats else _strictly_inside(y, operands[scale_at], operands, zero, ends)
    ct = RNG.uniform(-1, 1, y.shape).astype(F32) * inside
    program = ir.to_proto(graph_tools.gradient(proto, [out], ["x"]))
    got = run_plain(program, {"x": x, f"cotangent_{out}": ct})["grad_x"].astype(np.float64)
    for _ in range(3):
        d = RNG.uniform(-1, 1, x.shape).astype(F32) * (x != 0)  # LeakyRelu bends at 0
        high, low = (run_plain(smooth, {"x": x + F32(s * 1e-2) * d})[out].astype(np.float64) for s in (1, -1))
        numeric = float(((high - low) / 2e-2 * ct).sum())
        assert abs(float((got * d).sum()) - numeric) <= 2e-2 * max(1.0, abs(numeric))


def _strictly_inside(y: np.ndarray, unit: np.ndarray, operands: list[Any], zero: str | None, ends: Any) -> np.ndarray:
    """1 where the integer that y came from is not at an end of its range."""
    shift = float(operands[int(zero[1:])]) if zero else 0.0
    q = np.round(y / unit + shift)
    return ((q > ends.min) & (q < ends.max)).astype(F32)


def _without_rounding(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in float: a QuantizeLinear and what dequantises its output become the identity."""
    work = onnx.ModelProto()
    work.CopyFrom(proto)
    rounded = {n.output[0]: n.input[0] for n in work.graph.node if n.op_type == "QuantizeLinear"}
    nodes = []
    for n in work.graph.node:
        if n.op_type == "QuantizeLinear":
            continue
        if n.op_type == "Transpose" and n.input[0] in rounded:  # of integers
            n.input[0] = rounded[n.input[0]]
            rounded[n.output[0]] = n.output[0]
        elif n.op_type == "DequantizeLinear" and n.input[0] in rounded:
            nodes.append(helper.make_node("Identity", [rounded[n.input[0]]], [n.output[0]]))
            continue
        nodes.append(n)
    del work.graph.node[:]
    work.graph.node.extend(nodes)
    del work.graph.value_info[:]
    return work
