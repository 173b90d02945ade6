"""Where RoiAlign samples: positions along one axis of every region, and what they read.

A region spans start … end (times ``spatial_scale``, less half a pixel in the mode half_pixel; else at least one pixel
wide) and has equal bins; a bin has ``sampling_ratio`` samples, or ceil(its size) where that is 0, evenly spread. A
sample more than one pixel outside reads 0; others are clamped into the image and read linearly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import operand
from graph_tools.vjp.selection import Size, plus, size

_WIDE = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class AxisSamples:
    """[R regions, bins, S samples] each, unless said otherwise.

    Attributes:
        first: int64, the pixel at or below the sample.
        near: the weight of ``first``.
        far: the weight of the next pixel (0 at the last one).
        slope: d far / d position = −d near / d position.
        there: bool [R, 1, S]: the region has this sample.
        share: [R, 1, 1], 1 over the number of samples.
        to_start: d position / d start of the region.
        to_end: d position / d end of the region.
    """

    first: ir.Value
    near: ir.Value
    far: ir.Value
    slope: ir.Value
    there: ir.Value
    share: ir.Value
    to_start: ir.Value
    to_end: ir.Value


def is_max(node: ir.Node) -> bool:
    """Whether a bin takes its largest weighted pixel instead of the samples' mean."""
    return (node.attributes.get_string("mode", "avg") or "avg").lower() == "max"


def plain(v: ir.Value) -> ir.DataType:
    """The dtype to compute in: float32 for half floats."""
    return v.dtype if v.dtype in _WIDE and v.dtype is not None else ir.DataType.FLOAT


def axis_samples(b: Reverse, node: ir.Node, axis: int) -> AxisSamples:
    """The samples of every region along ``axis`` of the image (2 down, 3 across)."""
    rois = operand(node, 1)
    kind = plain(rois)
    half = _half_pixel(node)
    scale = node.attributes.get_float("spatial_scale", 1.0)
    bins = node.attributes.get_int("output_height" if axis == 2 else "output_width", 1) or 1
    column = 1 if axis == 2 else 0
    ends = b.Mul(b.Cast(rois, to=kind.value), b.const(scale, dtype=kind))
    start, end = (b.Unsqueeze(b.Slice(ends, [i], [i + 1], [1]), [2]) for i in (column, column + 2))  # [R, 1, 1]
    extent, live = b.Sub(end, start), b.const(1.0, dtype=kind)
    if half:
        start = b.Sub(start, b.const(0.5, dtype=kind))
    else:
        live = b.Cast(b.Greater(extent, b.const(1.0, dtype=kind)), to=kind.value)
        extent = b.Max(extent, b.const(1.0, dtype=kind))
    count, steps = _counts(b, node, extent, bins, kind)
    share = b.Reciprocal(b.Max(count, b.const(1.0, dtype=kind)))
    within = b.Mul(b.Add(steps, b.const(0.5, dtype=kind)), share)  # [R, 1, S]: part of a bin
    part = b.Mul(b.Add(b.const(np.arange(bins)[:, None], dtype=kind), within), b.const(1.0 / bins, dtype=kind))
    position = b.Add(start, b.Mul(part, extent))
    there = b.Less(steps, count)
    to_end = b.Mul(part, live)
    to_start = b.Sub(b.const(1.0, dtype=kind), to_end)
    return AxisSamples(
        *_reading(b, position, there, size(b, operand(node, 0), axis), kind), there, share, to_start, to_end
    )


def rois_from_ends(
    b: Reverse, node: ir.Node, down: tuple[ir.Value, ir.Value], across: tuple[ir.Value, ir.Value]
) -> ir.Value:
    """[R, 4] = (x1, y1, x2, y2): cotangents of starts and ends, [R] each, in units of the regions."""
    columns = [b.Unsqueeze(v, [1]) for v in (across[0], down[0], across[1], down[1])]
    scale = node.attributes.get_float("spatial_scale", 1.0)
    joined = b.Mul(b.Concat(*columns, axis=1), b.const(scale, like=columns[0]))
    return b.shaped_like(joined, operand(node, 1))


def _half_pixel(node: ir.Node) -> bool:
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel") or "half_pixel"
    return mode.lower() == "half_pixel"


def _counts(b: Reverse, node: ir.Node, extent: ir.Value, bins: int, kind: ir.DataType) -> tuple[ir.Value, ir.Value]:
    """The number of samples per bin [R, 1, 1], and 0, 1, … up to the largest of them; both as floats."""
    ratio = node.attributes.get_int("sampling_ratio", 0) or 0
    if ratio > 0:
        return b.const(np.full((1, 1, 1), ratio), dtype=kind), b.const(np.arange(ratio), dtype=kind)
    count = b.Ceil(b.Div(extent, b.const(float(bins), dtype=kind)))
    least = b.const([1.0], dtype=kind)  # there may be no region
    most = b.ReduceMax(b.Concat(b.Reshape(count, [-1]), least, axis=0), keepdims=0)
    return count, b.Cast(b.Range(0, b.Cast(most, to=ir.DataType.INT64.value), 1), to=kind.value)


def _reading(
    b: Reverse, position: ir.Value, there: ir.Value, length: Size, kind: ir.DataType
) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
    """first, near, far, slope."""
    zero, one = b.const(0.0, dtype=kind), b.const(1.0, dtype=kind)
    top = plus(b, length, -1)
    last = b.const([float(top)], dtype=kind) if isinstance(top, int) else b.Cast(top, to=kind.value)
    outside = b.Or(b.Less(position, b.const(-1.0, dtype=kind)), b.Greater(position, b.Add(last, one)))
    reads = b.Cast(b.And(there, b.Not(outside)), to=kind.value)
    clamped = b.Max(b.Min(position, last), zero)
    floor = b.Floor(clamped)
    far = b.Mul(b.Sub(clamped, floor), reads)
    moves = b.And(b.GreaterOrEqual(position, zero), b.Less(position, last))
    return (
        b.Cast(floor, to=ir.DataType.INT64.value),
        b.Sub(reads, far),
        far,
        b.Mul(b.Cast(moves, to=kind.value), reads),
    )
