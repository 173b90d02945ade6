"""What the rules of elementwise operators share: local derivatives and 0/1 masks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from graph_tools.reverse import FLOATS, Reverse
from graph_tools.vjp.table import vjp

FLT_MAX = float(np.finfo(np.float32).max)
Local = Callable[[Reverse, ir.Node, ir.Value], ir.Value]


def from_input(operator: str) -> Callable[[Local], Local]:
    """Register ``ct · f'(x)`` for input 0 of a unary operator; the decorated function returns f'(x)."""

    def register(derivative: Local) -> Local:
        def rule(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
            x = operand(node, 0)
            return b.times(ct, derivative(b, node, x), x)

        vjp(operator, 0)(rule)
        return derivative

    return register


def from_output(operator: str) -> Callable[[Local], Local]:
    """Register ``ct · f'``, with f' computed from y: a forward operator fused into the one before it stays fused."""

    def register(derivative: Local) -> Local:
        def rule(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
            y = node.outputs[0]
            return b.times(ct, derivative(b, node, y), y)

        vjp(operator, 0)(rule)
        return derivative

    return register


def operand(node: ir.Node, index: int) -> ir.Value:
    """Operand ``index``, which is present."""
    v = node.inputs[index]
    assert v is not None
    return v


def optional(node: ir.Node, index: int) -> ir.Value | None:
    """Operand ``index``, or None where it is left out."""
    return node.inputs[index] if len(node.inputs) > index else None


def above(b: Reverse, v: ir.Value, bound: float = 0.0) -> ir.Value:
    """1 where v > bound, else 0, in v's dtype.

    In float32 by HardSigmoid, ``max(0, min(1, s·v − s·bound))`` with a slope so steep that no float lies between: one
    node that ONNX Runtime's blocked layout keeps, against Greater + Cast. ``s`` is a power of two, so that the
    products are exact; around 0 it is FLT_MAX: right for all normal floats.
    """
    slope = _slope(v, bound)
    if slope is None:
        return b.Cast(b.Greater(v, float(bound)), to=dtype_of(v).value)
    return b.HardSigmoid(v, alpha=slope, beta=-_float32(bound) * slope)


def below(b: Reverse, v: ir.Value, bound: float) -> ir.Value:
    """1 where v < bound, else 0, in v's dtype; see :func:`above`."""
    slope = _slope(v, bound)
    if slope is None:
        return b.Cast(b.Less(v, float(bound)), to=dtype_of(v).value)
    return b.HardSigmoid(v, alpha=-slope, beta=_float32(bound) * slope)


def between(b: Reverse, v: ir.Value, low: float, high: float) -> ir.Value:
    """1 where low < v < high, else 0, in v's dtype."""
    return b.Mul(above(b, v, low), below(b, v, high))


def as_mask(b: Reverse, condition: ir.Value, like: ir.Value) -> ir.Value:
    """A bool value as 0 and 1 in the dtype of ``like`` (float32 where that is an integer's)."""
    return b.Cast(condition, to=dtype_of(like).value)


def dtype_of(v: ir.Value) -> ir.DataType:
    """The dtype of the cotangent of ``v``: its own, float32 for integers and where unknown."""
    return v.dtype if v.dtype in FLOATS else ir.DataType.FLOAT


def _float32(bound: float) -> float:
    return float(np.float32(bound))


def _slope(v: ir.Value, bound: float) -> float | None:
    """The slope of the HardSigmoid step at ``bound``; None where it has no such form.

    With bound = m·2^e the nearest floats are 2^(e−25) or more away: 2^(63−e) takes them beyond 1, and bound to 2^63.
    """
    if v.dtype != ir.DataType.FLOAT:
        return None
    if bound == 0:
        return FLT_MAX
    exponent = 63 - math.frexp(_float32(bound))[1] if math.isfinite(_float32(bound)) else 200
    return math.ldexp(1.0, exponent) if -100 <= exponent <= 126 else None
