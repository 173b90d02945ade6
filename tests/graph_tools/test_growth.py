"""Building grows linearly with the graph: Python calls are counted, not seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import graph_tools
from tests.graph_tools.nets import model, tensor


def _chain(ops: list[str], layers: int, opset: int = 20) -> onnx.ModelProto:
    """``layers`` times the operators one after the other."""
    nodes = [helper.make_node(ops[i % len(ops)], [f"v{i}"], [f"v{i + 1}"]) for i in range(layers * len(ops))]
    return model(nodes, [tensor("v0", ["N", 4])], [tensor(f"v{len(nodes)}", ["N", 4])], opset=opset)


def _residual(layers: int) -> onnx.ModelProto:
    """MatMul, bias, LayerNormalization written out, Relu, residual Add."""
    nodes, weights, x = [], {"two": np.float32(2), "eps": np.float32(1e-5), "last": np.int64([-1])}, "v0"
    for i in range(layers):
        weights |= {f"w{i}": np.eye(4, dtype=np.float32) * (1 + i), f"b{i}": np.full(4, i, np.float32)}
        steps = [
            ("MatMul", x, f"w{i}"),
            ("Add", 0, f"b{i}"),
            ("ReduceMean", 1, "last"),
            ("Sub", 1, 2),
            ("Pow", 3, "two"),
            ("ReduceMean", 4, "last"),
            ("Add", 5, "eps"),
            ("Sqrt", 6),
            ("Div", 3, 7),
            ("Relu", 8),
            ("Add", x, 9),
        ]
        names = [f"l{i}_{j}" for j in range(len(steps))]
        for name, (op, *operands) in zip(names, steps, strict=True):
            nodes.append(helper.make_node(op, [o if isinstance(o, str) else names[o] for o in operands], [name]))
        x = names[-1]
    return model(nodes, [tensor("v0", ["N", 4])], [tensor(x, ["N", 4])], weights)


def _dense(layers: int) -> onnx.ModelProto:
    """One value read by every layer, all results added: fan-out and fan-in of ``layers``."""
    nodes = [helper.make_node("Tanh", ["v0"], [f"t{i}"]) for i in range(layers)]
    nodes.append(helper.make_node("Sum", [n.output[0] for n in nodes], ["y"]))
    return model(nodes, [tensor("v0", ["N", 4])], [tensor("y", ["N", 4])])


def _branches(layers: int) -> onnx.ModelProto:
    """Nodes with subgraphs that capture a value."""
    nodes = []
    for i in range(layers):
        then = helper.make_graph([helper.make_node("Tanh", [f"v{i}"], [f"a{i}"])], "t", [], [tensor(f"a{i}", None)])
        other = helper.make_graph([helper.make_node("Neg", [f"v{i}"], [f"c{i}"])], "e", [], [tensor(f"c{i}", None)])
        nodes.append(helper.make_node("If", ["on"], [f"v{i + 1}"], then_branch=then, else_branch=other))
    inputs = [tensor("v0", [2, 4]), tensor("on", [], TensorProto.BOOL)]
    return model(nodes, inputs, [tensor(f"v{layers}", [2, 4])])


def _functions(layers: int) -> onnx.ModelProto:
    """Calls of one model-local function."""
    body = [helper.make_node("Mul", ["a", "a"], ["m"]), helper.make_node("Tanh", ["m"], ["b"])]
    function = helper.make_function("my", "F", ["a"], ["b"], body, [helper.make_opsetid("", 18)])
    nodes = [helper.make_node("F", [f"v{i}"], [f"v{i + 1}"], domain="my") for i in range(layers)]
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("my", 1)]
    return model(nodes, [tensor("v0", [4])], [tensor(f"v{layers}", [4])], functions=[function], opset_imports=imports)


NETS: dict[str, Callable[[int], onnx.ModelProto]] = {
    "residual": _residual,
    "expanded": lambda n: _chain(["Gelu", "Tanh"], n),  # Gelu, Mish: bodies
    "bodies": lambda n: _chain(["Mish", "Celu"], n),
    "old": lambda n: _chain(["Clip", "Softmax", "Relu"], n, opset=9),
    "fan": _dense,
    "branches": _branches,
    "functions": _functions,
}


def _calls(work: Callable[[], Any]) -> int:
    """Python calls made by ``work``."""
    count = 0

    def counter(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    was = sys.getprofile()
    sys.setprofile(counter)
    try:
        work()
    finally:
        sys.setprofile(was)
    return count


@pytest.mark.parametrize("net", NETS)
def test_calls_grow_with_the_nodes(net):
    """Four times the layers: at most 4.4 times the calls (a quadratic part of a tenth would give 5.2)."""
    counts = []
    for layers in (5, 30, 120):  # the first one warms what is remembered between builds
        proto = NETS[net](layers)
        y = proto.graph.output[0].name
        counts.append(_calls(lambda p=proto, y=y: graph_tools.gradient(p, [y], ["v0"])))
    assert counts[2] <= 4.4 * counts[1], counts


def test_nodes_grow_with_the_nodes():
    sizes = [len(graph_tools.gradient(_residual(n), [f"l{n - 1}_10"], ["v0"]).graph) for n in (10, 20, 40)]
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])
    assert sizes[2] <= 3 * 11 * 40


def test_inference_is_asked_once_for_equal_layers(monkeypatch):
    from graph_tools.shapes import node_types

    asked = []
    real = node_types._infer
    monkeypatch.setattr(node_types, "_infer", lambda node, opsets: asked.append(node.op_type) or real(node, opsets))
    monkeypatch.setattr(node_types, "_remembered", {})
    counts = []
    for layers in (4, 16):
        asked.clear()
        graph_tools.gradient(_residual(layers), [f"l{layers - 1}_10"], ["v0"])
        counts.append(len(asked))
    assert counts[1] <= counts[0] + 5
