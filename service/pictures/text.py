"""Text with Pillow's built-in font: measured, shortened, wrapped, drawn.

The built-in font has ASCII only. Accents are dropped, ``−`` and ``·`` are drawn here, others become ``?``.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Literal

from PIL import ImageDraw, ImageFont

from service.pictures.style import INK, Colour

Align = Literal["left", "center", "right"]

MINUS, DOT = "−", "·"
_REPLACE = str.maketrans({
    "…": "...", "×": "x", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"',
    "ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "œ": "oe", "ł": "l", "Ł": "L", "đ": "d", "ı": "i",
})  # fmt: skip
_SPACE = re.compile(r"\s+")
_RUNS = re.compile(f"([{MINUS}{DOT}])")


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont:
    face = ImageFont.load_default(size)
    if not isinstance(face, ImageFont.FreeTypeFont):
        raise RuntimeError("this Pillow was built without FreeType: install the wheel of Pillow >= 11")
    return face


@lru_cache(maxsize=4096)
def drawable(text: str) -> str:
    """``text`` in one line, in characters that can be drawn."""
    out = []
    for c in unicodedata.normalize("NFKD", _SPACE.sub(" ", text.translate(_REPLACE))):
        if c in (MINUS, DOT) or " " <= c <= "~":
            out.append(c)
        elif not unicodedata.combining(c):
            out.append("?")
    return "".join(out)


def line_height(size: int) -> int:
    """Height of a line box of this type size."""
    return round(1.4 * size)


def width(text: str, size: int) -> float:
    """Width of ``text`` as drawn."""
    face = _font(size)
    return sum(face.getlength(_stand_in(run)) for run in _RUNS.split(drawable(text)) if run)


def shorten(text: str, size: int, limit: float) -> str:
    """``text``, cut with an ellipsis to at most ``limit`` pixels; ``""`` where not even the ellipsis fits."""
    text = drawable(text)
    if width(text, size) <= limit:
        return text
    low, high = -1, len(text) - 1
    while low < high:  # longest prefix that fits together with the ellipsis
        middle = (low + high + 1) // 2
        if width(text[:middle].rstrip(" ,;-") + "...", size) <= limit:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip(" ,;-") + "..." if low >= 0 else ""


def wrap(text: str, size: int, limit: float, lines: int) -> list[str]:
    """``text`` broken at spaces into at most ``lines`` lines of ``limit`` pixels; the last is shortened."""
    words = drawable(text).split(" ")
    out: list[str] = []
    while words and len(out) < lines - 1:
        n = len(words)
        while n > 1 and width(" ".join(words[:n]), size) > limit:
            n -= 1
        out.append(shorten(" ".join(words[:n]), size, limit))
        words = words[n:]
    if words:
        out.append(shorten(" ".join(words), size, limit))
    return out


def draw_text(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: Colour = INK,
    align: Align = "left",
    bold: bool = False,
) -> None:
    """Draw one line.

    Args:
        draw: where to.
        at: x of the left edge, middle or right edge, as ``align`` says; y of the top of the line box.
        text: any text; see :func:`drawable`.
        size: type size.
        colour: of the letters.
        align: which part of the line ``at`` names.
        bold: drawn twice, a third of a pixel apart (the built-in font has one weight).
    """
    x = at[0] - width(text, size) * {"left": 0.0, "center": 0.5, "right": 1.0}[align]
    baseline = at[1] + round(1.05 * size)
    for run in _RUNS.split(drawable(text)):
        if run:
            for offset in (0.0, 0.35) if bold else (0.0,):
                _draw_run(draw, x + offset, baseline, run, size, colour)
            x += _font(size).getlength(_stand_in(run))


def _stand_in(run: str) -> str:
    """The ASCII text that is as wide as ``run``."""
    return {MINUS: "+", DOT: "."}.get(run, run)


def _draw_run(draw: ImageDraw.ImageDraw, x: float, baseline: float, run: str, size: int, colour: Colour) -> None:
    face = _font(size)
    if run == MINUS:
        left, top, right, bottom = face.getbbox("+", anchor="ls")
        middle = round(baseline + (top + bottom) / 2)
        thick = max(1, round(size / 14))
        draw.rectangle((round(x + left), middle, round(x + right) - 2, middle + thick - 1), fill=colour)
    elif run == DOT:
        draw.text((x, round(baseline - 0.26 * size)), ".", colour, face, anchor="ls")
    else:
        draw.text((x, baseline), run, colour, face, anchor="ls")
