"""K cotangents per row through a whole small network: the same values as K separate gradients, weights included."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import graph_tools
from graph_tools.backward import backward
from graph_tools.emit import Emitter
from tests.graph_tools.harness import run_ort

N, K = 3, 4
SIZE = (12, 8)


def _net(shape: tuple[Any, ...], last: list[onnx.NodeProto], groups: int = 1) -> onnx.ModelProto:
    """Conv, Relu, MaxPool, Conv, then ``last`` from value ``c2`` to ``y``; 16 channels, so that weights are flipped."""
    rng = np.random.default_rng(1)
    weights = {
        "w1": rng.normal(size=(16, 2, 3, 3)),
        "b1": rng.normal(size=16),
        "w2": rng.normal(size=(16, 16 // groups, 3, 3)) / 4,
        "w3": rng.normal(size=(16, 3, 2, 2)),
        "w4": rng.normal(size=(16 * 3 * 2, 5)),
        "scales": np.array([1, 1, 1.5, 2]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["m1"], kernel_shape=[3, 3], strides=[1, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["m1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=groups),
        *last,
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _tail(op: str, *more: str, end: str = "GlobalAveragePool", **attributes: Any) -> list[onnx.NodeProto]:
    return [helper.make_node(op, ["c2", *more], ["p"], **attributes), helper.make_node(end, ["p"], ["y"])]


SQUARES = {"kernel_shape": [2, 2], "strides": [2, 2]}
TAILS = {
    "classifier": [
        helper.make_node("AveragePool", ["c2"], ["p"], **SQUARES),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w4"], ["y"]),
    ],
    "average": _tail("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "average-stride-1": _tail("AveragePool", kernel_shape=[2, 2]),
    "max": _tail("MaxPool", **SQUARES),
    "global-max": [helper.make_node("GlobalMaxPool", ["c2"], ["y"])],
    "norm": _tail("LpPool", p=3, **SQUARES),
    "global-norm": [helper.make_node("GlobalLpPool", ["c2"], ["y"])],
    "transposed": _tail("ConvTranspose", "w3", strides=[2, 2]),
    "resized": _tail("Resize", "", "scales", end="GlobalLpPool", mode="linear"),
    "unpool": [
        helper.make_node("MaxPool", ["c2"], ["q", "i"], **SQUARES),
        helper.make_node("MaxUnpool", ["q", "i"], ["u"], **SQUARES),
        helper.make_node("GlobalLpPool", ["u"], ["y"], p=3),
    ],
}


def _repeated(model: onnx.ModelProto, seed_shape: tuple[int, ...], wrt: list[str], form: str) -> onnx.ModelProto:
    """The program with inputs x, seed [N·K, …] and outputs grad_<wrt>."""
    loaded = graph_tools.load(model)
    b = Emitter(loaded)
    seed = b.input("seed", ir.DataType.FLOAT, ["rows", *seed_shape])
    named = {v.name: v for v in (*loaded.graph.inputs, *loaded.graph.initializers.values())}
    repeat = b.const(np.array(K, np.int64))
    found = backward(loaded, {loaded.graph.outputs[0]: seed}, [named[n] for n in wrt], repeat=repeat, form=form)
    writer = Emitter(loaded)
    for name, ct in zip(wrt, found, strict=True):
        assert ct is not None
        writer.output(ct, f"grad_{name}")
    return ir.to_proto(loaded)


def _compare(tail: str, shape: tuple[Any, ...], form: str, groups: int) -> None:
    model = _net(shape, TAILS[tail], groups)
    rng = np.random.default_rng(2)
    x = rng.normal(size=(N, 2, *SIZE)).astype(np.float32)
    y = run_ort(model, {"x": x})["y"]
    ct = rng.normal(size=(N, K, *y.shape[1:])).astype(np.float32)

    single = ir.to_proto(graph_tools.gradient(model, ["y"], ["x", "w2"], form=form))
    runs = [run_ort(single, {"x": x, "cotangent_y": ct[:, k]}) for k in range(K)]
    got = run_ort(_repeated(model, y.shape[1:], ["x", "w2"], form), {"x": x, "seed": ct.reshape(N * K, *y.shape[1:])})

    expected = np.stack([r["grad_x"] for r in runs], axis=1).reshape(N * K, 2, *SIZE)
    assert np.abs(expected).max() > 0.1
    assert np.allclose(got["grad_x"], expected, rtol=1e-4, atol=1e-5)
    assert np.allclose(got["grad_w2"], sum(r["grad_w2"] for r in runs), rtol=1e-3, atol=1e-3)
    assert np.allclose(got["y"], y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [("n", 2, *SIZE), ("n", 2, "h", "w")], ids=["batch", "open"])
@pytest.mark.parametrize("tail", TAILS)
def test_k_cotangents_equal_k_gradients(tail: str, shape: tuple[Any, ...]) -> None:
    _compare(tail, shape, "cpu", 1)


@pytest.mark.parametrize(("form", "groups"), [("cpu", 4), ("cuda", 1)])
def test_k_cotangents_in_other_forms(form: str, groups: int) -> None:
    _compare("max", (N, 2, *SIZE), form, groups)
