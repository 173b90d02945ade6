"""BatchNormalization, LpNormalization, LRN and the softmax family. LayerNormalization and its kin: their own file."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of, dims
from graph_tools.errors import UnsupportedGradient
from graph_tools.reverse import Reverse
from graph_tools.vjp.layer_normalization import (
    along_channels,
    channel_sum,
    scaled,
    standardise,
    standardise_adjoint,
    typed_like,
    widened,
)
from graph_tools.vjp.pointwise import dtype_of, operand
from graph_tools.vjp.table import nondiff, vjp


@vjp("Softmax", 0)
def softmax(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ct·y − y·Σ(ct·y); 0 in rows that are NaN (every operand −inf) where a Where behind the node replaces them."""
    x = node.outputs[0]
    y = _without_nan(b, x)
    weighted = b.times(ct, y, x)
    total = b.ReduceSum(weighted, [node.attributes.get_int("axis", -1)], keepdims=1)
    return b.Sub(weighted, b.times(total, y, x))


def _without_nan(b: Reverse, y: ir.Value) -> ir.Value:
    """``y``, with zeros for NaN where a Where reads it, perhaps through a Cast: 0·NaN would undo its choice."""
    cast = [v for user, _ in y.uses() if user.op_type == "Cast" for v in user.outputs]
    choices = [user for v in (y, *cast) for user, index in v.uses() if user.op_type == "Where" and index > 0]
    if not choices:
        return y
    for choice in choices:  # Where(IsNaN(y), 0, y) is what is wanted
        test, other, kept = choice.inputs
        nan, zero = None if test is None else test.producer(), array_of(other)
        guarded = kept is y and nan is not None and nan.op_type == "IsNaN" and nan.inputs[0] is y
        if guarded and zero is not None and zero.size == 1 and not zero.any():
            return choice.outputs[0]
    return b.Where(b.IsNaN(y), b.const(0.0, like=y), y)


@vjp("LogSoftmax", 0)
def log_softmax(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ct − exp(y)·Σct."""
    y = node.outputs[0]
    total = b.ReduceSum(ct, [node.attributes.get_int("axis", -1)], keepdims=1)
    return b.Sub(ct, b.times(total, b.Exp(y), y))


@vjp("LpNormalization", 0)
def lp_norm(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """(ct − s·Σ(ct·y))/‖x‖ with s = y for p = 2, sign(x) for p = 1; 0 where the norm is 0."""
    x, y = operand(node, 0), node.outputs[0]
    axis, p = [node.attributes.get_int("axis", -1)], node.attributes.get_int("p", 2)
    norm = b.ReduceL2(x, axis, keepdims=1) if p == 2 else b.ReduceL1(x, axis, keepdims=1)
    none = b.const(0.0, like=x)
    inverse = b.Where(b.Equal(norm, none), none, b.Reciprocal(norm))
    along = b.ReduceSum(b.times(ct, y), axis, keepdims=1)
    return b.times(b.Sub(ct, b.times(along, y if p == 2 else b.Sign(x), y)), inverse, x)


@vjp("LRN", 0)
def lrn(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ct·D^(−β) − 2αβ/size·x·Σ(ct·y/D) with D = bias + α/size·Σx².

    The first sum runs over the channels c' whose window holds c, the second over the window of c: channels
    c − ⌊(size−1)/2⌋ to c + ⌈(size−1)/2⌉; both as products with a banded 0/1 matrix [C, C].
    """
    x, y = operand(node, 0), node.outputs[0]
    size = node.attributes["size"].as_int()
    alpha, beta = node.attributes.get_float("alpha", 1e-4), node.attributes.get_float("beta", 0.75)
    band = _band(b, x, (size - 1) // 2, size // 2)
    squares = _window_sum(b, band, b.Mul(b.Mul(x, alpha / size), x))  # x² alone may be more than float16 holds
    scale = b.Add(squares, node.attributes.get_float("bias", 1.0))
    through = _window_sum(b, b.Transpose(band, perm=[1, 0]), b.times(ct, b.Div(y, scale), x))
    return b.Sub(b.times(ct, b.Pow(scale, -beta), x), b.times(through, b.Mul(x, 2 * alpha * beta / size), x))


def _band(b: Reverse, x: ir.Value, before: int, behind: int) -> ir.Value:
    """[C, C] in x's dtype: 1 where the window of channel (row) holds channel (column)."""
    shape = dims(x)
    if shape is not None and shape[1] is not None:
        offset = np.subtract.outer(np.arange(shape[1]), np.arange(shape[1])).T  # column − row
        return b.const(((offset >= -before) & (offset <= behind)).astype(np.float32), like=x)
    channels = b.Range(0, b.Gather(b.Shape(x), 1), 1)
    gap = b.Sub(b.Unsqueeze(channels, [0]), b.Unsqueeze(channels, [1]))
    inside = b.And(b.GreaterOrEqual(gap, -before), b.LessOrEqual(gap, behind))
    return b.Cast(inside, to=dtype_of(x).value)


def _window_sum(b: Reverse, band: ir.Value, v: ir.Value) -> ir.Value:
    """``band`` · v over the channels of v [N, C, …]."""
    flat = b.Reshape(v, [0, 0, -1])
    return b.Reshape(b.MatMul(band, flat), b.shape_of(v))


# BatchNormalization: x [N, C, …], scale, bias, mean, variance


@vjp("BatchNormalization", 0)
def batch_norm(
    b: Reverse, node: ir.Node, ct: ir.Value | None, ct_mean: ir.Value | None = None, ct_var: ir.Value | None = None
) -> ir.Value | None:
    """scale/√(variance + ε).

    In training the adjoint of standardising, and from the running statistics (1 − momentum)/n for the mean and
    2(1 − momentum)/n·(x − mean) for the variance, n elements per channel.
    """
    x = operand(node, 0)
    if not _training(b, node):
        return None if ct is None else b.times(ct, typed_like(b, _gain(b, node, x), ct))
    xhat, r, axes = _batch_statistics(b, node)
    parts = []
    if ct is not None:
        g = scaled(b, typed_like(b, ct, xhat), operand(node, 1), along_channels(b, operand(node, 1), x))
        parts.append(standardise_adjoint(b, g, xhat, r, axes, x))
    share = b.Mul(b.Div(*(b.Cast(b.Size(v), to=dtype_of(xhat).value) for v in (r, x))), 1.0 - _momentum(node))
    if ct_mean is not None:
        parts.append(b.Mul(along_channels(b, typed_like(b, ct_mean, xhat), x), share))
    if ct_var is not None:
        centred = b.Mul(b.Div(xhat, r), b.Mul(share, 2.0))
        parts.append(b.Mul(along_channels(b, typed_like(b, ct_var, xhat), x), centred))
    total = parts[0]
    for part in parts[1:]:
        total = b.Add(total, part)
    return total if ct is not None or ct_var is not None else b.expand_like(b.Unsqueeze(total, [0]), x)


@vjp("BatchNormalization", 1)
def batch_norm_scale(b: Reverse, node: ir.Node, ct: ir.Value | None, *_cts: ir.Value | None) -> ir.Value | None:
    """x̂ = (x − mean)/√(variance + ε), summed over all but channels."""
    if ct is None:
        return None
    x = operand(node, 0)
    if _training(b, node):
        xhat, _, _ = _batch_statistics(b, node)
    else:
        xhat = b.Mul(_centred(b, node), _inverse_deviation(b, node, x))
    return channel_sum(b, b.times(typed_like(b, ct, xhat), xhat, x), x)


@vjp("BatchNormalization", 2)
def batch_norm_bias(b: Reverse, node: ir.Node, ct: ir.Value | None, *_cts: ir.Value | None) -> ir.Value | None:
    """1, summed over all but channels."""
    return None if ct is None else channel_sum(b, widened(b, ct), operand(node, 0))


@vjp("BatchNormalization", 3)
def batch_norm_mean(
    b: Reverse, node: ir.Node, ct: ir.Value | None, ct_mean: ir.Value | None = None, _ct_var: ir.Value | None = None
) -> ir.Value | None:
    """−scale/√(variance + ε), summed over all but channels; in training momentum, to the running mean."""
    x = operand(node, 0)
    if _training(b, node):
        return None if ct_mean is None else b.Mul(ct_mean, _momentum(node))
    if ct is None:
        return None
    wide = widened(b, ct)
    return channel_sum(b, b.times(b.Neg(wide), typed_like(b, _gain(b, node, x), wide)), x)


@vjp("BatchNormalization", 4)
def batch_norm_variance(
    b: Reverse, node: ir.Node, ct: ir.Value | None, _ct_mean: ir.Value | None = None, ct_var: ir.Value | None = None
) -> ir.Value | None:
    """−½·scale·(x − mean)·(variance + ε)^(−3/2), summed over all but channels; in training momentum."""
    x = operand(node, 0)
    if _training(b, node):
        return None if ct_var is None else b.Mul(ct_var, _momentum(node))
    if ct is None:
        return None
    centred = _centred(b, node)
    r = _inverse_deviation(b, node, x)
    slope = b.Mul(b.Mul(b.Mul(r, r), typed_like(b, _gain(b, node, x), r)), -0.5)
    return channel_sum(b, b.times(typed_like(b, ct, centred), b.Mul(centred, slope), x), x)


def _momentum(node: ir.Node) -> float:
    return node.attributes.get_float("momentum", 0.9)


def _training(b: Reverse, node: ir.Node) -> bool:
    """Whether the node takes its statistics from the batch.

    Raises:
        UnsupportedGradient: it does, and K cotangents per row are wanted.
    """
    training = bool(node.attributes.get_int("training_mode", 0))
    if training and b.repeat is not None:
        raise UnsupportedGradient(
            f"operator BatchNormalization (node {node.name!r}) is in training mode and mixes the rows of a batch; "
            "export the model in inference mode, or explain one target at a time",
            operator="BatchNormalization",
            node=node.name or "",
        )
    return training


def _batch_statistics(b: Reverse, node: ir.Node) -> tuple[ir.Value, ir.Value, list[int]]:
    x = operand(node, 0)
    axes = [a for a in range(b.rank_of(x)) if a != 1]
    xhat, r = standardise(b, widened(b, x), axes, node.attributes.get_float("epsilon", 1e-5))
    return xhat, r, axes


def _gain(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """scale/√(variance + ε) per channel: a constant where both are."""
    scale, variance = operand(node, 1), operand(node, 4)
    known, spread = array_of(scale), array_of(variance)
    if known is not None and spread is not None:
        gain = known.astype(np.float64) / np.sqrt(spread.astype(np.float64) + _epsilon(node))
        return b.const(gain.reshape(-1, *[1] * (b.rank_of(x) - 2)), like=x)
    r = _inverse_deviation(b, node, x)
    return b.Mul(typed_like(b, along_channels(b, scale, x), r), r)


def _inverse_deviation(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    variance = widened(b, operand(node, 4))
    return along_channels(b, b.Reciprocal(b.Sqrt(b.Add(variance, _epsilon(node)))), x)


def _centred(b: Reverse, node: ir.Node) -> ir.Value:
    x = operand(node, 0)
    wide = widened(b, x)
    return b.Sub(wide, along_channels(b, typed_like(b, operand(node, 3), wide), x))


def _epsilon(node: ir.Node) -> float:
    return node.attributes.get_float("epsilon", 1e-5)


nondiff("Hardmax", 0)
