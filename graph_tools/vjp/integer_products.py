"""Products of integers: MatMulInteger and ConvInteger (dynamic quantisation), by the straight-through estimator.

The int32 output and the 8-bit operands have float32 cotangents in units of the integer: the rules are those of MatMul
and Conv on the numbers that the integers stand for, without their scales (a Mul behind the product brings them in).
"""

from __future__ import annotations

import onnx_ir as ir

from graph_tools.emit import array_of, rank
from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import operand, optional
from graph_tools.vjp.table import VJPS, carries_integers, find_rule, nondiff, vjp

F32 = ir.DataType.FLOAT

nondiff("MatMulInteger", 2, 3)
nondiff("ConvInteger", 2, 3)
carries_integers("MatMulInteger", "ConvInteger")


@vjp("MatMulInteger", 0)
@vjp("ConvInteger", 0)
def data(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value | None:
    """The rule of MatMul or Conv for the data, read off the numbers that the integers stand for."""
    return _through(b, node, 0, ct)


@vjp("MatMulInteger", 1)
@vjp("ConvInteger", 1)
def weights(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value | None:
    """The rule of MatMul or Conv for the weights."""
    return _through(b, node, 1, ct)


def _numbers(b: Reverse, node: ir.Node, index: int) -> ir.Value:
    """Operand ``index`` minus its zero point, float32, with the rows of the operand."""
    x, zero = operand(node, index), optional(node, index + 2)
    v = b.Cast(x, to=F32.value)
    known = array_of(zero)
    if zero is not None and (known is None or known.any()):
        v = b.Sub(v, _spread(b, node, index, b.Cast(zero, to=F32.value)))
    if x.shape is not None:
        v.shape = x.shape
    return b.rows_like(v, x)


def _spread(b: Reverse, node: ir.Node, index: int, zero: ir.Value) -> ir.Value:
    """A zero point in a shape that broadcasts: one per row of A, per column of B, per output channel of w."""
    r = rank(zero)
    if r is None or r != 1:
        return zero
    if node.op_type == "ConvInteger" and index == 1:
        return b.Reshape(zero, [-1] + [1] * (b.rank_of(operand(node, 1)) - 1))
    return b.Unsqueeze(zero, [1]) if node.op_type == "MatMulInteger" and index == 0 else zero


def _through(b: Reverse, node: ir.Node, index: int, ct: ir.Value) -> ir.Value | None:
    """The cotangent that ``op`` (MatMul or Conv) on the numbers would give operand ``index``."""
    op = "MatMul" if node.op_type == "MatMulInteger" else "Conv"
    numbers = [_numbers(b, node, 0), _numbers(b, node, 1)]
    y = node.outputs[0]
    stand_in = ir.Node("", op, numbers, list(node.attributes.values()), num_outputs=1, name=node.name)
    stand_in.outputs[0].name, stand_in.outputs[0].shape = y.name, y.shape
    stand_in.outputs[0].type = ir.TensorType(F32)
    rule = find_rule(VJPS, stand_in, index)
    assert rule is not None
    found = rule(b, stand_in, ct)
    for i in range(2):
        stand_in.replace_input_with(i, None)
    return found
