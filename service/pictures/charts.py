"""Pictures of arrays that are no photos: bars for a few numbers, strips and fields of colour for many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from service.pictures.geometry import resample
from service.pictures.heatmap import Scale, checked, heatmap
from service.pictures.style import AGAINST, BAR, FOR, HAIRLINE, INK, MUTED, PAPER, SMALL, TRACK, number
from service.pictures.text import draw_text, line_height, width
from service.types import Array

MOST_BARS = 64
_AXIS = 62  # room for the numbers left of a bar chart


def bar_chart(values: Array, labels: Sequence[str], size: tuple[int, int], *, coloured: bool = True) -> Image.Image:
    """Upright bars from a zero line.

    Args:
        values: float [n], finite.
        labels: n texts for under the bars; turned upright where they do not fit.
        size: (height, width) of the picture; the width grows until a bar has 13 pixels.
        coloured: positive red and negative blue (for and against); else grey.

    Raises:
        InvalidRequest: NaN or infinite values.
    """
    values = checked(np.asarray(values, np.float64))
    n = len(values)
    total = max(size[1], _AXIS + 13 * n)
    pitch = (total - _AXIS) / n
    turned = max(width(t, SMALL) for t in labels) > pitch - 4
    foot = (round(max(width(t, SMALL) for t in labels)) if turned else line_height(SMALL)) + 6
    picture = Image.new("RGB", (total, size[0]), PAPER)
    draw = ImageDraw.Draw(picture)
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    span = (high - low) or 1.0
    head, plot = line_height(SMALL) // 2, size[0] - foot - line_height(SMALL) // 2

    def y_of(value: float) -> int:
        return head + round((high - value) / span * (plot - 1))

    for value in dict.fromkeys((high, 0.0, low)):
        y = y_of(value)
        if value == 0 or abs(y - y_of(0.0)) > line_height(SMALL):
            draw.line((_AXIS, y, total, y), fill=INK if value == 0 else HAIRLINE)
            draw_text(draw, (_AXIS - 6, y - 0.72 * SMALL), number(value), SMALL, MUTED, "right")
    for i, value in enumerate(values):
        left, right = round(_AXIS + (i + 0.15) * pitch), round(_AXIS + (i + 0.85) * pitch) - 1
        colour = (FOR if value > 0 else AGAINST) if coloured else BAR
        top, bottom = sorted((y_of(float(value)), y_of(0.0)))
        if bottom > top:
            draw.rectangle((left, top, right, bottom), fill=colour)
        _label(picture, draw, labels[i], (left + right) / 2, head + plot + 3, turned)
    return picture


def as_bars(values: Array) -> bool:
    """Whether :func:`tensor_picture` draws ``values`` as bars: one axis, at most 64 numbers."""
    return sum(n > 1 for n in values.shape) < 2 and values.size <= MOST_BARS


def tensor_picture(values: Array, scale: Scale, box: int) -> tuple[Image.Image, str]:
    """A picture of an attribution that has the shape of a tensor input.

    Axes of length 1 are dropped. Up to 64 numbers are bars, more are a strip; two axes are a field of colour;
    of more axes the leading ones are folded: added up where signed, else their maximum.

    Args:
        values: float, any shape.
        scale: of ``values``.
        box: width of the picture; also the most it is high.

    Returns:
        The picture, and what its axes are in words.

    Raises:
        InvalidRequest: NaN or infinite values.
    """
    values = np.squeeze(checked(values))
    folded = values.shape[: max(0, values.ndim - 2)]
    if folded:
        flat = values.reshape(-1, *values.shape[-2:])
        values = flat.sum(axis=0) if scale.signed else flat.max(axis=0)
    if as_bars(values):
        row = np.atleast_1d(values)
        labels = [str(i) for i in range(len(row))]
        return bar_chart(row, labels, (min(box, 240), box), coloured=scale.signed), f"{len(row)} entries"
    plane = np.atleast_2d(values)
    rows, columns = plane.shape
    height = max(rows, min(box, max(64, box * rows // columns))) if rows > 1 else 64
    shown = resample(plane, (min(height, 2 * box), box), nearest=rows * columns < box * box // 16)
    words = f"{rows} x {columns}" if values.ndim == 2 else f"{columns} entries, left to right"
    if folded:
        words += f", {'sum' if scale.signed else 'maximum'} over [{', '.join(map(str, folded))}]"
    return framed(Image.fromarray(heatmap(shown, scale=scale))), words


def framed(picture: Image.Image) -> Image.Image:
    """``picture`` with a hairline on its outermost pixels, so that white areas have an edge."""
    out = picture.copy()
    ImageDraw.Draw(out).rectangle((0, 0, out.width - 1, out.height - 1), outline=HAIRLINE)
    return out


def letterboxed(picture: Image.Image, least: tuple[int, int]) -> Image.Image:
    """``picture`` in the middle of a pale area where it is lower or narrower than ``least`` (height, width)."""
    height, width_ = max(picture.height, least[0]), max(picture.width, least[1])
    if (width_, height) == picture.size:
        return picture
    out = Image.new("RGB", (width_, height), TRACK)
    out.paste(picture, ((width_ - picture.width) // 2, (height - picture.height) // 2))
    return out


def empty(size: tuple[int, int], text: str) -> Image.Image:
    """A pale rectangle of (height, width) that says why there is nothing to see."""
    out = Image.new("RGB", (size[1], size[0]), TRACK)
    draw_text(ImageDraw.Draw(out), (size[1] / 2, size[0] / 2 - SMALL), text, SMALL, MUTED, "center")
    return out


def _label(picture: Image.Image, draw: ImageDraw.ImageDraw, text: str, x: float, y: float, turned: bool) -> None:
    if not turned:
        draw_text(draw, (x, y), text, SMALL, MUTED, "center")
        return
    strip = Image.new("RGB", (round(width(text, SMALL)) + 2, line_height(SMALL)), PAPER)
    draw_text(ImageDraw.Draw(strip), (0, 0), text, SMALL, MUTED)
    picture.paste(strip.rotate(90, expand=True), (round(x - 0.72 * SMALL), round(y)))
