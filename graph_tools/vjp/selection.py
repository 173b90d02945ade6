"""Putting picked elements back where they came from: the adjoints behind Slice, Pad, Gather, Compress and their kin.

Sums over repeated positions use ScatterElements: ONNX Runtime's ScatterND(add) loses updates on the CPU when several
threads meet the same position.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from graph_tools.emit import dims
from graph_tools.reverse import Reverse
from graph_tools.vjp.spatial import join

Size = int | ir.Value
"""A dimension: a number, or int64 [1] where it is known only at run time."""

LAST = 2**63 - 1
"""As the end of a slice: as far as there is."""
FIRST = -(2**63)
"""The same where the slice runs backwards."""

_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_MAX_FAN = 16  # gathered elements per cotangent element above which scattering is cheaper than gathering


def size(b: Reverse, v: ir.Value, axis: int) -> Size:
    """Dimension ``axis`` (not the batch's) of ``v``."""
    known = dims(v)
    if known is not None and (d := known[axis]) is not None:
        return d
    return b.Shape(v, start=axis, end=axis + 1)


def vector(n: Size) -> list[int] | ir.Value:
    """``n`` as a part for :func:`join`."""
    return [n] if isinstance(n, int) else n


def scalar(b: Reverse, n: Size) -> int | ir.Value:
    """``n`` without its axis."""
    return n if isinstance(n, int) else b.Squeeze(n, [0])


def minus(b: Reverse, n: Size, *others: Size) -> Size:
    """``n`` less all ``others``."""
    for other in others:
        if isinstance(n, int) and isinstance(other, int):
            n -= other
        elif not (isinstance(other, int) and other == 0):
            n = b.Sub(n, other)
    return n


def plus(b: Reverse, n: Size, *others: Size) -> Size:
    """``n`` and all ``others``."""
    for other in others:
        if isinstance(n, int) and isinstance(other, int):
            n += other
        elif not (isinstance(other, int) and other == 0):
            n = other if isinstance(n, int) and n == 0 else b.Add(n, other)
    return n


def pad(b: Reverse, v: ir.Value, rank: int, amounts: Mapping[int, tuple[Size, Size]]) -> ir.Value:
    """``v`` with zeros before and after, by axis; negative amounts crop."""
    flat = [amounts.get(axis, (0, 0))[end] for end in (0, 1) for axis in range(rank)]
    if all(isinstance(n, int) and n == 0 for n in flat):
        return v
    return b.Pad(v, join(b, *(vector(n) for n in flat)))


def scatter_add(b: Reverse, into: ir.Value, index: ir.Value, updates: ir.Value, axis: int = 0) -> ir.Value:
    """``into`` plus ``updates`` at their positions; in float32 for half floats, which have no kernel on the CPU."""
    kind = updates.dtype
    if kind in _HALF:
        into, updates = (b.Cast(v, to=ir.DataType.FLOAT.value) for v in (into, updates))
    total = b.ScatterElements(into, index, updates, axis=axis, reduction="add")
    return b.Cast(total, to=kind.value) if kind in _HALF else total


def put_back(b: Reverse, ct: ir.Value, index: np.ndarray, axis: int, rank: int, length: int) -> ir.Value:
    """The adjoint of picking ``index`` (1-D, known, not negative) out of ``length`` positions along ``axis``.

    A run is padded; anything else is gathered back through the inverse of the index (a column per repetition), which
    needs no atomic additions and keeps whole rows together.
    """
    n = len(index)
    if n == 0 or np.all(np.diff(index) == 1):
        first = int(index[0]) if n else 0
        return pad(b, ct, rank, {axis: (first, length - first - n)})
    counts = np.bincount(index, minlength=length)
    fan = int(counts.max())
    if fan * length > _MAX_FAN * n:
        return put_back_at_run(b, ct, b.const(index.astype(np.int64)), axis, rank, length)
    sources = np.full((length, fan), n, np.int64)  # n: a position of zeros behind the last one
    order = np.argsort(index, kind="stable")
    column = np.concatenate([np.arange(c) for c in counts])
    sources[index[order], column] = order
    wide = ct if counts.min() == fan else pad(b, ct, rank, {axis: (0, 1)})
    if fan == 1:
        return b.Gather(wide, sources[:, 0], axis=axis)
    return b.ReduceSum(b.Gather(wide, sources, axis=axis), [axis + 1], keepdims=0)


def put_back_at_run(
    b: Reverse, ct: ir.Value, index: ir.Value, axis: int, rank: int, length: Size, *, unique: bool = False
) -> ir.Value:
    """The same for an int64 index [n] computed by the graph; where it repeats nothing, by a computed inverse."""
    if unique:
        n = b.Shape(index)
        nowhere = b.Expand(n, join(b, vector(length)))
        sources = b.ScatterElements(nowhere, index, b.Range(0, b.Squeeze(n, [0]), 1))
        return b.Gather(pad(b, ct, rank, {axis: (0, 1)}), sources, axis=axis)
    shape = b.shape_of(ct)
    parts = [b.Slice(shape, [0], [axis]), vector(length), b.Slice(shape, [axis + 1], [2**31])]
    zeros = b.Expand(b.const(0.0, like=ct), b.Concat(*parts, axis=0))
    column = b.Reshape(index, [1] * axis + [-1] + [1] * (rank - axis - 1))
    return scatter_add(b, zeros, b.Expand(column, shape), ct, axis)


def positions(b: Reverse, x: ir.Value) -> ir.Value:
    """0, 1, 2, … in the shape of the cotangent of ``x``: picked from as ``x`` was, they tell where each element lay."""
    shape = b.ct_shape(x, exact=True)
    total = b.ReduceProd(shape, keepdims=0)
    return b.Reshape(b.Range(0, total, 1), shape)


def put_back_flat(b: Reverse, ct: ir.Value, picked: ir.Value, x: ir.Value, *, unique: bool = False) -> ir.Value:
    """The adjoint of any picking: ``picked`` are the :func:`positions` of ``x`` put through the same operator."""
    total = b.ReduceProd(b.ct_shape(x, exact=True), keepdims=1)
    zeros = b.Expand(b.const(0.0, like=ct), total)
    where, flat = b.Reshape(picked, [-1]), b.Reshape(ct, [-1])
    back = b.ScatterElements(zeros, where, flat) if unique else scatter_add(b, zeros, where, flat)
    return b.reshape_like(back, x)
