"""Small graphs for the tests of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from service.runtime.providers import CPU, Provider
from service.types import Array

CPU_ONLY = Provider("cpu", CPU)
ENDLESS = np.array(2**62)


def value(name: str, shape: Sequence[int | str | None] | None, dtype: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    weights: dict[str, Array] | None = None,
    *,
    opset: int = 18,
    ir_version: int = 8,
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def affine(weight: Array | None = None) -> onnx.ModelProto:
    """y [N, 3] = tanh(x [N, 3] w + w[0])."""
    w = np.arange(9, dtype=np.float32).reshape(3, 3) / 7 if weight is None else weight
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"], name="product"),
        helper.make_node("Add", ["z", "b"], ["s"], name="/block/sum"),
        helper.make_node("Tanh", ["s"], ["y"], name="squash"),
    ]
    return model(nodes, [value("x", ["N", 3])], [value("y", ["N", 3])], {"w": w, "b": w[0].copy()})


def counter() -> onnx.ModelProto:
    """y [4] = x [4] after ``n`` times x = x * 0.5 + 1, as a Loop; ENDLESS as ``n`` never ends."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Mul", ["a", "half"], ["h"]),
            helper.make_node("Add", ["h", "one"], ["a_out"]),
        ],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("a", [4])],
        [value("on", [], TensorProto.BOOL), value("a_out", [4])],
        [numpy_helper.from_array(np.full(4, c, np.float32), n) for n, c in (("half", 0.5), ("one", 1.0))],
    )
    loop = helper.make_node("Loop", ["n", "", "x"], ["y"], name="again", body=body)
    return model([loop], [value("n", [], TensorProto.INT64), value("x", [4])], [value("y", [4])])


def wide(columns: int) -> onnx.ModelProto:
    """y [N] = min(x [N, 1], 0) over ``columns`` copies of x: 12 * columns bytes of scratch memory per row."""
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["z"]),
        helper.make_node("Relu", ["z"], ["r"]),
        helper.make_node("Sub", ["z", "r"], ["d"]),
        helper.make_node("ReduceMax", ["d", "axis"], ["y"], keepdims=0),
    ]
    weights = {"shape": np.array([1, columns]), "axis": np.array([1])}
    return model(nodes, [value("x", ["N", 1])], [value("y", ["N"])], weights)


def external(
    location: str, *, offset: str = "0", length: str = "4096", where: str = "initializer", size: int = 1024
) -> onnx.ModelProto:
    """y = x + w, w [size] float32 in the file ``location``.

    The tensor sits ``where``: initializer, constant, function or body (of an If).
    """
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[size], data_location=TensorProto.EXTERNAL)
    for key, text in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=text)
    add = helper.make_node("Add", ["x", "w"], ["y"])
    proto = model([add], [value("x", [1])], [value("y", None)])
    if where == "initializer":
        proto.graph.initializer.append(tensor)
    elif where == "constant":
        proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    elif where == "function":
        node = helper.make_node("Constant", [], ["w"], value=tensor)
        opset = [helper.make_opsetid("", 18)]
        proto.functions.append(helper.make_function("own", "Plus", ["x"], ["y"], [node, add], opset))
    else:
        branch = helper.make_graph([add], "body", [], [value("y", None)], [tensor])
        yes = numpy_helper.from_array(np.array(True), "yes")
        proto.graph.initializer.append(yes)
        proto.graph.node[0].CopyFrom(helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch))
    return proto


def save_external(folder: Path, data: Array, location: str = "w.bin") -> Path:
    """A model with external data in ``folder``; returns its path."""
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    data.astype(np.float32).tofile(folder / location)
    path = folder / "net.onnx"
    path.write_bytes(external(location, length=str(data.size * 4), size=data.size).SerializeToString())
    return path
