"""Arithmetic and functions, element by element. Broadcasting is undone by the walk; activations have their own file.

Conventions where a function has no derivative: Abs and Sign take 0 at 0; Max and Min share a tied cotangent evenly
among the tied operands (half each for two, as torch's maximum does); Pow's exponent gets 0 where the base is ≤ 0.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of
from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import FLT_MAX, as_mask, dtype_of, from_input, from_output, operand
from graph_tools.vjp.table import ANY, carries_integers, nondiff, vjp


@vjp("Add", 0, 1)
@vjp("Sub", 0)
@vjp("Mod", 0)
@vjp("Identity", 0)
@vjp("CastLike", 0)
def pass_through(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """d(x + z)/dx = 1."""
    return ct


@vjp("Sub", 1)
@vjp("Neg", 0)
def negated(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """d(x − z)/dz = −1."""
    return b.Neg(ct)


@vjp("Sum", ANY)
def sum_any(b: Reverse, node: ir.Node, index: int, ct: ir.Value) -> ir.Value:
    """1."""
    return ct


@vjp("Mean", ANY)
def mean_any(b: Reverse, node: ir.Node, index: int, ct: ir.Value) -> ir.Value:
    """1/n for n operands."""
    return b.Mul(ct, 1.0 / len(node.inputs))


@vjp("Mul", 0)
def mul_0(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """d(xz)/dx = z."""
    return b.times(ct, operand(node, 1), node.outputs[0])


@vjp("Mul", 1)
def mul_1(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """d(xz)/dz = x."""
    return b.times(ct, operand(node, 0), node.outputs[0])


@vjp("Div", 0)
def div_0(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """d(x/z)/dx = 1/z."""
    z, y = operand(node, 1), node.outputs[0]
    return b.times(ct, b.Reciprocal(z), y) if b.is_batched(y) else b.Div(ct, z)


@vjp("Div", 1)
def div_1(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """d(x/z)/dz = −y/z."""
    y = node.outputs[0]
    return b.times(b.Neg(ct), b.Div(y, operand(node, 1)), y)


@vjp("Mod", 1)
def mod_1(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """d(x − z·q)/dz = −q with the integer q = (x − y)/z; 0 where the remainder is not a number."""
    x, z, y = operand(node, 0), operand(node, 1), node.outputs[0]
    q = b.Round(b.Div(b.Sub(x, y), z))
    return b.times(b.Neg(ct), b.Where(b.IsNaN(q), b.const(0.0, like=q), q), y)


@vjp("Pow", 0)
def pow_base(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value | None:
    """e·x^(e−1); 0 for e = 0, also at x = 0. Small constant exponents by products."""
    x, e, y = operand(node, 0), operand(node, 1), node.outputs[0]
    known = array_of(e)
    if known is not None and known.size == 1:
        return _pow_constant(b, x, float(known.reshape(())), ct)
    if e.dtype != x.dtype:
        e = b.Cast(e, to=dtype_of(x).value)
    slope = b.Mul(e, b.Pow(x, b.Sub(e, 1.0)))
    if known is None or not known.all():
        slope = b.Where(b.Equal(e, 0.0), b.const(0.0, like=x), slope)
    return b.times(ct, slope, y)


def _pow_constant(b: Reverse, x: ir.Value, e: float, ct: ir.Value) -> ir.Value | None:
    if e == 0:
        return None
    if e == 1:
        return ct
    power = x if e == 2 else b.Mul(x, x) if e == 3 else b.Pow(x, e - 1)
    return b.times(ct, b.Mul(power, e), x)


@vjp("Pow", 1)
def pow_exponent(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """y·ln x where x > 0, else 0."""
    x, y = operand(node, 0), node.outputs[0]
    slope = b.Where(b.Greater(x, 0.0), b.Mul(y, b.Log(x)), b.const(0.0, like=x))
    return b.times(ct, slope, y)


@vjp("Max", ANY)
@vjp("Min", ANY)
def extremum(b: Reverse, node: ir.Node, index: int, ct: ir.Value) -> ir.Value:
    """1/(number of operands that equal y) where the operand is one of them, else 0."""
    xs, y = [x for x in node.inputs if x is not None], node.outputs[0]
    if len(xs) == 1:
        return ct
    x, others = xs[index], [v for i, v in enumerate(xs) if i != index]
    bound = array_of(others[0]) if len(others) == 1 else None
    if bound is not None and np.isfinite(bound).all() and x.dtype == ir.DataType.FLOAT:
        gap = b.Sub(x, others[0]) if bound.any() else x
        sign = 1 if node.op_type == "Max" else -1
        share = b.HardSigmoid(gap, alpha=sign * FLT_MAX, beta=0.5)  # 1, ½, 0 for x above, at, below the bound
        return b.times(ct, share, y) if bound.any() else b.times(ct, share, x)
    tied = [as_mask(b, b.Equal(v, y), y) for v in xs]
    return b.times(ct, b.Div(tied[index], b.Sum(*tied)), y)


@vjp("Where", 1)
def where_1(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1 where the condition holds."""
    condition, y = operand(node, 0), node.outputs[0]
    if b.is_batched(y):
        return b.times(ct, as_mask(b, condition, y), y)
    return b.Where(condition, ct, b.const(0.0, like=ct))


@vjp("Where", 2)
def where_2(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1 where the condition does not hold."""
    condition, y = operand(node, 0), node.outputs[0]
    if b.is_batched(y):
        return b.times(ct, as_mask(b, b.Not(condition), y), y)
    return b.Where(condition, b.const(0.0, like=ct), ct)


@vjp("Cast", 0)
def cast(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1 between float types and from quantised integers; a cast to integers ends the path in the walk."""
    kind = dtype_of(operand(node, 0))
    return ct if ct.dtype == kind else b.Cast(ct, to=kind.value)


@from_input("Abs")
def abs_(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """sign x; 0 at 0."""
    return b.Sign(x)


@from_output("Reciprocal")
def reciprocal(b: Reverse, node: ir.Node, y: ir.Value) -> ir.Value:
    """−1/x² = −y²."""
    return b.Neg(b.Mul(y, y))


@from_output("Sqrt")
def sqrt(b: Reverse, node: ir.Node, y: ir.Value) -> ir.Value:
    """1/(2√x); infinite at 0."""
    return b.Div(0.5, y)


@from_output("Exp")
def exp(b: Reverse, node: ir.Node, y: ir.Value) -> ir.Value:
    """exp x = y."""
    return y


@from_input("Log")
def log(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """1/x."""
    return b.Reciprocal(x)


@from_input("Erf")
def erf(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """2/√π · exp(−x²)."""
    return b.Mul(b.Exp(b.Neg(b.Mul(x, x))), 2.0 / math.sqrt(math.pi))


@from_input("Sin")
def sin(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """cos x."""
    return b.Cos(x)


@from_input("Cos")
def cos(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """−sin x."""
    return b.Neg(b.Sin(x))


@from_output("Tan")
def tan(b: Reverse, node: ir.Node, y: ir.Value) -> ir.Value:
    """1/cos² x = 1 + y²."""
    return b.Add(b.Mul(y, y), 1.0)


@from_input("Asin")
def asin(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """1/√(1 − x²), the difference as (1 − x)(1 + x)."""
    return b.Reciprocal(b.Sqrt(_one_minus_square(b, x)))


@from_input("Acos")
def acos(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """−1/√(1 − x²)."""
    return b.Neg(b.Reciprocal(b.Sqrt(_one_minus_square(b, x))))


@from_input("Atan")
def atan(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """1/(1 + x²)."""
    return b.Reciprocal(b.Add(b.Mul(x, x), 1.0))


@from_input("Sinh")
def sinh(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """cosh x = (exp x + exp(−x))/2 (Cosh has no CUDA kernel)."""
    return b.Mul(b.Add(b.Exp(x), b.Exp(b.Neg(x))), 0.5)


@vjp("Cosh", 0)
def cosh(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """sinh x = y·tanh x (Sinh has no CUDA kernel)."""
    y = node.outputs[0]
    return b.times(ct, b.Mul(y, b.Tanh(operand(node, 0))), y)


@from_output("Tanh")
def tanh(b: Reverse, node: ir.Node, y: ir.Value) -> ir.Value:
    """1 − y²."""
    return b.Sub(1.0, b.Mul(y, y))


@from_input("Asinh")
def asinh(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """1/√(x² + 1)."""
    return b.Reciprocal(b.Sqrt(b.Add(b.Mul(x, x), 1.0)))


@from_input("Acosh")
def acosh(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """1/√(x² − 1), the difference as (x − 1)(x + 1)."""
    return b.Reciprocal(b.Sqrt(b.Mul(b.Sub(x, 1.0), b.Add(x, 1.0))))


@from_input("Atanh")
def atanh(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """1/(1 − x²)."""
    return b.Reciprocal(_one_minus_square(b, x))


def _one_minus_square(b: Reverse, x: ir.Value) -> ir.Value:
    return b.Mul(b.Sub(1.0, x), b.Add(x, 1.0))


for _operator in ("Sign", "Floor", "Ceil", "Round"):
    nondiff(_operator, 0)
nondiff("CastLike", 1)
nondiff("Where", 0)
carries_integers("Identity", "Where")
