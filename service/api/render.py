"""The picture beside a map, for requests that ask for one."""

from __future__ import annotations

import dataclasses

from PIL import Image

from graph_tools.errors import InvalidRequest
from service.api.codec.requests import Render
from service.pictures.grid import channel_grid
from service.pictures.heatmap import heatmap
from service.pictures.panel import explanation_picture
from service.pictures.png import to_png
from service.pictures.style import ALPHA
from service.pictures.tile import map_over, map_scale, photo_of
from service.types import Attribution, ExplainResult, ItemResult, LayerActivations

LONGEST = 1024  # side of an overlay that nobody gave a size: a photo from a camera would be tens of megabytes


class Drawing:
    """Draws the parts of one result.

    Attributes:
        notes: why a part has no picture.
    """

    def __init__(self, render: Render, result: ExplainResult) -> None:
        """What is asked for, and the result that is drawn."""
        self._render, self._result = render, result
        self._metadata = {"model": result.model, "digest": result.digest, "method": result.method}
        self.notes: list[str] = []

    def __call__(self, item: ItemResult, part: Attribution | LayerActivations) -> bytes | None:
        """PNG of a map or a layer of ``item``; None, and a note, where the values cannot be drawn."""
        try:
            if isinstance(part, LayerActivations):
                return to_png(channel_grid(part), self._metadata)
            return to_png(self._map(item, part), self._metadata)
        except InvalidRequest as error:
            self.notes.append(f"no picture: {error}")
            return None

    def _map(self, item: ItemResult, part: Attribution) -> Image.Image:
        alpha = ALPHA if self._render.opacity is None else self._render.opacity
        source = item.original if item.original is not None else item.image
        if self._render.style == "heatmap" and part.values.ndim == 2:
            height, width = part.values.shape
            scale = (self._render.max_side or max(height, width)) / max(height, width)
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            return Image.fromarray(heatmap(part.values, size=size, scale=map_scale(part)))
        if self._render.style == "overlay" and source is not None and part.values.ndim == 2:
            photo = photo_of(item, self._render.max_side or min(LONGEST, max(source.shape[:2])))
            if photo is not None:
                return map_over(photo, part, map_scale(part), alpha=alpha)
        alone = dataclasses.replace(item, attributions=(part,))
        return explanation_picture(alone, model=self._result.model, method=self._result.method, alpha=alpha)
