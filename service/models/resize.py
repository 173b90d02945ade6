"""From the caller's picture to the model's size: crop, stretch or pad, and the geometry of what was done.

Pillow's filters, which widen with the reduction (no aliasing).
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from graph_tools.errors import InvalidRequest
from service.models.card import FILTERS, InputCard, Resize
from service.types import Array, Geometry

CROP_ABOVE = 96
"""Square inputs with more pixels a side than this are cropped by default, others get the whole picture."""

MAX_RESIZED = 8_000_000
"""Pixels of a resized picture. Beyond (1 x 10^7 would become 256 x 2.6 · 10^9) only the crop is computed;
its levels may differ slightly from those of the whole."""


def rule(card: InputCard, size: tuple[int, int]) -> Resize:
    """The card's ``resize``, or the convention for this input size.

    ImageNet classifiers take the centre of the picture; digits, thumbnails, faces (inputs up to
    ``CROP_ABOVE`` pixels) and inputs that are not square are fed the whole picture.
    """
    crop = card.resize_to is not None or size[0] == size[1] > CROP_ABOVE
    return card.resize or ("crop" if crop else "stretch")


def short_side(card: InputCard, size: tuple[int, int]) -> int:
    """Pixels of the short side before the centre crop: the card's ``resize_to``, or floor(256/224 · size).

    Raises:
        InvalidRequest: ``resize_to`` is smaller than the model's input.
    """
    if card.resize_to is None:
        return min(size) * 256 // 224
    if card.resize_to < min(size):
        raise InvalidRequest(
            "input.resize_to", f"{card.resize_to} is smaller than the model's input, {size[0]} x {size[1]}"
        )
    return card.resize_to


def fit(image: Array, card: InputCard, size: tuple[int, int]) -> tuple[Array, Geometry]:
    """``image`` at the model's size.

    ``crop``: scaled so that the short side becomes :func:`short_side` (a picture that has the model's size
    too: the rule is the same for all), then the centre. ``stretch``: both sides scaled on their own.
    ``pad``: scaled to fit, centred on ``pad_value``.

    Args:
        image: uint8 [h, w, C], C = 1 or 3.
        card: rule and filter; what it leaves open is as :func:`rule` says, bilinear.
        size: (H, W) of the model's input.

    Returns:
        uint8 [H, W, C], and the geometry. For ``pad`` the crop's top and left are negative: it reaches
        beyond the resized picture.

    Raises:
        InvalidRequest: the card's ``resize_to`` is smaller than the model's input.
    """
    how = rule(card, size)
    if how == "crop":
        return _crop(image, card, size)
    if how == "pad":
        return _pad(image, card, size)
    return _scale(image, card, size), Geometry(_size(image), size, (0, 0, *size))


def _size(image: Array) -> tuple[int, int]:
    return int(image.shape[0]), int(image.shape[1])


def _crop(image: Array, card: InputCard, size: tuple[int, int]) -> tuple[Array, Geometry]:
    (h, w), (H, W) = _size(image), size
    short = short_side(card, size)
    # The box to cover: the model's input enlarged so that its short side is `short`.
    cover_h, cover_w = H * short // min(size), W * short // min(size)
    if cover_w * h >= cover_h * w:
        resized = (max(cover_h, round(h * cover_w / w)), cover_w)
    else:
        resized = (cover_h, max(cover_w, round(w * cover_h / h)))
    top, left = (resized[0] - H) // 2, (resized[1] - W) // 2
    geometry = Geometry((h, w), resized, (top, left, H, W))
    if resized[0] * resized[1] <= MAX_RESIZED:
        whole = _scale(image, card, resized)
        return np.ascontiguousarray(whole[top : top + H, left : left + W]), geometry
    y, x = h / resized[0], w / resized[1]
    box = (left * x, top * y, min((left + W) * x, w), min((top + H) * y, h))
    return _scale(image, card, size, box), geometry


def _pad(image: Array, card: InputCard, size: tuple[int, int]) -> tuple[Array, Geometry]:
    (h, w), (H, W) = _size(image), size
    resized = (max(1, round(h * W / w)), W) if W * h <= H * w else (H, max(1, round(w * H / h)))
    top, left = (H - resized[0]) // 2, (W - resized[1]) // 2
    canvas = np.full((H, W, image.shape[2]), card.pad_value, np.uint8)
    canvas[top : top + resized[0], left : left + resized[1]] = _scale(image, card, resized)
    return canvas, Geometry((h, w), resized, (-top, -left, H, W))


def _scale(
    image: Array, card: InputCard, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Array:
    if box is None and size == _size(image):
        return image
    one = image.shape[2] == 1
    picture = Image.fromarray(image[..., 0] if one else image)
    scaled = np.asarray(picture.resize((size[1], size[0]), FILTERS[card.filter], box=box))
    return np.ascontiguousarray(scaled[..., None] if one else scaled)
