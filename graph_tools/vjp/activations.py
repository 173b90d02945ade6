"""Activations. Where y tells the branch, the rule reads y, so that Conv + activation stay fused.

At a kink the derivative is torch's: 0 for Relu at 0 and for Clip (ReLU6), HardSigmoid, HardSwish, Shrink and
ThresholdedRelu at their bounds, the negative branch for LeakyRelu, PRelu, Elu, Selu and Celu at 0. One deviation:
torch.clamp passes the cotangent at x = bound, ReLU6 does not, and both are exported as Clip: here it does not pass.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of
from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import (
    above,
    as_mask,
    below,
    between,
    dtype_of,
    from_input,
    from_output,
    operand,
    optional,
)
from graph_tools.vjp.table import nondiff, vjp


@from_output("Relu")
def relu(b: Reverse, node: ir.Node, y: ir.Value) -> ir.Value:
    """1 where y > 0."""
    return above(b, y)


@vjp("LeakyRelu", 0)
def leaky_relu(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1 where x > 0, else α; for α ≥ 0 y has the sign of x."""
    alpha = node.attributes.get_float("alpha", 0.01)
    v = node.outputs[0] if alpha >= 0 else operand(node, 0)
    mask = above(b, v)
    if 0 <= alpha <= 1:
        return b.times(ct, mask if alpha == 0 else b.Max(mask, b.const(alpha, like=mask)), v)
    return b.times(ct, b.Add(b.Mul(mask, 1.0 - alpha), alpha), v)


@vjp("PRelu", 0)
def prelu_0(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1 where x > 0, else the slope."""
    x = operand(node, 0)
    return b.times(ct, b.Where(b.Greater(x, 0.0), b.const(1.0, like=x), operand(node, 1)), x)


@vjp("PRelu", 1)
def prelu_slope(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """min(x, 0)."""
    x = operand(node, 0)
    return b.times(ct, b.Min(x, b.const(0.0, like=x)), x)


@vjp("ThresholdedRelu", 0)
def thresholded_relu(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1 where x > α; for α ≥ 0 that is y > 0."""
    alpha = node.attributes.get_float("alpha", 1.0)
    y, x = node.outputs[0], operand(node, 0)
    return b.times(ct, above(b, y) if alpha >= 0 else above(b, x, alpha), y)


@from_input("Shrink")
def shrink(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """1 where |x| > λ."""
    return above(b, b.Abs(x), node.attributes.get_float("lambd", 0.5))


@vjp("Clip", 0)
def clip(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1 where min < y < max."""
    y = node.outputs[0]
    for index in (1, 2):
        bound = optional(node, index)
        if bound is not None and not _absent(bound, index):
            ct = b.times(ct, _inside(b, y, bound, index), y)
    return ct


def _absent(bound: ir.Value, index: int) -> bool:
    """Whether a constant bound is none: at or beyond the dtype's largest magnitude."""
    known = array_of(bound)
    if known is None:
        return False
    limit = float(np.finfo(np.float32).max if bound.dtype != ir.DataType.FLOAT16 else np.finfo(np.float16).max)
    value = float(known.reshape(()))
    return value <= -limit if index == 1 else value >= limit


def _inside(b: Reverse, y: ir.Value, bound: ir.Value, index: int) -> ir.Value:
    known = array_of(bound)
    if known is not None:
        value = float(known.reshape(()))
        return above(b, y, value) if index == 1 else below(b, y, value)
    return as_mask(b, b.Greater(y, bound) if index == 1 else b.Less(y, bound), y)


@vjp("Clip", 1)
def clip_min(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1 where y = min < max: x at or below it, so that every cotangent goes to exactly one of x, min, max."""
    y, low, high = node.outputs[0], operand(node, 1), optional(node, 2)
    at = b.Equal(y, low)
    return b.times(ct, as_mask(b, at if high is None else b.And(at, b.Less(low, high)), y), y)


@vjp("Clip", 2)
def clip_max(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1 where y = max: x at or above it, or min ≥ max."""
    y = node.outputs[0]
    return b.times(ct, as_mask(b, b.Equal(y, operand(node, 2)), y), y)


@vjp("Elu", 0)
def elu(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1 where x > 0, else α·exp x = y + α; for α > 0 y has the sign of x."""
    return _exponential(b, node, ct, node.attributes.get_float("alpha", 1.0), 1.0)


@vjp("Selu", 0)
def selu(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """γ where x > 0, else γα·exp x = y + γα."""
    alpha = node.attributes.get_float("alpha", 1.67326319217681884765625)
    gamma = node.attributes.get_float("gamma", 1.05070102214813232421875)
    return _exponential(b, node, ct, gamma * alpha, gamma)


def _exponential(b: Reverse, node: ir.Node, ct: ir.Value, alpha: float, gain: float) -> ir.Value:
    x, y = operand(node, 0), node.outputs[0]
    if alpha == gain > 0:
        return b.times(ct, b.Add(b.Min(y, b.const(0.0, like=y)), alpha), y)
    v = y if alpha > 0 and gain > 0 else x
    return b.times(ct, b.Where(b.Greater(v, 0.0), b.const(gain, like=y), b.Add(y, alpha)), y)


@from_output("Celu")
def celu(b: Reverse, node: ir.Node, y: ir.Value) -> ir.Value:
    """1 where x > 0, else exp(x/α) = y/α + 1."""
    alpha = node.attributes.get_float("alpha", 1.0)
    return b.Add(b.Mul(b.Min(y, b.const(0.0, like=y)), 1.0 / alpha), 1.0)


@from_output("Sigmoid")
def sigmoid(b: Reverse, node: ir.Node, y: ir.Value) -> ir.Value:
    """y(1 − y)."""
    return b.Mul(y, b.Sub(1.0, y))


@from_output("HardSigmoid")
def hard_sigmoid(b: Reverse, node: ir.Node, y: ir.Value) -> ir.Value:
    """α where 0 < y < 1."""
    return b.Mul(between(b, y, 0.0, 1.0), node.attributes.get_float("alpha", 0.2))


@from_input("HardSwish")
def hard_swish(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """h(x) + x/6·[|x| < 3] with h = max(0, min(1, x/6 + ½)): 0 from −3 down, 1 from 3 up, else x/3 + ½."""
    sixth = b.Mul(x, 1.0 / 6.0)
    gate = b.Min(b.Max(b.Add(sixth, 0.5), b.const(0.0, like=x)), b.const(1.0, like=x))
    return b.Add(gate, b.Mul(sixth, below(b, b.Abs(x), 3.0)))


@from_input("Softplus")
def softplus(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """σ(x)."""
    return b.Sigmoid(x)


@from_input("Softsign")
def softsign(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """1/(1 + |x|)²."""
    d = b.Add(b.Abs(x), 1.0)
    return b.Reciprocal(b.Mul(d, d))


@from_input("Mish")
def mish(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """t + x·σ(x)·(1 − t²) with t = tanh(softplus x)."""
    t = b.Tanh(b.Softplus(x))
    return b.Add(t, b.Mul(b.Mul(x, b.Sigmoid(x)), b.Sub(1.0, b.Mul(t, t))))


@from_input("Swish")
def swish(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """s·(1 + αx·(1 − s)) with s = σ(αx)."""
    alpha = node.attributes.get_float("alpha", 1.0)
    scaled = x if alpha == 1 else b.Mul(x, alpha)
    s = b.Sigmoid(scaled)
    return b.Mul(s, b.Add(b.Mul(scaled, b.Sub(1.0, s)), 1.0))


@from_input("Gelu")
def gelu(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """Φ(x) + x·φ(x), or the derivative of ½x(1 + tanh u), u = √(2/π)(x + 0.044715x³).

    With u = x/√2: Φ = ½(1 + erf u) and x·φ(x) = u·exp(−½ ln π − u²), one pass over memory per operator.
    """
    if node.attributes.get_string("approximate", "none") == "tanh":
        return gelu_tanh(b, x)
    u = b.Mul(x, math.sqrt(0.5))
    erf = b.Erf(u)
    if x.dtype == ir.DataType.FLOAT:  # erf lies in [−1, 1], where HardSigmoid is the line
        cumulative = b.HardSigmoid(erf, alpha=0.5, beta=0.5)
    else:
        cumulative = b.Mul(b.Add(erf, 1.0), 0.5)
    exponent = b.Sub(b.const(-0.5 * math.log(math.pi), like=x), b.Mul(u, u))
    return b.Add(cumulative, b.Mul(u, b.Exp(exponent)))


def gelu_tanh(b: Reverse, x: ir.Value) -> ir.Value:
    """½(1 + t) + ½x(1 − t²)·u' with t = tanh u."""
    c = math.sqrt(2.0 / math.pi)
    square = b.Mul(x, x)
    t = b.Tanh(b.Mul(x, b.Add(b.Mul(square, 0.044715 * c), c)))
    slope = b.Add(b.Mul(square, 3.0 * 0.044715 * c), c)
    inner = b.Mul(b.Mul(x, b.Sub(1.0, b.Mul(t, t))), slope)
    return b.Mul(b.Add(b.Add(t, 1.0), inner), 0.5)


@vjp("Dropout", 0)
def dropout(b: Reverse, node: ir.Node, ct: ir.Value, _mask_ct: None = None) -> ir.Value:
    """1 in inference; mask/(1 − ratio) in training mode, with the mask of the same run."""
    training, ratio = optional(node, 2), optional(node, 1)
    known = array_of(training)
    if training is None or (known is not None and not known.any()):
        return ct
    y = node.outputs[0]
    kept = b.Sub(1.0, b.const(0.5, like=y) if ratio is None else b.Cast(ratio, to=dtype_of(y).value))
    gain = b.Reciprocal(kept)
    if known is None:
        gain = b.Where(training, gain, b.const(1.0, like=y))
    return b.times(ct, b.Mul(as_mask(b, b.extra_output(node, 1), y), gain), y)


nondiff("Dropout", 1, 2)
