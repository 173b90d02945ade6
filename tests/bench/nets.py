"""MobileNetV2 and ResNet-50 with seeded He-scaled weights: the shapes of the real nets, nothing downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class _Net:
    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{name}_node", **attributes))
        return name

    def weight(self, array: np.ndarray) -> str:
        name = f"w_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def conv(self, x: str, cin: int, cout: int, k: int, stride: int = 1, group: int = 1, scale: float = 1.0) -> str:
        fan = cin // group * k * k
        w = (self.rng.standard_normal((cout, cin // group, k, k)) * scale * np.sqrt(2 / fan)).astype(np.float32)
        b = (self.rng.standard_normal(cout) * 0.05).astype(np.float32)
        p = k // 2
        return self.add("Conv", x, self.weight(w), self.weight(b), kernel_shape=[k, k], strides=[stride, stride],
                        pads=[p, p, p, p], group=group)  # fmt: skip

    def relu6(self, x: str) -> str:
        low, high = (self.weight(np.array(v, np.float32)) for v in (0.0, 6.0))
        return self.add("Clip", x, low, high)

    def model(self, x: str, features: int, size: int, classes: int = 1000) -> onnx.ModelProto:
        w = (self.rng.standard_normal((classes, features)) * np.sqrt(1 / features)).astype(np.float32)
        flat = self.add("Flatten", self.add("GlobalAveragePool", x))
        logits = self.add("Gemm", flat, self.weight(w), self.weight(np.zeros(classes, np.float32)), transB=1)
        out = self.add("Softmax", logits, axis=1)
        graph = helper.make_graph(
            self.nodes, "net",
            [helper.make_tensor_value_info("image_in", TensorProto.FLOAT, ["N", 3, size, size])],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", classes])], self.weights,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def mobilenet_v2(size: int = 224) -> onnx.ModelProto:
    """Sandler et al. 2018, table 2, width 1.0; batch normalisation folded."""
    net = _Net(1)
    x, c = net.relu6(net.conv("image_in", 3, 32, 3, 2)), 32
    for t, out, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                         (6, 320, 1, 1)):  # fmt: skip
        for i in range(n):
            stride, wide, y = (s if i == 0 else 1), c * t, x
            if t > 1:
                y = net.relu6(net.conv(y, c, wide, 1))
            y = net.relu6(net.conv(y, wide, wide, 3, stride, group=wide))
            y = net.conv(y, wide, out, 1, scale=0.5)
            x = net.add("Add", x, y) if stride == 1 and c == out else y
            c = out
    return net.model(net.relu6(net.conv(x, c, 1280, 1)), 1280, size)


def resnet50(size: int = 224) -> onnx.ModelProto:
    """He et al. 2015, table 1, 50 layers; batch normalisation folded."""
    net = _Net(2)
    x = net.add("Relu", net.conv("image_in", 3, 64, 7, 2))
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    c = 64
    for width, blocks, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(blocks):
            stride, out = (first if i == 0 else 1), width * 4
            y = net.add("Relu", net.conv(x, c, width, 1))
            y = net.add("Relu", net.conv(y, width, width, 3, stride))
            y = net.conv(y, width, out, 1, scale=0.3)
            short = net.conv(x, c, out, 1, stride) if i == 0 else x
            x, c = net.add("Relu", net.add("Add", y, short)), out
    return net.model(x, c, size)


def save(folder: Path) -> None:
    """Write both as models of a repository, with cards."""
    for name, make in (("mobilenet_v2", mobilenet_v2), ("resnet50", resnet50)):
        onnx.save(make(), folder / f"{name}.onnx")
        (folder / f"{name}.toml").write_text('preset = "imagenet-torch"\n')
