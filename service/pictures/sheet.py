"""The contact sheet: one row per scene, its maps by every method for every class, its strongest classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from graph_tools.errors import InvalidRequest
from service.pictures.charts import framed, letterboxed
from service.pictures.layout import beside, lines_block, page, stack
from service.pictures.legend import ramp
from service.pictures.panel import target_block, words
from service.pictures.predictions import predictions_block
from service.pictures.style import (
    HAIRLINE,
    INK,
    MUTED,
    PAPER,
    SHEET_BOX,
    SMALL,
)
from service.pictures.text import draw_text, line_height, shorten, width
from service.pictures.tile import Photo, map_over, map_scale, photo_of
from service.types import Array, Attribution, ItemResult

_TEXT = 15
_HEAD = 17
_SIZES = (25, 16, 14)  # title, line under it, small print
_GAP = 10  # between maps of one method
_GROUP = 26  # between methods
_PREDICTIONS = 236
_LEAST = (48, 24)  # height and width a photo is letterboxed to: more than the tag of a flat map


@dataclass(frozen=True)
class SheetRow:
    """One scene.

    Attributes:
        name: written above the input, for example ``Scene 1``.
        items: registry name of the method -> its result; the same methods with as many maps in every row.
        outlines: class index -> bool [H, W] of the caller's image: where that object is; a white line.
    """

    name: str
    items: Mapping[str, ItemResult]
    outlines: Mapping[int, Array] = field(default_factory=dict)


def contact_sheet(
    rows: Sequence[SheetRow],
    *,
    title: str = "",
    subtitle: str = "",
    footer: Sequence[str] = (),
    box: int = SHEET_BOX,
) -> Image.Image:
    """All scenes on one page.

    Args:
        rows: scenes; every item carries the caller's image.
        title: above the page.
        subtitle: under the title.
        footer: small print.
        box: longest side of a picture, pixels.

    Returns:
        RGB picture.

    Raises:
        InvalidRequest: no rows, rows with different methods or numbers of maps, or an item without an image.
    """
    layout = _layout(rows)
    blocks = [_row(row, box) for row in rows]
    head = _heads(layout, box, blocks[0].width)
    body = stack([head, *blocks], 18)
    signed = {a.signed for row in rows for item in row.items.values() for a in item.attributions}
    keys = [_key(kind) for kind in (False, True) if kind in signed]
    body = stack([body, beside(keys, 2 * _GROUP)], 18) if keys else body
    notes = list(footer)
    if any(row.outlines for row in rows):
        notes.append("White line: the object itself, known because the scene is drawn.")
    return page(title, subtitle, body, notes, _SIZES)


def _layout(rows: Sequence[SheetRow]) -> dict[str, int]:
    """Method -> number of maps, the same for all rows."""
    if not rows:
        raise InvalidRequest("rows", "a contact sheet needs at least one row")
    layouts = [{method: len(item.attributions) for method, item in row.items.items()} for row in rows]
    if not layouts[0] or any(list(layout.items()) != list(layouts[0].items()) for layout in layouts):
        raise InvalidRequest(
            "rows", f"every row needs the same methods in the same order with as many maps; found {layouts}"
        )
    return layouts[0]


def _heads(layout: Mapping[str, int], box: int, total: int) -> Image.Image:
    """The names of the methods over their columns, with a rule under each group."""
    out = Image.new("RGB", (total, line_height(_HEAD) + 8), PAPER)
    draw = ImageDraw.Draw(out)
    x = 0
    for name, n in [("Input", 1), *((words(method), n) for method, n in layout.items()), ("Predictions", 0)]:
        span = n * box + (n - 1) * _GAP if n else total - x
        draw_text(draw, (x, 0), name, _HEAD, INK, bold=True)
        draw.line((x, out.height - 1, x + span - 1, out.height - 1), fill=HAIRLINE, width=1)
        x += span + _GROUP
    return out


def _row(row: SheetRow, box: int) -> Image.Image:
    items = list(row.items.values())
    photo = photo_of(items[0], box)
    if photo is None:
        raise InvalidRequest("rows", f"{row.name!r} has no image; a contact sheet needs the caller's image")
    name = lines_block([(row.name, _TEXT, MUTED)], box)
    groups = [stack([name, _centred(letterboxed(Image.fromarray(photo.pixels), _LEAST), box)])]
    for item in items:
        maps = [_map(photo, a, row.outlines.get(a.target.index), box) for a in item.attributions]
        groups.append(beside(maps, _GAP))
    scores = next((item.predictions for item in items if item.predictions), ())
    targets = [a.target for item in items for a in item.attributions]
    groups.append(predictions_block(scores, targets, _PREDICTIONS, heading=False, size=_TEXT))
    return beside(groups, _GROUP)


def _map(photo: Photo, attribution: Attribution, outline: Array | None, box: int) -> Image.Image:
    scale = map_scale(attribution)
    name = target_block(attribution.target, box, _TEXT)
    picture = letterboxed(map_over(photo, attribution, scale, outline=outline), _LEAST)
    if scale.flat:
        _tag(picture, "flat: nothing to see")
    return stack([name, _centred(framed(picture), box)])


def _tag(picture: Image.Image, text: str) -> None:
    """A line of text on a pale strip along the lower edge."""
    draw = ImageDraw.Draw(picture)
    top = picture.height - line_height(SMALL) - 4
    draw.rectangle((0, top, picture.width, picture.height), fill=PAPER)
    draw_text(draw, (6, top + 2), shorten(text, SMALL, picture.width - 8), SMALL, MUTED)


def _centred(picture: Image.Image, box: int) -> Image.Image:
    out = Image.new("RGB", (box, picture.height), PAPER)
    out.paste(picture, ((box - picture.width) // 2, 0))
    return out


def _key(signed: bool) -> Image.Image:
    """What the colours mean, for all maps of the sheet."""
    left, right = ("against the class", "for it") if signed else ("0", "strongest")
    bar = Image.fromarray(ramp(signed, 150, 12))
    texts = [round(width(t, _TEXT)) for t in (left, right)]
    out = Image.new("RGB", (sum(texts) + bar.width + 18, line_height(_TEXT)), PAPER)
    draw = ImageDraw.Draw(out)
    draw_text(draw, (0, 0), left, _TEXT, MUTED)
    out.paste(bar, (texts[0] + 8, (out.height - bar.height) // 2))
    draw_text(draw, (texts[0] + bar.width + 16, 0), right, _TEXT, MUTED)
    return out
