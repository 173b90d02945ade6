"""Which input of a model is an image, told from dtype and shape alone (and what the card adds)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from graph_tools.errors import InvalidRequest, UnknownValue
from service.models.card import InputCard, Layout

Dim = int | str | None
Shape = Sequence[Dim] | None

IMAGE_DTYPES = ("float32", "float16", "float64", "uint8", "int8")
_SYNONYMS = {"float": "float32", "double": "float64", "half": "float16"}
_CHANNEL_AXIS: dict[Layout, int] = {"nchw": 1, "nhwc": 3}


@dataclass(frozen=True)
class ImageEntry:
    """The input that takes the image.

    Attributes:
        name: value name.
        dtype: numpy name: float32, float16, float64, uint8 or int8.
        layout: ``nchw`` or ``nhwc``.
        channels: 1 or 3.
        height, width: pixels; None where the file leaves them open.
    """

    name: str
    dtype: str
    layout: Layout
    channels: int
    height: int | None
    width: int | None


def find_entry(inputs: Sequence[tuple[str, str, Shape]], card: InputCard) -> tuple[ImageEntry | None, str]:
    """The image among ``inputs`` (name, dtype, shape).

    Returns:
        The entry and ``""``, or None and the reason in one sentence.

    Raises:
        UnknownValue: the card names an input that does not exist.
        InvalidRequest: the card contradicts the file.
    """
    names = [name for name, _, _ in inputs]
    if card.name and card.name not in names:
        raise UnknownValue("input", card.name, names, "The card's input.name must be one of the model's inputs")
    results = [image_entry(*each, card) for each in inputs if card.name in ("", each[0])]
    entries = [entry for entry, _ in results if entry]
    if len(entries) == 1:
        return entries[0], ""
    if entries:
        several = ", ".join(entry.name for entry in entries)
        return None, f"several inputs could be the image ({several}): name one as input.name in the card"
    return None, results[0][1] if results else "the model has no input"


def image_entry(name: str, dtype: str, shape: Shape, card: InputCard) -> tuple[ImageEntry | None, str]:
    """What the input is as an image: rank 4, 1 or 3 channels on axis 1 (``nchw``) or 3 (``nhwc``).

    Args:
        name: value name.
        dtype: as ONNX, numpy or ONNX Runtime write it (``FLOAT``, ``float32``, ``tensor(float)``).
        shape: with the batch axis first; texts and None are open.
        card: its layout decides where both or neither axis could be the channels; its size fills open sides.

    Returns:
        The entry and ``""``, or None and the reason in one sentence.

    Raises:
        InvalidRequest: the card's layout, channels or size contradict the shape.
    """
    dtype = dtype_name(dtype)
    reason = _no_image(dtype, shape)
    if reason or shape is None:
        return None, f"input {name!r} is no image: {reason}"
    layout, reason = (card.layout, "") if card.layout else _layout(shape)
    if layout is None:
        return None, f"input {name!r} is no image: {reason}"
    channels = _channels(shape[_CHANNEL_AXIS[layout]], card, layout, shape)
    sides = shape[2:4] if layout == "nchw" else shape[1:3]
    height, width = (side if isinstance(side, int) else None for side in sides)
    entry = _filled(ImageEntry(name, dtype, layout, channels, height, width), card)
    thin = [side for side in (entry.height, entry.width) if side == 1]
    return (None, f"input {name!r} is no image: {_text(shape)} is one pixel thin") if thin else (entry, "")


def dtype_name(dtype: str) -> str:
    """``tensor(float)``, ``FLOAT`` or ``float32`` → ``float32``."""
    plain = dtype.lower().removeprefix("tensor(").removesuffix(")")
    return _SYNONYMS.get(plain, plain)


def _no_image(dtype: str, shape: Shape) -> str:
    if shape is None:
        return "its shape is unknown"
    if dtype in ("int32", "int64"):
        return f"{dtype} holds tokens, indices or bytes"
    if dtype not in IMAGE_DTYPES:
        return f"{dtype} is not one of {', '.join(IMAGE_DTYPES)}"
    if len(shape) != 4:
        kinds = {1: "a list of numbers", 2: "a table of features", 3: "a sequence", 5: "a volume or video"}
        return f"{_text(shape)} is {kinds.get(len(shape), 'not four-dimensional')}"
    return ""


def _layout(shape: Sequence[Dim]) -> tuple[Layout | None, str]:
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first != last:
        return ("nchw" if first else "nhwc"), ""
    if first:
        return (
            None,
            f"axes 1 and 3 of {_text(shape)} could both be the channels; give input.layout in the card",
        )
    if any(not isinstance(shape[axis], int) for axis in (1, 3)):
        return None, f"{_text(shape)} leaves the channels open; give input.layout in the card"
    return None, f"{_text(shape)} has neither 1 nor 3 channels on axis 1 or 3"


def _channels(dim: Dim, card: InputCard, layout: Layout, shape: Sequence[Dim]) -> int:
    said = None if card.channels is None else 1 if card.channels == "grey" else 3
    if not isinstance(dim, int):
        return said or 3
    if dim not in (1, 3):
        raise InvalidRequest("input.layout", f"{layout} of {_text(shape)} would mean {dim} channels, not 1 or 3")
    if said not in (None, dim):
        raise InvalidRequest(
            "input.channels", f"{card.channels} means {said} channels, but the model's input has {dim}"
        )
    return dim


def _filled(entry: ImageEntry, card: InputCard) -> ImageEntry:
    if card.size is None:
        return entry
    for own, said in zip((entry.height, entry.width), card.size, strict=True):
        if own not in (None, said):
            raise InvalidRequest(
                "input.size",
                f"{card.size[0]} x {card.size[1]}, but the model's input is {entry.height} x {entry.width}",
            )
    return dataclasses.replace(entry, height=card.size[0], width=card.size[1])


def _text(shape: Sequence[Dim]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"
