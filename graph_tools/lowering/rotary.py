"""Rotary position embedding, which ai.onnx and com.microsoft spell differently."""

from __future__ import annotations

import onnx_ir as ir

from graph_tools.emit import Emitter, dims, rank
from graph_tools.lowering.heads import constant_size, number, positions, present, size, sizes
from graph_tools.lowering.table import lowering

_END = 2**31 - 1


def rotate(
    b: Emitter,
    x: ir.Value,
    cos: ir.Value,
    sin: ir.Value,
    *,
    heads: int,
    rotated: int = 0,
    interleaved: bool = False,
) -> ir.Value:
    """Turn pairs of elements of each head.

    Args:
        b: the emitter.
        x: [B, N, S, D], or [B, S, N·D] with ``heads`` = N.
        cos: [B or 1, S, R/2], the cosines of each position.
        sin: likewise.
        heads: N, for three dimensions; 0 where R is the size of a head.
        rotated: R, the leading elements of each head that are turned; 0: all.
        interleaved: pairs are neighbours, not elements half of R apart.
    """
    flat = rank(x) == 3
    rows = _apart(b, x, heads, cos) if flat else x
    at = 2 if flat else 1  # the axis of the heads
    cos, sin = b.Unsqueeze(cos, [at]), b.Unsqueeze(sin, [at])
    head = constant_size(rows, 3)
    whole = not rotated or rotated == head
    turned = rows if whole else b.Slice(rows, [0], [rotated], [3])
    width = rotated or head
    if interleaved:
        pairs = b.Reshape(turned, [0, 0, 0, -1, 2])
        first, second = b.Split(pairs, axis=4, num_outputs=2, _outputs=2)
        first, second = b.Squeeze(first, [4]), b.Squeeze(second, [4])
    elif width:
        half = width // 2
        first, second = b.Split(turned, [half, half], axis=3, _outputs=2)
    else:
        first, second = b.Split(turned, axis=3, num_outputs=2, _outputs=2)
    real = b.Sub(b.Mul(first, cos), b.Mul(second, sin))
    imaginary = b.Add(b.Mul(first, sin), b.Mul(second, cos))
    if interleaved:
        pairs = b.Concat(b.Unsqueeze(real, [4]), b.Unsqueeze(imaginary, [4]), axis=4)
        out = b.Reshape(pairs, [0, 0, 0, width or -1])
    else:
        out = b.Concat(real, imaginary, axis=3)
    if not whole:
        out = b.Concat(out, b.Slice(rows, [rotated], [_END], [3]), axis=3)
    if not flat:
        return out  # type: ignore[no-any-return]
    known = dims(x)
    return b.Reshape(out, [0, 0, -1 if known is None or known[2] is None else known[2]])  # type: ignore[no-any-return]


def _apart(b: Emitter, x: ir.Value, heads: int, cos: ir.Value) -> ir.Value:
    """[B, S, N·D] as [B, S, N, D]; D is twice the cosines per position where N is not given."""
    hidden = constant_size(x, 2)
    if heads:
        return b.Reshape(x, [0, 0, heads, -1 if hidden is None else hidden // heads])  # type: ignore[no-any-return]
    half = constant_size(cos, 2)
    if half is not None:
        return b.Reshape(x, [0, 0, -1, 2 * half])  # type: ignore[no-any-return]
    return b.Reshape(x, sizes(b, 0, 0, -1, b.Mul(size(b, cos, 2), 2)))  # type: ignore[no-any-return]


@lowering("com.microsoft::RotaryEmbedding", at_load=True)
def contrib_rotary_embedding(b: Emitter, node: ir.Node) -> ir.Value | None:
    """As ai.onnx's, with position ids first: [B, S], or one number that the first position has."""
    x, ids, cos, sin = (present(node, i) for i in range(4))
    if x is None or ids is None or cos is None or sin is None or rank(x) not in (3, 4) or rank(ids) not in (1, 2):
        return None
    if rank(ids) == 1:
        steps = positions(b, size(b, x, 1 if rank(x) == 3 else 2))
        ids = b.Unsqueeze(b.Add(steps, ids), [0])
    cos, sin = b.Gather(cos, ids), b.Gather(sin, ids)
    scale = node.attributes.get_float("scale", 1.0)
    if scale != 1.0:
        x = b.Mul(x, number(b, scale, x))
    return rotate(
        b, x, cos, sin,
        heads=node.attributes.get_int("num_heads", 0), rotated=node.attributes.get_int("rotary_embedding_dim", 0),
        interleaved=node.attributes.get_int("interleaved", 0) == 1,
    )  # fmt: skip


@lowering("com.microsoft::GemmaRotaryEmbedding", at_load=True)
def gemma_rotary_embedding(b: Emitter, node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """q·cos(e) + q_rot·sin(e), and the same for k; e (float32) [B, S, D], computed in float32."""
    emb, q, q_rot, k, k_rot = (present(node, i) for i in range(5))
    if emb is None or q is None or q_rot is None or k is None or k_rot is None or q.dtype is None:
        return None
    cos, sin = (b.Cast(b.Unsqueeze(v, [1]), to=q.dtype.value) for v in (b.Cos(emb), b.Sin(emb)))
    return tuple(b.Add(b.Mul(x, cos), b.Mul(r, sin)) for x, r in ((q, q_rot), (k, k_rot)))
