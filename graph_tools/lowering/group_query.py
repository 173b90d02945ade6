"""The body of ONNX Runtime's GroupQueryAttention (com.microsoft), which its model builder writes for decoders."""

from __future__ import annotations

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
from graph_tools.lowering.transformer import root_mean_square

_INT64 = ir.DataType.INT64.value


@lowering("com.microsoft::GroupQueryAttention", at_load=True)
def group_query_attention(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """softmax(softcap(scale·QKᵀ) + attention_bias)·V over the keys that a query may see.

    Row i has seqlens_k[i] + 1 keys; its S queries are the last of them (all start at 0 where S is
    total_sequence_length, the prompt). Q and K are turned by their positions where ``do_rotary`` is set.
    """
    if _unsupported(node):
        return None
    found = _operands(b, node)
    lengths = present(node, 5)
    total = present(node, 6)
    if found is None or lengths is None or total is None:
        return None
    q, k, v = found
    index = positions(b, size(b, q, 2))  # [S]
    past_k, past_v = present(node, 3), present(node, 4)
    total = b.Reshape(b.Cast(total, to=_INT64), [1])
    rows = b.Unsqueeze(b.Add(b.Cast(b.Reshape(lengths, [-1]), to=_INT64), 1), [1])  # [B, 1]: keys of each row
    prompt = b.Equal(total, size(b, q, 2))
    past = None if past_k is None else b.Where(prompt, np.zeros(1, np.int64), b.Sub(rows, size(b, q, 2)))
    if node.attributes.get_int("do_rotary", 0):
        cos, sin = present(node, 7), present(node, 8)
        width = None if cos is None else constant_size(cos, 1)
        if cos is None or sin is None or width is None:
            return None
        at = _places(b, node, index, past, prompt)
        cos, sin = b.Gather(cos, at), b.Gather(sin, at)
        crossed = node.attributes.get_int("rotary_interleaved", 0) == 1
        q, k = (rotate(b, x, cos, sin, heads=0, rotated=2 * width, interleaved=crossed) for x in (q, k))
    if past is not None and past_k is not None and past_v is not None:
        k, v = (_cached(b, old, new, past, index, total) for old, new in ((past_k, k), (past_v, v)))
    bias = _allowed(b, node, q, k, index, past, rows)
    steps = score(
        b, q, repeat_heads(b, k, q), add(b, bias, present(node, 10)),
        scale=node.attributes.get_float("scale", 0.0), softcap=node.attributes.get_float("softcap", 0.0),
        sink=_sink(b, node, q),
    )  # fmt: skip
    y = b.MatMul(steps.probabilities, repeat_heads(b, v, q))
    return merge_heads(b, y), k if wanted(node, 1) else None, v if wanted(node, 2) else None


def _unsupported(node: ir.Node) -> bool:
    """Quantised or window-sized caches, and the scores as an output."""
    quantised = any(present(node, i) is not None for i in (12, 13))
    return quantised or node.attributes.get_int("sliding_window_cache", 0) == 1 or wanted(node, 3)


def _operands(b: Emitter, node: ir.Node) -> tuple[ir.Value, ir.Value, ir.Value] | None:
    """Q [B, N, S, D], K and V [B, M, S, D], normalised per head where weights for that are given."""
    query, key, value = (present(node, i) for i in range(3))
    n, m = node.attributes["num_heads"].as_int(), node.attributes["kv_num_heads"].as_int()
    if query is None:
        return None
    if key is None or value is None:
        hidden = constant_size(query, 2)
        if hidden is None:
            return None
        head = hidden // (n + 2 * m)
        query, key, value = b.Split(query, [n * head, m * head, m * head], axis=2, _outputs=3)
    q, k, v = (split_heads(b, x, heads) for x, heads in ((query, n), (key, m), (value, m)))
    epsilon = node.attributes.get_float("qk_norm_epsilon", 1e-6)
    q_norm, k_norm = present(node, 14), present(node, 15)
    if q_norm is not None and k_norm is not None:
        q, k = (root_mean_square(b, x, scale, [-1], epsilon)[0] for x, scale in ((q, q_norm), (k, k_norm)))
    return q, k, v


def _places(b: Emitter, node: ir.Node, index: ir.Value, past: ir.Value | None, prompt: ir.Value) -> ir.Value:
    """int64 [B or 1, S]: positions of the queries; a prompt counts on from the first of position_ids."""
    given = present(node, 9)
    if given is None:
        return b.Unsqueeze(index, [0]) if past is None else b.Add(past, index)  # type: ignore[no-any-return]
    first = b.Slice(b.Reshape(given, [-1]), [0], [1])
    counted = b.Unsqueeze(b.Add(index, first), [0])
    return b.Where(prompt, counted, given)  # type: ignore[no-any-return]


def _cached(b: Emitter, old: ir.Value, new: ir.Value, past: ir.Value, index: ir.Value, total: ir.Value) -> ir.Value:
    """[B, M, L, D]: of each row the first ``past`` entries of ``old``, then ``new``, then zeros; L = max(P, total)."""
    length = b.Max(size(b, old, 2), total)
    missing = b.Sub(length, size(b, old, 2))
    pads = b.Concat(np.zeros(6, np.int64), missing, np.zeros(1, np.int64), axis=0)
    buffer = b.Pad(old, pads)
    kept = b.Less(positions(b, length), past)  # [B, L]
    zero = number(b, 0.0, old)
    cleared = b.Where(b.Unsqueeze(kept, [1, 3]), buffer, zero)
    where = b.Unsqueeze(b.Add(past, index), [1, 3])  # [B or 1, 1, S, 1]
    shape = sizes(b, *(size(b, new, axis) for axis in range(4)))
    out = b.ScatterElements(cleared, b.Expand(where, shape), new, axis=2)
    out.shape = ir.Shape([new.shape[0], new.shape[1], None, new.shape[3]]) if new.shape is not None else None
    return out  # type: ignore[no-any-return]


def _allowed(
    b: Emitter, node: ir.Node, q: ir.Value, k: ir.Value, index: ir.Value, past: ir.Value | None, rows: ir.Value
) -> ir.Value | None:
    """−inf for the keys that a query may not see: those behind it, outside its window, or beyond the row's end."""
    key = positions(b, size(b, k, 2))
    if not node.attributes.get_int("causal", 1):
        valid = b.Less(key, b.Unsqueeze(rows, [2, 3]))
        return where_allowed(b, valid, q)
    query = b.Unsqueeze(index, [1]) if past is None else b.Unsqueeze(b.Add(past, index), [1, 3])
    ahead = b.Sub(key, query)
    allowed = b.LessOrEqual(ahead, 0)
    window = node.attributes.get_int("local_window_size", -1)
    if window > 0:
        allowed = b.And(allowed, b.Greater(ahead, -window))
    return where_allowed(b, allowed, q)


def _sink(b: Emitter, node: ir.Node, q: ir.Value) -> ir.Value | None:
    """[N or 1, 1, 1]: the score of a key that is seen by all and worth nothing, or None."""
    given = present(node, 11)
    if given is not None and rank(given) == 1:
        return b.Unsqueeze(given, [1, 2])  # type: ignore[no-any-return]
    if node.attributes.get_int("smooth_softmax", 0) == 1:
        return b.const(np.zeros((1, 1, 1)), q)
    return None
