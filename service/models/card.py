"""The model card: what no ONNX file can tell about its input and output, as a small TOML file.

    labels = "labels.txt"          # one label a line; or a list; or a .json (service.models.labels)
    preset = "imagenet-torch"      # imagenet-torch | imagenet-caffe | minus-one-to-one | zero-to-one | none
    [input]
    name = "image"                 # which input is the image
    size = [224, 224]              # height, width, where the file leaves them open
    layout = "nchw"                # nchw | nhwc, where the shape leaves it open
    channels = "bgr"               # rgb | bgr | grey
    scale = 0.0039                 # y = (x · scale - mean) / std, x in grey levels 0-255
    mean = [0.485, 0.456, 0.406]   # in the order of the model's channels, in units after the scale
    std = [0.229, 0.224, 0.225]
    resize = "crop"                # crop | stretch | pad
    resize_to = 256                # crop: short side before the crop
    pad_value = 0                  # pad: grey level around the picture
    filter = "bilinear"            # nearest | box | bilinear | bicubic | lanczos
    [output]
    name = "probs"                 # which output is explained
    logits = "fc"                  # value name of the logits
    kind = "softmax"               # softmax | multi-label | binary | logits | probabilities | regression
    class_axis = 1
    [defaults]
    layer = "layer4"               # value name of the layer CAM methods explain

Every key is optional. A key beside a preset wins over it.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from PIL.Image import Resampling

from graph_tools.errors import InvalidRequest
from service.models.card_fields import (
    Check,
    WrongError,
    check_table,
    choice,
    class_axis,
    height_width,
    integer,
    name,
    number,
    numbers,
    read_text,
)
from service.models.labels import checked_labels, read_labels

MOST_BYTES = 1 << 20

Resize = Literal["crop", "stretch", "pad"]
Channels = Literal["rgb", "bgr", "grey"]
Layout = Literal["nchw", "nhwc"]
Kind = Literal["softmax", "multi-label", "binary", "logits", "probabilities", "regression"]

FILTERS = {
    "nearest": Resampling.NEAREST,
    "box": Resampling.BOX,
    "bilinear": Resampling.BILINEAR,
    "bicubic": Resampling.BICUBIC,
    "lanczos": Resampling.LANCZOS,
}


@dataclass(frozen=True)
class InputCard:
    """The ``[input]`` table. None and ``""`` = not said; the model's shapes or a convention decide.

    ``scale``, ``mean`` and ``std`` are either all set or all None (see :meth:`assuming`); ``mean`` and
    ``std`` have one value, or one per channel in the order of the model's channels.
    """

    name: str = ""
    size: tuple[int, int] | None = None
    layout: Layout | None = None
    channels: Channels | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: Resize | None = None
    resize_to: int | None = None
    pad_value: int = 0
    filter: str = "bilinear"

    @property
    def pixels_known(self) -> bool:
        """Whether the card or a preset says what the model's numbers mean."""
        return self.scale is not None

    def assuming(self, preset: str) -> InputCard:
        """With what is not said about the numbers taken from ``preset``; what is said stays.

        A preset's mean and std follow the card's channel order.
        """
        base = PRESETS[preset]
        wanted, order = self.channels or base.channels, slice(None)
        if {wanted, base.channels} == {"rgb", "bgr"}:
            order = slice(None, None, -1)
        return dataclasses.replace(
            self,
            channels=wanted,
            scale=base.scale if self.scale is None else self.scale,
            mean=base.mean[order] if self.mean is None else self.mean,
            std=base.std[order] if self.std is None else self.std,
        )


@dataclass(frozen=True)
class Preset:
    """A named meaning of the model's numbers: y = (x · scale − mean) / std."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...] = (1.0,)
    channels: Channels | None = None


PRESETS = {
    "imagenet-torch": Preset(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "rgb"),
    "imagenet-caffe": Preset(1.0, (103.939, 116.779, 123.68), channels="bgr"),
    "minus-one-to-one": Preset(1 / 127.5, (1.0,)),
    "zero-to-one": Preset(1 / 255, (0.0,)),
    "none": Preset(1.0, (0.0,)),
}


@dataclass(frozen=True)
class OutputCard:
    """The ``[output]`` table. None and ``""`` = not said: inferred from the graph."""

    name: str = ""
    logits: str = ""
    kind: Kind | None = None
    class_axis: int | None = None


@dataclass(frozen=True)
class Card:
    """A checked card.

    Attributes:
        labels: class names by index; None = not said.
        preset: the preset named, ``""`` = none was.
        layer: value name of the layer CAM methods explain, ``""`` = inferred.
    """

    labels: tuple[str, ...] | None = None
    preset: str = ""
    input: InputCard = field(default_factory=InputCard)
    output: OutputCard = field(default_factory=OutputCard)
    layer: str = ""


_TOP: dict[str, Check] = {"preset": choice(*PRESETS)}
_INPUT: dict[str, Check] = {
    "name": name,
    "size": height_width,
    "layout": choice(*get_args(Layout)),
    "channels": choice(*get_args(Channels)),
    "scale": number(nonzero=True),
    "mean": numbers(),
    "std": numbers(positive=True),
    "resize": choice(*get_args(Resize)),
    "resize_to": integer(1, 16384),
    "pad_value": integer(0, 255),
    "filter": choice(*FILTERS),
}
_OUTPUT: dict[str, Check] = {
    "name": name,
    "logits": name,
    "kind": choice(*get_args(Kind)),
    "class_axis": class_axis,
}
_DEFAULTS: dict[str, Check] = {"layer": name}
_TABLES = {"input": _INPUT, "output": _OUTPUT, "defaults": _DEFAULTS}


def read_card(path: str | Path, *, allow_outside: bool = False) -> Card:
    """The card in the TOML file ``path``.

    Args:
        path: the file; its ``labels`` may name a file in its folder or below.
        allow_outside: labels may lie anywhere (a person's own ``--card FILE``; never for a served folder).

    Raises:
        InvalidRequest: unreadable, larger than 1 MB, no TOML, or a key that is unknown or wrong. The field is the
            key's path in the card; the message names the file without its folder.
    """
    path = Path(path)
    try:
        mapping = tomllib.loads(read_text(path, MOST_BYTES))
    except WrongError as wrong:
        raise InvalidRequest("card", str(wrong)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("card", f"{path.name} is not valid TOML: {error}") from error
    except OSError as error:
        raise InvalidRequest("card", f"{path.name} cannot be read: {error.strerror}") from error
    return parse_card(mapping, path.name, folder=path.parent, allow_outside=allow_outside)


def parse_card(
    mapping: Mapping[str, Any], where: str, *, folder: Path | None = None, allow_outside: bool = False
) -> Card:
    """The card that ``mapping`` (parsed TOML) describes.

    Args:
        mapping: tables as dicts.
        where: what the messages call the card, usually its file's name.
        folder: where a ``labels`` file is looked for; None = ``labels`` must be a list.
        allow_outside: see :func:`read_card`.

    Raises:
        InvalidRequest: see :func:`read_card`.
    """
    top = {k: v for k, v in mapping.items() if k not in _TABLES and k != "labels"}
    values = check_table(top, _TOP, "", where, also=("labels", *_TABLES))
    tables = {t: check_table(mapping.get(t, {}), keys, t, where) for t, keys in _TABLES.items()}
    entry = InputCard(**tables["input"])
    preset = values.get("preset", "")
    if preset or {"scale", "mean", "std"} & tables["input"].keys():
        entry = entry.assuming(preset or "none")
    _check_together(entry, tables["input"], where)
    return Card(
        _labels(mapping["labels"], where, folder, allow_outside) if "labels" in mapping else None,
        preset,
        entry,
        OutputCard(**tables["output"]),
        tables["defaults"].get("layer", ""),
    )


def _check_together(entry: InputCard, said: Mapping[str, Any], where: str) -> None:
    for key, values in (("mean", entry.mean), ("std", entry.std)):
        if entry.channels == "grey" and values is not None and len(values) == 3:
            raise InvalidRequest(
                f"input.{key}", f"3 values, but one grey channel; give {key} as one number (card {where})"
            )
    for key, needed in (("resize_to", "crop"), ("pad_value", "pad")):
        if key in said and entry.resize != needed and (key, entry.resize) != ("resize_to", None):
            raise InvalidRequest(f"input.{key}", f'only used with resize = "{needed}" (card {where})')
    if entry.size and entry.resize_to is not None and entry.resize_to < min(entry.size):
        raise InvalidRequest(
            "input.resize_to",
            f"{entry.resize_to} is smaller than the input's shorter side, {min(entry.size)} (card {where})",
        )


def _labels(value: Any, where: str, folder: Path | None, allow_outside: bool) -> tuple[str, ...]:
    if isinstance(value, str) and folder is not None:
        return read_labels(value, folder, where, allow_outside=allow_outside)
    if isinstance(value, list):
        return checked_labels(value, where)
    raise InvalidRequest(
        "labels",
        f"expected a list of names or the name of a .txt or .json file, got {value!r} (card {where})",
    )
