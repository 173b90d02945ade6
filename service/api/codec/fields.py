"""What every decoder shares: the error with the field's path, names, and the limits of one request."""

from __future__ import annotations

import math
import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

MAX_INPUTS = 256
MAX_TARGETS = 100
MAX_TOP_K = 1000
MAX_RANK = 16
MAX_TEXT = 1024  # characters of a value name, class name or item id


class FieldError(ValueError):
    """A field of a message is wrong.

    Attributes:
        field: path of the field in the message, for example ``inputs[0].tensor.raw``.
        reason: what is wrong and what to do instead.
    """

    def __init__(self, field: str, reason: str) -> None:
        """Path of the field, and the reason."""
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field, self.reason = field, reason


def name(value: str, field: str, *, optional: bool = False) -> str:
    """``value`` if it may name a model or a version.

    Raises:
        FieldError: it is empty or has other characters, so that no name ever reaches a path.
    """
    if optional and not value:
        return value
    if not NAME.fullmatch(value):
        shown = repr(value[:40]) + ("…" if len(value) > 40 else "")
        raise FieldError(field, f"{shown} is no name: a letter or digit, then up to 127 letters, digits, '.', '_', '-'")
    return value


def text(value: str, field: str) -> str:
    """``value`` if it is at most ``MAX_TEXT`` characters without NUL."""
    if len(value) > MAX_TEXT or "\0" in value:
        raise FieldError(field, f"longer than {MAX_TEXT} characters, or with a NUL")
    return value


def at_most(count: int, most: int, field: str) -> None:
    """Refuse a list of more than ``most`` entries before looking at any of them."""
    if count > most:
        raise FieldError(field, f"{count} entries; at most {most} in one request")


def positive(value: float, field: str) -> float:
    """``value`` if it is finite and > 0."""
    if not (math.isfinite(value) and value > 0):
        raise FieldError(field, f"{value} is not a finite number above 0")
    return value
