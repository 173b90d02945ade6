"""Every error this project raises on purpose. The core knows no gRPC: codes live in service.api.

ExplainError
├── InvalidRequest       a field of the request is wrong (carries the field's path)
├── UnknownModel         no such model or version (carries the nearest names)
├── UnknownValue         no such value, layer, output or class name (carries the nearest names)
├── UnsupportedGradient  no gradient path: names operator, node and input
├── UnsupportedModel     the file cannot be loaded or rewritten
├── ProviderUnavailable  the execution provider asked for does not work here
├── Busy                 try again later (carries the delay)
├── DeadlinePassed       the deadline or the time budget is over
└── Cancelled            the caller went away
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ExplainError(Exception):
    """Base of all errors with a message meant for the caller: what, where, and what to do instead."""


class InvalidRequest(ExplainError):
    """A field of the request is wrong.

    Attributes:
        field: path of the field as the caller wrote it, for example ``occlusion.patch``.
    """

    def __init__(self, field: str, message: str) -> None:
        """Message for the caller, and the path of the field at fault."""
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.reason = message


class _Unknown(ExplainError):
    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name = kind, name
        self.nearest = nearest(name, known)
        text = f"there is no {kind} {name!r}"
        if self.nearest:
            text += "; nearest: " + ", ".join(self.nearest)
        super().__init__(text + (f". {hint}" if hint else ""))


class UnknownModel(_Unknown):
    """No model, or no version of it, under this name."""


class UnknownValue(_Unknown):
    """No value (layer, output, class name) under this name."""


class UnsupportedGradient(ExplainError):
    """No gradient can be built.

    Attributes:
        operator: operator that has no rule, ``""`` where no single one is at fault.
        node: name of the node at fault, ``""`` likewise.
    """

    def __init__(self, message: str, *, operator: str = "", node: str = "") -> None:
        """Message for the caller, and the operator and node at fault."""
        super().__init__(message)
        self.operator, self.node = operator, node


class UnsupportedModel(ExplainError):
    """The file cannot be loaded, or cannot be rewritten for white-box methods."""


class ProviderUnavailable(ExplainError):
    """The execution provider that was asked for does not work on this machine."""


class Busy(ExplainError):
    """The service is at its limit.

    Attributes:
        retry_after: seconds after which a retry makes sense.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        """Message for the caller, and seconds until a retry makes sense."""
        super().__init__(message)
        self.retry_after = retry_after


class DeadlinePassed(ExplainError):
    """The deadline of the call is over."""


class Cancelled(ExplainError):
    """The caller cancelled; nobody reads the answer."""


def nearest(name: str, known: Iterable[str], n: int = 5) -> list[str]:
    """Up to ``n`` of ``known`` that look like ``name``, best first (case-insensitive, substrings count)."""
    pool = list(dict.fromkeys(known))
    lowered = {k.lower(): k for k in reversed(pool)}
    close = [lowered[m] for m in difflib.get_close_matches(name.lower(), lowered, n, cutoff=0.5)]
    inside = [k for k in pool if name and name.lower() in k.lower() and k not in close]
    return (close + inside)[:n]
