"""The matrix of a resized axis from its formula, for the scale that ``keep_aspect_ratio_policy`` picks.

That scale is no operand and, rounded to whole sizes, not their ratio either, so no Resize of one axis alone has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graph_tools.reverse import Reverse
from graph_tools.vjp.sampling import taps
from graph_tools.vjp.selection import Size, scalar, vector


@dataclass(frozen=True)
class Axis:
    """One resized axis; ``scale``, ``before`` and ``after`` are float [1], in the dtype to compute in."""

    scale: ir.Value
    before: ir.Value
    after: ir.Value
    length: Size
    places: ir.Value  # [after]: 0, 1, …

    @property
    def kind(self) -> ir.DataType:
        """The dtype to compute in."""
        return self.scale.dtype or ir.DataType.FLOAT


def axis_of(b: Reverse, scale: ir.Value, length: Size, after: Size) -> Axis:
    """The axis of these sizes."""
    kind = (scale.dtype or ir.DataType.FLOAT).value
    sizes = [b.Cast(b.const(np.array(v)) if isinstance(v, list) else v, to=kind) for v in map(vector, (length, after))]
    return Axis(scale, sizes[0], sizes[1], length, _places(b, after, scale))


def common_scale(b: Reverse, before: ir.Value, wanted: ir.Value, policy: str, kind: ir.DataType) -> ir.Value:
    """[1]: the smallest (not_larger) or largest ratio of the wanted to the given sizes, int64 [n] each."""
    ratios = b.Div(*(b.Cast(v, to=kind.value) for v in (wanted, before)))
    found: ir.Value = (b.ReduceMin if policy == "not_larger" else b.ReduceMax)(ratios, [0], keepdims=1)
    return found


def formula(b: Reverse, axis: Axis, node: ir.Node, roi: ir.Value | None = None) -> ir.Value:
    """[after, before]: what each new position reads; ``roi`` [2]: the part that is cropped, outside of it nothing."""
    text = node.attributes.get_string
    if roi is None:
        at = _coordinates(b, axis, text("coordinate_transformation_mode", "half_pixel") or "half_pixel")
        return _reading(b, axis, node, at)
    at = _cropped(b, axis, roi)
    last = b.Sub(axis.before, b.const(1.0, like=axis.scale))
    inside = b.And(b.GreaterOrEqual(at, b.const(0.0, like=at)), b.LessOrEqual(at, last))
    found: ir.Value = b.Mul(_reading(b, axis, node, at), b.Unsqueeze(b.Cast(inside, to=axis.kind.value), [1]))
    return found


def _reading(b: Reverse, axis: Axis, node: ir.Node, at: ir.Value) -> ir.Value:
    """[after, before]: what is read at the positions ``at``."""
    text = node.attributes.get_string
    mode = text("mode", "nearest") or "nearest"
    a = node.attributes.get_float("cubic_coeff_a", -0.75)
    excluded = bool(node.attributes.get_int("exclude_outside", 0))
    if node.attributes.get_int("antialias", 0) and mode != "nearest":
        return _antialiased(b, axis, at, mode, a, excluded)
    if mode == "nearest":
        at = _rounded(b, at, text("nearest_mode", "round_prefer_floor") or "round_prefer_floor")
    outside = excluded and mode == "cubic"
    found = taps(b, at, axis.length, mode, "zeros" if outside else "border", cubic=a)
    pixels, total = _places(b, axis.length, None), None
    for index, weight in zip(found.index, found.weight, strict=True):
        hits = b.Cast(b.Equal(b.Unsqueeze(index, [1]), pixels), to=axis.kind.value)
        part = hits if mode == "nearest" else b.Mul(hits, b.Unsqueeze(weight, [1]))
        total = part if total is None else b.Add(total, part)
    assert total is not None
    return _normalised(b, total) if outside else total


def _coordinates(b: Reverse, axis: Axis, mode: str) -> ir.Value:
    """[after]: where each new position lies among the old ones."""
    half, one = b.const(0.5, like=axis.scale), b.const(1.0, like=axis.scale)
    if mode == "asymmetric":
        found = b.Div(axis.places, axis.scale)
    elif mode == "align_corners":
        found = b.Mul(axis.places, b.Div(b.Sub(axis.before, one), b.Max(b.Sub(axis.after, one), one)))
    elif mode == "tf_half_pixel_for_nn":
        found = b.Div(b.Add(axis.places, half), axis.scale)
    else:
        found = b.Sub(b.Div(b.Add(axis.places, half), axis.scale), half)
    if mode == "pytorch_half_pixel":
        found = b.Where(b.Greater(axis.after, one), found, b.const(0.0, like=axis.scale))
    elif mode == "half_pixel_symmetric":  # the middle stays in the middle
        adjusted = b.Sub(one, b.Div(axis.after, b.Mul(axis.scale, axis.before)))
        found = b.Add(found, b.Mul(b.Mul(axis.before, half), adjusted))
    result: ir.Value = found
    return result


def _cropped(b: Reverse, axis: Axis, roi: ir.Value) -> ir.Value:
    """[after]: from start to end of the part, in units of the last position; one position: the middle."""
    one, half = b.const(1.0, like=axis.scale), b.const(0.5, like=axis.scale)
    start, end = b.Slice(roi, [0], [1]), b.Slice(roi, [1], [2])
    along = b.Div(axis.places, b.Max(b.Sub(axis.after, one), one))
    part = b.Where(b.Greater(axis.after, one), along, half)
    found: ir.Value = b.Mul(b.Add(start, b.Mul(b.Sub(end, start), part)), b.Sub(axis.before, one))
    return found


def _rounded(b: Reverse, at: ir.Value, how: str) -> ir.Value:
    half = b.const(0.5, like=at)
    found: ir.Value
    if how == "floor":
        found = b.Floor(at)
    elif how == "ceil":
        found = b.Ceil(at)
    elif how == "round_prefer_ceil":
        found = b.Floor(b.Add(at, half))
    else:
        found = b.Ceil(b.Sub(at, half))
    return found


def _antialiased(b: Reverse, axis: Axis, at: ir.Value, mode: str, a: float, excluded: bool) -> ir.Value:
    """The kernel around each position, as wide as 1/scale; what lies outside is read at the edge, unless excluded.

    No kernel reaches further than two lengths beyond the edges: 2/scale = 2·before/after.
    """
    inside = _places(b, axis.length, axis.scale)
    if excluded:
        return _normalised(b, _kernel(b, axis, at, inside, mode, a))
    twice = b.Mul(axis.before, b.const(2.0, like=axis.scale))
    wide = b.Concat(b.Sub(inside, twice), b.Sub(inside, axis.before), inside, b.Add(inside, axis.before),
                    b.Add(inside, twice), axis=0)  # fmt: skip
    one = b.const(1.0, like=axis.scale)
    clamped = b.Max(b.Min(wide, b.Sub(axis.before, one)), b.const(0.0, like=axis.scale))
    read_at = b.Cast(b.Equal(b.Unsqueeze(clamped, [1]), inside), to=axis.kind.value)
    matrix: ir.Value = b.MatMul(_normalised(b, _kernel(b, axis, at, wide, mode, a)), read_at)
    return matrix


def _kernel(b: Reverse, axis: Axis, at: ir.Value, pixels: ir.Value, mode: str, a: float) -> ir.Value:
    """[after, pixels]: linear or cubic, as wide as 1/scale where that is above 1."""
    one = b.const(1.0, like=axis.scale)
    far = b.Sub(pixels, b.Unsqueeze(at, [1]))
    t = b.Abs(b.Mul(far, b.Min(axis.scale, one)))
    found: ir.Value
    if mode == "linear":
        found = b.Max(b.Sub(one, t), b.const(0.0, like=axis.scale))
        return found
    near = _polynomial(b, t, (a + 2, -(a + 3), 0.0, 1.0))
    tail = _polynomial(b, t, (a, -5 * a, 8 * a, -4 * a))
    tail = b.Where(b.Less(t, b.const(2.0, like=t)), tail, b.const(0.0, like=t))
    found = b.Where(b.LessOrEqual(t, one), near, tail)
    return found


def _polynomial(b: Reverse, t: ir.Value, coefficients: tuple[float, ...]) -> ir.Value:
    total = b.const(coefficients[0], like=t)
    for c in coefficients[1:]:
        total = b.Add(b.Mul(total, t), b.const(c, like=t))
    return total


def _normalised(b: Reverse, matrix: ir.Value) -> ir.Value:
    found: ir.Value = b.Div(matrix, b.ReduceSum(matrix, [1], keepdims=1))
    return found


def _places(b: Reverse, n: Size, like: ir.Value | None) -> ir.Value:
    """0 … n − 1, as int64 or in the dtype of ``like``."""
    if isinstance(n, int):
        return b.const(np.arange(n), like=like)
    steps: ir.Value = b.Range(0, scalar(b, n), 1)
    return steps if like is None else b.Cast(steps, to=like.dtype.value)  # type: ignore[union-attr]
