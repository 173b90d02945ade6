"""Pools that sum over a window: AveragePool, LpPool and their global forms."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of, dims
from graph_tools.reverse import Reverse
from graph_tools.vjp.axis_matrix import contract, counts, taps, taps_at_run
from graph_tools.vjp.blocked import everywhere
from graph_tools.vjp.spatial import Window, join, pool_window, sizes
from graph_tools.vjp.table import vjp


@vjp("AveragePool", 0)
def average_pool(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """x̄[i] = Σ over the windows o that read i of ȳ[o] / (taps of o that count)."""
    x = node.inputs[0]
    assert x is not None
    window = pool_window(node, x)
    include_pad = bool(node.attributes.get_int("count_include_pad", 0))
    taps_in_all = math.prod(window.kernel)  # type: ignore[arg-type]
    if not _counts_uniform(window, include_pad):
        if None in window.grid:
            return _by_matrices_at_run(b, ct, x, window, include_pad)
        per_axis = [counts(window, i, include_pad) for i in range(window.n)]
        ratio = taps_in_all / reduce(np.multiply.outer, per_axis)
        if (ratio != 1).any():
            ct = b.Mul(ct, b.const(ratio[None, None], like=ct))
    return _window_sum(b, ct, x, window, 1 / taps_in_all)


@vjp("LpPool", 0)
def lp_pool(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """x̄[i] = sign(x)|x|^(p−1) · Σ over the windows that read i of ȳ·y^(1−p); 0 where a window is all 0."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    p = node.attributes.get_int("p", 2)
    total = _window_sum(b, _norm_scaled(b, ct, y, p), x, pool_window(node, x), 1.0)
    return b.times(total, _signed_power(b, x, p), x)


@vjp("GlobalLpPool", 0)
def global_lp_pool(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """sign(x)|x|^(p−1) · ȳ·y^(1−p); 0 where all of x is 0."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    p = node.attributes.get_int("p", 2)
    return b.times(b.expand_like(_norm_scaled(b, ct, y, p), x), _signed_power(b, x, p), x)


@vjp("GlobalAveragePool", 0)
def global_average_pool(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ȳ / (number of positions), the same everywhere."""
    x = node.inputs[0]
    assert x is not None
    known = dims(x)
    if known is not None and None not in known[2:]:
        one = 1 / math.prod(known[2:])  # type: ignore[arg-type]
        if (blocked := everywhere(b, ct, x, one)) is not None:
            return blocked
        share = b.const(one, like=ct)
    else:
        share = b.Reciprocal(b.Cast(b.ReduceProd(sizes(b, x), keepdims=0), to=ct.dtype.value))  # type: ignore[union-attr]
    return b.expand_like(b.Mul(ct, share), x)


def _norm_scaled(b: Reverse, ct: ir.Value, y: ir.Value, p: int) -> ir.Value:
    """ȳ·y^(1−p) with y = 0 read as 1: there x is 0 too and so is the product."""
    if p == 1:
        return ct
    safe = b.Where(b.Equal(y, 0.0), b.const(1.0, like=y), y)
    return b.times(ct, b.Reciprocal(safe) if p == 2 else b.Pow(safe, float(1 - p)), y)


def _signed_power(b: Reverse, x: ir.Value, p: int) -> ir.Value:
    """sign(x)·|x|^(p−1)."""
    if p == 2:
        return x
    sign = b.Sign(x)
    return sign if p == 1 else b.Mul(sign, b.Pow(b.Abs(x), float(p - 1)))


def _counts_uniform(window: Window, include_pad: bool) -> bool:
    """Whether every window has all its taps, whatever the sizes."""
    pads = window.pads
    return not window.ceil and pads is not None and (include_pad or not any(pads))


def _window_sum(b: Reverse, ct: ir.Value, x: ir.Value, window: Window, scale: float) -> ir.Value:
    """scale · the adjoint of summing over windows, by the fastest form that the geometry allows.

    One window over all of the image: expand. Windows side by side: every element is copied k times per axis. Stride 1:
    a window sum again. Else one banded 0/1 matrix per axis.
    """
    if (
        window.kernel == window.image
        and window.pads is not None
        and not any(window.pads)
        and set(window.dilations) == {1}
    ):
        return b.expand_like(b.Mul(ct, scale) if scale != 1 else ct, x)
    if _tiles(window):
        return _by_copies(b, ct, x, window, scale)
    if _slides(window):
        return b.shaped_like(_by_average(b, ct, window, scale), x)
    if None in window.grid:
        out = _by_matrices_at_run(b, ct, x, window, None)
        return out if scale == 1 else b.Mul(out, scale)
    for i, axis in reversed(list(enumerate(window.axes))):
        matrix = taps(window, i) * (scale if i == 0 else 1.0)
        ct = contract(b, ct, window.n + 2, axis, b.const(matrix, like=ct))
    return b.shaped_like(ct, x)


def _by_matrices_at_run(b: Reverse, ct: ir.Value, x: ir.Value, window: Window, include_pad: bool | None) -> ir.Value:
    """The same with matrices from run-time sizes, each divided by its counts unless ``include_pad`` is None."""
    grid = ct
    for i, axis in reversed(list(enumerate(window.axes))):
        ct = contract(b, ct, window.n + 2, axis, taps_at_run(b, window, i, x, grid, include_pad))
    return b.shaped_like(ct, x)


def _tiles(window: Window) -> bool:
    """Windows lie side by side from the first position on, and the last one is whole."""
    if window.kernel != window.strides or any(d != 1 for d in window.dilations) or window.pads is None:
        return False
    whole = not window.ceil or all(
        size is not None and size % s == 0 for size, s in zip(window.image, window.strides, strict=True)
    )
    return whole and not any(window.pads)


def _by_copies(b: Reverse, ct: ir.Value, x: ir.Value, window: Window, scale: float) -> ir.Value:
    """Resize to k times the size, and 0 where no window reads."""
    if scale != 1:
        ct = b.Mul(ct, scale)
    scales = np.array([1, 1, *window.strides], np.float32)
    out = b.Resize(ct, None, scales, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")
    if None in window.image:
        rest = b.Sub(sizes(b, x), sizes(b, out))
    else:
        covered = np.multiply(window.grid, window.strides)  # type: ignore[arg-type]
        rest = b.const(np.subtract(window.image, covered))  # type: ignore[arg-type]
    if None in window.image or (array_of(rest) != 0).any():  # type: ignore[union-attr]
        out = b.Pad(out, join(b, [0] * (window.n + 4), rest))
    return b.shaped_like(out, x)


def _slides(window: Window) -> bool:
    """Stride 1 with pads smaller than the window: the adjoint's own pads, k − 1 − p, are not negative."""
    if window.pads is None or any(v != 1 for v in (*window.strides, *window.dilations)):
        return False
    return all(p <= k - 1 for p, k in zip(window.pads, window.kernel * 2, strict=True))  # type: ignore[operator]


def _by_average(b: Reverse, ct: ir.Value, window: Window, scale: float) -> ir.Value:
    """AveragePool with the mirrored pads, times the number of taps."""
    pads = [k - 1 - p for p, k in zip(window.pads or (), window.kernel * 2, strict=True)]  # type: ignore[operator]
    out = b.AveragePool(ct, kernel_shape=list(window.kernel), pads=pads, count_include_pad=1)
    factor = scale * math.prod(window.kernel)  # type: ignore[arg-type]
    return out if math.isclose(factor, 1.0) else b.Mul(out, factor)
