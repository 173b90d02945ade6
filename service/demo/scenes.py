"""Scenes that the project draws itself: a few objects on a cluttered ground, with the mask of every object known.

The masks are a ground truth that photographs lack: an explanation for a class can be asked whether it points at the
object that made the answer. Needs NumPy and Pillow alone.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.demo.backdrop import backdrop
from service.demo.objects import OBJECTS, Paint, Pose, Sprite, render, unit_area

CLASSES: tuple[str, ...] = tuple(OBJECTS)
SIZE = 128
COUNTS = (2, 3, 4)
AREA = (0.02, 0.10)  # visible share of the image, of every object
DRAWN_AREA = (0.03, 0.09)  # share that is aimed at, before occlusion and rounding
VISIBLE = 0.95  # of an object's own silhouette, at least

TRAINING_SEEDS = range(1_000_000, 2_000_000)  # every seed below is fresh: never used in training


@dataclass(frozen=True)
class Scene:
    """One drawn picture.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        masks: class name -> bool [H, W], True where that object covers more than half of the pixel and nothing in
            front of it does. Disjoint.
        present: class indices (positions in ``CLASSES``), ascending.
    """

    image: NDArray[np.uint8]
    masks: dict[str, NDArray[np.bool_]]
    present: tuple[int, ...]


def draw(seed: int, size: int = SIZE) -> Scene:
    """Draws the scene of a seed: two to four objects of different classes.

    The same seed, size and Pillow release give the same picture everywhere: the stream of ``RandomState`` is frozen
    (NEP 19) and the arithmetic is integer or correctly rounded.

    Args:
        seed: 0 .. 2**32 - 1. Seeds in ``TRAINING_SEEDS`` are those that the embedded model was trained on.
        size: side of the square picture in pixels, at least 96.

    Raises:
        ValueError: ``size`` is too small for the smallest object to be recognisable, or the seed is out of range.
    """
    if size < 96:
        raise ValueError(f"size is {size}; scenes are drawn at 96 pixels or more")
    rng = np.random.RandomState(seed)
    canvas = backdrop(rng, size)
    names = [CLASSES[i] for i in rng.permutation(len(CLASSES))[: COUNTS[rng.randint(len(COUNTS))]]]
    shares = rng.uniform(math.sqrt(DRAWN_AREA[0]), math.sqrt(DRAWN_AREA[1]), len(names)) ** 2
    while (cover := _compose(rng, canvas, names, shares)) is None:
        shares = np.maximum(shares * 0.9, DRAWN_AREA[0])
    image, layers = cover
    masks = {name: layer > 0.5 for name, layer in zip(names, layers, strict=True)}
    present = tuple(sorted(CLASSES.index(name) for name in names))
    return Scene(image, masks, present)


def _compose(
    rng: np.random.RandomState, canvas: NDArray[np.float32], names: list[str], shares: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], list[NDArray[np.float32]]] | None:
    """Lays the objects over the canvas, each in front of those before it; None where one found no place."""
    image = canvas.copy()
    layers: list[NDArray[np.float32]] = []
    whole: list[float] = []
    for name, share in zip(names, shares, strict=True):
        sprite = _trim(render(name, _pose(rng, name, share * image.shape[0] * image.shape[1]), _paint(rng)))
        sprite = _surface(rng, sprite)
        spot = _place(rng, sprite, layers, whole, image.shape[0])
        if spot is None:
            return None
        _over(image, layers, sprite, spot)
        whole.append(float(sprite.alpha.sum(dtype=np.float64)))
    image += np.float32(3) * (rng.random_sample(image.shape).astype(np.float32) - np.float32(0.5))  # sensor grain
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), layers


def _pose(rng: np.random.RandomState, name: str, area: float) -> Pose:
    return Pose(
        scale=math.sqrt(area / unit_area(name)),
        degrees=float(rng.uniform(-25, 25)),
        stretch=float(rng.uniform(0.9, 1.12)),
        mirror=bool(rng.randint(2)),
    )


def _paint(rng: np.random.RandomState) -> Paint:
    """Any hue for any class; light paint gets a dark outline, dark paint often a light one."""
    hue, value = rng.random_sample(), rng.uniform(0.45, 1.0)
    body = _rgb(hue, rng.uniform(0.25, 0.95), value)
    accent = _rgb(hue + rng.uniform(0.12, 0.88), rng.uniform(0.2, 0.9), value + 0.3 if value < 0.7 else value - 0.3)
    detail = _rgb(rng.random_sample(), rng.uniform(0.0, 0.35), 0.97 if value < 0.85 else 0.25)
    light = value < 0.8 and rng.randint(2) == 1
    outline = _rgb(hue, 0.1, 0.97) if light else _rgb(hue, 0.5, 0.14)
    return Paint(body, accent, detail, outline)


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    r, g, b = colorsys.hsv_to_rgb(hue % 1.0, saturation, min(max(value, 0.0), 1.0))
    return round(255 * r), round(255 * g), round(255 * b)


def _trim(sprite: Sprite) -> Sprite:
    rows, columns = (np.flatnonzero(sprite.alpha.max(axis)) for axis in (1, 0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return Sprite(sprite.color[window], sprite.alpha[window])


def _surface(rng: np.random.RandomState, sprite: Sprite) -> Sprite:
    """Light from above and a surface: plain, speckled, or striped."""
    height, width = sprite.alpha.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    light = np.float32(1.12) - np.float32(0.26) * (y / np.float32(height))
    kind, strength = rng.randint(3), np.float32(rng.uniform(0.05, 0.16))
    if kind == 1:
        light = light + strength * (rng.random_sample((height, width)).astype(np.float32) - np.float32(0.5))
    elif kind == 2:
        slope, period = np.float32(rng.uniform(-1, 1)), np.float32(rng.uniform(3, 7))
        phase = (x + slope * y) / period
        light = light + strength * (np.abs(phase - np.floor(phase) - np.float32(0.5)) * 2 - np.float32(0.5))
    return Sprite(np.minimum(sprite.color * light[..., None], np.float32(255)), sprite.alpha)


def _place(
    rng: np.random.RandomState,
    sprite: Sprite,
    layers: list[NDArray[np.float32]],
    whole: list[float],
    size: int,
) -> tuple[int, int] | None:
    """A top left corner where the sprite fits and leaves enough of every object behind it visible."""
    height, width = sprite.alpha.shape
    if height > size - 4 or width > size - 4:
        return None
    for _ in range(30):
        top, left = rng.randint(2, size - 1 - height), rng.randint(2, size - 1 - width)
        window = slice(top, top + height), slice(left, left + width)
        if all(
            _left(layer, window, sprite) >= max(VISIBLE * full, AREA[0] * 1.1 * size * size)
            for layer, full in zip(layers, whole, strict=True)
        ):
            return top, left
    return None


def _left(layer: NDArray[np.float32], window: tuple[slice, slice], sprite: Sprite) -> float:
    """Pixels of an object that stay visible behind the sprite."""
    return float(layer.sum(dtype=np.float64) - (layer[window] * sprite.alpha).sum(dtype=np.float64))


def _over(image: NDArray[np.float32], layers: list[NDArray[np.float32]], sprite: Sprite, spot: tuple[int, int]) -> None:
    """Porter-Duff over, on the image and on the coverage of every object."""
    height, width = sprite.alpha.shape
    window = slice(spot[0], spot[0] + height), slice(spot[1], spot[1] + width)
    behind = np.float32(1) - sprite.alpha
    image[window] = image[window] * behind[..., None] + sprite.color * sprite.alpha[..., None]
    for layer in layers:
        layer[window] *= behind
    own = np.zeros(image.shape[:2], np.float32)
    own[window] = sprite.alpha
    layers.append(own)
