"""What the bodies of attention operators share: heads, positions, masks as additive biases, softmax(QKᵀ)V.

Words: S queries, T keys, N heads of Q and M heads of K and V (N a multiple of M), D the size of a head. A *bias* is
what is added to the scores [B, N, S, T]; it has up to four dimensions and is broadcast; −inf (or a large negative
number) takes a key away from a query.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graph_tools.emit import Emitter, dims

_HALF = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


def present(node: ir.Node, index: int) -> ir.Value | None:
    """Operand ``index``, or None where it is left out."""
    return node.inputs[index] if len(node.inputs) > index else None


def wanted(node: ir.Node, index: int) -> bool:
    """Whether output ``index`` has a name, so that somebody may read it."""
    return len(node.outputs) > index and bool(node.outputs[index].name)


def number(b: Emitter, value: float, like: ir.Value) -> ir.Value:
    """A float scalar in the dtype of ``like``."""
    return b.const(np.asarray(value, np.float64), like)


def size(b: Emitter, v: ir.Value, axis: int) -> ir.Value:
    """int64 [1]: one dimension of ``v``, a constant where it is known; ``axis`` >= 0."""
    known = dims(v)
    if known is not None and known[axis] is not None:
        return b.const(np.array([known[axis]], np.int64))
    return b.Shape(v, start=axis, end=axis + 1)  # type: ignore[no-any-return]


def sizes(b: Emitter, *parts: ir.Value | int) -> ir.Value:
    """int64 [n]: a shape from [1]-values and numbers; a constant where all are known."""
    values = [p if isinstance(p, ir.Value) else b.const(np.array([p], np.int64)) for p in parts]
    if all(v.const_value is not None for v in values):
        return b.const(np.concatenate([v.const_value.numpy() for v in values]))  # type: ignore[union-attr]
    return b.Concat(*values, axis=0)  # type: ignore[no-any-return]


def positions(b: Emitter, n: ir.Value) -> ir.Value:
    """int64 [n]: 0 … n − 1."""
    if n.const_value is not None:
        return b.const(np.arange(int(n.const_value.numpy().item()), dtype=np.int64))
    return b.Range(0, b.Squeeze(n, [0]), 1)  # type: ignore[no-any-return]


def split_heads(b: Emitter, x: ir.Value, heads: int) -> ir.Value:
    """[B, S, N·D] as [B, N, S, D]."""
    known = dims(x)
    hidden = known[-1] if known is not None else None
    apart = b.Reshape(x, [0, 0, heads, -1 if hidden is None else hidden // heads])
    return b.Transpose(apart, perm=[0, 2, 1, 3])  # type: ignore[no-any-return]


def merge_heads(b: Emitter, x: ir.Value) -> ir.Value:
    """[B, N, S, D] as [B, S, N·D]."""
    known = dims(x)
    hidden = None if known is None or known[1] is None or known[3] is None else known[1] * known[3]
    return b.Reshape(b.Transpose(x, perm=[0, 2, 1, 3]), [0, 0, -1 if hidden is None else hidden])  # type: ignore[no-any-return]


def repeat_heads(b: Emitter, x: ir.Value, like: ir.Value) -> ir.Value:
    """Every head of ``x`` [B, M, T, D] repeated N/M times in a row, N the heads of ``like``."""
    mine, other = dims(x), dims(like)
    m, n = (None if d is None else d[1] for d in (mine, other))
    if m is not None and m == n:
        return x
    if m is not None and n is not None:
        times: ir.Value | int = n // m
    else:
        times = b.Div(size(b, like, 1), size(b, x, 1))
    wide = b.Expand(b.Unsqueeze(x, [2]), sizes(b, 1, 1, times, 1, 1))
    if n is not None and mine is not None and mine[3] is not None:
        return b.Reshape(wide, [0, n, -1, mine[3]])  # type: ignore[no-any-return]
    return b.Reshape(wide, sizes(b, size(b, x, 0), size(b, like, 1), size(b, x, 2), size(b, x, 3)), allowzero=1)  # type: ignore[no-any-return]


def where_allowed(b: Emitter, allowed: ir.Value, like: ir.Value, off: float = -math.inf) -> ir.Value:
    """A boolean mask as a bias in the dtype of ``like``: 0 where allowed, ``off`` elsewhere."""
    return b.Where(allowed, number(b, 0.0, like), number(b, off, like))  # type: ignore[no-any-return]


def add(b: Emitter, x: ir.Value | None, y: ir.Value | None) -> ir.Value | None:
    """The sum, where None is zero."""
    if x is None or y is None:
        return y if x is None else x
    return b.Add(x, y)  # type: ignore[no-any-return]


@dataclass
class Scores:
    """The steps between QKᵀ and the probabilities; [B, N, S, T] each."""

    raw: ir.Value
    capped: ir.Value
    biased: ir.Value
    probabilities: ir.Value


def score(
    b: Emitter,
    q: ir.Value,
    k: ir.Value,
    bias: ir.Value | None,
    *,
    scale: float = 0.0,
    softcap: float = 0.0,
    precision: int = 0,
    guard: bool = False,
    sink: ir.Value | None = None,
) -> Scores:
    """softmax(softcap·tanh(scale·QKᵀ/softcap) + bias).

    Args:
        b: the emitter.
        q: [B, N, S, D].
        k: [B, N, T, D].
        bias: added to the scores, or None.
        scale: 0: 1/√D.
        softcap: 0: none.
        precision: ONNX number of the dtype the softmax is computed in; 0: that of ``q``.
        guard: give zeros, not NaN, to queries whose whole bias is −inf.
        sink: [N or 1, 1, 1]: the score of one more key, which takes its share and is worth nothing; or None.
    """
    raw = _scaled_product(b, q, k, scale)
    capped = raw
    if softcap > 0:
        cap = number(b, softcap, q)
        capped = b.Mul(b.Tanh(b.Div(raw, cap)), cap)
    nothing = None
    biased = logits = capped
    if bias is not None:
        if guard:
            highest = b.ReduceMax(bias, [-1], keepdims=1)
            nothing = b.Equal(highest, number(b, -math.inf, bias))
            biased = b.Add(capped, bias)
            logits = b.Add(capped, b.Where(nothing, number(b, 0.0, bias), bias))
        else:
            biased = logits = b.Add(capped, bias)
    if sink is not None:
        logits = b.Concat(logits, b.Expand(sink, sizes(b, *(size(b, q, axis) for axis in range(3)), 1)), axis=3)
    kind = q.dtype
    if precision and kind is not None and precision != kind.value:
        soft = b.Cast(b.Softmax(b.Cast(logits, to=precision), axis=-1), to=kind.value)
    else:
        soft = b.Softmax(logits, axis=-1)
    if sink is not None:
        soft = b.Slice(soft, [0], [-1], [3])
    if nothing is not None:  # not by Where: the rule of Softmax would look for NaN
        soft = b.Mul(soft, b.Cast(b.Not(nothing), to=(soft.dtype or ir.DataType.FLOAT).value))
    return Scores(raw, capped, biased, soft)


def _scaled_product(b: Emitter, q: ir.Value, k: ir.Value, scale: float) -> ir.Value:
    """scale·QKᵀ; 16-bit operands are scaled by √scale each, so that the product does not overflow."""
    known = dims(q)
    head = None if known is None else known[-1]
    turned = b.Transpose(k, perm=[0, 1, 3, 2])
    if not scale and head is None:
        wide = q.dtype or ir.DataType.FLOAT
        factor = b.Reciprocal(b.Sqrt(b.Cast(b.Squeeze(size(b, q, 3), [0]), to=wide.value)))
        return b.MatMul(b.Mul(q, factor), turned)  # type: ignore[no-any-return]
    scale = scale or 1.0 / math.sqrt(head or 1)
    if q.dtype in _HALF and scale > 0:
        root = number(b, math.sqrt(scale), q)
        return b.MatMul(b.Mul(q, root), b.Mul(turned, root))  # type: ignore[no-any-return]
    return b.MatMul(b.Mul(q, number(b, scale, q)), turned)  # type: ignore[no-any-return]


def constant_size(v: ir.Value, axis: int) -> int | None:
    """One dimension, where it is known."""
    known = dims(v)
    return None if known is None else known[axis]
