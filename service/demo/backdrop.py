"""The ground behind the objects: a soft gradient, textures, and clutter that is no object of any class."""

from __future__ import annotations

import colorsys
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from service.demo.objects import turn

Rng = np.random.RandomState
Floats = NDArray[np.float32]

SUPERSAMPLING = 2
TEXTURES = ("stripes", "checker", "dots", "clouds", "grain")


def backdrop(rng: Rng, size: int) -> Floats:
    """Draws a ground.

    Args:
        rng: the scene's stream.
        size: side in pixels.

    Returns:
        float32 [size, size, 3] in about 0..255, not clipped.
    """
    palette = _palette(rng)
    ground = _gradient(rng, size, palette)
    for kind in rng.permutation(len(TEXTURES))[: rng.randint(1, 3)]:
        strength = np.float32(rng.uniform(8, 32))
        tint = (palette[rng.randint(len(palette))] - np.float32(128)) / np.float32(128) + np.float32(1)
        ground = ground + strength * _texture(rng, size, TEXTURES[kind])[..., None] * tint
    return _clutter(rng, np.clip(ground, 0, 255), palette)


def _palette(rng: Rng) -> Floats:
    """Four related colours: neighbouring hues around one or two anchors. float32 [4, 3]."""
    anchor, spread = rng.random_sample(), rng.uniform(0.03, 0.2)
    hues = [(anchor + rng.uniform(-spread, spread) + 0.5 * (i == 3)) % 1.0 for i in range(4)]
    colors = [colorsys.hsv_to_rgb(h, rng.uniform(0.08, 0.55), rng.uniform(0.3, 0.95)) for h in hues]
    return np.array(colors, np.float32) * np.float32(255)


def _enlarge(field: NDArray[np.uint8], size: int) -> Floats:
    """Smooth enlargement in Pillow's fixed-point arithmetic."""
    return np.asarray(Image.fromarray(field).resize((size, size), Image.Resampling.BICUBIC), np.float32)


def _gradient(rng: Rng, size: int, palette: Floats) -> Floats:
    """Colours of the palette on a coarse grid, smoothly joined."""
    cells = rng.randint(2, 5)
    picked = palette[rng.randint(0, len(palette), (cells, cells))]
    return _enlarge(np.rint(picked).astype(np.uint8), size)


def _texture(rng: Rng, size: int, kind: str) -> Floats:
    """One pattern, float32 [size, size] in about -1..1."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    c, s = turn(rng.uniform(0, math.pi))
    period = rng.uniform(5, 22)
    u = np.float32(c / period) * x + np.float32(s / period) * y + np.float32(rng.random_sample())
    v = np.float32(-s / period) * x + np.float32(c / period) * y + np.float32(rng.random_sample())
    if kind == "stripes":
        return _soft(_wave(u), np.float32(period))
    if kind == "checker":
        return _soft(_wave(u), np.float32(period)) * _soft(_wave(v), np.float32(period))
    if kind == "dots":
        return _soft(np.float32(-0.3) - np.minimum(_wave(u), -_wave(v)) * np.float32(1.2), np.float32(period))
    if kind == "clouds":
        fields = [rng.randint(0, 256, (n, n)).astype(np.uint8) for n in (6, 13, 29)]
        weights = (np.float32(1.2), np.float32(0.7), np.float32(0.4))
        return sum(
            (w * (_enlarge(f, size) / np.float32(128) - np.float32(1)) for w, f in zip(weights, fields, strict=True)),
            start=np.zeros((size, size), np.float32),
        )
    return rng.random_sample((size, size)).astype(np.float32) * np.float32(2) - np.float32(1)


def _wave(t: Floats) -> Floats:
    """Triangle wave of period 1 in -1..1."""
    wave: Floats = np.abs(t - np.floor(t) - np.float32(0.5)) * np.float32(4) - np.float32(1)
    return wave


def _soft(t: Floats, period: np.float32) -> Floats:
    """Sharpens a wave to bands whose edges are about one pixel wide."""
    bands: Floats = np.clip(t * period / np.float32(4), np.float32(-1), np.float32(1))
    return bands


def _clutter(rng: Rng, ground: Floats, palette: Floats) -> Floats:
    """Strokes, rings, blobs and splinters over the ground, some see-through."""
    size = ground.shape[0]
    side = size * SUPERSAMPLING
    big = Image.fromarray(np.rint(ground).astype(np.uint8)).resize((side, side), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(big, "RGBA")
    for _ in range(rng.randint(8, 22)):
        shape = (_stroke, _ring, _blob, _splinter, _bars)[rng.randint(5)]
        shape(rng, pen, side, _ink(rng, palette))
    return np.asarray(big.reduce(SUPERSAMPLING), np.float32)


def _ink(rng: Rng, palette: Floats) -> tuple[int, int, int, int]:
    """Half the inks come from the palette, half are free; 35-100 % opaque."""
    if rng.randint(2):
        r, g, b = (int(c) for c in palette[rng.randint(len(palette))])
    else:
        free = colorsys.hsv_to_rgb(rng.random_sample(), rng.uniform(0.2, 0.9), rng.uniform(0.1, 1.0))
        r, g, b = (round(255 * c) for c in free)
    return r, g, b, int(rng.randint(90, 256))


def _spot(rng: Rng, side: int) -> tuple[float, float]:
    return float(rng.uniform(0, side)), float(rng.uniform(0, side))


def _stroke(rng: Rng, pen: ImageDraw.ImageDraw, side: int, ink: tuple[int, int, int, int]) -> None:
    """A bent line."""
    x, y = _spot(rng, side)
    angle, step = rng.uniform(0, 2 * math.pi), rng.uniform(0.02, 0.07) * side
    points = [(x, y)]
    bend = rng.uniform(-0.5, 0.5)
    for _ in range(rng.randint(4, 14)):
        c, s = turn(angle)
        x, y, angle = x + step * c, y + step * s, angle + bend
        points.append((round(x), round(y)))
    pen.line(points, fill=ink, width=int(rng.randint(2, side // 28)), joint="curve")


def _ring(rng: Rng, pen: ImageDraw.ImageDraw, side: int, ink: tuple[int, int, int, int]) -> None:
    """A circle, hollow or full."""
    x, y = (round(v) for v in _spot(rng, side))
    r = round(rng.uniform(0.02, 0.11) * side)
    if rng.randint(2):
        pen.ellipse((x - r, y - r, x + r, y + r), fill=ink)
    else:
        pen.ellipse((x - r, y - r, x + r, y + r), outline=ink, width=int(rng.randint(2, 8)))


def _blob(rng: Rng, pen: ImageDraw.ImageDraw, side: int, ink: tuple[int, int, int, int]) -> None:
    """A round-cornered lump: radius as a short sum of cosines of the angle."""
    x, y = _spot(rng, side)
    radius, count = rng.uniform(0.04, 0.13) * side, 36
    waves = [(k, rng.uniform(0, 0.28) / k, rng.uniform(0, 2 * math.pi)) for k in (1, 2, 3)]
    points = []
    for i in range(count):
        t = 2 * math.pi * i / count
        r = radius * (1 + sum(a * turn(k * t + p)[0] for k, a, p in waves))
        c, s = turn(t)
        points.append((round(x + r * c), round(y + r * s)))
    pen.polygon(points, fill=ink, outline=_dark(ink) if rng.randint(2) else None, width=3)


def _splinter(rng: Rng, pen: ImageDraw.ImageDraw, side: int, ink: tuple[int, int, int, int]) -> None:
    """A polygon of three to six corners."""
    x, y = _spot(rng, side)
    radius, count = rng.uniform(0.04, 0.14) * side, int(rng.randint(3, 7))
    angles = np.sort(rng.uniform(0, 2 * math.pi, count))
    corners = [(turn(float(a)), radius * rng.uniform(0.5, 1.0)) for a in angles]
    points = [(round(x + r * c), round(y + r * s)) for (c, s), r in corners]
    pen.polygon(points, fill=ink, outline=_dark(ink) if rng.randint(2) else None, width=3)


def _bars(rng: Rng, pen: ImageDraw.ImageDraw, side: int, ink: tuple[int, int, int, int]) -> None:
    """A few parallel short lines."""
    x, y = _spot(rng, side)
    c, s = turn(rng.uniform(0, math.pi))
    length, gap = rng.uniform(0.05, 0.15) * side, rng.uniform(0.02, 0.05) * side
    for i in range(rng.randint(2, 5)):
        a, b = x - s * gap * i, y + c * gap * i
        ends = [(round(a), round(b)), (round(a + length * c), round(b + length * s))]
        pen.line(ends, fill=ink, width=int(rng.randint(2, 6)))


def _dark(ink: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return ink[0] // 4, ink[1] // 4, ink[2] // 4, ink[3]
