"""What a layer computed for one input, channel by channel, strongest first."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from graph_tools.errors import InvalidRequest
from service.pictures.charts import bar_chart, framed
from service.pictures.geometry import resample
from service.pictures.heatmap import checked, heatmap, scale_of
from service.pictures.layout import beside, page, stack
from service.pictures.legend import legend_bar
from service.pictures.style import BOX, INK, MUTED, PAPER, SMALL, number
from service.pictures.text import draw_text, line_height, shorten, width
from service.types import Array, LayerActivations

CELL = 104  # longest side of one channel's picture
_GAP = 10


def channel_grid(
    activations: LayerActivations, *, top: int = 64, columns: int = 8, title: str = "", subtitle: str = ""
) -> Image.Image:
    """The strongest channels of a layer as small pictures; a layer without space as a bar chart.

    Every channel has its own scale (its energy is written under it): the question is *where* it is active,
    and on a common scale the strongest would hide the rest. Layers with negative values are red and blue.

    Args:
        activations: one layer, one input.
        top: most channels to draw.
        columns: channels side by side.
        title: "" = the layer's name.
        subtitle: "" = shape, share of zeros and how many channels are shown.

    Returns:
        RGB picture.

    Raises:
        InvalidRequest: ``top`` or ``columns`` below 1; NaN or infinite values; more channels than values.
    """
    if top < 1 or columns < 1:
        raise InvalidRequest("top" if top < 1 else "columns", f"{min(top, columns)} is out of range: at least 1")
    values = checked(np.asarray(activations.values))
    names = [int(c) for c in activations.channels[:top]]
    if values.ndim in (1, 3) and len(values) < len(names):
        raise InvalidRequest(
            "activations.channels", f"names {len(names)} channels, but layer {activations.layer!r} has {len(values)}"
        )
    footer = []
    if values.ndim == 3:
        footer.append("Channel number and energy (mean square). Every channel has its own scale.")
        body = _grid(values, activations, names, columns)
    elif values.ndim == 1:
        body = bar_chart(values[: len(names)], [str(c) for c in names], (BOX, BOX), coloured=bool((values < 0).any()))
    else:
        body = _field(values)
    return page(title or activations.layer, subtitle or _summary(activations, len(names)), body, footer)


def _grid(values: Array, activations: LayerActivations, names: list[int], columns: int) -> Image.Image:
    signed = bool(values.min() < 0)
    height, width_ = values.shape[1:]
    longest = max(height, width_)
    factor = CELL / longest if longest > CELL else CELL // longest
    size = (max(3, round(height * factor)), max(3, round(width_ * factor)))  # 3: a hairline on both sides
    cells = [_cell(values[i], f"{c}", number(float(activations.energy[i])), signed, size) for i, c in enumerate(names)]
    rows = [beside(cells[i : i + columns], _GAP) for i in range(0, len(cells), columns)]
    return stack(rows, _GAP)


def _cell(plane: Array, label: str, energy: str, signed: bool, size: tuple[int, int]) -> Image.Image:
    scale = scale_of(plane, signed)
    enlarged = size[0] >= plane.shape[0]
    picture = framed(Image.fromarray(heatmap(plane, size=size, nearest=enlarged, scale=scale)))
    out = Image.new("RGB", (max(size[1], 84), size[0] + line_height(SMALL) + 2), PAPER)
    out.paste(picture, (0, 0))
    draw = ImageDraw.Draw(out)
    y = size[0] + 2
    draw_text(draw, (0, y), label, SMALL, INK, bold=True)
    note = f"flat {number(scale.maximum)}" if scale.flat else energy
    room = out.width - width(label, SMALL) - 6
    draw_text(draw, (out.width, y), shorten(note, SMALL, room), SMALL, MUTED, "right")
    return out


def _field(values: Array) -> Image.Image:
    """A tensor without channels: its last axis from left to right, all others from top to bottom."""
    plane = values.reshape(-1, values.shape[-1]) if values.ndim else values.reshape(1, 1)
    signed = bool(plane.min() < 0)
    scale = scale_of(plane, signed)
    height = min(3 * BOX, max(24, round(2 * BOX * plane.shape[0] / plane.shape[1])))
    size = (height, 2 * BOX)
    smaller = plane.shape[0] < size[0] and plane.shape[1] < size[1]
    shown = resample(plane, size, nearest=smaller)
    picture = framed(Image.fromarray(heatmap(shown, scale=scale)))
    return stack([picture, legend_bar(scale, picture.width, names=("", ""))])


def _summary(activations: LayerActivations, shown: int) -> str:
    shape = activations.values.shape
    zeros = f"{number(round(100 * activations.sparsity, 1))} % zeros"
    total = activations.total or shape[0]
    which = f"the {shown} strongest" if shown < total else "all, strongest first"
    if len(shape) == 3:
        return f"{total} channels of {shape[2]} x {shape[1]} · {zeros} · {which}"
    if len(shape) == 1:
        return f"{total} values · {zeros} · {which}"
    return f"{' x '.join(map(str, shape))} values · {zeros}"
