"""Maps laid back on the caller's pixels: the inverse of crop and resize, and plain resampling."""

from __future__ import annotations

import numpy as np

from service.types import Array, Geometry


def to_original(
    values: Array,
    geometry: Geometry,
    fill: float = 0.0,
    *,
    size: tuple[int, int] | None = None,
    nearest: bool = False,
) -> Array:
    """A map at the model's input laid back on the caller's image.

    Pixel i of the original has its centre at ``(i + ½) · resized / original − crop`` on the model's input.
    There the map is read with a triangle filter as wide as one pixel of the coarser of the two grids, so that
    no value is lost where the original is smaller than the model's input.

    Args:
        values: float [h, w]; covers the crop, at the model's input size or coarser.
        geometry: how the caller's image became the input.
        fill: value outside the crop; see :func:`inside_crop`.
        size: (height, width) of the result, where the original is shown smaller or larger; None = its own.
        nearest: read the nearest value instead.

    Returns:
        float32 [size or geometry.original].
    """
    size = size or geometry.original
    top, left, height, width = geometry.crop
    rows = _centres(size[0], geometry.resized[0], top, values.shape[0] / height)
    columns = _centres(size[1], geometry.resized[1], left, values.shape[1] / width)
    read = _read_nearest if nearest else _read_triangle
    # float32 matrix products: exact where the two grids coincide (weights 1 and 0).
    out = read(read(np.asarray(values, np.float32), rows).T, columns).T
    keep = _inside(rows, values.shape[0])[:, None] & _inside(columns, values.shape[1])[None, :]
    return np.ascontiguousarray(np.where(keep, out, np.float32(fill)), dtype=np.float32)


def inside_crop(geometry: Geometry, size: tuple[int, int] | None = None) -> Array:
    """Where the model saw the caller's image: bool [size or geometry.original]."""
    size = size or geometry.original
    top, left, height, width = geometry.crop
    rows = _inside(_centres(size[0], geometry.resized[0], top, 1.0), height)
    columns = _inside(_centres(size[1], geometry.resized[1], left, 1.0), width)
    return rows[:, None] & columns[None, :]


def stretched(size: tuple[int, int]) -> Geometry:
    """The geometry of a map that covers the whole picture of ``size``, whatever the map's own size."""
    return Geometry(original=size, resized=size, crop=(0, 0, *size))


def resample(values: Array, size: tuple[int, int], *, nearest: bool = False) -> Array:
    """``values`` [h, w] stretched to ``size`` (height, width), float32."""
    return to_original(values, stretched(size), nearest=nearest)


def _centres(n: int, resized: int, start: int, scale: float) -> Array:
    """Where the ``n`` pixel centres of one axis lie on the map, in map pixels."""
    return np.asarray(((np.arange(n) + 0.5) * (resized / n) - start) * scale)


def _inside(centres: Array, n: int) -> Array:
    return np.asarray((centres >= 0) & (centres < n))


def _read_nearest(values: Array, centres: Array) -> Array:
    return values[np.clip(np.floor(centres), 0, values.shape[0] - 1).astype(np.intp)]


def _read_triangle(values: Array, centres: Array) -> Array:
    step = centres[1] - centres[0] if len(centres) > 1 else float(values.shape[0])
    support = max(1.0, step)
    weights = 1.0 - np.abs(np.arange(values.shape[0]) + 0.5 - centres[:, None]) / support
    weights = np.maximum(weights, 0.0)
    total = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return np.asarray(weights.astype(np.float32) @ values)
