"""LayerNormalization and its kin, which standardise the values of each row.

They share one adjoint: with x̂ = (x − mean)·r, r = 1/√(variance + ε) over some axes and g the cotangent of x̂, that
of x is r·(g − mean(g) − x̂·mean(g·x̂)). float16 and bfloat16 are standardised in float32.
"""

from __future__ import annotations

import onnx_ir as ir

from graph_tools.emit import array_of
from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import dtype_of, operand
from graph_tools.vjp.table import vjp

_HALF = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


def widened(b: Reverse, v: ir.Value) -> ir.Value:
    """``v``, in float32 where it is 16 bits wide."""
    return b.Cast(v, to=ir.DataType.FLOAT.value) if v.dtype in _HALF else v


def typed_like(b: Reverse, v: ir.Value, x: ir.Value) -> ir.Value:
    """``v`` in the dtype of ``x``."""
    return v if v.dtype == x.dtype else b.Cast(v, to=dtype_of(x).value)


def standardise(b: Reverse, x: ir.Value, axes: list[int], epsilon: float) -> tuple[ir.Value, ir.Value]:
    """x̂ and r over ``axes``."""
    centred, r = centre(b, x, axes, epsilon)
    return b.Mul(centred, r), r


def centre(b: Reverse, x: ir.Value, axes: list[int], epsilon: float) -> tuple[ir.Value, ir.Value]:
    """x − mean and r over ``axes``."""
    centred = b.Sub(x, b.ReduceMean(x, axes, keepdims=1))
    variance = b.ReduceMean(b.Mul(centred, centred), axes, keepdims=1)
    return centred, b.Reciprocal(b.Sqrt(b.Add(variance, epsilon)))


def standardise_adjoint(
    b: Reverse, g: ir.Value, xhat: ir.Value, r: ir.Value, axes: list[int], like: ir.Value, *, centred: bool = True
) -> ir.Value:
    """r·(g − mean(g) − x̂·mean(g·x̂)), without mean(g) where the mean was not taken off; rows as ``like`` has them."""
    along = b.ReduceMean(b.times(g, xhat, like), axes, keepdims=1)
    out = b.Sub(g, b.times(along, xhat, like))
    if centred:
        out = b.Sub(out, b.ReduceMean(g, axes, keepdims=1))
    return b.times(out, r, like)


def scaled(b: Reverse, ct: ir.Value, scale: ir.Value, shaped: ir.Value | None = None) -> ir.Value:
    """``ct`` times a scale (``shaped``: so that it broadcasts), unless that is constant ones."""
    known = array_of(scale)
    if known is not None and (known == 1).all():
        return ct
    return b.times(ct, typed_like(b, scale if shaped is None else shaped, ct), scale)


def _trailing(b: Reverse, node: ir.Node, x: ir.Value) -> list[int]:
    """The axes from attribute ``axis`` on."""
    r = b.rank_of(x)
    axis = node.attributes.get_int("axis", -1)
    return list(range(axis + r if axis < 0 else axis, r))


# LayerNormalization: x, scale, bias -> y, mean, inverse standard deviation


@vjp("LayerNormalization", 0)
def layer_norm(
    b: Reverse, node: ir.Node, ct: ir.Value | None, ct_mean: ir.Value | None = None, ct_inv: ir.Value | None = None
) -> ir.Value | None:
    """r·(g − mean(g) − x̃·r²·mean(g·x̃)) with x̃ = x − mean and g = ct·scale; mean passes 1/n, r passes −r³·x̃/n.

    The factors r and r² multiply one number per row: x̂ = x̃·r is never formed.
    """
    x = operand(node, 0)
    centred, r, axes = _layer_statistics(b, node)
    parts = []
    if ct is not None:
        g = scaled(b, typed_like(b, ct, r), operand(node, 1))
        along = b.times(b.ReduceMean(b.times(g, centred, x), axes, keepdims=1), b.Mul(r, r), x)
        rest = b.Sub(b.Sub(g, b.times(along, centred, x)), b.ReduceMean(g, axes, keepdims=1))
        parts.append(b.times(rest, r, x))
    if ct_mean is not None:
        parts.append(b.Mul(typed_like(b, ct_mean, r), _one_over_n(b, x, r)))
    if ct_inv is not None:
        slope = b.Mul(b.Mul(b.Mul(r, r), r), b.Neg(_one_over_n(b, x, r)))
        parts.append(b.times(b.times(typed_like(b, ct_inv, r), slope, x), centred, x))
    total = None
    for part in parts:
        total = part if total is None else b.Add(total, part)
    return total if total is None or ct is not None else b.expand_like(total, x)


@vjp("LayerNormalization", 1)
def layer_norm_scale(b: Reverse, node: ir.Node, ct: ir.Value | None, *_cts: ir.Value | None) -> ir.Value | None:
    """x̂."""
    if ct is None:
        return None
    centred, r, _ = _layer_statistics(b, node)
    return b.times(typed_like(b, ct, r), b.Mul(centred, r), operand(node, 0))


@vjp("LayerNormalization", 2)
def layer_norm_bias(b: Reverse, node: ir.Node, ct: ir.Value | None, *_cts: ir.Value | None) -> ir.Value | None:
    """1."""
    return ct


def _layer_statistics(b: Reverse, node: ir.Node) -> tuple[ir.Value, ir.Value, list[int]]:
    """x − mean, r and the axes; mean and r from the node's own outputs where they are float32 as x − mean is."""
    x = operand(node, 0)
    axes = _trailing(b, node, x)
    wide = widened(b, x)
    if wide.dtype == ir.DataType.FLOAT and node.attributes.get_int("stash_type", 1) == 1:
        mean, r = b.extra_output(node, 1), b.extra_output(node, 2)
        return b.Sub(wide, mean), r, axes
    centred, r = centre(b, wide, axes, node.attributes.get_float("epsilon", 1e-5))
    return centred, r, axes


def _one_over_n(b: Reverse, x: ir.Value, reduced: ir.Value) -> ir.Value:
    """Elements of ``reduced`` per element of ``x``, in its dtype."""
    sizes = [b.Cast(b.Size(v), to=ir.DataType.FLOAT.value) for v in (reduced, x)]
    return typed_like(b, b.Div(*sizes), reduced)


@vjp("RMSNormalization", 0)
def rms_norm(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """r·(g − x̂·mean(g·x̂)) with x̂ = x·r, r = 1/√(mean(x²) + ε), g = ct·scale."""
    xhat, r, axes = _rms_statistics(b, node)
    g = scaled(b, typed_like(b, ct, xhat), operand(node, 1))
    return standardise_adjoint(b, g, xhat, r, axes, operand(node, 0), centred=False)


@vjp("RMSNormalization", 1)
def rms_norm_scale(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """x̂."""
    xhat, _, _ = _rms_statistics(b, node)
    return b.times(typed_like(b, ct, xhat), xhat, operand(node, 0))


def _rms_statistics(b: Reverse, node: ir.Node) -> tuple[ir.Value, ir.Value, list[int]]:
    x = widened(b, operand(node, 0))
    axes = _trailing(b, node, x)
    square = b.ReduceMean(b.Mul(x, x), axes, keepdims=1)
    r = b.Reciprocal(b.Sqrt(b.Add(square, node.attributes.get_float("epsilon", 1e-5))))
    return b.Mul(x, r), r, axes


# InstanceNormalization, GroupNormalization: x [N, C, …], scale, bias


@vjp("InstanceNormalization", 0)
def instance_norm(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """r·(g − mean(g) − x̂·mean(g·x̂)) per row and channel, g = ct·scale."""
    x = operand(node, 0)
    xhat, r, axes = _instance_statistics(b, node)
    g = scaled(b, typed_like(b, ct, xhat), operand(node, 1), along_channels(b, operand(node, 1), x))
    return standardise_adjoint(b, g, xhat, r, axes, x)


@vjp("InstanceNormalization", 1)
def instance_norm_scale(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """x̂, summed over all but channels."""
    xhat, _, _ = _instance_statistics(b, node)
    return channel_sum(b, b.times(typed_like(b, ct, xhat), xhat, operand(node, 0)), operand(node, 0))


@vjp("InstanceNormalization", 2)
def instance_norm_bias(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1, summed over all but channels."""
    return channel_sum(b, widened(b, ct), operand(node, 0))


def _instance_statistics(b: Reverse, node: ir.Node) -> tuple[ir.Value, ir.Value, list[int]]:
    x = operand(node, 0)
    axes = list(range(2, b.rank_of(x)))
    xhat, r = standardise(b, widened(b, x), axes, node.attributes.get_float("epsilon", 1e-5))
    return xhat, r, axes


def along_channels(b: Reverse, v: ir.Value, x: ir.Value) -> ir.Value:
    """A per-channel vector in a shape that broadcasts to ``x``."""
    behind = list(range(1, b.rank_of(x) - 1))
    return b.Unsqueeze(v, behind) if behind else v


def channel_sum(b: Reverse, ct: ir.Value, x: ir.Value) -> ir.Value:
    """``ct`` summed over all axes but 1."""
    return b.ReduceSum(ct, [a for a in range(b.rank_of(x)) if a != 1], keepdims=0)


@vjp("GroupNormalization", 0)
def group_norm(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """r·(g − mean(g) − x̂·mean(g·x̂)) per row and group, g = ct·scale."""
    x = operand(node, 0)
    xhat, r = _group_statistics(b, node)
    g, scale = typed_like(b, ct, xhat), operand(node, 1)
    if _scale_per_group(b):
        g = scaled(b, _groups(b, node, g), scale, b.Unsqueeze(scale, [1]))
    else:
        g = _groups(b, node, scaled(b, g, scale, along_channels(b, scale, x)))
    return b.reshape_like(standardise_adjoint(b, g, xhat, r, [2], x), x)


@vjp("GroupNormalization", 1)
def group_norm_scale(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """x̂, summed over all but what has its own scale: groups at opset 18, channels from 21 on."""
    x = operand(node, 0)
    xhat, _ = _group_statistics(b, node)
    if _scale_per_group(b):
        return b.ReduceSum(b.times(_groups(b, node, typed_like(b, ct, xhat)), xhat, x), [0, 2], keepdims=0)
    return channel_sum(b, b.times(typed_like(b, ct, xhat), b.Reshape(xhat, b.shape_of(x)), x), x)


@vjp("GroupNormalization", 2)
def group_norm_bias(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1, summed likewise."""
    wide = widened(b, ct)
    if _scale_per_group(b):
        return b.ReduceSum(_groups(b, node, wide), [0, 2], keepdims=0)
    return channel_sum(b, wide, operand(node, 0))


def _group_statistics(b: Reverse, node: ir.Node) -> tuple[ir.Value, ir.Value]:
    """x̂ and r of x as [N, groups, −1]."""
    x = _groups(b, node, widened(b, operand(node, 0)))
    return standardise(b, x, [2], node.attributes.get_float("epsilon", 1e-5))


def _groups(b: Reverse, node: ir.Node, v: ir.Value) -> ir.Value:
    return b.Reshape(v, [0, node.attributes["num_groups"].as_int(), -1])


def _scale_per_group(b: Reverse) -> bool:
    return b.graph.opset_imports[""] < 21


@vjp("MeanVarianceNormalization", 0)
def mean_variance_norm(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """r·(ct − mean(ct) − y·mean(ct·y)) with r = 1/(σ + 1e-9): y is x̂."""
    axes = list(node.attributes.get_ints("axes", (0, 2, 3)))
    x, y = widened(b, operand(node, 0)), widened(b, node.outputs[0])
    centred = b.Sub(x, b.ReduceMean(x, axes, keepdims=1))
    deviation = b.Sqrt(b.ReduceMean(b.Mul(centred, centred), axes, keepdims=1))
    return standardise_adjoint(b, typed_like(b, ct, y), y, b.Reciprocal(b.Add(deviation, 1e-9)), axes, node.outputs[0])
