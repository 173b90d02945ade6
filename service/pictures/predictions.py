"""The strongest classes as a list of bars; the explained ones marked."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from service.pictures.style import (
    AGAINST,
    BAR,
    FOR,
    HEAD,
    INK,
    MUTED,
    PAPER,
    PREDICTIONS,
    SMALL,
    TEXT,
    TRACK,
    Colour,
    number,
    probability,
)
from service.pictures.text import draw_text, line_height, shorten
from service.pictures.text import width as text_width
from service.types import ResolvedTarget, Score

_BAR_HEIGHT = 8
_ROW_GAP = 9


def predictions_block(
    scores: Sequence[Score],
    targets: Sequence[ResolvedTarget] = (),
    width: int = PREDICTIONS,
    *,
    heading: bool = True,
    size: int = TEXT,
) -> Image.Image:
    """Labels, numbers and bars; targets in red, subtracted classes in blue, targets off the list below it.

    Args:
        scores: strongest first.
        targets: what was explained on this input.
        width: pixels.
        heading: whether ``Top 5`` is written above.
        size: type size of labels and numbers.
    """
    rows = [(s.label or f"class {s.index}", _score_text(s), _share(s, scores), s.index) for s in scores]
    listed = {s.index for s in scores}
    missing = [row for row in _missing(targets, listed) if row[0] not in listed]
    head = line_height(HEAD) + 6 if heading else 0
    row_height = line_height(size) + _BAR_HEIGHT + _ROW_GAP
    height = head + row_height * len(rows) + (line_height(size) + 4) * len(missing) + 2
    picture = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(picture)
    if heading:
        draw_text(draw, (0, 0), f"Top {len(scores)}", HEAD, bold=True)
        draw_text(draw, (width, 1), _unit(scores), SMALL, MUTED, "right")
    y = head
    for label, text, share, index in rows:
        colour = mark_colour(index, targets)
        _row(draw, y, width, label, text, colour, size)
        top = y + line_height(size)
        draw.rectangle((0, top, width - 1, top + _BAR_HEIGHT - 1), fill=TRACK)
        if share > 0:
            draw.rectangle((0, top, max(0, round(share * width) - 1), top + _BAR_HEIGHT - 1), fill=colour or BAR)
        y += row_height
    for index, label in missing:
        _row(draw, y, width, label, f"below top {len(rows)}", mark_colour(index, targets), size)
        y += line_height(size) + 4
    return picture


def mark_colour(index: int, targets: Sequence[ResolvedTarget]) -> Colour | None:
    """Red for a target, blue for a class that is subtracted, None for others."""
    if any(t.index == index for t in targets):
        return FOR
    return AGAINST if any(t.minus_index == index for t in targets) else None


def draw_mark(draw: ImageDraw.ImageDraw, x: float, y: float, size: int, colour: Colour) -> float:
    """A small triangle before a label; returns the width that it takes."""
    middle, half = y + 0.74 * size, 0.30 * size
    draw.polygon([(x, middle - half), (x, middle + half), (x + 1.5 * half, middle)], fill=colour)
    return round(0.75 * size)


def _row(
    draw: ImageDraw.ImageDraw, y: int, width: int, label: str, text: str, colour: Colour | None, size: int
) -> None:
    x = draw_mark(draw, 0, y, size, colour) if colour else 0
    room = width - x - text_width(text, size) - size
    draw_text(draw, (x, y), shorten(label, size, room), size, colour or INK)
    draw_text(draw, (width, y), text, size, INK if colour and not text.startswith("below") else MUTED, "right")


def _missing(targets: Sequence[ResolvedTarget], listed: set[int]) -> list[tuple[int, str]]:
    """Explained classes that are not among the scores, each once."""
    named = [(t.index, t.label) for t in targets]
    named += [(t.minus_index, t.minus_label) for t in targets if t.minus_index is not None]
    return [(i, label or f"class {i}") for i, label in dict(named).items() if i not in listed]


def _score_text(score: Score) -> str:
    if score.probability is not None:
        return probability(score.probability)
    return number(score.logit) if score.logit is not None else ""


def _unit(scores: Sequence[Score]) -> str:
    if not scores:
        return ""
    return "probability" if all(s.probability is not None for s in scores) else "logit"


def _share(score: Score, scores: Sequence[Score]) -> float:
    """Length of the bar, 0..1: the probability, or the logit as a share of the largest positive one."""
    if score.probability is not None:
        return min(1.0, max(0.0, score.probability))
    largest = max((s.logit for s in scores if s.logit is not None), default=0.0)
    return max(0.0, score.logit / largest) if score.logit is not None and largest > 0 else 0.0
