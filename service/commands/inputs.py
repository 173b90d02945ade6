"""INPUT: pictures, folders of them, ``.npy`` and ``.npz`` tensors, rows as JSON or CSV."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from graph_tools.errors import InvalidRequest
from service.commands import rows
from service.commands.opening import check_file
from service.models import images
from service.types import Array

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
TENSORS = (".npy", ".npz", ".json", ".csv")


@dataclass(frozen=True)
class Picture:
    """A picture: uint8 [H, W, 3] turned by EXIF, and the file's bytes where a server reads its format."""

    pixels: Array
    data: bytes | None


@dataclass(frozen=True)
class Input:
    """One INPUT file.

    Attributes:
        path: the file.
        name: unique among the inputs of the call; what outputs are named after.
        tensors: the model's own inputs with batch axis; empty for a picture.
    """

    path: Path
    name: str
    tensors: Mapping[str, Array] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many inputs of the model the file holds."""
        return len(next(iter(self.tensors.values()))) if self.tensors else 1

    def names(self) -> list[str]:
        """One name per row."""
        return [self.name] if self.rows == 1 else [f"{self.name}-{i}" for i in range(self.rows)]

    def picture(self) -> Picture:
        """Read and decode the picture.

        Raises:
            InvalidRequest: unreadable or no picture; the field is the file.
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise InvalidRequest(str(self.path), f"cannot be read: {error.strerror}") from error
        pixels = images.decode(data, field=str(self.path), extra=True)
        return Picture(pixels, None if data[:2] == b"BM" or data[:4] == b"GIF8" else data)


def read_inputs(given: Sequence[str], model: rows.Columns) -> list[Input]:
    """Every file that ``given`` names; tensors are read, pictures only listed.

    Args:
        given: files and folders.
        model: what it takes.

    Raises:
        InvalidRequest: nothing given, a file that is missing or holds no such tensors.
    """
    if not given:
        raise InvalidRequest("INPUT", "give a picture, a folder of pictures, a .npy tensor, or a row as .json or .csv")
    paths = [path for text in given for path in _files(Path(text))]
    names = _unique(path.stem for path in paths)
    return [
        Input(path, name, _checked(path, _tensors(path, model)) if path.suffix.lower() in TENSORS else {})
        for path, name in zip(paths, names, strict=True)
    ]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        check_file(path, "INPUT")
        return [path]
    inside = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    found = [p for p in inside if p.suffix.lower() in PICTURES] or [p for p in inside if p.suffix.lower() == ".npy"]
    if not found:
        raise InvalidRequest(
            "INPUT", f"folder {str(path)!r} holds no pictures ({', '.join(PICTURES)}) and no .npy files"
        )
    return found


def _unique(stems: Iterable[str]) -> list[str]:
    """``a, a, b`` -> ``a, a-2, b``."""
    used: set[str] = set()
    out = []
    for stem in stems:
        name, n = stem, 1
        while name in used:
            n += 1
            name = f"{stem}-{n}"
        used.add(name)
        out.append(name)
    return out


def _checked(path: Path, tensors: dict[str, Array]) -> dict[str, Array]:
    """``tensors``, if every one has rows."""
    if not tensors:
        raise InvalidRequest(str(path), "is empty; give at least one row")
    for name, array in tensors.items():
        if array.ndim == 0 or len(array) == 0:
            rows_ = "one number without a batch axis" if array.ndim == 0 else f"{list(array.shape)}, without a row"
            raise InvalidRequest(str(path), f"{name!r} is {rows_}; give at least one row")
    return tensors


def _tensors(path: Path, model: rows.Columns) -> dict[str, Array]:
    kind = path.suffix.lower()
    if kind == ".json":
        return rows.from_json(path, model)
    if kind == ".csv":
        return rows.from_csv(path, model)
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {model.one(path): loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise InvalidRequest(str(path), f"is no {kind} file of numbers: {error}") from error
    return {name: model.batched(name, array) for name, array in arrays.items()}
