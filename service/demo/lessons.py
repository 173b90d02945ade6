"""What the embedded model learns from: drawn scenes as arrays, and their random changes."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import Pool
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.demo.scenes import CLASSES, SIZE, TRAINING_SEEDS, draw

PLACES = 16  # side of the last feature map
CELL = SIZE // PLACES
NOTHING, EDGE = 255, 254

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Drawn(NamedTuple):
    """Scenes as arrays.

    Attributes:
        images: uint8 [N, 3, H, W].
        labels: float32 [N, classes], 1 = the scene shows the class; NaN = not asked.
        places: uint8 [N, 16, 16]: the class that covers more than half of the place, ``NOTHING`` where objects cover
            less than a tenth of it, else ``EDGE``.
    """

    images: Bytes
    labels: Floats
    places: Bytes


def _row(seed: int) -> tuple[Bytes, Floats, Bytes]:
    scene = draw(seed)
    masks = np.stack([scene.masks[CLASSES[i]] for i in scene.present])
    share = masks.reshape(len(masks), PLACES, CELL, PLACES, CELL).mean((2, 4))
    places = np.where(share.sum(0) < 0.1, NOTHING, EDGE).astype(np.uint8)
    for own, index in zip(share, scene.present, strict=True):
        places[own > 0.5] = index
    labels = np.isin(np.arange(len(CLASSES)), scene.present).astype(np.float32)
    return scene.image.transpose(2, 0, 1), labels, places


def training_set(count: int, workers: int) -> Drawn:
    """The first ``count`` scenes of ``TRAINING_SEEDS``, drawn by ``workers`` processes."""
    drawn = Drawn(
        np.empty((count, 3, SIZE, SIZE), np.uint8),
        np.empty((count, len(CLASSES)), np.float32),
        np.empty((count, PLACES, PLACES), np.uint8),
    )
    with Pool(workers) as pool:
        for i, row in enumerate(pool.imap(_row, TRAINING_SEEDS[:count], chunksize=64)):
            drawn.images[i], drawn.labels[i], drawn.places[i] = row
            if (i + 1) % 4000 == 0:
                print(f"  drawn {i + 1} of {count} scenes", flush=True)
    return drawn


def batches(drawn: Drawn, size: int, rng: np.random.Generator) -> Iterator[Drawn]:
    """One pass over the scenes in random order, changed at random; what does not fill a batch is left out."""
    order = rng.permutation(len(drawn.images))
    for first in range(0, len(order) - size + 1, size):
        rows = order[first : first + size]
        yield augmented(Drawn(drawn.images[rows], drawn.labels[rows], drawn.places[rows]), rng)


def augmented(drawn: Drawn, rng: np.random.Generator) -> Drawn:
    """Mirrored, colour channels permuted, and half of the scenes partly covered by squares.

    What a square covers is evidence no longer (its places become ``NOTHING``), what it leaves is: so the score falls
    with the share of an object that is hidden, and nothing is learned from the squares of an occlusion map. The label
    of an object that is mostly hidden becomes NaN: no answer is asked for.
    """
    images, labels, places = drawn.images[:, rng.permutation(3)], drawn.labels.copy(), drawn.places.copy()
    flip = rng.random(len(images)) < 0.5
    images[flip], places[flip] = images[flip, :, :, ::-1], places[flip, :, ::-1]
    for image, place, label in zip(images, places, labels, strict=True):
        if rng.random() < 0.5:
            continue
        before = np.bincount(place.ravel(), minlength=256)[: len(CLASSES)]
        share = _cover(image, rng).reshape(PLACES, CELL, PLACES, CELL).mean((1, 3))
        place[(share > 0.25) & (place != NOTHING)] = EDGE
        place[share > 0.6] = NOTHING
        after = np.bincount(place.ravel(), minlength=256)[: len(CLASSES)]
        label[(label == 1) & (after < 0.4 * before)] = np.nan
    return Drawn(images, labels, places)


def _cover(image: Bytes, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Paints one to three squares, mostly grey; returns where, [H, W]."""
    hidden = np.zeros(image.shape[1:], bool)
    for _ in range(rng.integers(1, 4)):
        side = int(rng.integers(8, 29))
        top, left = rng.integers(1 - side // 2, SIZE - side // 2, 2).clip(0)
        color = np.full(3, 128) if rng.random() < 0.7 else rng.integers(0, 256, 3)
        image[:, top : top + side, left : left + side] = color[:, None, None]
        hidden[top : top + side, left : left + side] = True
    return hidden
