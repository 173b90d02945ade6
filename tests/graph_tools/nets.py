"""Small models built by hand, shared by the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def tensor(name: str, shape: Sequence[Any] | None, elem: int = FLOAT) -> onnx.ValueInfoProto:
    """A graph input or output."""
    return helper.make_tensor_value_info(name, elem, shape)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 18,
    ir_version: int = 10,
    **kwargs: Any,
) -> onnx.ModelProto:
    """A model; ``weights`` become initializers."""
    initializers = [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    kwargs.setdefault("opset_imports", [helper.make_opsetid("", opset)])
    return helper.make_model(graph, ir_version=ir_version, **kwargs)


def cnn(
    *, batch: Any = "N", layout: str = "nchw", softmax: bool = True, opset: int = 18, seed: int = 0
) -> onnx.ModelProto:
    """Conv(3→8)–Relu–MaxPool–Conv(8→8)–Relu–residual Add–GlobalAveragePool–Reshape–Gemm(5)[–Softmax], 16 x 16."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "b1": rng.normal(0, 0.1, 8).astype(np.float32),
        "w2": rng.normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32),
        "b2": rng.normal(0, 0.1, 8).astype(np.float32),
        "w3": rng.normal(0, 0.5, (5, 8)).astype(np.float32),
        "b3": rng.normal(0, 0.1, 5).astype(np.float32),
        "flat": np.array([batch if isinstance(batch, int) else 0, 8], np.int64),
    }
    nodes = []
    first = "x"
    shape = [batch, 3, 16, 16]
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", ["x"], ["x_nchw"], perm=[0, 3, 1, 2], name="to_nchw"))
        first, shape = "x_nchw", [batch, 16, 16, 3]
    nodes += [
        helper.make_node("Conv", [first, "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], name="conv1"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2], name="pool1"),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], name="conv2"),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Add", ["r2", "p1"], ["features"], name="residual"),
        helper.make_node("GlobalAveragePool", ["features"], ["gap"], name="gap"),
        helper.make_node("Reshape", ["gap", "flat"], ["vector"], name="flatten"),
        helper.make_node("Gemm", ["vector", "w3", "b3"], ["logits"], transB=1, name="classifier"),
    ]
    out = "logits"
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1, name="softmax"))
        out = "probabilities"
    return model(nodes, [tensor("x", shape)], [tensor(out, [batch, 5])], weights, opset)
