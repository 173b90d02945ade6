"""One picture of a panel or sheet: the caller's photo at a size to look at, and a map laid over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from graph_tools.errors import InvalidRequest
from service.pictures.geometry import inside_crop, resample, stretched, to_original
from service.pictures.heatmap import Scale, checked_map, overlay, scale_of
from service.pictures.style import ALPHA, TINY
from service.types import Array, Attribution, Geometry, ItemResult

SPARSE = 99.5  # percentile for unsigned maps per pixel: a few extreme gradients would leave the rest black
DIMMED = 0.45  # brightness of the photo under such a map


@dataclass(frozen=True)
class Photo:
    """The caller's image as it is shown.

    Attributes:
        pixels: uint8 [h, w, 3], as shown.
        factor: whole enlargement of every pixel; 0 where it was resized smoothly.
        geometry: from the caller's image to the model's input.
    """

    pixels: Array
    factor: int
    geometry: Geometry

    def lay(self, values: Array) -> Array:
        """A map at the model's input on the shown pixels: float32 [h, w], 0 outside the crop."""
        if self.factor:
            return _repeat(to_original(values, self.geometry), self.factor)
        return to_original(values, self.geometry, size=self.pixels.shape[:2])

    def inside(self) -> Array:
        """Where the model saw the photo: bool [h, w]."""
        if self.factor:
            return _repeat(inside_crop(self.geometry), self.factor)
        return inside_crop(self.geometry, self.pixels.shape[:2])


def photo_of(item: ItemResult, box: int) -> Photo | None:
    """The image of ``item``, enlarged or reduced to fit ``box`` x ``box``; None for tensor inputs.

    Images up to 64 pixels are enlarged by a whole factor without smoothing.
    """
    source = item.original if item.original is not None else item.image
    if source is None:
        return None
    image = rgb(source)
    height, width = image.shape[:2]
    geometry = item.geometry if item.original is not None else None
    geometry = geometry or stretched((height, width))
    if geometry.original != (height, width):
        raise InvalidRequest(
            "geometry.original",
            f"is {geometry.original}, but the image is {height} x {width} (height x width)",
        )
    longest = max(height, width)
    if longest <= min(TINY, box):
        factor = box // longest
        return Photo(_repeat(image, factor), factor, geometry)
    filter_ = Image.Resampling.LANCZOS if longest > box else Image.Resampling.BICUBIC
    size = (max(1, round(width * box / longest)), max(1, round(height * box / longest)))
    shown = Image.fromarray(image).resize(size, filter_)
    return Photo(np.asarray(shown), 0, geometry)


def map_scale(attribution: Attribution) -> Scale:
    """The scale of an attribution: its maximum; for maps per pixel the 99.5th percentile."""
    return scale_of(attribution.values, attribution.signed, SPARSE if per_pixel(attribution) else None)


def per_pixel(attribution: Attribution) -> bool:
    """Whether the map is a number per pixel without a sign, like gradients: fine grain, few large values."""
    return not attribution.signed and not attribution.layer and attribution.values.ndim == 2


def map_over(
    photo: Photo,
    attribution: Attribution,
    scale: Scale,
    *,
    alpha: float = ALPHA,
    outline: Array | None = None,
) -> Image.Image:
    """The attribution over the photo; what the model did not see is faded and hatched.

    Args:
        photo: see :func:`photo_of`.
        attribution: [h, w] at the model's input size or coarser.
        scale: see :func:`map_scale`.
        alpha: opacity of the strongest value; unsigned maps per pixel: at least 0.95, on a darkened photo.
        outline: bool, of the caller's image: drawn as a white line around the region.
    """
    values = photo.lay(checked_map(attribution.values))
    under = photo.pixels
    if per_pixel(attribution) and not scale.flat:  # fine grain is lost on a bright photo
        under = np.rint(under * DIMMED).astype(np.uint8)
        alpha = max(alpha, 0.95)
    shown = overlay(under, values, alpha=alpha, scale=scale)
    if outline is not None:
        shown = _outlined(shown, outline)
    inside = photo.inside()
    return Image.fromarray(shown if inside.all() else np.where(inside[..., None], shown, _unseen(photo.pixels)))


def rgb(image: Array) -> Array:
    """uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] as uint8 [H, W, 3] (alpha over white)."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise InvalidRequest(
            "image", f"is {image.dtype} {list(image.shape)}; pictures need uint8 [H, W] or [H, W, 1|3|4]"
        )
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] == 4:
        opacity = image[..., 3:] / 255.0
        image = np.rint(image[..., :3] * opacity + 255 * (1 - opacity)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _repeat(values: Array, factor: int) -> Array:
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def _unseen(shown: Array) -> Array:
    """Faded towards white, with thin diagonal lines every 8 pixels."""
    faded = 255 - (255 - shown.astype(np.float32)) * 0.38
    row, column = np.indices(shown.shape[:2])
    line = ((row + column) % 8 == 0)[..., None]
    return np.rint(np.where(line, faded * 0.84, faded)).astype(np.uint8)


def _outlined(shown: Array, region: Array) -> Array:
    """A white line with a dark rim around ``region`` (bool [H, W] of any size)."""
    inside = resample(region.astype(np.float32), shown.shape[:2]) > 0.5
    once = _grown(inside)
    twice = _grown(_grown(once))
    out = np.where((twice & ~inside)[..., None], np.uint8(40), shown)
    return np.where((_grown(once) & ~inside)[..., None], np.uint8(255), out)


def _grown(region: Array) -> Array:
    """``region`` and its four neighbours."""
    padded = np.pad(region, 1)
    return np.asarray(padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:])
