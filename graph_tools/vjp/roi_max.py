"""Regions that keep the largest: RoiAlign with ``max``, and MaxRoiPool. The first of tied values takes the cotangent.

A bin chooses among candidates, the products of those of its rows and its columns: y = max of weight_h · weight_w ·
x[h, w]. RoiAlign weighs every pixel that a sample reads (the largest *weighted pixel*, not the largest sample, as ONNX
Runtime computes it); MaxRoiPool takes the pixels of the bin as they are (Girshick 2015, arXiv:1504.08083, section 2.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import operand
from graph_tools.vjp.roi_samples import axis_samples, plain, rois_from_ends
from graph_tools.vjp.sampling import size_product
from graph_tools.vjp.selection import Size, plus, scatter_add, size, vector
from graph_tools.vjp.spatial import join
from graph_tools.vjp.table import nondiff, vjp


@dataclass(frozen=True)
class _Candidates:
    """[R, bins, K] each: pixel (int64), weight, and whether it is there (bool, or a shape that broadcasts)."""

    pixel: ir.Value
    weight: ir.Value
    there: ir.Value


@dataclass(frozen=True)
class _Chosen:
    """What each bin chose, int64 [C, R, bins down, bins across].

    Attributes:
        pixel: among the pixels of all images.
        place: among the candidates of all regions.
    """

    pixel: ir.Value
    place: ir.Value


def largest_image(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ȳ · weight at the chosen pixel."""
    down, across = (_aligned(b, node, axis) for axis in (2, 3))
    return _scattered(b, node, ct, down, across, operand(node, 2))


def largest_rois(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ȳ · x · (slope of one weight) · (the other weight), along the sample's way to the ends of the region."""
    samples = [axis_samples(b, node, axis) for axis in (2, 3)]
    down, across = (_aligned(b, node, axis) for axis in (2, 3))
    chosen = _choose(b, node, down, across, operand(node, 2))
    pixels = _channels(b, operand(node, 0))
    channels, each = b.Shape(pixels, start=0, end=1), b.Shape(pixels, start=1, end=2)
    first = b.Mul(b.Range(0, b.Squeeze(channels, [0]), 1), each)
    at_pixel = b.Gather(b.Reshape(pixels, [-1]), b.Add(chosen.pixel, b.Unsqueeze(first, [1, 2, 3])))
    scaled = b.Mul(_wide(b, b.Transpose(ct, perm=[1, 0, 2, 3])), _wide(b, at_pixel))
    ends = []
    for axis, s in enumerate(samples):
        slope = _both(b, b.Neg(s.slope), s.slope)
        sides = []
        for way in (s.to_start, s.to_end):
            moved = b.Mul(slope, _both(b, way, way))
            rows, columns = (moved, across.weight) if axis == 0 else (down.weight, moved)
            at = _at(b, _outer(b, rows, columns, "Mul"), chosen.place)
            sides.append(b.ReduceSum(b.Mul(scaled, at), [0, 2, 3], keepdims=0))
        ends.append((sides[0], sides[1]))
    return rois_from_ends(b, node, ends[0], ends[1])


@vjp("MaxRoiPool", 0)
def max_roi_pool(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ȳ at the first maximum of every bin; empty bins read nothing."""
    down, across = (_pooled(b, node, axis) for axis in (2, 3))
    rois = operand(node, 1)
    images = b.Cast(b.Squeeze(b.Slice(rois, [0], [1], [1]), [1]), to=ir.DataType.INT64.value)
    return _scattered(b, node, ct, down, across, images)


nondiff("MaxRoiPool", 1)  # rounded to whole pixels


def _aligned(b: Reverse, node: ir.Node, axis: int) -> _Candidates:
    """Both pixels of every sample."""
    s = axis_samples(b, node, axis)
    top = plus(b, size(b, operand(node, 0), axis), -1)
    after = b.Min(b.Add(s.first, [1]), [top] if isinstance(top, int) else top)
    return _Candidates(_both(b, s.first, after), _both(b, s.near, s.far), _both(b, s.there, s.there))


def _both(b: Reverse, near: ir.Value, far: ir.Value) -> ir.Value:
    """[…, S] and […, S] as […, 2·S], the two of a sample side by side."""
    pair = b.Concat(b.Unsqueeze(near, [3]), b.Unsqueeze(far, [3]), axis=3)
    out: ir.Value = b.Reshape(pair, join(b, b.Shape(near, start=0, end=2), _doubled(b, size(b, near, 2))), allowzero=1)
    return out


def _doubled(b: Reverse, n: Size) -> list[int] | ir.Value:
    return [2 * n] if isinstance(n, int) else b.Mul(n, [2])


def _pooled(b: Reverse, node: ir.Node, axis: int) -> _Candidates:
    """The pixels of each bin: floor(i · e/bins) … ceil((i + 1) · e/bins) of a region e pixels long, in the image."""
    rois = operand(node, 1)
    kind = plain(rois)
    bins = node.attributes["pooled_shape"].as_ints()[axis - 2]
    scale = b.const(node.attributes.get_float("spatial_scale", 1.0), dtype=kind)
    column = 2 if axis == 2 else 1
    half = b.const(0.5, dtype=kind)
    wide = b.Mul(b.Cast(rois, to=kind.value), scale)
    ends = b.Mul(b.Floor(b.Add(b.Abs(wide), half)), b.Sign(wide))  # halves away from zero
    start, end = (b.Unsqueeze(b.Slice(ends, [i], [i + 1], [1]), [2]) for i in (column, column + 2))
    one, zero = b.const(1.0, dtype=kind), b.const(0.0, dtype=kind)
    extent = b.Div(b.Max(b.Add(b.Sub(end, start), one), one), b.const(float(bins), dtype=kind))
    steps = b.const(np.arange(bins)[:, None], dtype=kind)
    length = size(b, operand(node, 0), axis)
    last = b.const([float(length)], dtype=kind) if isinstance(length, int) else b.Cast(length, to=kind.value)
    first, stop = (
        b.Max(b.Min(b.Add(v, start), last), zero)
        for v in (b.Floor(b.Mul(steps, extent)), b.Ceil(b.Mul(b.Add(steps, one), extent)))
    )  # [R, bins, 1]
    most = b.ReduceMax(b.Concat(b.Reshape(b.Sub(stop, first), [-1]), b.const([1.0], dtype=kind), axis=0), keepdims=0)
    moves = b.Cast(b.Range(0, b.Cast(most, to=ir.DataType.INT64.value), 1), to=kind.value)
    place = b.Add(first, moves)
    there = b.Less(place, stop)
    pixel = b.Cast(b.Min(place, b.Sub(last, one)), to=ir.DataType.INT64.value)
    return _Candidates(pixel, b.Cast(there, to=kind.value), there)


def _outer(b: Reverse, down: ir.Value, across: ir.Value, operator: str) -> ir.Value:
    """[R, bins, bins, K·K]: every candidate down combined with every one across."""
    out = getattr(b, operator)(b.Unsqueeze(down, [2, 4]), b.Unsqueeze(across, [1, 3]))
    shape = b.Shape(out)
    pairs = b.ReduceProd(b.Slice(shape, [3], [5]), [0], keepdims=1)
    flat: ir.Value = b.Reshape(out, b.Concat(b.Slice(shape, [0], [3]), pairs, axis=0), allowzero=1)
    return flat


def _choose(b: Reverse, node: ir.Node, down: _Candidates, across: _Candidates, images: ir.Value) -> _Chosen:
    """The candidate with the largest weighted pixel of every bin and channel."""
    x = operand(node, 0)
    width, space = size(b, x, 3), size_product(b, [size(b, x, a) for a in (2, 3)])
    rows = b.Mul(down.pixel, [width] if isinstance(width, int) else width)
    starts = b.Mul(images, [space] if isinstance(space, int) else space)
    pixel = b.Add(_outer(b, rows, across.pixel, "Add"), b.Unsqueeze(starts, [1, 2, 3]))
    weight, there = _outer(b, down.weight, across.weight, "Mul"), _outer(b, down.there, across.there, "And")
    read = _wide(b, b.Gather(_channels(b, x), pixel, axis=1))  # [C, R, bins, bins, K·K]
    values = b.Where(there, b.Mul(read, weight), b.const(-np.inf, like=weight))
    best = b.ArgMax(values, axis=4, keepdims=0)
    shape = b.Shape(weight)
    bins = b.Slice(shape, [0], [3])
    count = b.Range(0, b.ReduceProd(bins, keepdims=0), 1)
    first = b.Mul(b.Reshape(count, bins, allowzero=1), b.Slice(shape, [3], [4]))
    place = b.Add(best, first)
    return _Chosen(_at(b, pixel, place), place)


def _scattered(
    b: Reverse, node: ir.Node, ct: ir.Value, down: _Candidates, across: _Candidates, images: ir.Value
) -> ir.Value:
    """x̄: ȳ · weight at the chosen pixels."""
    x = operand(node, 0)
    chosen = _choose(b, node, down, across, images)
    weight = _at(b, _outer(b, down.weight, across.weight, "Mul"), chosen.place)
    updates = b.Mul(_wide(b, b.Transpose(ct, perm=[1, 0, 2, 3])), weight)
    zeros = b.Expand(b.const(0.0, like=updates), b.Shape(_channels(b, x)))
    total = scatter_add(b, zeros, _flat(b, chosen.pixel), _flat(b, updates), axis=1)
    rows, channels, *space = (vector(size(b, x, a)) for a in range(4))
    back = b.Reshape(total, join(b, channels, rows, *space), allowzero=1)
    return b.shaped_like(b.Transpose(back, perm=[1, 0, 2, 3]), x)


def _channels(b: Reverse, x: ir.Value) -> ir.Value:
    """[C, N·H·W]."""
    turned = b.Transpose(x, perm=[1, 0, 2, 3])
    pixels = size_product(b, [size(b, x, a) for a in (0, 2, 3)])
    out: ir.Value = b.Reshape(turned, join(b, vector(size(b, x, 1)), vector(pixels)), allowzero=1)
    return out


def _flat(b: Reverse, v: ir.Value) -> ir.Value:
    """[C, …] -> [C, the rest]."""
    out: ir.Value = b.Flatten(v)
    return out


def _at(b: Reverse, v: ir.Value, place: ir.Value) -> ir.Value:
    """The chosen entries of ``v``, which has the candidates' shape."""
    out: ir.Value = b.Gather(b.Reshape(v, [-1]), place)
    return out


def _wide(b: Reverse, v: ir.Value) -> ir.Value:
    """Half floats as float32."""
    if v.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        return v
    out: ir.Value = b.Cast(v, to=ir.DataType.FLOAT.value)
    return out
