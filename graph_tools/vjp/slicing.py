"""Slice and Pad, each the other's adjoint. Both pass cotangents of quantised integers too."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of, dims
from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import operand, optional
from graph_tools.vjp.selection import (
    FIRST,
    LAST,
    Size,
    minus,
    pad,
    plus,
    positions,
    put_back,
    put_back_at_run,
    put_back_flat,
    scalar,
    size,
    vector,
)
from graph_tools.vjp.spatial import join
from graph_tools.vjp.table import carries_integers, nondiff, vjp

nondiff("Slice", 1, 2, 3, 4)
nondiff("Pad", 1, 3)
carries_integers("Slice", "Pad")


@vjp("Slice", 0)
def slice_(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Zeros around the slice, and between its elements where it has steps; a negative step is turned first.

    Where axes or steps are computed by the graph, the positions of the input are sliced the same way and the
    cotangent is scattered to them.
    """
    x, y = operand(node, 0), node.outputs[0]
    rank = b.rank_of(x)
    picked = _axes_and_steps(node, rank)
    if picked is None:
        return put_back_flat(b, ct, b.Slice(positions(b, x), *node.inputs[1:]), x, unique=True)
    if any(size(b, y, axis) == 0 for axis, _ in picked):
        return b.zeros_like(x)
    if turned := [axis for axis, step in picked if step < 0]:
        n = len(turned)
        ct = b.Slice(ct, [-1] * n, [FIRST] * n, turned, [-1] * n)
    amounts: dict[int, tuple[Size, Size]] = {}
    for i, (axis, step) in enumerate(picked):
        length, count = size(b, x, axis), size(b, y, axis)
        first = _first(b, operand(node, 1), i, step, length)
        if step < 0:
            first = _lowest(b, first, step, count)
        if abs(step) > 1 and count != 1:
            ct, count = _between(b, ct, rank, axis, abs(step), count)
        amounts[axis] = (first, minus(b, length, first, count))
    return b.shaped_like(pad(b, ct, rank, amounts), x)


def _axes_and_steps(node: ir.Node, rank: int) -> list[tuple[int, int]] | None:
    """(axis, step) per sliced axis, or None where the graph computes them."""
    axes, steps = optional(node, 3), optional(node, 4)
    many = (dims(operand(node, 1)) or (None,))[0]
    along = array_of(axes) if axes is not None else None if many is None else np.arange(many)
    if along is None:
        return None
    by = array_of(steps) if steps is not None else np.ones(len(along), np.int64)
    return None if by is None else [(int(a) % rank, int(s)) for a, s in zip(along, by, strict=True)]


def _first(b: Reverse, starts: ir.Value, i: int, step: int, length: Size) -> Size:
    """The position of the slice's first element: negative ones count from the end, all are clamped into the axis."""
    top = length if step > 0 else minus(b, length, 1)
    known = array_of(starts)
    if known is None:
        start = b.Slice(starts if starts.dtype == ir.DataType.INT64 else b.Cast(starts, to=7), [i], [i + 1])
        start = b.Where(b.Less(start, 0), b.Add(start, length), start)
        return b.Max(b.Min(start, top), 0)
    start = int(known[i])
    if isinstance(length, int) and isinstance(top, int):
        return min(max(start + length if start < 0 else start, 0), top)
    if start >= 0:
        return 0 if start == 0 else b.Min(b.const([start]), top)
    return b.Max(b.Add(length, start), 0)


def _lowest(b: Reverse, first: Size, step: int, count: Size) -> Size:
    """first + step · (count − 1): the lowest position that a negative step reached."""
    span = (count - 1) * step if isinstance(count, int) else b.Mul(minus(b, count, 1), step)
    return plus(b, first, span)


def _between(b: Reverse, ct: ir.Value, rank: int, axis: int, step: int, count: Size) -> tuple[ir.Value, Size]:
    """step − 1 zeros between the elements along ``axis``, and the new length: [n] → [n, 1] → [n, step] → [n·step]."""
    wide = pad(b, b.Unsqueeze(ct, [axis + 1]), rank + 1, {axis + 1: (0, step - 1)})
    total = count * step if isinstance(count, int) else b.Mul(count, step)
    rest = [vector(size(b, ct, a)) for a in range(axis + 1, rank)]
    joined = b.Reshape(wide, join(b, [0] * axis, vector(total), *rest))
    cropped = b.Slice(joined, [0], [1 - step], [axis])
    return cropped, size(b, cropped, axis)


@vjp("Pad", 0)
def pad_(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The middle; what reflect, edge and wrap copied into the margins is added where it came from."""
    x = operand(node, 0)
    mode = node.attributes.get_string("mode", "constant")
    if mode == "constant":
        return b.shaped_like(_uncovered(b, node, ct, x), x)
    rank = b.rank_of(x)
    known = _pads(node, rank)
    for axis in range(rank):
        before, after = (0, 0) if known is None else known[axis]
        length = size(b, x, axis)
        if known is not None and not before and not after:
            continue
        if known is not None and isinstance(length, int):
            inner = np.arange(length)[max(-before, 0) : length - max(-after, 0)]
            index = np.pad(inner, (max(before, 0), max(after, 0)), mode=mode)  # type: ignore[call-overload]
            ct = put_back(b, ct, index, axis, rank, length)
            continue
        amounts = _pads_at_run(b, node, rank, axis) if known is None else b.const(np.array([before, after], np.int64))
        picked = b.Range(0, scalar(b, length), 1)
        if b.form == "cuda":  # Pad has no CUDA kernel for integers; doubles hold positions up to 2^53
            picked = b.Cast(b.Pad(b.Cast(picked, to=ir.DataType.DOUBLE.value), amounts, mode=mode), to=7)
        else:
            picked = b.Pad(picked, amounts, mode=mode)
        ct = put_back_at_run(b, ct, picked, axis, rank, length)
    return b.shaped_like(ct, x)


@vjp("Pad", 2)
def pad_value(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value | None:
    """The sum over the margins."""
    if node.attributes.get_string("mode", "constant") != "constant":
        return None
    inside = b.zeros_like(operand(node, 0))
    margin = b.Pad(inside, node.inputs[1], b.const(1.0, like=inside), *node.inputs[3:])
    return b.ReduceSum(b.Mul(ct, margin), keepdims=0)


def _uncovered(b: Reverse, node: ir.Node, ct: ir.Value, x: ir.Value) -> ir.Value:
    """The part of ``ct`` that ``x`` filled; zeros where a negative pad cropped ``x``."""
    rank = b.rank_of(x)
    known = _pads(node, rank)
    if known is None:
        return b.Pad(ct, b.Neg(node.inputs[1]), None, *node.inputs[3:])
    if any(n < 0 for ends in known for n in ends):
        return pad(b, ct, rank, {axis: (-p, -q) for axis, (p, q) in enumerate(known)})
    axes = [axis for axis, ends in enumerate(known) if any(ends)]
    if not axes:
        return ct
    starts = [known[a][0] for a in axes]
    ends = [-known[a][1] or LAST for a in axes]
    return b.Slice(ct, starts, ends, axes)


def _pads(node: ir.Node, rank: int) -> list[tuple[int, int]] | None:
    """(before, after) per axis, or None where the graph computes them."""
    pads, given = array_of(node.inputs[1]), optional(node, 3)
    axes = np.arange(rank) if given is None else array_of(given)
    if pads is None or axes is None:
        return None
    found = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        found[int(axis) % rank] = (int(pads[i]), int(pads[i + len(axes)]))
    return found


def _pads_at_run(b: Reverse, node: ir.Node, rank: int, axis: int) -> ir.Value:
    """int64 [2]: pads before and after ``axis``."""
    pads, axes = operand(node, 1), optional(node, 3)
    ends = b.Reshape(pads, [2, -1])
    if axes is None:
        return b.Reshape(b.Slice(ends, [axis], [axis + 1], [1]), [2])
    hit = b.Or(b.Equal(axes, axis), b.Equal(axes, axis - rank))
    return b.ReduceSum(b.Mul(ends, b.Cast(hit, to=ir.DataType.INT64.value)), [1], keepdims=0)
