"""Colour maps whose lightness runs evenly, generated from a few control points in OKLCh.

Lightness L (0..1), chroma C and hue h (degrees) follow a smooth curve through the points; colours outside
sRGB lose chroma, never lightness. OKLab: B. Ottosson, "A perceptual color space for image processing" (2020).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from graph_tools.errors import InvalidRequest
from service.types import Array

# (position, L, C, h). Sequential: night violet over red and orange to pale yellow.
_HEAT = (
    (0.00, 0.12, 0.035, 285.0),
    (0.20, 0.29, 0.120, 305.0),
    (0.40, 0.46, 0.170, 350.0),
    (0.60, 0.63, 0.185, 392.0),
    (0.80, 0.80, 0.150, 430.0),
    (1.00, 0.97, 0.075, 465.0),
)
# Diverging, from zero outwards; both sides have the same lightness, so neither sign looks stronger.
_AGAINST = (
    (0.00, 1.00, 0.000, 245.0),
    (0.33, 0.81, 0.085, 248.0),
    (0.67, 0.62, 0.140, 254.0),
    (1.00, 0.43, 0.150, 260.0),
)
_FOR = (
    (0.00, 1.00, 0.000, 40.0),
    (0.33, 0.81, 0.095, 33.0),
    (0.67, 0.62, 0.165, 28.0),
    (1.00, 0.43, 0.170, 26.0),
)
COLORMAPS = ("heat", "signed")


@cache
def table(name: str) -> Array:
    """Colours of the map ``name``: uint8 [256, 3], for ``signed`` [257, 3] with white in the middle.

    Raises:
        InvalidRequest: unknown name.
    """
    if name == "heat":
        colours = _colours(_HEAT, 256)
    elif name == "signed":
        colours = np.concatenate([_colours(_AGAINST, 129)[:0:-1], _colours(_FOR, 129)])
    else:
        raise InvalidRequest("colormap", f"{name!r} is not one of {', '.join(COLORMAPS)}")
    colours.setflags(write=False)
    return colours


def apply(values: Array, cmap: str) -> Array:
    """Colours of ``values``.

    Args:
        values: float [H, W] in 0..1 (clipped); for ``signed`` 0.5 is zero.
        cmap: ``heat`` or ``signed``.

    Returns:
        uint8 [H, W, 3].

    Raises:
        InvalidRequest: unknown colour map, or NaN among the values.
    """
    colours = table(cmap)
    values = np.asarray(values, np.float32)
    if np.isnan(values).any():
        raise InvalidRequest("values", "has NaN; a colour needs a number")
    entry = np.rint(np.clip(values, 0.0, 1.0) * (len(colours) - 1)).astype(np.intp)
    return np.asarray(colours[entry])


def _colours(points: tuple[tuple[float, ...], ...], n: int) -> Array:
    """The map through ``points`` as ``n`` colours, uint8 [n, 3]."""
    table = np.array(points)
    at = np.linspace(0.0, 1.0, n)
    L, C, h = (_hermite(at, table[:, 0], table[:, i]) for i in (1, 2, 3))
    share = np.zeros_like(C)
    for step in 0.5 ** np.arange(1, 13):  # bisection: the largest share of the chroma that sRGB can show
        inside = _in_gamut(_oklch_to_linear(L, C * (share + step), h))
        share = np.where(inside, share + step, share)
    return np.asarray(np.rint(255 * _gamma(_oklch_to_linear(L, C * share, h))), np.uint8)


def _hermite(at: Array, x: Array, y: Array) -> Array:
    """Cubic through (x, y), slopes by central differences: no edges where a linear map would show bands."""
    slope = np.gradient(y, x)
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    width = x[i + 1] - x[i]
    t = (at - x[i]) / width
    start, end = width * slope[i], width * slope[i + 1]
    rise = y[i + 1] - y[i]
    return np.asarray(y[i] + t * (start + t * (3 * rise - 2 * start - end + t * (start + end - 2 * rise))))


def _oklch_to_linear(L: Array, C: Array, h: Array) -> Array:
    """OKLCh to linear sRGB [..., 3], unclipped."""
    a, b = C * np.cos(np.deg2rad(h)), C * np.sin(np.deg2rad(h))
    lms = np.stack([
        L + 0.3963377774 * a + 0.2158037573 * b,
        L - 0.1055613458 * a - 0.0638541728 * b,
        L - 0.0894841775 * a - 1.2914855480 * b,
    ], axis=-1) ** 3  # fmt: skip
    to_rgb = np.array([
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ])  # fmt: skip
    return np.asarray(lms @ to_rgb.T)


def _in_gamut(rgb: Array) -> Array:
    return np.asarray(((rgb > -1e-4) & (rgb < 1 + 1e-4)).all(axis=-1))


def _gamma(linear: Array) -> Array:
    """Linear to sRGB 0..1 (IEC 61966-2-1)."""
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
