"""Bodies of ONNX Runtime's Attention, MultiHeadAttention and QAttention (com.microsoft).

Masks add ``mask_filter_value`` to a score where the ONNX operator would add −inf; causality takes keys away.
Formulas: onnxruntime, docs/ContribOperators.md; what it leaves open is as its CPU kernels have it.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from graph_tools.emit import Emitter, rank
from graph_tools.lowering.heads import (
    add,
    constant_size,
    merge_heads,
    number,
    positions,
    present,
    score,
    size,
    sizes,
    split_heads,
    wanted,
    where_allowed,
)
from graph_tools.lowering.table import lowering


@lowering("com.microsoft::Attention", at_load=True)
def attention(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """softmax(scale·QKᵀ + masks + attention_bias)·V with [Q K V] = x·W + bias."""
    x, weights, bias, mask, past, extra, past_length = (present(node, i) for i in range(7))
    if x is None or weights is None or past_length is not None:
        return None
    return _self_attention(b, node, add(b, b.MatMul(x, weights), bias), weights, mask, past, extra)


@lowering("com.microsoft::QAttention", at_load=True)
def quantised_attention(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """Attention of the dequantised input and weights."""
    x, weights, bias, x_scale, w_scale, mask, x_zero, w_zero, past = (present(node, i) for i in range(9))
    if x is None or weights is None or x_scale is None or w_scale is None or rank(w_scale) is None:
        return None
    per_column = rank(w_scale) == 1 and constant_size(w_scale, 0) != 1
    wide = b.DequantizeLinear(x, _scalar(b, x_scale), _scalar(b, x_zero))
    if per_column:
        matrix = b.DequantizeLinear(weights, w_scale, w_zero, axis=1)
    else:
        matrix = b.DequantizeLinear(weights, _scalar(b, w_scale), _scalar(b, w_zero))
    return _self_attention(b, node, add(b, b.MatMul(wide, matrix), bias), weights, mask, past, None)


def _scalar(b: Emitter, v: ir.Value | None) -> ir.Value | None:
    """A scalar that may come as one element of a vector."""
    return v if v is None or rank(v) == 0 else b.Reshape(v, np.zeros(0, np.int64))


def _self_attention(
    b: Emitter,
    node: ir.Node,
    projected: ir.Value | None,
    weights: ir.Value,
    mask: ir.Value | None,
    past: ir.Value | None,
    extra: ir.Value | None,
) -> tuple[ir.Value | None, ...] | None:
    """Attention over ``projected`` [B, S, Q + K + V]."""
    flags = ("do_rotary", "past_present_share_buffer")
    if projected is None or any(node.attributes.get_int(name, 0) for name in flags):
        return None
    heads = node.attributes["num_heads"].as_int()
    parts = list(node.attributes.get_ints("qkv_hidden_sizes", ())) or _thirds(weights)
    if parts is None:
        q, k, v = b.Split(projected, axis=-1, num_outputs=3, _outputs=3)
    else:
        q, k, v = b.Split(projected, parts, axis=-1, _outputs=3)
    q, k, v = (split_heads(b, part, heads) for part in (q, k, v))
    past_size = None
    if past is not None:
        past_k, past_v = (b.Squeeze(part, [0]) for part in b.Split(past, axis=0, num_outputs=2, _outputs=2))
        past_size = size(b, past_k, 2)
        k, v = b.Concat(past_k, k, axis=2), b.Concat(past_v, v, axis=2)
    bias = masks(b, node, q, k, mask, past_size)
    if bias is _UNKNOWN:
        return None
    present_state = b.Concat(b.Unsqueeze(k, [0]), b.Unsqueeze(v, [0]), axis=0) if wanted(node, 1) else None
    steps = score(b, q, k, add(b, bias, extra), scale=node.attributes.get_float("scale", 0.0))
    return merge_heads(b, b.MatMul(steps.probabilities, v)), present_state


def _thirds(weights: ir.Value) -> list[int] | None:
    width = constant_size(weights, 1)
    return None if width is None else [width // 3] * 3


_UNKNOWN = ir.Value(name="unknown")


def masks(
    b: Emitter, node: ir.Node, q: ir.Value, k: ir.Value, mask: ir.Value | None, past: ir.Value | None
) -> ir.Value | None:
    """The bias of mask and causality, or None; ``_UNKNOWN`` where the mask's form has no body.

    Args:
        b: the emitter.
        node: for ``mask_filter_value`` and ``unidirectional``.
        q: [B, N, S, D].
        k: [B, N, T, D], the past included.
        mask: 1 keeps: [B, T] or [B, S, T]; or the number of keys of each row [B], or ends and starts [2·B].
        past: int64 [1], the length of the past, or None.
    """
    off = node.attributes.get_float("mask_filter_value", -10000.0)
    bias = None
    if mask is not None:
        if rank(mask) == 1:
            allowed = _between(b, mask, q, k)
        elif rank(mask) in (2, 3):
            allowed = b.Unsqueeze(b.Greater(mask, b.const(0, mask)), [1, 2] if rank(mask) == 2 else [1])
        else:
            return _UNKNOWN
        if allowed is None:
            return _UNKNOWN
        bias = where_allowed(b, allowed, q, off)
    if node.attributes.get_int("unidirectional", 0) == 1 and constant_size(q, 2) != 1:
        query = b.Unsqueeze(positions(b, size(b, q, 2)), [1])
        query = query if past is None else b.Add(query, past)
        causal = b.LessOrEqual(positions(b, size(b, k, 2)), query)
        kept = number(b, 0.0, q) if bias is None else bias
        bias = b.Where(causal, kept, number(b, -math.inf, q))
    return bias


def _between(b: Emitter, mask: ir.Value, q: ir.Value, k: ir.Value) -> ir.Value | None:
    """Whether start <= key < end, [B, 1, 1, T]; starts follow the ends where there are any."""
    rows, given = size(b, q, 0), constant_size(mask, 0)
    batch = constant_size(q, 0)
    if batch is not None and given is not None and given not in (batch, 2 * batch):
        return None
    key = positions(b, size(b, k, 2))
    wide = b.Cast(mask, to=ir.DataType.INT64.value)
    end = b.Unsqueeze(b.Slice(wide, [0], rows, [0]), [1, 2, 3])
    allowed = b.Less(key, end)
    if mask.shape is not None and q.shape is not None and mask.shape[0] == q.shape[0]:
        return allowed  # type: ignore[no-any-return]
    starts = b.Concat(wide, b.Expand(b.const(np.zeros(1, np.int64)), rows), axis=0)  # zeros where none are given
    start = b.Unsqueeze(b.Slice(starts, rows, b.Mul(rows, 2), [0]), [1, 2, 3])
    return b.And(allowed, b.GreaterOrEqual(key, start))  # type: ignore[no-any-return]


@lowering("com.microsoft::MultiHeadAttention", at_load=True)
def multi_head_attention(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """softmax(scale·QKᵀ + masks + attention_bias)·V; Q, K and V apart, packed, or K and V ready as heads."""
    mask, extra, past_k, past_v, past_length, indirection = (present(node, i) for i in range(4, 10))
    if past_length is not None or indirection is not None:
        return None
    found = _operands(b, node)
    if found is None:
        return None
    q, k, v = found
    past_size = None
    if past_k is not None and past_v is not None:
        past_size = size(b, past_k, 2)
        k, v = b.Concat(past_k, k, axis=2), b.Concat(past_v, v, axis=2)
    bias = masks(b, node, q, k, mask, past_size)
    if bias is _UNKNOWN:
        return None
    steps = score(b, q, k, add(b, bias, extra), scale=node.attributes.get_float("scale", 0.0))
    y = merge_heads(b, b.MatMul(steps.probabilities, v))
    return y, k if wanted(node, 1) else None, v if wanted(node, 2) else None, steps.biased if wanted(node, 3) else None


def _operands(b: Emitter, node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value] | None:
    """Q, K and V as [B, N, S, D], their biases added."""
    query, key, value, bias = (present(node, i) for i in range(4))
    heads = node.attributes["num_heads"].as_int()
    if query is None or rank(query) is None:
        return None
    if rank(query) == 5:
        found = _unpacked(b, query, 3)
    elif key is None or rank(query) != 3:
        return None
    elif rank(key) == 5:
        found = [split_heads(b, query, heads), *_unpacked(b, key, 2)]
    elif value is None or (rank(key), rank(value)) not in ((3, 3), (4, 4)):
        return None
    elif rank(key) == 4:
        found = [split_heads(b, query, heads), key, value]
    else:
        found = [split_heads(b, v, heads) for v in (query, key, value)]
    if bias is not None:
        if key is not None and rank(key) == 4:
            return None
        found = _biased(b, bias, found, heads)
    q, k, v = found
    return q, k, v


def _unpacked(b: Emitter, packed: ir.Value, n: int) -> list[ir.Value]:
    """[B, S, N, n, D] as n times [B, N, S, D]."""
    parts = b.Split(packed, axis=3, num_outputs=n, _outputs=n)
    return [b.Transpose(b.Squeeze(part, [3]), perm=[0, 2, 1, 3]) for part in parts]


def _biased(b: Emitter, bias: ir.Value, qkv: list[ir.Value], heads: int) -> list[ir.Value]:
    """Q, K and V plus their parts of ``bias``: as long as Q, as long as Q, the rest."""
    wide = [constant_size(v, 3) for v in qkv]
    lengths = [None if w is None else w * heads for w in wide]
    if None in lengths:
        each = [b.Mul(size(b, v, 3), heads) for v in qkv]
        parts = b.Split(bias, sizes(b, *each), axis=0, _outputs=3)
    else:
        parts = b.Split(bias, [n or 0 for n in lengths], axis=0, _outputs=3)
    shaped = [b.Reshape(part, [heads, 1, w or -1]) for part, w in zip(parts, wide, strict=True)]
    return [b.Add(v, part) for v, part in zip(qkv, shaped, strict=True)]
