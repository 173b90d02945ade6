"""Rules of com.microsoft operators that no standard operators express: the matrix inverse."""

from __future__ import annotations

import onnx_ir as ir

from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import operand
from graph_tools.vjp.table import vjp


@vjp("com.microsoft::Inverse", 0)
def inverse(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """x̄ = −yᵀ ȳ yᵀ for y = x⁻¹, from dy = −y dx y."""
    y = b.primal(node.outputs[0])
    r = b.rank_of(operand(node, 0))
    turned = b.Transpose(y, perm=[*range(r - 2), r - 1, r - 2])
    return b.Neg(b.MatMul(b.MatMul(turned, ct), turned))
