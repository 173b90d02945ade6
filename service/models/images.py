"""Encoded pictures (or decoded arrays) to raw uint8 pixels, with a cap on pixels read from the header.

What comes out is what the person saw: turned by EXIF, the first frame of an animation, 16 bits scaled to 8,
transparency laid over white. Resizing is :mod:`service.models.resize`.
"""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from graph_tools.errors import InvalidRequest
from service.types import Array

MAX_PIXELS = 32_000_000
FORMATS = ("PNG", "JPEG", "WEBP")
EXTRA_FORMATS = ("BMP", "GIF")

# Pillow only warns between 89 and 179 megapixels, and decodes.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

_SIGNATURES = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "SVG or XML",
    b"\x93NUMPY": "a NumPy .npy file: pass it as a tensor",
}


def decode(
    source: bytes | Array,
    channels: int = 3,
    *,
    field: str = "image",
    max_pixels: int = MAX_PIXELS,
    extra: bool = False,
) -> Array:
    """One picture as raw pixels.

    Args:
        source: an encoded PNG, JPEG or WebP, or a uint8 array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4].
        channels: 3 = RGB, 1 = grey by ITU-R 601 (L = 0.299 R + 0.587 G + 0.114 B).
        field: path of the field in the request, for the error.
        max_pixels: larger pictures are refused before a pixel is decoded.
        extra: read BMP and GIF too (files of the person at the command line, not of a remote caller).

    Returns:
        uint8 [H, W, channels], C-contiguous, in grey levels 0-255. Transparent parts are laid over white;
        16-bit grey is scaled by 255/65535 and rounded; CMYK is converted without a colour profile.

    Raises:
        InvalidRequest: empty, not a picture, another format, truncated, too many pixels, or an array of
            another dtype or shape.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, not {channels}")
    if isinstance(source, np.ndarray):
        rgb = _from_array(source, field, max_pixels)
    else:
        rgb = _from_bytes(source, field, max_pixels, FORMATS + EXTRA_FORMATS if extra else FORMATS)
    return grey(rgb) if channels == 1 else rgb


def grey(rgb: Array) -> Array:
    """uint8 [H, W, 3] to [H, W, 1] by ITU-R 601; a grey picture keeps its levels exactly."""
    return np.asarray(Image.fromarray(rgb).convert("L"))[..., None]


def _from_array(array: Array, field: str, max_pixels: int) -> Array:
    shape = list(array.shape)
    if array.dtype != np.uint8:
        raise InvalidRequest(field, f"pixels must be uint8 (0-255), not {array.dtype}; pass other numbers as a tensor")
    if not (array.ndim == 2 or (array.ndim == 3 and shape[2] in (1, 3, 4))) or 0 in shape:
        raise InvalidRequest(
            field, f"pixels must have the shape [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], not {shape}"
        )
    _check_size(shape[1], shape[0], field, max_pixels)
    if array.ndim == 2 or shape[2] == 1:
        return np.repeat(array.reshape(shape[0], shape[1], 1), 3, axis=2)
    if shape[2] == 4:
        return _rgb(Image.fromarray(np.ascontiguousarray(array)))
    return np.ascontiguousarray(array)


def _from_bytes(data: bytes, field: str, max_pixels: int, formats: tuple[str, ...]) -> Array:
    if not data:
        raise InvalidRequest(field, "the image is empty (0 bytes)")
    try:
        picture = Image.open(io.BytesIO(data), formats=list(formats))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _too_large(field, "", max_pixels) from error
    except Exception as error:  # a decoder may raise anything on foreign bytes
        raise InvalidRequest(field, _not_an_image(data, formats)) from error
    with picture:
        _check_size(picture.width, picture.height, field, max_pixels)
        try:
            picture.load()
            return _rgb(_upright(picture))
        except Exception as error:
            kind = picture.format
            raise InvalidRequest(
                field, f"the {kind} is truncated or damaged and cannot be decoded ({len(data)} bytes)"
            ) from error


def _check_size(width: int, height: int, field: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _too_large(field, f" {width} x {height} = {width * height / 1e6:.1f} megapixels,", max_pixels)


def _too_large(field: str, size: str, max_pixels: int) -> InvalidRequest:
    return InvalidRequest(
        field,
        f"the image has{size} more than the limit of {max_pixels / 1e6:g} megapixels; scale it down first",
    )


def _not_an_image(data: bytes, formats: tuple[str, ...]) -> str:
    names = ", ".join("WebP" if f == "WEBP" else f for f in formats)
    start = data[:64].lstrip()
    kind = next((k for s, k in _SIGNATURES.items() if start.startswith(s)), "")
    if data[4:8] == b"ftyp":
        kind = "AVIF, HEIC or a video"
    elif data[8:12] == b"WEBP":
        kind = "WEBP"
    if kind in formats:
        return f"the {kind} is truncated or damaged: its header cannot be read ({len(data)} bytes)"
    seen = f"they look like {kind}" if kind else f"they begin with {data[:8]!r}"
    return f"these {len(data)} bytes are no image in a format read here ({names}); {seen}"


def _upright(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says; a picture with unreadable EXIF stays as it is."""
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(picture, in_place=True)
    return picture


def _rgb(picture: Image.Image) -> Array:
    if picture.mode.startswith(("I", "F")):
        levels = np.clip(np.asarray(picture).astype(np.float64), 0, 65535)
        return np.repeat(np.rint(levels * (255 / 65535)).astype(np.uint8)[..., None], 3, axis=2)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
