"""Where results go: a picture (``.png``), raw maps (``.npy``) or everything (``.json``)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from graph_tools.errors import InvalidRequest
from service.commands import jsonable
from service.commands.asking import merged
from service.pictures.grid import channel_grid
from service.pictures.layout import stack
from service.pictures.panel import explanation_picture
from service.pictures.png import to_png
from service.types import Array, ExplainResult, ItemResult

KINDS = (".png", ".npy", ".json")
NO_MAPS = ("predict",)  # methods whose answer is the predictions alone


class Sink(Protocol):
    """One ``-o``."""

    def add(self, name: str, item: ItemResult, result: ExplainResult) -> None:
        """Take the result of input ``name``."""

    def close(self) -> list[Path]:
        """Finish; the files that were written."""


class Each:
    """A file per input, named by a pattern with ``{name}`` and ``{method}``; written as results come."""

    def __init__(self, pattern: str) -> None:
        """Nothing is written yet."""
        self._pattern, self._written = pattern, list[Path]()

    def add(self, name: str, item: ItemResult, result: ExplainResult) -> None:
        """Write one file."""
        path = Path(self._pattern.replace("{name}", name).replace("{method}", result.method))
        one: Sink = _sink(path)
        one.add(name, item, result)
        self._written += one.close()

    def close(self) -> list[Path]:
        """Those written."""
        return self._written


class Png:
    """One picture."""

    def __init__(self, path: Path) -> None:
        """To be written."""
        self._path = path

    def add(self, name: str, item: ItemResult, result: ExplainResult) -> None:
        """Draw and write it."""
        about = {"model": result.model, "digest": result.digest, "method": result.method, "input": name}
        _write(self._path, to_png(draw(item, result), about))

    def close(self) -> list[Path]:
        """The picture."""
        return [self._path]


class Npy:
    """Raw values: [H, W], [K, H, W] for several targets, a leading axis N for several inputs."""

    def __init__(self, path: Path) -> None:
        """To be written at the end."""
        self._path, self._rows = path, list[Array]()

    def add(self, name: str, item: ItemResult, result: ExplainResult) -> None:  # noqa: ARG002
        """Keep the values."""
        self._rows.append(values(item, result))

    def close(self) -> list[Path]:
        """Write them all."""
        if len({row.shape for row in self._rows}) > 1:
            raise InvalidRequest(
                "-o", f"the maps differ in shape; write one file each: -o 'out/{{name}}{self._path.suffix}'"
            )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._rows[0] if len(self._rows) == 1 else np.stack(self._rows)
        with self._path.open("wb") as file:
            np.save(file, whole, allow_pickle=False)
        return [self._path]


class Json:
    """Everything as JSON: the call's parameters, and per input its predictions, targets and maps."""

    def __init__(self, path: Path) -> None:
        """To be written at the end."""
        self._path, self._items = path, list[str]()
        self._answers: dict[int, ExplainResult] = {}  # by identity: one answer has many items

    def add(self, name: str, item: ItemResult, result: ExplainResult) -> None:
        """Keep it as text."""
        self._answers.setdefault(id(result), result)
        self._items.append(json.dumps(jsonable.item(name, item), ensure_ascii=False))

    def close(self) -> list[Path]:
        """Write it all."""
        head = json.dumps(
            jsonable.head(merged(list(self._answers.values()))), ensure_ascii=False, indent=1
        ).removesuffix("\n}")
        body = ",\n  ".join(self._items)
        _write(self._path, f'{head},\n "items": [\n  {body}\n ]\n}}\n'.encode())
        return [self._path]


def plan(given: Sequence[str], names: Sequence[str], method: str, used: Iterable[Path]) -> list[Sink]:
    """The sinks of a call, checked before anything is computed.

    Args:
        given: what ``-o`` said; nothing = a picture of every map, here or (of several inputs) in ``<method>-out``.
        names: of the inputs.
        method: registry name.
        used: files that must not be overwritten.

    Raises:
        InvalidRequest: a suffix or place that does not do.
    """
    if not given:
        folder = Path() if len(names) == 1 else Path(f"{method}-out")
        return [] if method in NO_MAPS else [Each(str(folder / "{name}.{method}.png"))]
    taken = {path.resolve() for path in used}
    return [_planned(text, names, method, taken) for text in given]


def _planned(text: str, names: Sequence[str], method: str, taken: set[Path]) -> Sink:
    path = Path(text)
    if text.endswith(("/", "\\")) or path.is_dir() or not path.suffix:
        text, path = str(path / "{name}.{method}.png"), path / "{name}.{method}.png"
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise InvalidRequest(
            "-o", f"{text!r}: end it in .png (picture), .npy (raw map) or .json (everything), or name a folder"
        )
    if kind == ".npy" and method in NO_MAPS:
        raise InvalidRequest("-o", f"method {method} makes no map; write .json or .png")
    unknown = sorted(set(re.findall(r"{[^{}]*}", text)) - {"{name}", "{method}"})
    if unknown:
        raise InvalidRequest("-o", f"{text!r}: there is no {', '.join(unknown)}; use {{name}} and {{method}}")
    each = "{name}" in text
    if kind == ".png" and len(names) > 1 and not each:
        raise InvalidRequest(
            "-o", f"{len(names)} inputs make {len(names)} pictures: name a folder (-o out/) or a pattern "
            "(-o 'out/{name}.png')"
        )  # fmt: skip
    files = [Path(text.replace("{name}", n).replace("{method}", method)) for n in (names if each else names[:1])]
    for file in files:
        if file.resolve() in taken:
            raise InvalidRequest("-o", f"{str(file)!r} would overwrite an input")
        if file.is_dir() or any(p.exists() and not p.is_dir() for p in file.parents):
            raise InvalidRequest("-o", f"{str(file)!r} cannot be written: a folder is a file there, or a file a folder")
    return Each(text) if each else _sink(files[0])


def _sink(path: Path) -> Sink:
    kinds: dict[str, type[Png | Npy | Json]] = {".png": Png, ".npy": Npy, ".json": Json}
    return kinds[path.suffix.lower()](path)


def draw(item: ItemResult, result: ExplainResult) -> Any:
    """The picture of one input's result (a ``PIL.Image``)."""
    if item.activations:
        return stack([channel_grid(layer) for layer in item.activations], 0)
    return explanation_picture(item, model=result.model, method=result.method, footer=result.notes)


def values(item: ItemResult, result: ExplainResult) -> Array:
    """The raw values of one input: its map, or its maps or layers stacked.

    Layers with all their channels are in the order of the channels, others strongest first.

    Raises:
        InvalidRequest: layers of different shapes.
    """
    found = [a.values for a in item.attributions]
    for layer in item.activations:
        whole = len(layer.channels) == layer.total
        found.append(layer.values[np.argsort(layer.channels)] if whole else layer.values)
    if len({v.shape for v in found}) != 1:
        raise InvalidRequest("-o", f"method {result.method} gave {len(found)} arrays of different shapes; write .json")
    return found[0] if len(found) == 1 else np.stack(found)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
