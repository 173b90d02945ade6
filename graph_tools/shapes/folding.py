"""Values that follow from constants and known shapes: what exporters compute to choose the branch of an If."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from graph_tools.emit import array_of, dims

_NODES, _ELEMENTS = 64, 1024
_FOLDED = {
    "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Floor", "Gather", "Greater",
    "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "ReduceMax",
    "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where", "Xor",
}  # fmt: skip


def known_array(v: ir.Value | None) -> np.ndarray | None:
    """The value of ``v`` where small constants and the shapes of operands tell it, else None."""
    order = _computation(v)
    if v is None or order is None:
        return None
    known: dict[ir.Value, np.ndarray] = {}
    for node in order:
        found = _of_shape(node) if node.op_type in ("Shape", "Size") else _evaluated(node, known)
        if found is None or found.size > _ELEMENTS:
            return None
        known[node.outputs[0]] = found
    return known[v] if v in known else array_of(v)


def _computation(v: ir.Value | None) -> list[ir.Node] | None:
    """The nodes that compute ``v``, first to last; None where they are too many, or need what runs."""
    order: dict[ir.Node, None] = {}
    opened: set[ir.Node] = set()
    stack = [v]
    while stack:
        node = None if stack[-1] is None else stack[-1].producer()
        if node is None or node in order:
            top = stack.pop()
            if top is not None and node is None and array_of(top) is None:
                return None
            continue
        if node.domain not in ("", "ai.onnx") or len(opened) > _NODES:
            return None
        if node in opened or node.op_type in ("Shape", "Size"):
            order[node] = None
            stack.pop()
        elif node.op_type in _FOLDED:
            opened.add(node)
            stack.extend(x for x in node.inputs if x is not None)
        else:
            return None
    return list(order)


def _of_shape(node: ir.Node) -> np.ndarray | None:
    x = node.inputs[0]
    shape = None if x is None else dims(x)
    if shape is None:
        return None
    if node.op_type == "Shape":
        shape = shape[node.attributes.get_int("start", 0) : node.attributes.get_int("end", None)]
    if any(d is None for d in shape):
        return None
    known = np.array(shape, np.int64)
    return known if node.op_type == "Shape" else np.array(np.prod(known), np.int64)


def _evaluated(node: ir.Node, known: dict[ir.Value, np.ndarray]) -> np.ndarray | None:
    """The node computed by ONNX's reference evaluator."""
    feeds = {}
    for v in node.inputs:
        if v is not None:
            a = known[v] if v in known else array_of(v)
            if a is None or a.size > _ELEMENTS:
                return None
            feeds[v.name or ""] = a
    assert node.graph is not None
    opset = 18 if node.version is None else node.version
    out = node.outputs[0].name or ""
    inputs = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
    ]
    graph = onnx.helper.make_graph([ir.to_proto(node)], "one", inputs, [onnx.ValueInfoProto(name=out)])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    try:
        return np.asarray(ReferenceEvaluator(proto).run([out], feeds)[0])  # type: ignore[index]
    except Exception:  # an operator that the evaluator does not know in this form
        return None
