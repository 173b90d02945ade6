"""Files that ONNX Runtime's own optimiser saved: the gradient is that of the file as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper

import graph_tools
from tests.graph_tools.harness import run_ort

HIDDEN, HEADS, TOKENS = 16, 2, 5
LEVELS = {
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class _Net:
    """A transformer block written node by node; ``x`` is the value it ends in."""

    def __init__(self, opset: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.opset, self.x, self.rng = opset, "x", np.random.default_rng(1)

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        out = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=f"node_{out}", **attributes))
        return out

    def const(self, array: object, kind: type = np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(onnx.numpy_helper.from_array(np.asarray(array, kind), name))
        return name

    def linear(self, x: str, wide: int, out: int) -> str:
        weight = self.const(self.rng.normal(size=(wide, out)) / np.sqrt(wide))
        return self.op("Add", self.op("MatMul", x, weight), self.const(self.rng.normal(size=out) / 5))

    def normalise(self, x: str) -> str:
        """LayerNormalization, in the nine nodes that exporters write below opset 17."""
        scale, bias = self.const(self.rng.uniform(0.5, 1.5, HIDDEN)), self.const(self.rng.normal(size=HIDDEN))
        if self.opset >= 17:
            return self.op("LayerNormalization", x, scale, bias, axis=-1)
        centred = self.op("Sub", x, self._mean(x))
        square = self._mean(self.op("Pow", centred, self.const(2.0)))
        deviation = self.op("Sqrt", self.op("Add", square, self.const(1e-5)))
        return self.op("Add", self.op("Mul", self.op("Div", centred, deviation), scale), bias)

    def _mean(self, x: str) -> str:
        return self.op("ReduceMean", x, axes=[-1], keepdims=1)

    def rms(self, x: str) -> str:
        axes = {} if self.opset >= 18 else {"axes": [-1]}
        more = [self.const([-1], np.int64)] if self.opset >= 18 else []
        mean = self.op("ReduceMean", self.op("Pow", x, self.const(2.0)), *more, keepdims=1, **axes)
        deviation = self.op("Sqrt", self.op("Add", mean, self.const(1e-6)))
        return self.op("Mul", self.const(self.rng.uniform(0.5, 1.5, HIDDEN)), self.op("Div", x, deviation))

    def attend(self, x: str, *, causal: bool) -> str:
        head = HIDDEN // HEADS
        shape = self.const([0, 0, HEADS, head], np.int64)
        q, k, v = (self.op("Reshape", self.linear(x, HIDDEN, HIDDEN), shape) for _ in range(3))
        q, v = (self.op("Transpose", y, perm=[0, 2, 1, 3]) for y in (q, v))
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 2, 3, 1]))
        scores = self.op("Div", scores, self.const(np.sqrt(head)))
        if causal:
            scores = self.op("Add", scores, self.const(np.triu(np.full((TOKENS, TOKENS), -1e4), 1)))
        y = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        y = self.op("Reshape", self.op("Transpose", y, perm=[0, 2, 1, 3]), self.const([0, 0, HIDDEN], np.int64))
        return self.linear(y, HIDDEN, HIDDEN)

    def gelu(self, x: str) -> str:
        inner = self.op("Erf", self.op("Div", x, self.const(np.sqrt(2))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", inner, self.const(1.0))), self.const(0.5))

    def tanh_gelu(self, x: str) -> str:
        cubic = self.op("Mul", self.op("Pow", x, self.const(3.0)), self.const(0.044715))
        inner = self.op("Tanh", self.op("Mul", self.op("Add", x, cubic), self.const(np.sqrt(2 / np.pi))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", inner, self.const(1.0))), self.const(0.5))

    def silu(self, x: str) -> str:
        return self.op("Mul", x, self.op("Sigmoid", x))

    def model(self) -> onnx.ModelProto:
        shape = ["N", TOKENS, HIDDEN]
        self.nodes[-1].output[0] = "out"
        graph = helper.make_graph(
            self.nodes, "g",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, shape)], self.weights,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def encoder(opset: int) -> onnx.ModelProto:
    """Normalised behind each half, Gelu (BERT)."""
    net = _Net(opset)
    for _ in range(2):
        net.x = net.normalise(net.op("Add", net.attend(net.x, causal=False), net.x))
        wide = net.gelu(net.linear(net.x, HIDDEN, 2 * HIDDEN))
        net.x = net.normalise(net.op("Add", net.linear(wide, 2 * HIDDEN, HIDDEN), net.x))
    return net.model()


def decoder(opset: int) -> onnx.ModelProto:
    """Normalised in front, causal, Gelu by tanh (GPT-2)."""
    net = _Net(opset)
    for _ in range(2):
        net.x = net.op("Add", net.x, net.attend(net.normalise(net.x), causal=True))
        wide = net.tanh_gelu(net.linear(net.normalise(net.x), HIDDEN, 2 * HIDDEN))
        net.x = net.op("Add", net.x, net.linear(wide, 2 * HIDDEN, HIDDEN))
    return net.model()


def gated(opset: int) -> onnx.ModelProto:
    """Root mean squares and a SiLU gate (Llama)."""
    net = _Net(opset)
    for _ in range(2):
        net.x = net.op("Add", net.x, net.attend(net.rms(net.x), causal=True))
        y = net.rms(net.x)
        wide = net.op("Mul", net.silu(net.linear(y, HIDDEN, HIDDEN)), net.linear(y, HIDDEN, HIDDEN))
        net.x = net.op("Add", net.x, net.linear(wide, HIDDEN, HIDDEN))
    return net.model()


def _optimised(model: onnx.ModelProto, level: str, folder: Path) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimised.onnx")


def _tools_optimised(model: onnx.ModelProto, kind: str, folder: Path) -> onnx.ModelProto:
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer", reason="needs sympy and coloredlogs")
    onnx.save(model, folder / "plain.onnx")
    found = optimizer.optimize_model(
        str(folder / "plain.onnx"), model_type=kind, num_heads=HEADS, hidden_size=HIDDEN, opt_level=0
    )
    found.save_model_to_file(str(folder / "fused.onnx"))
    return onnx.load(folder / "fused.onnx")


def _gradients(model: onnx.ModelProto) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    x, ct = (rng.normal(size=(3, TOKENS, HIDDEN)).astype(np.float32) for _ in range(2))
    got = run_ort(ir.to_proto(graph_tools.gradient(model, ["out"], ["x"])), {"x": x, "cotangent_out": ct})
    return got["out"], got["grad_x"]


def _close(a: np.ndarray, b: np.ndarray) -> None:
    assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


NETS = [encoder, decoder, gated]


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("net", NETS)
def test_saved_by_a_session(net: object, level: str, opset: int, tmp_path: Path) -> None:
    plain = net(opset)  # type: ignore[operator]
    optimised = _optimised(plain, level, tmp_path)
    for got, want in zip(_gradients(optimised), _gradients(plain), strict=True):
        _close(got, want)


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize(("net", "kind"), [(encoder, "bert"), (decoder, "gpt2"), (gated, "gpt2"), (encoder, "vit")])
def test_saved_by_the_transformer_tools(net: object, kind: str, opset: int, tmp_path: Path) -> None:
    plain = net(opset)  # type: ignore[operator]
    optimised = _tools_optimised(plain, kind, tmp_path)
    for got, want in zip(_gradients(optimised), _gradients(plain), strict=True):
        _close(got, want)


def test_something_was_fused(tmp_path: Path) -> None:
    for net, operator in ((encoder, "BiasGelu"), (decoder, "FusedMatMul"), (gated, "QuickGelu")):
        fused = {n.op_type for n in _optimised(net(17), "extended", tmp_path).graph.node}
        assert operator in fused
    tools = {n.op_type for n in _tools_optimised(encoder(17), "bert", tmp_path).graph.node}
    assert {"Attention", "SkipLayerNormalization", "BiasGelu"} <= tools
