"""Small nets of what ONNX Runtime's optimiser fuses, blocks and quantises, and what it makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

LEVELS = ("BASIC", "EXTENDED", "ALL")


class Net:
    """Nodes and seeded weights."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def w(self, *shape: int) -> str:
        a = self.rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 4)
        return self.constant(a.astype(np.float32))

    def constant(self, a: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(a, name))
        return name

    def add(self, op: str, inputs: list[str], out: str, **attrs: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [out], f"{out}_node", **attrs))
        return out

    def model(self, inputs: dict[str, list[Any]], output: str, opset: int) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, "net",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], self.weights,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def conv_net(c: int, opset: int = 18, rows: Any = "n", side: Any = 16) -> onnx.ModelProto:
    """``c`` channels: fused activations, a sum, depthwise, pools, squeeze and excite, Concat, Resize, a classifier."""
    n = Net()
    for i, (x, w, act, attrs) in enumerate([
        ("x", n.w(c, 3, 3, 3), "Relu", {}), ("a0", n.w(c, c, 3, 3), "LeakyRelu", {"alpha": 0.2}),
        ("a1", n.w(c, 1, 3, 3), "Sigmoid", {}),
    ]):  # fmt: skip
        group = c if i == 2 else 1
        n.add("Conv", [x, w, n.w(c)], f"c{i}", pads=[1] * 4, group=group, kernel_shape=[3, 3])
        n.add(act, [f"c{i}"], f"a{i}", **attrs)
    n.add("Conv", ["a2", n.w(c, c, 1, 1)], "c3", kernel_shape=[1, 1])
    n.add("Relu", [n.add("Add", ["c3", "a1"], "sum")], "a3")
    n.add("MaxPool", ["a3"], "p0", kernel_shape=[2, 2], strides=[2, 2])
    n.add("AveragePool", ["p0"], "p1", kernel_shape=[2, 2], strides=[1, 1])
    n.add("Conv", ["p1", n.w(2 * c, c, 3, 3)], "c4", kernel_shape=[3, 3])
    n.add("Mul", ["c4", n.add("HardSigmoid", ["c4"], "gate", alpha=1 / 6, beta=0.5)], "a4")
    n.add("Conv", [n.add("GlobalAveragePool", ["a4"], "g"), n.w(2 * c, 2 * c, 1, 1)], "c5", kernel_shape=[1, 1])
    n.add("Mul", ["a4", n.add("Sigmoid", ["c5"], "excite")], "se")
    n.add("Concat", ["se", "a4"], "cat", axis=1)
    n.add("Conv", ["cat", n.w(c, 4 * c, 1, 1), n.w(c)], "c6", kernel_shape=[1, 1])
    scales = n.constant(np.array([1, 1, 2, 2], np.float32))
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    region = n.constant(np.zeros(0, np.float32)) if opset < 13 else ""
    n.add("Resize", ["c6", region, scales], "up", **nearest)
    n.add("Flatten", [n.add("GlobalAveragePool", ["up"], "gg")], "f")
    n.add("Gemm", ["f", n.w(16, c), n.w(16)], "fc", transB=1)
    n.add("MatMul", [n.add("Relu", ["fc"], "fr"), n.w(16, 10)], "logits")
    return n.model({"x": [rows, 3, side, side]}, n.add("Softmax", ["logits"], "y", axis=1), opset)


def smooth_net() -> onnx.ModelProto:
    """No kinks: a flipped quantum moves no unit across one."""
    n = Net()
    n.add("Conv", ["x", n.w(8, 3, 3, 3), n.w(8)], "c0", kernel_shape=[3, 3])
    n.add("Conv", [n.add("Sigmoid", ["c0"], "a0"), n.w(8, 8, 3, 3), n.w(8)], "c1", kernel_shape=[3, 3], pads=[1] * 4)
    n.add("AveragePool", [n.add("Add", ["c1", "a0"], "sum")], "p", kernel_shape=[2, 2], strides=[2, 2])
    n.add("Flatten", [n.add("GlobalAveragePool", ["p"], "g")], "f")
    return n.model({"x": [2, 3, 16, 16]}, n.add("Gemm", ["f", n.w(10, 8), n.w(10)], "y", transB=1), 18)


def broadcast_net(c: int = 16) -> onnx.ModelProto:
    """Sums whose operands' sizes cannot be compared before the run, one of them [N, C, 1, 1]."""
    n = Net()
    n.add("Conv", ["x", n.w(c, 3, 3, 3)], "a", kernel_shape=[3, 3])
    n.add("Conv", ["z", n.w(c, 3, 3, 3)], "b", kernel_shape=[3, 3])
    n.add("Relu", [n.add("Add", ["a", "b"], "sum")], "r")
    n.add("Add", [n.add("Conv", ["z", n.w(c, 3, 3, 3)], "d", kernel_shape=[3, 3]), "r"], "again")
    n.add("Conv", ["again", n.w(4, c, 1, 1)], "y", kernel_shape=[1, 1])
    return n.model({"x": ["n", 3, "h", "w"], "z": ["n", 3, "k", "l"]}, "y", 18)


def mlp(opset: int = 18) -> onnx.ModelProto:
    """Attention-like products (scaled, transposed) and a fused Gemm."""
    n = Net()
    n.add("MatMul", ["x", n.w(8, 8)], "q")
    n.add("MatMul", ["x", n.w(8, 8)], "k")
    n.add("MatMul", ["q", n.add("Transpose", ["k"], "kt", perm=[0, 2, 1])], "qk")
    n.add("Softmax", [n.add("Mul", ["qk", n.constant(np.float32(0.35).reshape(()))], "scaled")], "p", axis=-1)
    n.add("MatMul", ["p", "x"], "v")
    n.add("Reshape", ["v", n.constant(np.array([-1, 40], np.int64))], "flat")
    n.add("Tanh", [n.add("Gemm", ["flat", n.w(40, 12), n.w(12)], "fc")], "t")
    return n.model({"x": ["n", 5, 8]}, n.add("MatMul", ["t", n.w(12, 3)], "y"), opset)


def optimised(proto: onnx.ModelProto, level: str, folder: Path) -> onnx.ModelProto:
    """The file that ONNX Runtime saves behind its optimiser."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(folder / f"{level}.onnx")
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / f"{level}.onnx")


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, shape: list[int]) -> None:
        draws = [1.5 * np.random.default_rng(i).normal(size=shape).astype(np.float32) for i in range(6)]
        self._feeds = iter([{name: a} for a in draws])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def quantised(proto: onnx.ModelProto, form: str, folder: Path, *, per_channel: bool = False,
              signed: bool = False) -> onnx.ModelProto:  # fmt: skip
    """``form``: QDQ, QOperator or dynamic; calibrated on noise of deviation 1.5: of noise of 1 little is clipped."""
    source, target = folder / "float.onnx", folder / f"{form}.onnx"
    onnx.save(proto, source)
    kind = QuantType.QInt8 if signed else QuantType.QUInt8
    if form == "dynamic":
        quantize_dynamic(source, target, per_channel=per_channel, weight_type=kind)
    else:
        entry = proto.graph.input[0]
        shape = [d.dim_value or 2 for d in entry.type.tensor_type.shape.dim]
        quantize_static(source, target, _Reader(entry.name, shape), quant_format=QuantFormat[form],
                        per_channel=per_channel, activation_type=kind, weight_type=QuantType.QInt8)  # fmt: skip
    return onnx.load(target)
