"""Bodies of ai.onnx's transformer operators: Attention (23, 24, 25), RotaryEmbedding (23), TensorScatter (24)."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from graph_tools.emit import Emitter, dims, rank
from graph_tools.lowering.heads import (
    add,
    merge_heads,
    number,
    positions,
    present,
    repeat_heads,
    score,
    size,
    sizes,
    split_heads,
    wanted,
    where_allowed,
)
from graph_tools.lowering.rotary import rotate
from graph_tools.lowering.table import lowering


@lowering("Attention")
def attention(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """Y = softmax(softcap(scale·QKᵀ) + bias)·V, per head; zeros where a query may see no key at all.

    The bias is the sum of attn_mask (padded with −inf to the number of keys), of the causal frontier
    j <= i + offset, of the window i + offset − left <= j <= i + offset + right and of j < nonpad_kv_seqlen; offset is
    the length of the past, or nonpad_kv_seqlen − S.
    """
    q, k, v = (present(node, i) for i in range(3))
    if q is None or k is None or v is None or rank(q) not in (3, 4):
        return None
    flat = rank(q) == 3
    if flat:
        if "q_num_heads" not in node.attributes or "kv_num_heads" not in node.attributes:
            return None
        n, m = node.attributes["q_num_heads"].as_int(), node.attributes["kv_num_heads"].as_int()
        q, k, v = split_heads(b, q, n), split_heads(b, k, m), split_heads(b, v, m)
    past_k, past_v = present(node, 4), present(node, 5)
    all_k = k if past_k is None else b.Concat(past_k, k, axis=2)
    all_v = v if past_v is None else b.Concat(past_v, v, axis=2)
    bias, guard = _bias(b, node, q, all_k, past_k)
    steps = score(
        b, q, repeat_heads(b, all_k, q), bias,
        scale=node.attributes.get_float("scale", 0.0), softcap=node.attributes.get_float("softcap", 0.0),
        precision=node.attributes.get_int("softmax_precision", 0), guard=guard,
    )  # fmt: skip
    y = b.MatMul(steps.probabilities, repeat_heads(b, all_v, q))
    mode = node.attributes.get_int("qk_matmul_output_mode", 0)
    shown = (steps.raw, steps.capped, steps.biased, steps.probabilities)[mode]
    return (
        merge_heads(b, y) if flat else y,
        all_k if wanted(node, 1) else None,
        all_v if wanted(node, 2) else None,
        shown if wanted(node, 3) else None,
    )


def _bias(b: Emitter, node: ir.Node, q: ir.Value, k: ir.Value, past: ir.Value | None) -> tuple[ir.Value | None, bool]:
    """The bias, and whether it may take all keys away from a query."""
    mask, nonpad = present(node, 3), present(node, 6)
    bias = None
    if mask is not None:
        bias = mask if mask.dtype != ir.DataType.BOOL else where_allowed(b, mask, q)
        bias = _padded(b, bias, mask, k)
    left, right = (node.attributes.get_int(f"{side}_window_size", -1) for side in ("left", "right"))
    causal = node.attributes.get_int("is_causal", 0) == 1
    if causal or left >= 0 or right >= 0:
        key = positions(b, size(b, k, 2))
        ahead = b.Sub(key, _query_positions(b, q, past, nonpad))  # key − query
        bounds = [b.LessOrEqual(ahead, 0)] if causal else []
        if right >= 0:
            bounds.append(b.LessOrEqual(ahead, right))
        if left >= 0:
            bounds.append(b.GreaterOrEqual(ahead, -left))
        allowed = bounds[0]
        for bound in bounds[1:]:
            allowed = b.And(allowed, bound)
        bias = add(b, bias, where_allowed(b, allowed, q))
    if nonpad is not None:
        valid = b.Less(positions(b, size(b, k, 2)), b.Unsqueeze(nonpad, [1, 2, 3]))
        bias = add(b, bias, where_allowed(b, valid, q))
    return bias, mask is not None or nonpad is not None or left >= 0 or right >= 0


def _query_positions(b: Emitter, q: ir.Value, past: ir.Value | None, nonpad: ir.Value | None) -> ir.Value:
    """int64 [S, 1], or [B, 1, S, 1] where each row has its own number of keys: the position of each query."""
    length = size(b, q, 2)
    index = b.Unsqueeze(positions(b, length), [1])
    if past is not None:
        return b.Add(index, size(b, past, 2))  # type: ignore[no-any-return]
    if nonpad is not None:
        return b.Add(index, b.Unsqueeze(b.Sub(nonpad, length), [1, 2, 3]))  # type: ignore[no-any-return]
    return index  # type: ignore[no-any-return]


def _padded(b: Emitter, bias: ir.Value, mask: ir.Value, k: ir.Value) -> ir.Value:
    """The mask's bias with −inf for the keys that the mask does not reach."""
    r = rank(mask)
    if r is None or r == 0 or mask.shape is None or k.shape is None:
        return bias
    have, want = mask.shape[-1], k.shape[2]
    if have == want and (isinstance(have, int) or have.value is not None):
        return bias
    if isinstance(have, int) and isinstance(want, int):
        pads: ir.Value = b.const(np.array([0] * (2 * r - 1) + [max(want - have, 0)], np.int64))
    else:
        missing = b.Max(b.Sub(size(b, k, 2), size(b, mask, r - 1)), np.zeros(1, np.int64))
        pads = b.Concat(np.zeros(2 * r - 1, np.int64), missing, axis=0)
    return b.Pad(bias, pads, number(b, -math.inf, bias))  # type: ignore[no-any-return]


@lowering("RotaryEmbedding")
def rotary_embedding(b: Emitter, node: ir.Node) -> ir.Value | None:
    """Pairs (x1, x2) of each head turned: (x1·cos − x2·sin, x1·sin + x2·cos)."""
    x, cos, sin, ids = (present(node, i) for i in range(4))
    if x is None or cos is None or sin is None or rank(x) not in (3, 4):
        return None
    if ids is not None:
        cos, sin = b.Gather(cos, ids), b.Gather(sin, ids)
    return rotate(
        b, x, cos, sin,
        heads=node.attributes.get_int("num_heads", 0), rotated=node.attributes.get_int("rotary_embedding_dim", 0),
        interleaved=node.attributes.get_int("interleaved", 0) == 1,
    )  # fmt: skip


@lowering("TensorScatter")
def tensor_scatter(b: Emitter, node: ir.Node) -> ir.Value | None:
    """The past, ``update`` written over it along ``axis`` from write_indices[row] on (circular: modulo its size)."""
    past, update, start = (present(node, i) for i in range(3))
    r = None if past is None else rank(past)
    if past is None or update is None or r is None:
        return None
    axis = node.attributes.get_int("axis", -2) % r
    index = b.Unsqueeze(positions(b, size(b, update, axis)), list(range(1, r - axis))) if r > axis + 1 else None
    index = positions(b, size(b, update, axis)) if index is None else index
    if start is not None:
        index = b.Add(index, b.Unsqueeze(start, list(range(1, r))))
    if node.attributes.get_string("mode", "linear") == "circular":
        index = b.Mod(index, size(b, past, axis))
    known = dims(update)
    whole = b.shape_of(update) if known is not None else b.Shape(update)
    return b.ScatterElements(past, b.Expand(index, sizes(b, whole)), update, axis=axis)  # type: ignore[no-any-return]
