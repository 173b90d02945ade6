"""Maps as colours: one scale per map, stated in numbers; over a photo the map's strength is its opacity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graph_tools.errors import InvalidRequest
from service.pictures import colormaps
from service.pictures.geometry import resample
from service.pictures.style import ALPHA
from service.types import Array

FLAT = 1e-6  # spread / largest value at or below which a map is flat: float32 rounding is 1.2e-7 a step
ZERO = 1e-30  # largest value at or below which a map is zero: near the end of float32's normal range


@dataclass(frozen=True)
class Scale:
    """Which numbers the ends of the colour map stand for.

    Attributes:
        low, high: value of the first and the last colour: 0 and ``high``, signed −``high`` and ``high``.
        signed: whether negative values have a meaning; zero is then the middle of the colour map.
        minimum, maximum: the map's own extremes; values beyond ``low`` and ``high`` get the end colours.
        flat: all values are the same: there is nothing to see, and no contrast is made up.
    """

    low: float
    high: float
    signed: bool
    minimum: float
    maximum: float
    flat: bool = False

    @property
    def clipped(self) -> bool:
        """Whether some values lie beyond the ends by more than the three digits that are shown."""
        margin = 1e-3 * self.high
        return self.maximum > self.high + margin or (self.signed and self.minimum < self.low - margin)

    def unit(self, values: Array) -> Array:
        """``values`` as positions on the colour map: float32 in 0..1 (signed: 0.5 = zero)."""
        if self.flat:
            return np.full(np.shape(values), 0.5 if self.signed else 0.0, np.float32)
        at = (np.asarray(values, np.float64) - self.low) / (self.high - self.low)
        return np.clip(at, 0.0, 1.0).astype(np.float32)

    def strength(self, values: Array) -> Array:
        """Distance from zero as a share of ``high``: float32 in 0..1; 0 everywhere where the map is flat."""
        at = self.unit(values)
        return np.abs(2 * at - 1) if self.signed else at


def scale_of(values: Array, signed: bool = False, percentile: float | None = None) -> Scale:
    """The scale of one map.

    Unsigned: 0 to the largest value (or to ``percentile``). Signed: symmetric around zero, to the 99.5th
    percentile of the absolute values (or ``percentile``), so that single extreme pixels do not wash out the
    rest. Where the percentile itself is zero (few pixels are not), the largest value is taken.

    Args:
        values: float, any shape; negative values of an unsigned map count as zero.
        signed: whether the map says "for" and "against".
        percentile: 0..100 of the values that the scale has to cover.

    Raises:
        InvalidRequest: no values, or NaN or infinite ones.
    """
    checked(values)
    low, high = float(np.min(values)), float(np.max(values))
    size = np.abs(values) if signed else np.maximum(values, 0)
    top = float(np.max(size))
    largest = max(abs(low), abs(high))
    if top <= ZERO or high - low <= FLAT * largest:
        return Scale(-1.0 if signed else 0.0, 1.0, signed, low, high, flat=True)
    share = percentile if percentile is not None else 99.5 if signed else 100.0
    end = float(np.percentile(size, share))
    end = end if end > FLAT * top else top
    return Scale(-end if signed else 0.0, end, signed, low, high)


def checked(values: Array) -> Array:
    """``values``, if they can be drawn.

    Raises:
        InvalidRequest: no values, not numbers, or NaN or infinite ones among them.
    """
    if np.size(values) == 0:
        raise InvalidRequest("attribution.values", f"is empty: shape {list(np.shape(values))}")
    if not np.issubdtype(values.dtype, np.number) or np.issubdtype(values.dtype, np.complexfloating):
        raise InvalidRequest("attribution.values", f"is {values.dtype}; a picture needs real numbers")
    bad = int(np.size(values) - np.isfinite(values).sum())
    if bad:
        raise InvalidRequest(
            "attribution.values",
            f"{bad} of {np.size(values)} values are NaN or infinite; such a map is not drawn. "
            "Look at the raw values (.npy) and at the model's own output on this input",
        )
    return values


def checked_map(values: Array) -> Array:
    """``values``, if they are [height, width] and can be drawn; else raises as :func:`checked` does."""
    if values.ndim != 2:
        raise InvalidRequest("attribution.values", f"has shape {list(values.shape)}; a heat map needs [height, width]")
    return checked(values)


def heatmap(
    values: Array,
    signed: bool = False,
    *,
    size: tuple[int, int] | None = None,
    nearest: bool = False,
    percentile: float | None = None,
    scale: Scale | None = None,
) -> Array:
    """A map in colours, without a photo.

    Args:
        values: float [h, w].
        signed: red for, blue against, white zero; else dark to bright.
        size: (height, width) of the picture; None = [h, w].
        nearest: enlarge with sharp squares instead of smoothly.
        percentile: see :func:`scale_of`.
        scale: the scale to use, where several maps are to be compared.

    Returns:
        uint8 [size, 3].

    Raises:
        InvalidRequest: not [h, w]; empty; NaN or infinite values.
    """
    values = checked_map(values)
    scale = scale or scale_of(values, signed, percentile)
    shown = resample(values, size, nearest=nearest) if size else values
    return colormaps.apply(scale.unit(shown), "signed" if scale.signed else "heat")


def overlay(
    image: Array,
    values: Array,
    signed: bool = False,
    *,
    alpha: float = ALPHA,
    scale: Scale | None = None,
) -> Array:
    """A map over a photo: opacity = alpha · strength, so that where the map is zero the photo is untouched.

    Args:
        image: uint8 [H, W, 3].
        values: float [h, w], stretched to the image (see :func:`geometry.to_original` for a cropped one).
        signed: red for, blue against; else the dark-to-bright map.
        alpha: opacity of the strongest value, 0..1.
        scale: the scale to use; None = the map's own.

    Returns:
        uint8 [H, W, 3].

    Raises:
        InvalidRequest: shapes that are not as above; NaN or infinite values; ``alpha`` outside 0..1.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InvalidRequest("image", f"is {image.dtype} {list(image.shape)}; an overlay needs uint8 [H, W, 3]")
    if not 0.0 <= alpha <= 1.0:
        raise InvalidRequest("alpha", f"{alpha} is out of range: 0 to 1")
    values = checked_map(values)
    scale = scale or scale_of(values, signed)
    height, width = image.shape[:2]
    shown = values if values.shape == (height, width) else resample(values, (height, width))
    colours = colormaps.apply(scale.unit(shown), "signed" if scale.signed else "heat")
    opacity = (alpha * scale.strength(shown))[..., None]
    mixed = image * (1.0 - opacity) + colours * opacity
    return np.rint(mixed).astype(np.uint8)
