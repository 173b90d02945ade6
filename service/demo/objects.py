"""The twelve things that scenes show, each a stack of polygons in its own coordinates, and their rendering.

An object lives in the square [-1, 1] x [-1, 1], y downwards. Its parts are painted in order; body and accent make up
the silhouette, details are painted on it. Colour, surface and pose are drawn anew for every scene, so that only the
shape tells the class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = list[tuple[float, float]]

SUPERSAMPLING = 4
OUTLINE = 0.07  # half width of the outline, in object units


@dataclass(frozen=True)
class Part:
    """One polygon. ``role`` is ``body``, ``accent`` (a second colour) or ``detail`` (paint on the silhouette)."""

    points: Points
    role: str = "body"


@dataclass(frozen=True)
class Paint:
    """Colours as RGB triples, 0-255."""

    body: tuple[int, int, int]
    accent: tuple[int, int, int]
    detail: tuple[int, int, int]
    outline: tuple[int, int, int]


@dataclass(frozen=True)
class Pose:
    """Object units to pixels: mirror, stretch, rotate by ``degrees``, then scale (pixels per object unit)."""

    scale: float
    degrees: float = 0.0
    stretch: float = 1.0  # width times, height divided by it: the area stays
    mirror: bool = False


@dataclass(frozen=True)
class Sprite:
    """A drawn object: ``color`` float32 [h, w, 3] in 0-255 and its coverage ``alpha`` float32 [h, w] in 0..1."""

    color: NDArray[np.float32]
    alpha: NDArray[np.float32]


def turn(angle: float) -> tuple[float, float]:
    """(cos, sin) of an angle in radians, rounded so that every machine's libm gives the same points."""
    return round(math.cos(angle), 9), round(math.sin(angle), 9)


def oval(x: float, y: float, rx: float, ry: float | None = None, degrees: float = 0.0, count: int = 28) -> Points:
    """Points of an ellipse around (x, y)."""
    c, s = turn(math.radians(degrees))
    ring = [turn(2 * math.pi * i / count) for i in range(count)]
    flat = [(rx * u, (rx if ry is None else ry) * v) for u, v in ring]
    return [(x + c * u - s * v, y + s * u + c * v) for u, v in flat]


def box(left: float, top: float, right: float, bottom: float) -> Points:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def spikes(count: int, outer: float, inner: float) -> Points:
    """A star's outline, one spike pointing up."""
    steps = [(outer if i % 2 == 0 else inner, turn(math.pi * (i / count - 0.5))) for i in range(2 * count)]
    return [(r * c, r * s) for r, (c, s) in steps]


def arc(x: float, y: float, r: float, first: float, last: float, count: int = 20) -> Points:
    """Points on a circle from ``first`` to ``last`` degrees (0 = right, 90 = down)."""
    angles = [math.radians(first + (last - first) * i / (count - 1)) for i in range(count)]
    return [(x + r * c, y + r * s) for c, s in map(turn, angles)]


def shift(points: Iterable[tuple[float, float]], dx: float, dy: float, times: float = 1.0) -> Points:
    return [(dx + times * x, dy + times * y) for x, y in points]


def star() -> list[Part]:
    return [Part(spikes(5, 1.0, 0.47)), Part(spikes(5, 0.5, 0.235), "detail")]


def heart() -> list[Part]:
    def at(t: float) -> tuple[float, float]:
        c, s = turn(t)
        c2, c3, c4 = (turn(k * t)[0] for k in (2, 3, 4))
        return 16 * s**3 / 17, -(13 * c - 5 * c2 - 2 * c3 - c4 + 2.5) / 16

    return [Part([at(2 * math.pi * i / 40) for i in range(40)]), Part(oval(-0.45, -0.38, 0.2, 0.13, -40), "detail")]


def moon() -> list[Part]:
    crescent = arc(0.12, 0, 0.95, 55, 305, 30) + arc(0.75, 0, 0.78, 256, 104, 22)
    craters = [oval(-0.5, -0.25, 0.14), oval(-0.42, 0.3, 0.18), oval(-0.12, 0.62, 0.09)]
    return [Part(crescent), *(Part(c, "detail") for c in craters)]


def house() -> list[Part]:
    return [
        Part(box(0.3, -0.95, 0.55, -0.3), "accent"),
        Part(box(-0.72, -0.2, 0.72, 0.9)),
        Part([(-1.0, -0.12), (0.0, -1.0), (1.0, -0.12)], "accent"),
        Part(box(-0.5, 0.25, -0.1, 0.9), "detail"),
        Part(box(0.15, 0.15, 0.52, 0.5), "detail"),
    ]


def tree() -> list[Part]:
    tiers = [
        [(0, -0.05), (0.85, 0.65), (-0.85, 0.65)],
        [(0, -0.55), (0.68, 0.18), (-0.68, 0.18)],
        [(0, -1), (0.5, -0.28), (-0.5, -0.28)],
    ]
    return [Part(box(-0.17, 0.55, 0.17, 1.0), "accent"), *(Part(t) for t in tiers)]


def fish() -> list[Part]:
    return [
        Part([(0.3, 0.0), (1.0, -0.6), (0.88, 0.0), (1.0, 0.6)], "accent"),
        Part([(-0.25, -0.4), (0.25, -0.72), (0.4, -0.25)], "accent"),
        Part(oval(-0.2, 0, 0.8, 0.54)),
        Part([(-0.15, 0.05), (0.2, -0.1), (0.2, 0.28)], "accent"),
        Part(oval(-0.62, -0.12, 0.12), "detail"),
    ]


def butterfly() -> list[Part]:
    upper, lower = oval(0.52, -0.38, 0.52, 0.4, -35), oval(0.42, 0.42, 0.38, 0.32, 40)
    spot = oval(0.55, -0.4, 0.2)
    both = [[(side * x, y) for x, y in wing] for side in (1, -1) for wing in (upper, lower)]
    spots = [[(side * x, y) for x, y in spot] for side in (1, -1)]
    return [
        *(Part(w) for w in both),
        Part(oval(0, 0, 0.13, 0.72), "accent"),
        *(Part(s, "detail") for s in spots),
    ]


def flower() -> list[Part]:
    petals = [oval(0.62 * c, 0.62 * s, 0.38) for c, s in (turn(math.pi * (i / 3 - 0.5)) for i in range(6))]
    return [*(Part(p) for p in petals), Part(oval(0, 0, 0.4), "accent")]


def mushroom() -> list[Part]:
    stem = [(-0.24, 0.0), (0.24, 0.0), (0.36, 0.85), (0.2, 0.97), (-0.2, 0.97), (-0.36, 0.85)]
    cap = [(0.98 * c, 0.18 + 1.05 * s) for c, s in arc(0, 0, 1, 180, 360, 24)] + [(0.6, 0.34), (-0.6, 0.34)]
    spots = [oval(-0.42, -0.25, 0.2, 0.17), oval(0.22, -0.48, 0.22, 0.17), oval(0.55, 0.0, 0.16, 0.13)]
    return [Part(stem, "accent"), Part(cap), *(Part(s, "detail") for s in spots)]


def cup() -> list[Part]:
    handle = arc(0.5, 0.02, 0.5, -75, 75) + arc(0.5, 0.02, 0.24, 75, -75)
    wall = [(-0.9, -0.72), (0.6, -0.72), (0.45, 0.72), (0.3, 0.85), (-0.6, 0.85), (-0.75, 0.72)]
    return [
        Part(handle, "accent"),
        Part(wall),
        Part(oval(-0.15, -0.72, 0.75, 0.17), "accent"),
        Part([(-0.81, 0.15), (0.51, 0.15), (0.48, 0.4), (-0.78, 0.4)], "detail"),
    ]


def rocket() -> list[Part]:
    side = arc(-0.6, 0.0, 1.12, -57.6, 30, 14)
    fins = [[(s * 0.42, 0.05), (s * 0.82, 0.85), (s * 0.25, 0.58)] for s in (1, -1)]
    flame = [(-0.25, 0.55), (0.25, 0.55), (0.0, 1.05)]
    return [
        Part(flame, "accent"),
        *(Part(f, "accent") for f in fins),
        Part(side + [(-x, y) for x, y in reversed(side)]),
        Part(oval(0, -0.2, 0.22), "detail"),
    ]


def arrow() -> list[Part]:
    head = [(-1.0, 0.0), (-0.1, -0.85), (-0.1, -0.38), (0.95, -0.38), (0.95, 0.38), (-0.1, 0.38), (-0.1, 0.85)]
    return [Part(head), Part(box(0.45, -0.38, 0.65, 0.38), "detail")]


OBJECTS: dict[str, Callable[[], list[Part]]] = {
    draw.__name__: draw
    for draw in (star, heart, moon, house, tree, fish, butterfly, flower, mushroom, cup, rocket, arrow)
}


@cache
def parts(name: str) -> tuple[Part, ...]:
    """The polygons of one class, built once."""
    return tuple(OBJECTS[name]())


@cache
def unit_area(name: str) -> float:
    """Area of the silhouette with its outline, in square object units."""
    scale = 32.0
    alpha = render(name, Pose(scale), Paint((0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0))).alpha
    return float(alpha.sum(dtype=np.float64)) / scale**2


def _placed(points: Points, pose: Pose, center: float) -> Points:
    c, s = turn(math.radians(pose.degrees))
    zoom = pose.scale * SUPERSAMPLING
    wide = -pose.stretch if pose.mirror else pose.stretch
    flat = [(x * wide * zoom, y / pose.stretch * zoom) for x, y in points]
    return [(round(center + c * x - s * y), round(center + s * x + c * y)) for x, y in flat]


def render(name: str, pose: Pose, paint: Paint) -> Sprite:
    """Draws one object on a square tile with its origin in the middle.

    Args:
        name: a key of ``OBJECTS``.
        pose: size and attitude; ``scale`` in pixels per object unit.
        paint: the colours.

    Returns:
        The sprite; its side is even and holds the whole outline.
    """
    reach = math.ceil(pose.scale * (1.5 * max(pose.stretch, 1 / pose.stretch) + OUTLINE)) + 1
    side = 2 * reach * SUPERSAMPLING
    color = Image.new("RGB", (side, side), paint.outline)
    alpha = Image.new("L", (side, side), 0)
    on_color, on_alpha = ImageDraw.Draw(color), ImageDraw.Draw(alpha)
    pen = max(2, round(2 * OUTLINE * pose.scale * SUPERSAMPLING))
    for part in parts(name):
        points = _placed(part.points, pose, side / 2)
        if part.role != "detail":
            ring = [*points, points[0], points[1]]
            on_color.line(ring, fill=paint.outline, width=pen, joint="curve")
            on_alpha.line(ring, fill=255, width=pen, joint="curve")
            on_alpha.polygon(points, fill=255)
        on_color.polygon(points, fill=getattr(paint, part.role))
    return Sprite(
        np.asarray(color.reduce(SUPERSAMPLING), np.float32),
        np.asarray(alpha.reduce(SUPERSAMPLING), np.float32) / np.float32(255),
    )
