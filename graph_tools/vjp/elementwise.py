"""Elementwise operators. ``ct`` is the output's cotangent; broadcasting is undone by the walk."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from graph_tools.reverse import Reverse
from graph_tools.vjp.table import carries_integers, nondiff, vjp

FLT_MAX = float(np.finfo(np.float32).max)


def step(b: Reverse, v: ir.Value) -> ir.Value:
    """1 where v > 0 else 0, in v's dtype, for v >= 0 (a value behind a ReLU).

    In float32 by HardSigmoid with the steepest slope, ``max(0, min(1, v·FLT_MAX))``: one node that ONNX Runtime's
    blocked layout keeps, against Greater + Cast; exact for all normal floats.
    """
    if v.dtype == ir.DataType.FLOAT:
        return b.HardSigmoid(v, alpha=FLT_MAX, beta=0.0)  # type: ignore[no-any-return]
    return b.Cast(b.Greater(v, 0.0), to=v.dtype.value)  # type: ignore[union-attr, no-any-return]


@vjp("Add", 0, 1)
@vjp("Sub", 0)
@vjp("Identity", 0)
def pass_through(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """d(x + z)/dx = 1."""
    return ct


@vjp("Sub", 1)
@vjp("Neg", 0)
def negated(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """d(x − z)/dz = −1."""
    return b.Neg(ct)


@vjp("Mul", 0)
def mul_0(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """d(xz)/dx = z."""
    return b.Mul(ct, b.primal(node.inputs[1]))


@vjp("Mul", 1)
def mul_1(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """d(xz)/dz = x."""
    return b.Mul(ct, b.primal(node.inputs[0]))


@vjp("Relu", 0)
def relu(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1 where y > 0; read from y, so that Conv + Relu stay fused. 0 at x = 0, as torch has it."""
    return b.Mul(ct, step(b, b.primal(node.outputs[0])))


@vjp("Tanh", 0)
def tanh(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1 − y²."""
    y = b.primal(node.outputs[0])
    return b.Mul(ct, b.Sub(b.const(1.0, like=y), b.Mul(y, y)))


@vjp("Erf", 0)
def erf(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """2/√π · exp(−x²)."""
    x = b.primal(node.inputs[0])
    return b.Mul(ct, b.Mul(b.Exp(b.Neg(b.Mul(x, x))), 2.0 / math.sqrt(math.pi)))


nondiff("Sign", 0)
carries_integers("Identity")
