"""Writes the embedded model: the trained weights as an ONNX graph with names that can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]

OPSET, IR_VERSION = 18, 8


@dataclass(frozen=True)
class Conv:
    """A 3 x 3 convolution with its batch normalisation folded in: weight [M, C, 3, 3], bias [M]."""

    weight: Floats
    bias: Floats
    stride: int = 1


@dataclass(frozen=True)
class Stage:
    """``relu(conv(x))``, or with two convolutions the residual block ``relu(x + conv(relu(conv(x))))``."""

    name: str
    convs: tuple[Conv, ...]


@dataclass
class _Graph:
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], output: str, name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name, **attributes))
        return output

    def const(self, array: Floats, name: str) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def conv(self, conv: Conv, x: str, output: str, name: str) -> str:
        inputs = [x, self.const(conv.weight, f"{name}.weight"), self.const(conv.bias, f"{name}.bias")]
        strides = [conv.stride] * 2
        return self.add("Conv", inputs, output, name, kernel_shape=[3, 3], pads=[1] * 4, strides=strides)

    def stage(self, stage: Stage, x: str) -> str:
        """The stage's result is the value with the stage's name."""
        n = stage.name
        if len(stage.convs) == 1:
            y = self.conv(stage.convs[0], x, f"{n}.linear", f"{n}.conv")
        else:
            first, second = stage.convs
            inner = self.add("Relu", [self.conv(first, x, f"{n}.1.linear", f"{n}.conv1")], f"{n}.1", f"{n}.relu1")
            y = self.add("Add", [x, self.conv(second, inner, f"{n}.2", f"{n}.conv2")], f"{n}.sum", f"{n}.add")
        return self.add("Relu", [y], n, f"{n}.relu")


def export(
    stages: Sequence[Stage], weight: Floats, bias: Floats, size: int, notes: Mapping[str, str]
) -> onnx.ModelProto:
    """Builds the classifier: stages, global average pooling, one linear layer, sigmoid.

    Values: ``image`` float [batch, 3, size, size] -> ... -> ``features`` (the last stage) -> ``pooled`` ->
    ``descriptor`` -> ``logits`` -> ``probabilities`` [batch, classes].

    Args:
        stages: in order; the last one is to be named ``features``.
        weight: of the linear layer, [classes, C].
        bias: [classes].
        size: side of the input in pixels.
        notes: metadata of the file.

    Raises:
        onnx.checker.ValidationError: the parts do not fit together.
    """
    g = _Graph()
    x = "image"
    for stage in stages:
        x = g.stage(stage, x)
    x = g.add("Flatten", [g.add("GlobalAveragePool", [x], "pooled", "pool")], "descriptor", "flatten")
    linear = [x, g.const(weight, "classify.weight"), g.const(bias, "classify.bias")]
    g.add("Sigmoid", [g.add("Gemm", linear, "logits", "classify", transB=1)], "probabilities", "sigmoid")

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, size, size])
    result = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(bias)])
    graph = helper.make_graph(g.nodes, "scenes", [image], [result], g.weights)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, producer_name="onnx-explain", opset_imports=opsets, ir_version=IR_VERSION)
    helper.set_model_props(model, dict(notes))
    onnx.checker.check_model(model, full_check=True)
    return model
