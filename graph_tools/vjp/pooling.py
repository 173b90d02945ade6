"""Pools that select: MaxPool, GlobalMaxPool, MaxUnpool. A tied maximum's cotangent goes to the first position."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from graph_tools.emit import dims
from graph_tools.reverse import Reverse
from graph_tools.vjp.sampling import reshaped, size_product
from graph_tools.vjp.selection import size
from graph_tools.vjp.spatial import join, pool_window
from graph_tools.vjp.table import carries_integers, nondiff, vjp


@vjp("MaxPool", 0)
def max_pool(b: Reverse, node: ir.Node, ct: ir.Value, _indices: ir.Value | None = None) -> ir.Value:
    """x̄[i] = Σ ȳ of the windows whose first maximum is i, scattered along the forward pass's Indices.

    Indices count through the whole tensor, rows included. With K cotangents per row they are taken modulo the size
    of a row and scattered row by row. Half precision adds in float32: the CPU has no half-precision scatter.
    """
    x = node.inputs[0]
    assert x is not None
    if b.form != "cuda" and _is_quartered(node, x) and not b.is_batched(x):
        return b.shaped_like(_by_quarters(b, ct, x, node.outputs[0]), x)
    kind = ct.dtype if ct.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE) else ir.DataType.FLOAT
    assert kind is not None
    indices = _indices_of(b, node, x)
    if b.is_batched(x):
        row = _row_size(b, x)
        rows = b.Slice(b.ct_shape(x, exact=True), [0], [1])
        shape = join(b, rows, row)
        indices, ct = b.Mod(b.Flatten(b.widen(indices, x)), row), b.Flatten(ct)
    else:
        shape = _total_size(b, x)
        indices, ct = b.Reshape(indices, [-1]), b.Reshape(ct, [-1])
    zeros = b.Expand(b.const(0.0, dtype=kind), shape)
    ct = ct if ct.dtype == kind else b.Cast(ct, to=kind.value)
    return b.reshape_like(b.ScatterElements(zeros, indices, ct, axis=-1, reduction="add"), x)


@vjp("GlobalMaxPool", 0)
def global_max_pool(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ȳ at the first maximum over space, else 0."""
    x = node.inputs[0]
    assert x is not None
    channels = size(b, x, 1)
    space = size_product(b, [size(b, x, a) for a in range(2, b.rank_of(x))])
    flat = reshaped(b, x, channels, space)
    first = b.widen(b.ArgMax(flat, axis=2, keepdims=1), x)
    known = dims(flat)
    if known is not None and known[2] is not None:
        positions = b.const(np.arange(known[2], dtype=np.int64))
    else:
        zero, one = (b.const(np.array(v, np.int64)) for v in (0, 1))
        positions = b.Range(zero, b.Squeeze(b.Slice(b.Shape(flat), [2], [3]), [0]), one)
    there = b.Equal(first, positions)
    return b.reshape_like(b.Where(there, reshaped(b, ct, channels, 1), b.const(0.0, like=ct)), x)


@vjp("MaxUnpool", 0)
def max_unpool(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ȳ at the indices, which count through the whole output.

    With ``output_shape`` runtimes read the indices differently (in the output, as ONNX Runtime does, or in the smaller
    image that is then padded): the operator itself is asked where it puts each element, but not with K cotangents.
    """
    x, indices = node.inputs[:2]
    assert x is not None and indices is not None
    if len(node.inputs) > 2 and node.inputs[2] is not None and not b.is_batched(x):
        return _where_put(b, node, ct, x)
    if not b.is_batched(x):
        return b.shaped_like(b.Gather(b.Reshape(ct, [-1]), indices), x)
    within = b.Mod(b.Flatten(b.widen(indices, x)), _row_size(b, node.outputs[0]))
    return b.reshape_like(b.GatherElements(b.Flatten(ct), within, axis=1), x)


def _where_put(b: Reverse, node: ir.Node, ct: ir.Value, x: ir.Value) -> ir.Value:
    """Elements numbered from 1 (exact in float32 up to 2^24) go through the operator; ȳ is collected by number."""
    count = _total_size(b, x)
    numbers = b.Cast(b.Range(1, b.Add(b.Squeeze(count, [0]), 1), 1), to=ir.DataType.FLOAT.value)
    placed = b.MaxUnpool(b.Reshape(numbers, b.shape_of(x)), *node.inputs[1:], **dict(node.attributes.items()))
    kind = ct.dtype if ct.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE) else ir.DataType.FLOAT
    none = b.Expand(b.const(0.0, dtype=kind), b.Add(count, 1))
    slots = b.Cast(b.Reshape(placed, [-1]), to=ir.DataType.INT64.value)
    wide = b.Cast(ct, to=kind.value) if kind != ct.dtype else ct  # no half-precision scatter on the CPU
    found = b.ScatterElements(none, slots, b.Reshape(wide, [-1]), reduction="add")
    return b.reshape_like(b.Slice(found, [1], [2**31]), x)


nondiff("MaxUnpool", 1, 2)
carries_integers("MaxPool")


QUARTERED = 1 << 20
"""Elements of a row from which on the quarters are faster than Indices; below, four nodes do for sixteen."""


def _is_quartered(node: ir.Node, x: ir.Value) -> bool:
    """Windows of 2 x 2 side by side that cover all of a large float32 image."""
    window = pool_window(node, x)
    known = dims(x)
    return (
        x.dtype == ir.DataType.FLOAT
        and known is not None
        and None not in known[1:]
        and math.prod(known[1:]) >= QUARTERED  # type: ignore[arg-type]
        and window.kernel == window.strides == (2, 2)
        and window.dilations == (1, 1)
        and not any(window.pads or [1])
        and all(size is not None and size % 2 == 0 for size in window.image)
    )


def _by_quarters(b: Reverse, ct: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    """The four positions of the windows as four images, in the order of ties.

    Each takes what is left of ȳ where it equals the maximum; the last one takes the rest. Without Indices the forward
    pool stays in ONNX Runtime's blocked layout and the whole is a third cheaper.
    """
    *early, _ = b.Split(b.SpaceToDepth(x, blocksize=2), axis=1, num_outputs=4, _outputs=4)
    taken, left = [], ct
    for quarter in early:
        share = b.Mul(b.Cast(b.Equal(quarter, y), to=ct.dtype.value), left)  # type: ignore[union-attr]
        taken.append(share)
        left = b.Sub(left, share)
    return b.DepthToSpace(b.Concat(*taken, left, axis=1), blocksize=2)


def _indices_of(b: Reverse, node: ir.Node, x: ir.Value) -> ir.Value:
    """The positions of the maxima, counted row by row (storage_order 0)."""
    if not node.attributes.get_int("storage_order", 0):
        return b.extra_output(node, 1)
    attributes = {k: a.value for k, a in node.attributes.items() if k != "storage_order"}
    _, indices = b.MaxPool(x, _outputs=2, **attributes)
    return indices


def _row_size(b: Reverse, v: ir.Value) -> ir.Value:
    """int64 [1]: number of elements of one row of ``v``."""
    known = dims(v)
    if known is not None and None not in known[1:]:
        return b.const(np.array([math.prod(known[1:])], np.int64))  # type: ignore[arg-type]
    return b.ReduceProd(b.Slice(b.shape_of(v), [1], [2**31]), keepdims=1)


def _total_size(b: Reverse, v: ir.Value) -> ir.Value:
    """int64 [1]: number of elements of ``v``."""
    known = dims(v)
    if known is not None and None not in known:
        return b.const(np.array([math.prod(known)], np.int64))  # type: ignore[arg-type]
    return b.Reshape(b.Size(v), [1])
