"""Multiply-adds of a graph, node by node, from its shapes."""

from __future__ import annotations

import math

import onnx_ir as ir

from graph_tools.emit import dims


def node_macs(node: ir.Node) -> int:
    """Multiply-adds of one node for one row; 0 for operators without products. Unknown dimensions count as 1."""
    out = dims(node.outputs[0])
    if out is None:
        return 0
    positions = math.prod(d or 1 for d in out[1:])
    if node.op_type in ("Conv", "ConvTranspose", "ConvInteger"):
        weights = _dims(node, 1)
        if node.op_type == "ConvTranspose":
            source = _dims(node, 0)
            return math.prod(d or 1 for d in source[1:]) * math.prod(d or 1 for d in weights[1:])
        return positions * math.prod(d or 1 for d in weights[1:])
    if node.op_type == "QLinearConv":
        return positions * math.prod(d or 1 for d in _dims(node, 3)[1:])
    if node.op_type in ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul"):
        a = _dims(node, 0)
        inner = a[0] if node.op_type == "Gemm" and node.attributes.get_int("transA") else (a or (1,))[-1]
        return positions * (inner or 1)
    return 0


def macs(model: ir.Model) -> tuple[int, int]:
    """(multiply-adds of one row, those of the largest node)."""
    each = [node_macs(node) for node in model.graph]
    return sum(each), max(each, default=0)


def row_bytes(model: ir.Model) -> int:
    """Bytes of all activations of one row: an upper bound of what a forward pass holds at once."""
    total = 0
    for node in model.graph:
        for v in node.outputs:
            known = dims(v)
            if known is not None and v.dtype is not None and not v.dtype.is_string():
                total += math.ceil(math.prod(d or 1 for d in known[1:]) * v.dtype.itemsize)
    return total


def _dims(node: ir.Node, index: int) -> tuple[int | None, ...]:
    v = node.inputs[index] if len(node.inputs) > index else None
    return (None if v is None else dims(v)) or (1,)
