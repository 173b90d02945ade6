"""The nets of the benchmarks with seeded He-scaled weights: the shapes of the real ones, nothing downloaded."""

from __future__ import annotations

from collections.abc import Sequence
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

    def conv(self, x: str, cin: int, cout: int, k: int, stride: int = 1, group: int = 1, scale: float = 1.0,
             pad: int | None = None) -> str:  # fmt: skip
        fan = cin // group * k * k
        w = (self.rng.standard_normal((cout, cin // group, k, k)) * scale * np.sqrt(2 / fan)).astype(np.float32)
        b = (self.rng.standard_normal(cout) * 0.05).astype(np.float32)
        p = k // 2 if pad is None else pad
        return self.add("Conv", x, self.weight(w), self.weight(b), kernel_shape=[k, k], strides=[stride, stride],
                        pads=[p, p, p, p], group=group)  # fmt: skip

    def relu6(self, x: str) -> str:
        low, high = (self.weight(np.array(v, np.float32)) for v in (0.0, 6.0))
        return self.add("Clip", x, low, high)

    def gemm(self, x: str, cin: int, cout: int) -> str:
        return self.add("Gemm", x, self.normal(cout, cin, fan=cin), self.weight(np.zeros(cout, np.float32)), transB=1)

    def linear(self, x: str, cin: int, cout: int) -> str:
        return self.add("Add", self.add("MatMul", x, self.normal(cin, cout, fan=cin)), self.normal(cout))

    def gelu(self, x: str) -> str:
        root, one, half = (self.weight(np.array(v, np.float32)) for v in (2**0.5, 1.0, 0.5))
        phi = self.add("Add", self.add("Erf", self.add("Div", x, root)), one)
        return self.add("Mul", self.add("Mul", x, phi), half)

    def scale_shift(self, c: int) -> tuple[str, str]:
        return self.weight(1 + 0.1 * self.rng.standard_normal(c).astype(np.float32)), self.normal(c)

    def normal(self, *shape: int, fan: int = 2500) -> str:
        return self.weight((self.rng.standard_normal(shape) * np.sqrt(1 / fan)).astype(np.float32))

    def pooled(self, x: str, features: int, size: int) -> onnx.ModelProto:
        return self.close(self.gemm(self.add("Flatten", self.add("GlobalAveragePool", x)), features, 1000), size)

    def close(self, logits: str, size: int) -> onnx.ModelProto:
        out = self.add("Softmax", logits, axis=1)
        graph = helper.make_graph(
            self.nodes, "net",
            [helper.make_tensor_value_info("image_in", TensorProto.FLOAT, ["N", 3, size, size])],
            [helper.make_tensor_value_info(out, TensorProto.FLOAT, ["N", 1000])], self.weights,
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
    return net.pooled(net.relu6(net.conv(x, c, 1280, 1)), 1280, size)


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
    return net.pooled(x, c, size)


def vgg16(size: int = 224) -> onnx.ModelProto:
    """Simonyan & Zisserman 2014, table 1, column D."""
    net = _Net(3)
    x, c = "image_in", 3
    for stage in ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3):
        for out in stage:
            x, c = net.add("Relu", net.conv(x, c, out, 3)), out
        x = net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x, features = net.add("Flatten", x), 512 * (size // 32) ** 2
    for out in (4096, 4096):
        x, features = net.add("Relu", net.gemm(x, features, out)), out
    return net.close(net.gemm(x, features, 1000), size)


def squeezenet(size: int = 224) -> onnx.ModelProto:
    """Iandola et al. 2016, version 1.1."""
    net = _Net(4)
    x = net.add("Relu", net.conv("image_in", 3, 64, 3, 2, pad=0))
    c = 64
    for fires in (((16, 64),) * 2, ((32, 128),) * 2, ((48, 192),) * 2 + ((64, 256),) * 2):
        x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        for narrow, wide in fires:
            s = net.add("Relu", net.conv(x, c, narrow, 1))
            sides = [net.add("Relu", net.conv(s, narrow, wide, k)) for k in (1, 3)]
            x, c = net.add("Concat", *sides, axis=1), 2 * wide
    x = net.add("Relu", net.conv(x, c, 1000, 1))
    return net.close(net.add("Flatten", net.add("GlobalAveragePool", x)), size)


def convnext_tiny(size: int = 224) -> onnx.ModelProto:
    """Liu et al. 2022, section 3: depths 3 3 9 3, widths 96 to 768; GELU written with Erf as exporters do."""
    net = _Net(5)

    def layer_norm(x: str, c: int) -> str:  # over channels
        x = net.add("LayerNormalization", net.add("Transpose", x, perm=[0, 2, 3, 1]), *net.scale_shift(c), axis=-1,
                    epsilon=1e-6)  # fmt: skip
        return net.add("Transpose", x, perm=[0, 3, 1, 2])

    x, c = layer_norm(net.conv("image_in", 3, 96, 4, 4, pad=0), 96), 96
    for depth, out in ((3, 96), (3, 192), (9, 384), (3, 768)):
        if out != c:
            x, c = net.conv(layer_norm(x, c), c, out, 2, 2, pad=0), out
        for _ in range(depth):
            y = net.add("Transpose", net.conv(x, c, c, 7, group=c), perm=[0, 2, 3, 1])
            y = net.add("LayerNormalization", y, *net.scale_shift(c), axis=-1, epsilon=1e-6)
            y = net.linear(net.gelu(net.linear(y, c, 4 * c)), 4 * c, c)
            y = net.add("Mul", y, net.weight(np.full(c, 0.3, np.float32)))
            x = net.add("Add", net.add("Transpose", y, perm=[0, 3, 1, 2]), x)
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    x = net.add("LayerNormalization", x, *net.scale_shift(c), axis=-1, epsilon=1e-6)
    return net.close(net.gemm(x, c, 1000), size)


def vit(width: int, depth: int, heads: int, size: int = 224, patch: int = 16) -> onnx.ModelProto:
    """Dosovitskiy et al. 2021, table 1; attention as four MatMuls, GELU written with Erf, as exporters do."""
    net = _Net(6)
    tokens, inner = (size // patch) ** 2, width // heads

    def ints(*values: int) -> str:
        return net.weight(np.array(values, np.int64))

    def split(x: str, perm: list[int]) -> str:
        x = net.add("Reshape", x, ints(0, tokens + 1, heads, inner))
        return net.add("Transpose", x, perm=perm)

    x = net.add("Reshape", net.conv("image_in", 3, width, patch, patch, pad=0), ints(0, width, tokens))
    x = net.add("Transpose", x, perm=[0, 2, 1])
    rows = net.add("Shape", x, start=0, end=1)
    cls = net.add("Expand", net.normal(1, 1, width), net.add("Concat", rows, ints(1, width), axis=0))
    x = net.add("Add", net.add("Concat", cls, x, axis=1), net.normal(1, tokens + 1, width))
    for _ in range(depth):
        y = net.add("LayerNormalization", x, *net.scale_shift(width), axis=-1, epsilon=1e-6)
        q, k, v = (split(net.linear(y, width, width), p) for p in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
        scores = net.add("Mul", net.add("MatMul", q, k), net.weight(np.array(inner**-0.5, np.float32)))
        y = net.add("MatMul", net.add("Softmax", scores, axis=-1), v)
        y = net.add("Reshape", net.add("Transpose", y, perm=[0, 2, 1, 3]), ints(0, tokens + 1, width))
        x = net.add("Add", x, net.linear(y, width, width))
        y = net.add("LayerNormalization", x, *net.scale_shift(width), axis=-1, epsilon=1e-6)
        x = net.add("Add", x, net.linear(net.gelu(net.linear(y, width, 4 * width)), 4 * width, width))
    x = net.add("LayerNormalization", x, *net.scale_shift(width), axis=-1, epsilon=1e-6)
    return net.close(net.gemm(net.add("Gather", x, net.weight(np.array(0, np.int64)), axis=1), width, 1000), size)


def vit_tiny(size: int = 224) -> onnx.ModelProto:
    """ViT-Ti/16 (Touvron et al. 2021)."""
    return vit(192, 12, 3, size)


def vit_base(size: int = 224) -> onnx.ModelProto:
    """ViT-B/16."""
    return vit(768, 12, 12, size)


NETS = {
    "resnet50": resnet50,
    "vgg16": vgg16,
    "mobilenet_v2": mobilenet_v2,
    "squeezenet": squeezenet,
    "convnext_tiny": convnext_tiny,
    "vit_tiny": vit_tiny,
    "vit_base": vit_base,
}


def save(folder: Path, names: Sequence[str] = ("mobilenet_v2", "resnet50")) -> None:
    """Write these as models of a repository, with cards."""
    for name in names:
        onnx.save(NETS[name](), folder / f"{name}.onnx")
        (folder / f"{name}.toml").write_text('preset = "imagenet-torch"\n')


def save_fixed(folder: Path, name: str, batch: int) -> Path:
    """Write one with a batch fixed at ``batch``, as exporters do unless they are told otherwise."""
    path = folder / f"{name}_{batch}.onnx"
    if not path.exists():
        onnx.save(fixed(NETS[name](), batch), path)
    return path


def fixed(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """The model itself, its batch fixed."""
    for v in (*model.graph.input, *model.graph.output):
        v.type.tensor_type.shape.dim[0].dim_value = batch
    return model
