"""The nine ``light_*`` networks in the onnx package, with weights.

In the package all but the first layer's weights are ConstantOfShape, so that the output does not depend on the image.
Here each weight becomes a seeded initializer: He-scaled for Conv and Gemm (half the variance where no Relu follows),
near one for scales and variances, near zero for shifts and means; the scale that ends a residual branch is 0.3. So
signals keep their size through the depth, and the softmax does not saturate. The files are of opset 9; they are lifted
to 18 by onnx's own converter while they are small.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper, version_converter

NAMES = ("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet",
         "vgg19", "zfnet512")  # fmt: skip
OPSET = 18
_ROLES = {"BatchNormalization": {1: "scale", 2: "shift", 3: "shift", 4: "scale"}, "Mul": {1: "scale"},
          "Add": {1: "shift"}, "Conv": {1: "weights", 2: "shift"}, "Gemm": {1: "weights", 2: "shift"}}  # fmt: skip


def load(name: str) -> onnx.ModelProto:
    """The network with weights; its only input is the image."""
    folder = Path(onnx.backend.test.__file__).parent / "data" / "light"
    model = version_converter.convert_version(onnx.load(folder / f"light_{name}.onnx"), OPSET)
    graph = model.graph
    known = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    roles = _roles(graph)
    rng = np.random.default_rng(0)
    for node in [n for n in graph.node if n.op_type == "ConstantOfShape"]:
        shape = tuple(int(d) for d in known[node.input[0]])
        graph.initializer.append(_drawn(rng, node.output[0], shape, roles.get(node.output[0], "shift")))
        graph.node.remove(node)
    for tensor in graph.initializer:
        if tensor.name in roles and tensor.name in known:  # the first layer's, as trained: they do not fit the others
            tensor.CopyFrom(_drawn(rng, tensor.name, known[tensor.name].shape, roles[tensor.name]))
    used = {name for node in graph.node for name in node.input}
    held = {t.name for t in graph.initializer}
    for v in [v for v in graph.input if v.name in held or v.name not in used]:
        graph.input.remove(v)
    for t in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(t)
    model.ir_version = max(model.ir_version, 8)
    return model


def save(folder: Path, name: str) -> Path:
    """Write one."""
    path = folder / f"light_{name}.onnx"
    onnx.save(load(name), path)
    return path


def interior(model: onnx.ModelProto) -> str:
    """A value in the middle: the output of the middle Conv."""
    convolutions = [n.output[0] for n in model.graph.node if n.op_type == "Conv"]
    return convolutions[len(convolutions) // 2]


def _roles(graph: onnx.GraphProto) -> dict[str, str]:
    """What each value is to the node that reads it, through Unsqueeze."""
    roles = {}
    behind = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Unsqueeze"}
    rectified = _rectified(graph)
    for node in graph.node:
        for i, name in enumerate(node.input):
            if i == 1 and node.op_type in ("Conv", "Gemm") and node.output[0] not in rectified:
                roles[name] = "linear"
                continue
            role = _ROLES.get(node.op_type, {}).get(i)
            if role is not None:
                roles[behind.get(name, name)] = role
    branches = {n.input[0] for n in graph.node if n.op_type == "Sum"}
    for node in graph.node:
        if node.op_type == "BatchNormalization" and node.output[0] in branches:
            roles[node.input[1]] = "branch"
    return roles


def _rectified(graph: onnx.GraphProto) -> set[str]:
    """Values that only a normalization or scale lies between and a Relu."""
    found: set[str] = set()
    for node in reversed(graph.node):
        passes = node.op_type in ("BatchNormalization", "Mul", "Add") and node.output[0] in found
        if node.op_type == "Relu" or passes:
            found.add(node.input[0])
    return found


def _drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...], role: str) -> onnx.TensorProto:
    array = rng.standard_normal(shape, np.float32)
    if role in ("weights", "linear"):
        array *= np.float32(np.sqrt((2 if role == "weights" else 1) / np.prod(shape[1:])))
    elif role == "shift":
        array *= np.float32(0.05)
    else:
        array = (1 + np.float32(0.1) * array) * np.float32(0.3 if role == "branch" else 1)
    return numpy_helper.from_array(array, name)
