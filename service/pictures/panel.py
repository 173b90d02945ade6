"""One explanation as a picture: the input, a map per target with its legend, and the strongest classes."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from graph_tools.errors import InvalidRequest
from service.pictures.charts import as_bars, empty, framed, letterboxed, tensor_picture
from service.pictures.layout import beside, lines_block, page, stack
from service.pictures.legend import legend_bar
from service.pictures.predictions import draw_mark, predictions_block
from service.pictures.style import (
    AGAINST,
    ALPHA,
    BOX,
    BOX_MANY,
    FOR,
    GAP,
    HEAD,
    INK,
    MUTED,
    PAPER,
    SMALL,
    TEXT,
    number,
)
from service.pictures.text import draw_text, line_height, shorten, width
from service.pictures.tile import Photo, map_over, map_scale, photo_of
from service.types import Attribution, ItemResult, ResolvedTarget

IN_A_ROW = 6  # pictures side by side before a new row begins
_NARROW = 150  # narrowest column: room for a legend and a label
_LEAST = (24, _NARROW)  # height and width a photo is letterboxed to


def explanation_picture(
    item: ItemResult,
    *,
    model: str,
    method: str,
    title: str = "",
    attributions: Sequence[int] | None = None,
    alpha: float = ALPHA,
    footer: Sequence[str] = (),
) -> Image.Image:
    """Input, maps and predictions of one input, side by side.

    Args:
        item: one input of a result. Without an image its maps are drawn as bars, strips or fields of colour.
        model: name of the model, for the line under the title.
        method: registry name of the method.
        title: "" = the method in words.
        attributions: which maps, in this order; None = all.
        alpha: opacity of the strongest value over the photo, 0..1; see :func:`tile.map_over`.
        footer: small print.

    Returns:
        RGB picture.

    Raises:
        InvalidRequest: an attribution that is not there; NaN or infinite values; an image that is not uint8.
    """
    chosen = _chosen(item.attributions, attributions)
    box = BOX if len(chosen) <= 2 else BOX_MANY
    photo = photo_of(item, box)
    layers = {a.layer for a in chosen}
    head_rows = max([_head_rows(a, _column_width(photo, box), len(layers) > 1) for a in chosen], default=2)
    columns = [_input_column(photo, head_rows)] if photo else []
    columns += [_map_column(photo, a, box, head_rows, len(layers) > 1, alpha) for a in chosen]
    first = columns[: IN_A_ROW + 1]
    if item.predictions:
        first = [*first, predictions_block(item.predictions, [a.target for a in chosen])]
    rows = [first] + [columns[i : i + IN_A_ROW + 1] for i in range(IN_A_ROW + 1, len(columns), IN_A_ROW + 1)]
    rows = [row for row in rows if row] or [[empty((64, BOX), "no maps and no predictions")]]
    subtitle = f"model {model}" + (f" · layer {layers.pop()}" if len(layers) == 1 and any(layers) else "")
    notes = list(footer)
    if photo and chosen and not photo.inside().all():
        notes.append("Hatched: cut off by the model's crop; the model did not see it.")
    return page(title or words(method), subtitle, stack([beside(row) for row in rows], GAP), notes)


def words(method: str) -> str:
    """A method's registry name as a title: ``grad_cam`` -> ``Grad-CAM``."""
    upper = {
        "cam": "CAM",
        "lrp": "LRP",
        "ig": "IG",
        "rise": "RISE",
        "lime": "LIME",
        "shap": "SHAP",
        "pp": "++",
    }
    text = " ".join(upper.get(word, word) for word in method.split("_"))
    text = text.replace(" CAM", "-CAM").replace(" ++", "++")
    return text[:1].upper() + text[1:]


def target_lines(target: ResolvedTarget, limit: float, size: int = TEXT) -> list[list[tuple[str, str]]]:
    """``A − B`` in one line or two, each as runs of (``for``, ``minus`` or ``against``, text)."""
    label = target.label or f"class {target.index}"
    if target.minus_index is None:
        return [[("for", label)]]
    other = target.minus_label or f"class {target.minus_index}"
    if width(f"{label} − {other}", size) + size <= limit:
        return [[("for", label), ("minus", " − "), ("against", other)]]
    return [[("for", label)], [("minus", "− "), ("against", other)]]


def target_block(target: ResolvedTarget, limit: int, size: int = TEXT) -> Image.Image:
    """The target's name, ``limit`` wide: the class in red after a triangle, a subtracted class in blue."""
    lines = target_lines(target, limit, size)
    out = Image.new("RGB", (limit, line_height(size) * len(lines)), PAPER)
    draw = ImageDraw.Draw(out)
    for i, runs in enumerate(lines):
        y = i * line_height(size)
        x = draw_mark(draw, 0, y, size, FOR) if i == 0 else 0.0
        for kind, text in runs:
            colour = {"for": FOR, "minus": INK, "against": AGAINST}[kind]
            shown = text if kind == "minus" else shorten(text, size, limit - x - 1)
            draw_text(draw, (x, y), shown, size, colour)
            x += width(text, size)
    return out


def _chosen(attributions: Sequence[Attribution], indices: Sequence[int] | None) -> list[Attribution]:
    if indices is None:
        return list(attributions)
    for i in indices:
        if not 0 <= i < len(attributions):
            raise InvalidRequest("attributions", f"{i} is out of range: this item has {len(attributions)} maps")
    return [attributions[i] for i in indices]


def _column_width(photo: Photo | None, box: int) -> int:
    return max(photo.pixels.shape[1], _NARROW) if photo else box


def _head_rows(attribution: Attribution, limit: int, with_layer: bool) -> int:
    target = attribution.target
    rows = len(target_lines(target, limit)) + (target.value is not None)
    return rows + (with_layer and bool(attribution.layer))


def _input_column(photo: Photo, head_rows: int) -> Image.Image:
    height, width_ = photo.geometry.original
    lines = [("Input", HEAD, INK), (f"{width_} x {height} pixels", SMALL, MUTED)]
    head = lines_block(lines, _column_width(photo, 0), bold_first=True, rows=max(2, head_rows))
    return stack([head, letterboxed(Image.fromarray(photo.pixels), _LEAST)])


def _map_column(
    photo: Photo | None, attribution: Attribution, box: int, head_rows: int, with_layer: bool, alpha: float
) -> Image.Image:
    limit = _column_width(photo, box)
    scale = map_scale(attribution)
    if photo:
        picture, axes = framed(letterboxed(map_over(photo, attribution, scale, alpha=alpha), _LEAST)), ""
    else:
        picture, axes = tensor_picture(attribution.values, scale, box)
    target = attribution.target
    blocks = [target_block(target, limit)]
    lines = []
    if target.value is not None:
        lines.append((f"score {number(target.value)}" + (f" · {axes}" if axes else ""), SMALL, MUTED))
    elif axes:
        lines.append((axes, SMALL, MUTED))
    if with_layer and attribution.layer:
        lines.append((f"layer {attribution.layer}", SMALL, MUTED))
    used = blocks[0].height + sum(line_height(size) for _, size, _ in lines)
    wanted = line_height(HEAD) + (max(2, head_rows) - 1) * line_height(SMALL)
    if lines:
        blocks.append(lines_block(lines, limit))
    if wanted > used:
        blocks.append(Image.new("RGB", (1, wanted - used), PAPER))
    if photo or not as_bars(attribution.values):
        legend = legend_bar(scale, picture.width)
    else:
        text = "red: for the target · blue: against it" if scale.signed else ""
        legend = lines_block([(text, SMALL, MUTED)], picture.width)
    return stack([stack(blocks, 0), picture, legend])
