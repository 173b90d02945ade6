"""What ``--target``, ``--minus``, ``--layer`` and ``--set`` mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graph_tools.errors import InvalidRequest
from service.commands.asking import Method
from service.types import Selector, Target

_MOST = 999  # classes that top<N> may ask for; the engine's own limit is lower


def parameters(method: Method, layers: Sequence[str], settings: Sequence[str]) -> dict[str, Any]:
    """The method's parameters from ``--layer`` and ``--set``; values are still text.

    Raises:
        InvalidRequest: no ``name=value``, a name twice, or a layer for a method that has none.
    """
    found: dict[str, Any] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InvalidRequest("--set", f"{text!r} is not name=value, for example patch=16")
        if name.strip() in found:
            raise InvalidRequest("--set", f"{name.strip()!r} is given twice")
        found[name.strip()] = value.strip()
    if layers:
        plural = "layers" in method.parameters
        if not plural and "layer" not in method.parameters:
            raise InvalidRequest("--layer", f"method {method.name} has no layer")
        if not plural and len(layers) > 1:
            raise InvalidRequest("--layer", f"method {method.name} takes one layer")
        found["layers" if plural else "layer"] = tuple(layers) if plural else layers[0]
    return found


def targets(given: Sequence[str], minus: str | None) -> tuple[Target, ...]:
    """``243``, ``"tabby"``, ``top3`` -> targets, each less the class ``minus``.

    Raises:
        InvalidRequest: an empty name.
    """
    against = None if minus is None else _selectors(minus, "--minus")[0]
    selected = [s for text in given for s in _selectors(text, "--target")]
    return tuple(Target(s, against) for s in selected or ([Selector(rank=1)] if against else []))


def _selectors(text: str, option: str) -> list[Selector]:
    text = text.strip()
    if not text:
        raise InvalidRequest(option, "is empty; give a class index, a label, or top3")
    if text.removeprefix("-").isascii() and text.removeprefix("-").isdigit():
        return [Selector(index=int(text))]
    if option == "--target" and text.startswith("top") and text[3:].isascii() and text[3:].isdigit():
        if not 1 <= int(text[3:]) <= _MOST:
            raise InvalidRequest(option, f"{text}: give top1 to top{_MOST}")
        return [Selector(rank=r) for r in range(1, int(text[3:]) + 1)]
    return [Selector(name=text)]
