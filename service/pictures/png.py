"""PNG bytes that say where they come from."""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import Image, PngImagePlugin

from graph_tools.errors import InvalidRequest


def to_png(image: Image.Image, metadata: Mapping[str, str] | None = None) -> bytes:
    """``image`` as PNG; every entry of ``metadata`` becomes a text chunk (iTXt where it is not Latin-1).

    The same picture and metadata give the same bytes: no time, no machine.

    Args:
        image: any mode that PNG can hold.
        metadata: for example model, digest, method, target; keys are 1–79 printable ASCII characters.

    Raises:
        InvalidRequest: a key that PNG does not allow.
    """
    info = PngImagePlugin.PngInfo()
    for key, value in (metadata or {}).items():
        if not (1 <= len(key) <= 79 and key.isascii() and key.isprintable() and key == key.strip()):
            raise InvalidRequest(
                "metadata", f"{key!r} cannot be the key of a PNG text: 1 to 79 printable ASCII characters"
            )
        info.add_text(key, value.replace("\0", ""))
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=info, optimize=False, compress_level=6)
    return out.getvalue()


def read_metadata(png: bytes) -> dict[str, str]:
    """The text chunks of a PNG."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        image.load()
        return {str(k): v for k, v in image.info.items() if isinstance(v, str)}
