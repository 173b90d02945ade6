"""The bar under a map: which colour stands for which number, and what the sign means."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from service.pictures import colormaps
from service.pictures.heatmap import Scale
from service.pictures.style import HAIRLINE, MUTED, PAPER, SMALL, TRACK, number
from service.pictures.text import draw_text, line_height, shorten
from service.pictures.text import width as text_width
from service.types import Array

BAR_HEIGHT = 9
SIGNS = ("against", "for")


def legend_texts(scale: Scale, names: tuple[str, str] = SIGNS) -> tuple[str, str, str]:
    """What stands under the left end, the middle and the right end of the bar.

    Signed: ``−0.12 against``, ``0``, ``for 0.12``. Unsigned: ``0``, ``""``, ``0.12``, with the maximum in
    brackets where it lies beyond the bar. Flat: one sentence on the left.
    """
    if scale.flat:
        return f"flat: every value is {number((scale.minimum + scale.maximum) / 2)}", "", ""
    if scale.signed:
        return f"{number(scale.low)} {names[0]}".strip(), "0", f"{names[1]} {number(scale.high)}".strip()
    beyond = f" (max {number(scale.maximum)})" if scale.clipped else ""
    return number(scale.low), "", number(scale.high) + beyond


def ramp(signed: bool, width: int, height: int) -> Array:
    """The whole colour map from left to right: uint8 [height, width, 3]."""
    at = np.linspace(0.0, 1.0, width, dtype=np.float32)
    return colormaps.apply(np.tile(at, (height, 1)), "signed" if signed else "heat")


def legend_bar(scale: Scale, width: int, size: int = SMALL, names: tuple[str, str] = SIGNS) -> Image.Image:
    """The colour map as a bar with the scale's numbers under it.

    Args:
        scale: of the map.
        width: pixels.
        size: type size.
        names: what a negative and a positive sign mean.

    Returns:
        RGB picture of ``width`` and of a height that depends on ``size`` alone.
    """
    picture = Image.new("RGB", (width, BAR_HEIGHT + 4 + line_height(size)), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width - 1, BAR_HEIGHT - 1), fill=TRACK, outline=HAIRLINE)
    if not scale.flat:
        picture.paste(Image.fromarray(ramp(scale.signed, max(1, width - 2), BAR_HEIGHT - 2)), (1, 1))
    left, middle, right = legend_texts(scale, names)
    y = BAR_HEIGHT + 3
    if text_width(left + middle + right, size) + 2 * size > width:  # too narrow: the numbers alone
        left, middle, right = legend_texts(scale, ("", ""))
    room = width - text_width(right, size) - size / 2 if right else width
    draw_text(draw, (0, y), shorten(left, size, room), size, MUTED)
    draw_text(draw, (width / 2, y), middle, size, MUTED, "center")
    draw_text(draw, (width, y), right, size, MUTED, "right")
    return picture
