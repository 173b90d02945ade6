"""Bodies of what ONNX Runtime's optimiser makes of transformer blocks, except attention itself.

Formulas: onnxruntime, docs/ContribOperators.md. SimplifiedLayerNormalization stands in ai.onnx's domain there.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from graph_tools.emit import Emitter, rank
from graph_tools.lowering.heads import add, constant_size, number, positions, present, size, split_heads, wanted
from graph_tools.lowering.table import lowering

_FLOAT = ir.DataType.FLOAT
_HALF = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


def gelu_of(b: Emitter, x: ir.Value, *, tanh: bool = False) -> ir.Value:
    """x·Φ(x); with ``tanh`` x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))."""
    if b.graph.opset_imports[""] >= 20:
        return b.Gelu(x, approximate="tanh" if tanh else "none")  # type: ignore[no-any-return]
    half = number(b, 0.5, x)
    if tanh:
        root = math.sqrt(2 / math.pi)
        cubic = b.Add(b.Mul(b.Mul(x, x), number(b, 0.044715 * root, x)), number(b, root, x))
        inner = b.Tanh(b.Mul(x, cubic))
    else:
        inner = b.Erf(b.Div(x, number(b, math.sqrt(2), x)))
    return b.Mul(b.Mul(x, b.Add(inner, number(b, 1.0, x))), half)  # type: ignore[no-any-return]


@lowering("com.microsoft::Gelu", at_load=True)
def gelu(b: Emitter, node: ir.Node) -> ir.Value | None:
    """x·Φ(x)."""
    x = present(node, 0)
    return None if x is None else gelu_of(b, x)


@lowering("com.microsoft::BiasGelu", at_load=True)
def bias_gelu(b: Emitter, node: ir.Node) -> ir.Value | None:
    """Gelu(x + bias)."""
    x = add(b, present(node, 0), present(node, 1))
    return None if x is None else gelu_of(b, x)


@lowering("com.microsoft::FastGelu", at_load=True)
def fast_gelu(b: Emitter, node: ir.Node) -> ir.Value | None:
    """The tanh form of Gelu(x + bias)."""
    x = add(b, present(node, 0), present(node, 1))
    return None if x is None else gelu_of(b, x, tanh=True)


@lowering("com.microsoft::QuickGelu", at_load=True)
def quick_gelu(b: Emitter, node: ir.Node) -> ir.Value | None:
    """x·σ(α·x)."""
    x = present(node, 0)
    if x is None:
        return None
    alpha = node.attributes.get_float("alpha", 1.702)
    return b.Mul(x, b.Sigmoid(x if alpha == 1.0 else b.Mul(x, number(b, alpha, x))))  # type: ignore[no-any-return]


@lowering("com.microsoft::BiasSplitGelu", at_load=True)
def bias_split_gelu(b: Emitter, node: ir.Node) -> ir.Value | None:
    """left·Gelu(right), the halves of x + bias."""
    x = add(b, present(node, 0), present(node, 1))
    if x is None:
        return None
    left, right = b.Split(x, axis=-1, num_outputs=2, _outputs=2)
    return b.Mul(left, gelu_of(b, right))  # type: ignore[no-any-return]


@lowering("com.microsoft::BiasAdd", at_load=True)
def bias_add(b: Emitter, node: ir.Node) -> ir.Value | None:
    """The sum x + bias + skip."""
    return add(b, add(b, present(node, 0), present(node, 1)), present(node, 2))


@lowering("com.microsoft::BiasSoftmax", at_load=True)
def bias_softmax(b: Emitter, node: ir.Node) -> ir.Value | None:
    """softmax(x + bias) over all axes from ``axis`` on."""
    x = add(b, present(node, 0), present(node, 1))
    r = None if x is None else rank(x)
    axis = node.attributes.get_int("axis", 1)
    if x is None or r is None:
        return None
    axis %= r
    if axis == r - 1:
        return b.Softmax(x, axis=-1)  # type: ignore[no-any-return]
    flat = b.Softmax(b.Reshape(x, [0] * axis + [-1]), axis=-1)
    return b.Reshape(flat, b.shape_of(x))  # type: ignore[no-any-return]


@lowering("com.microsoft::SkipLayerNormalization", at_load=True)
def skip_layer_normalization(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """LayerNormalization(s) over the last axis and s = x + skip + bias."""
    gamma = present(node, 2)
    total = add(b, add(b, present(node, 0), present(node, 1)), present(node, 4))
    if total is None or gamma is None:
        return None
    epsilon = node.attributes.get_float("epsilon", 1e-12)
    y, mean, deviation = b.LayerNormalization(total, gamma, present(node, 3), axis=-1, epsilon=epsilon, _outputs=3)
    return y, mean, deviation, total


@lowering("com.microsoft::SkipSimplifiedLayerNormalization", at_load=True)
def skip_simplified_layer_normalization(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """RMSNormalization(s) over the last axis and s = x + skip + bias."""
    gamma = present(node, 2)
    total = add(b, add(b, present(node, 0), present(node, 1)), present(node, 3))
    if total is None or gamma is None:
        return None
    y, inverse = root_mean_square(
        b, total, gamma, [-1], node.attributes.get_float("epsilon", 1e-12), inverse=wanted(node, 2)
    )
    return y, None, inverse, total


@lowering("SimplifiedLayerNormalization", "com.microsoft::SimplifiedLayerNormalization", at_load=True)
def simplified_layer_normalization(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """x/√(mean(x²) + ε)·scale over the axes from ``axis`` on, and 1/√(mean(x²) + ε)."""
    x, scale = present(node, 0), present(node, 1)
    axis, r = node.attributes.get_int("axis", -1), None if x is None else rank(x)
    if x is None or scale is None or (axis >= 0 and r is None):
        return None
    axes = list(range(axis, 0 if axis < 0 else r or 0))
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    return root_mean_square(b, x, scale, axes, epsilon, inverse=wanted(node, 1))


def root_mean_square(
    b: Emitter, x: ir.Value, scale: ir.Value, axes: list[int], epsilon: float, *, inverse: bool = False
) -> tuple[ir.Value, ir.Value | None]:
    """x/√(mean(x²) + ε)·scale, computed in float32 where ``x`` is 16 bits wide; where wanted, the float32 inverse."""
    wide = b.Cast(x, to=_FLOAT.value) if x.dtype in _HALF else x
    mean = b.ReduceMean(b.Pow(wide, number(b, 2.0, wide)), axes, keepdims=1)
    deviation = b.Sqrt(b.Add(mean, number(b, epsilon, mean)))
    y = b.Div(wide, deviation)
    kind = scale.dtype or x.dtype
    if kind is not None and y.dtype != kind:
        y = b.Cast(y, to=kind.value)
    return b.Mul(y, scale), b.Reciprocal(deviation) if inverse else None


@lowering("com.microsoft::EmbedLayerNormalization", at_load=True)
def embed_layer_normalization(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """LayerNormalization(s) with s = word[ids] + position[position ids] + segment[segment ids].

    The second output counts the ones of each row of the mask, zeros without one.
    """
    ids, segment_ids, word, position, segment, gamma, beta, mask, position_ids = (present(node, i) for i in range(9))
    if ids is None or word is None or position is None or gamma is None:
        return None
    places = b.Unsqueeze(positions(b, size(b, ids, 1)), [0]) if position_ids is None else position_ids
    total = b.Add(b.Gather(word, ids), b.Gather(position, places))
    if segment is not None and segment_ids is not None:
        total = b.Add(total, b.Gather(segment, segment_ids))
    epsilon = node.attributes.get_float("epsilon", 1e-12)
    y = b.LayerNormalization(total, gamma, beta, axis=-1, epsilon=epsilon)
    count = None
    if wanted(node, 1):
        int32 = ir.DataType.INT32
        if mask is None:
            count = b.Expand(b.const(0, dtype=int32), size(b, ids, 0))
        else:
            ones = b.Cast(b.Equal(mask, b.const(1, mask)), to=int32.value)
            count = b.ReduceSum(ones, [1], keepdims=0)
    return y, count, total


@lowering("com.microsoft::GatedRelativePositionBias", at_load=True)
def gated_relative_position_bias(b: Emitter, node: ir.Node) -> ir.Value | None:
    """(u·(r·a − 1) + 2)·rel_pos; u and r are σ of the two half sums of (query + bias)·W + c, per head."""
    query, query_bias, rel_pos, weight, bias, eco = (present(node, i) for i in range(6))
    if query is None or rel_pos is None or weight is None or eco is None or present(node, 6) is not None:
        return None
    heads = node.attributes["num_heads"].as_int()
    whole = add(b, query, query_bias)
    assert whole is not None
    gates = add(b, b.MatMul(split_heads(b, whole, heads), weight), bias)
    assert gates is not None
    width = constant_size(weight, 1)
    pairs = b.Reshape(gates, [0, 0, 0, 2, -1 if width is None else width // 2])
    u, r = b.Split(b.Sigmoid(b.ReduceSum(pairs, [-1], keepdims=0)), axis=-1, num_outputs=2, _outputs=2)
    gate = b.Add(b.Mul(u, b.Sub(b.Mul(r, eco), number(b, 1.0, r))), number(b, 2.0, r))
    return b.Mul(gate, rel_pos)  # type: ignore[no-any-return]


@lowering("com.microsoft::GroupNorm", "com.microsoft::SkipGroupNorm", at_load=True)
def group_norm(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """GroupNormalization of s, then SiLU where ``activation`` is 1; s = x (+ skip + bias), channels last or first."""
    x, gamma, beta = (present(node, i) for i in range(3))
    if x is None or gamma is None or beta is None or rank(x) != 4:
        return None
    last = node.attributes.get_int("channels_last", 1) == 1
    skip, bias = present(node, 3), present(node, 4)
    if skip is not None and (rank(skip) != 4 or not last):
        return None
    total = add(b, add(b, x, skip), bias)
    assert total is not None
    s = b.Transpose(total, perm=[0, 3, 1, 2]) if last else total
    groups = b.Reshape(s, [0, node.attributes["groups"].as_int(), -1])
    wide = b.Cast(groups, to=_FLOAT.value) if groups.dtype in _HALF else groups
    centred = b.Sub(wide, b.ReduceMean(wide, [2], keepdims=1))
    variance = b.ReduceMean(b.Mul(centred, centred), [2], keepdims=1)
    epsilon = number(b, node.attributes.get_float("epsilon", 1e-5), variance)
    y = b.Reshape(b.Div(centred, b.Sqrt(b.Add(variance, epsilon))), b.shape_of(s))
    y = b.Add(b.Mul(y, b.Unsqueeze(_as(b, gamma, y), [1, 2])), b.Unsqueeze(_as(b, beta, y), [1, 2]))
    if node.attributes.get_int("activation", 0) == 1:
        y = b.Mul(y, b.Sigmoid(y))
    y = b.Transpose(y, perm=[0, 2, 3, 1]) if last else y
    return _as(b, y, x), total


def _as(b: Emitter, v: ir.Value, like: ir.Value) -> ir.Value:
    return v if like.dtype is None or v.dtype == like.dtype else b.Cast(v, to=np.int64(like.dtype.value).item())
