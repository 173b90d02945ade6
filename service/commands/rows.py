"""Rows of a table as a model's inputs: JSON and CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graph_tools.errors import InvalidRequest, nearest
from service.types import Array

Shape = tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Columns:
    """The inputs of a model: name -> (NumPy dtype's name, or ``string``; sizes, symbols or None per axis)."""

    inputs: Mapping[str, tuple[str, Shape]]

    def one(self, path: Path) -> str:
        """The only input's name.

        Raises:
            InvalidRequest: there are several.
        """
        if len(self.inputs) != 1:
            raise InvalidRequest(
                str(path),
                f"the model has {len(self.inputs)} inputs ({', '.join(self.inputs)}): name each, with a .npz, a JSON "
                "object or a CSV header",
            )
        return next(iter(self.inputs))

    def batched(self, name: str, array: Array) -> Array:
        """``array`` with a batch axis, added where the rank is one less than the model's."""
        _, shape = self.inputs.get(name, ("", None))
        return array[None] if shape and array.ndim == len(shape) - 1 else array

    def array(self, path: Path, name: str, value: Any) -> Array:
        """``value`` (nested lists) as input ``name``, with a batch axis.

        Raises:
            InvalidRequest: no such input, ragged lists, or entries that the input's type cannot hold.
        """
        if name not in self.inputs:
            close = nearest(name, self.inputs)
            raise InvalidRequest(
                str(path), f"{name!r} is no input of the model; {'nearest' if close else 'it has'}: "
                + ", ".join(close or self.inputs)
            )  # fmt: skip
        dtype, shape = self.inputs[name]
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise InvalidRequest(str(path), f"{name!r} is ragged: its lists differ in length") from error
        array = array.astype(str).astype(object) if dtype == "string" else _cast(path, name, array, dtype)
        if shape and array.ndim == 0:
            array = array.reshape((1,) * len(shape))
        return self.batched(name, array)


def _cast(path: Path, name: str, array: Array, dtype: str) -> Array:
    if array.dtype.kind not in "biuf":
        wrong = next((v for v in np.ravel(array).tolist() if not isinstance(v, int | float)), array.dtype)
        raise InvalidRequest(str(path), f"{name!r} takes numbers ({dtype}), not {wrong!r}")
    try:
        cast = array.astype(dtype)
    except TypeError as error:
        raise InvalidRequest(str(path), f"{name!r} takes {dtype}, which cannot be given as text") from error
    if cast.dtype.kind in "iu" and not np.array_equal(cast, array):
        raise InvalidRequest(str(path), f"{name!r} takes whole numbers ({dtype})")
    return np.asarray(cast)


def from_json(path: Path, model: Columns) -> dict[str, Array]:
    """A list (of one row, or of rows), an object from input name to value, or a list of such objects.

    Raises:
        InvalidRequest: not JSON, or not the model's inputs.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequest(str(path), f"is no JSON: {error}") from error
    if isinstance(data, dict):
        return {name: model.array(path, name, value) for name, value in data.items()}
    if isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        if any(row.keys() != data[0].keys() for row in data):
            raise InvalidRequest(str(path), "its rows have different keys")
        several = [{name: model.array(path, name, value) for name, value in row.items()} for row in data]
        return {name: np.concatenate([row[name] for row in several]) for name in data[0]}
    name = model.one(path)
    return {name: model.array(path, name, data)}


def from_csv(path: Path, model: Columns) -> dict[str, Array]:
    """One line per row. A header that names the model's inputs gives each its column; another header is skipped.

    Raises:
        InvalidRequest: no rows, rows of different length, or a cell that is no number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [(reader.line_num, row) for reader in [csv.reader(file)] for row in reader if row]
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidRequest(str(path), f"is no CSV: {error}") from error
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    named = set(model.inputs) <= set(header)
    body = lines[1:] if named or any(not _is_number(cell) for cell in header) else lines
    if not body:
        raise InvalidRequest(str(path), "has no rows")
    for line, row in body:
        if len(row) != len(body[0][1]):
            raise InvalidRequest(str(path), f"line {line} has {len(row)} cells, others have {len(body[0][1])}")
    if named:
        return {name: _column(path, model, name, header.index(name), body) for name in model.inputs}
    name = model.one(path)
    table = [[_number(path, line, i, cell) for i, cell in enumerate(row)] for line, row in body]
    return {name: _shaped(model.array(path, name, table), model.inputs[name][1])}


def _column(path: Path, model: Columns, name: str, at: int, body: Sequence[tuple[int, list[str]]]) -> Array:
    dtype, shape = model.inputs[name]
    text = dtype == "string"
    values = [row[at] if text else _number(path, line, at, row[at]) for line, row in body]
    column = model.array(path, name, [[v] for v in values])
    return column.reshape((len(body),) + (1,) * (len(shape or (0, 0)) - 1))


def _shaped(table: Array, shape: Shape) -> Array:
    """Rows [N, F] in the shape of an input whose further axes are known and have F entries."""
    inner = (shape or ())[1:]
    sizes = [d for d in inner if isinstance(d, int)]
    if len(sizes) == len(inner) > 1 and math.prod(sizes) == table.shape[-1]:
        return table.reshape(-1, *sizes)
    return table


def _number(path: Path, line: int, column: int, cell: str) -> float:
    if not _is_number(cell):
        raise InvalidRequest(str(path), f"line {line}, column {column + 1}: {cell!r} is no number")
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
