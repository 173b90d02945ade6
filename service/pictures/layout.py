"""Blocks side by side, one above the other, and the page around them."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from service.pictures.style import GAP, INK, MARGIN, MUTED, PAPER, SMALL, TEXT, TIGHT, TITLE, Colour
from service.pictures.text import Align, draw_text, line_height, shorten, width, wrap


def beside(blocks: Sequence[Image.Image], gap: int = GAP) -> Image.Image:
    """The blocks from left to right, tops in line."""
    size = (sum(b.width for b in blocks) + gap * (len(blocks) - 1), max(b.height for b in blocks))
    out = Image.new("RGB", size, PAPER)
    x = 0
    for block in blocks:
        out.paste(block, (x, 0))
        x += block.width + gap
    return out


def stack(blocks: Sequence[Image.Image], gap: int = TIGHT) -> Image.Image:
    """The blocks from top to bottom, left edges in line."""
    size = (max(b.width for b in blocks), sum(b.height for b in blocks) + gap * (len(blocks) - 1))
    out = Image.new("RGB", size, PAPER)
    y = 0
    for block in blocks:
        out.paste(block, (0, y))
        y += block.height + gap
    return out


def lines_block(
    lines: Sequence[tuple[str, int, Colour]],
    limit: int,
    *,
    bold_first: bool = False,
    align: Align = "left",
    rows: int | None = None,
) -> Image.Image:
    """Lines of text, each (text, type size, colour), shortened to ``limit`` pixels.

    Args:
        lines: what to write.
        limit: width of the block.
        bold_first: whether the first line is bold.
        align: of every line.
        rows: height in lines, where the block shall be as high as its neighbours.
    """
    spare = max(0, (rows or 0) - len(lines)) * line_height(SMALL)
    out = Image.new("RGB", (limit, sum(line_height(size) for _, size, _ in lines) + spare), PAPER)
    draw = ImageDraw.Draw(out)
    x = {"left": 0.0, "center": limit / 2, "right": float(limit)}[align]
    y = 0
    for i, (text, size, colour) in enumerate(lines):
        draw_text(draw, (x, y), shorten(text, size, limit - 1), size, colour, align, bold_first and i == 0)
        y += line_height(size)
    return out


def page(
    title: str,
    subtitle: str,
    body: Image.Image,
    footer: Sequence[str] = (),
    sizes: tuple[int, int, int] = (TITLE, TEXT, SMALL),
) -> Image.Image:
    """``body`` with margins, under a title and above small print; as wide as the body or a short title.

    Args:
        title: one line; "" = none.
        subtitle: one line; "" = none.
        body: the pictures.
        footer: sentences; long ones are broken into up to three lines.
        sizes: type sizes of title, subtitle and footer.
    """
    wanted = max((width(t, s) for t, s in ((title, sizes[0]), (subtitle, sizes[1]))), default=0.0)
    inner = max(body.width, min(round(wanted) + 2, 520))
    blocks = []
    heading = [(t, s, c) for t, s, c in ((title, sizes[0], INK), (subtitle, sizes[1], MUTED)) if t]
    if heading:
        blocks.append(lines_block(heading, inner, bold_first=bool(title)))
    blocks.append(body)
    if footer:
        small = [part for sentence in footer for part in wrap(sentence, sizes[2], inner - 1, 3)]
        blocks.append(lines_block([(line, sizes[2], MUTED) for line in small], inner))
    content = stack(blocks, GAP - 2)
    out = Image.new("RGB", (inner + 2 * MARGIN, content.height + 2 * MARGIN - TIGHT), PAPER)
    out.paste(content, (MARGIN, MARGIN - TIGHT))
    return out
