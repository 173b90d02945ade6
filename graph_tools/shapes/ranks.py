"""Ranks that ONNX's shape inference leaves open although they follow from the operands."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir


def fill_ranks(nodes: Iterable[ir.Node]) -> bool:
    """Give outputs of Split their rank where the sizes of the parts are computed at run time.

    Returns:
        Whether any shape was filled in, so that inferring again may find more.
    """
    found = False
    for node in nodes:
        if node.op_type != "Split" or node.domain not in ("", "ai.onnx"):
            continue
        x = node.inputs[0]
        if x is None or x.shape is None or not len(x.shape):
            continue
        axis = node.attributes.get_int("axis", 0) % len(x.shape)
        for out in node.outputs:
            if out.shape is None and out.type is not None:
                out.shape = ir.Shape([None if i == axis else d for i, d in enumerate(x.shape)])
                found = True
    return found


def drop_false_zeros(nodes: Iterable[ir.Node]) -> None:
    """Open the dimensions of Attention's outputs that inference calls 0 where it means unknown."""
    for node in nodes:
        if node.op_type != "Attention" or node.domain not in ("", "ai.onnx"):
            continue
        if any(v is not None and v.shape is not None and 0 in tuple(v.shape) for v in node.inputs):
            continue
        for out in node.outputs:
            if out.shape is not None and 0 in tuple(out.shape):
                out.shape = ir.Shape([None if d == 0 else d for d in out.shape])
