"""Checks of single keys of a card: each takes the TOML value and returns it typed, or says what is wrong."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from graph_tools.errors import InvalidRequest, nearest

Check = Callable[[Any], Any]

MAX_SIDE = 8192


class WrongError(Exception):
    """What is wrong with a value; :func:`check_table` adds the key and the card."""


def read_text(path: Path, most: int) -> str:
    """The UTF-8 text of a regular file of at most ``most`` bytes, without a byte-order mark.

    Raises:
        WrongError: a device, pipe or folder, or a larger file; nothing of it is read.
        OSError: it cannot be read.
        UnicodeDecodeError: it is no UTF-8.
    """

    def open_now(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer would wait

    with open(path, "rb", opener=open_now) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise WrongError(f"{path.name} is no regular file")
        data = b"" if found.st_size > most else file.read(most + 1)
    if found.st_size > most or len(data) > most:
        raise WrongError(f"{path.name} is larger than {most >> 20} MB")
    return data.decode("utf-8-sig")


def check_table(
    table: Any, keys: Mapping[str, Check], section: str, where: str, also: tuple[str, ...] = ()
) -> dict[str, Any]:
    """``table`` with every value checked.

    Args:
        table: the TOML table.
        keys: check per key that may stand there.
        section: name of the table, ``""`` = top level.
        where: what the message calls the card.
        also: further known keys, checked elsewhere.

    Raises:
        InvalidRequest: not a table, an unknown key (with the nearest known ones), or a wrong value.
    """
    if not isinstance(table, Mapping):
        raise InvalidRequest(section, f"expected a table [{section}], got {table!r} (card {where})")
    checked = {}
    for key, value in table.items():
        path = f"{section}.{key}" if section else key
        if key not in keys:
            known = (*keys, *also)
            close = nearest(key, known)
            hint = f"nearest: {', '.join(close)}" if close else f"known: {', '.join(known)}"
            raise InvalidRequest(path, f"no such key; {hint} (card {where})")
        try:
            checked[key] = keys[key](value)
        except WrongError as wrong:
            raise InvalidRequest(path, f"{wrong} (card {where})") from None
    return checked


def choice(*allowed: str) -> Check:
    """One of ``allowed``."""

    def check(value: Any) -> str:
        if value not in allowed or not isinstance(value, str):
            raise WrongError(f"{value!r} is not one of {', '.join(allowed)}")
        return value

    return check


def name(value: Any) -> str:
    """The name of a value in the graph: any text that is not empty."""
    if not isinstance(value, str) or not value:
        raise WrongError(f"expected a name, got {value!r}")
    return value


def integer(low: int, high: int) -> Check:
    """A whole number in low..high."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise WrongError(f"expected a whole number {low} to {high}, got {value!r}")
        return value

    return check


def number(*, nonzero: bool = False, positive: bool = False) -> Check:
    """A finite number."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise WrongError(f"expected a finite number, got {value!r}")
        if positive and value <= 0:
            raise WrongError(f"must be above 0, got {value!r}")
        if nonzero and value == 0:
            raise WrongError("must not be 0: the model would see the same for every picture")
        return float(value)

    return check


def numbers(*, positive: bool = False) -> Check:
    """One number, or a list of one or three (one per channel)."""
    each = number(positive=positive)

    def check(value: Any) -> tuple[float, ...]:
        values = value if isinstance(value, list | tuple) else [value]
        if len(values) not in (1, 3):
            raise WrongError(f"expected one number, or a list of 1 or 3 (one per channel), got {len(values)}")
        return tuple(each(v) for v in values)

    return check


def height_width(value: Any) -> tuple[int, int]:
    """``[height, width]`` in pixels, or one number for a square."""
    values = value if isinstance(value, list | tuple) else [value, value]
    if len(values) != 2:
        raise WrongError(f"expected [height, width], got {value!r}")
    side = integer(1, MAX_SIDE)
    return side(values[0]), side(values[1])


def class_axis(value: Any) -> int:
    """An axis of the output other than the batch's; negative counts from the end."""
    axis: int = integer(-7, 7)(value)
    if axis == 0:
        raise WrongError("axis 0 is the batch, not the classes")
    return axis
