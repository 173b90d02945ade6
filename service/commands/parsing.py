"""What ``--target``, ``--minus``, ``--layer`` and ``--set`` mean."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from graph_tools.errors import InvalidRequest, UnknownValue
from service.commands.asking import Method
from service.models.labels import match
from service.types import Selector, Target

_MOST = 999  # classes that top<N> may ask for; the engine's own limit is lower


def parameters(method: Method, layers: Sequence[str], settings: Sequence[str]) -> dict[str, Any]:
    """The method's parameters from ``--layer`` and ``--set``; values are still text.

    Raises:
        InvalidRequest: no ``name=value``, a name twice, a level for a baseline that has none, or a layer for a
            method that has none.
    """
    found: dict[str, Any] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InvalidRequest("--set", f"{text!r} is not name=value, for example patch=16")
        if name.strip() in found:
            raise InvalidRequest("--set", f"{name.strip()!r} is given twice")
        found[name.strip()] = value.strip()
    if "value" in found and {"value", "baseline"} <= set(method.parameters) and found.get("baseline") != "value":
        raise InvalidRequest("--set", "value is only used with baseline=value; add --set baseline=value")
    if layers:
        plural = "layers" in method.parameters
        if not plural and "layer" not in method.parameters:
            raise InvalidRequest("--layer", f"method {method.name} has no layer")
        if not plural and len(layers) > 1:
            raise InvalidRequest("--layer", f"method {method.name} takes one layer")
        found["layers" if plural else "layer"] = tuple(layers) if plural else layers[0]
    return found


def targets(
    method: Method, given: Sequence[str], minus: Sequence[str], labels: Sequence[str] = ()
) -> tuple[Target, ...]:
    """``243``, ``"tabby"``, ``top3`` -> targets, each less the class ``minus``.

    Args:
        method: what the targets are for.
        given: what ``--target`` said.
        minus: what ``--minus`` said.
        labels: the model's, () where unknown.

    Raises:
        InvalidRequest: an empty name, a method without targets, ``--minus`` twice, or a class less itself.
    """
    for option, texts in (("--target", given), ("--minus", minus)):
        if texts and not method.needs_target:
            raise InvalidRequest(option, f"method {method.name} has no target")
    if len(minus) > 1:
        raise InvalidRequest("--minus", "is given twice; one class is subtracted from every target")
    against = _selectors(minus[0], "--minus")[0] if minus else None
    selected = [s for text in given for s in _selectors(text, "--target")]
    for one in selected:
        if against is not None and one.rank is None and _class(one, labels) == _class(against, labels):
            raise InvalidRequest("--minus", f"{minus[0]!r} is the target itself; the difference is zero everywhere")
    return tuple(Target(s, against) for s in selected or ([Selector(rank=1)] if against else []))


def _class(selector: Selector, labels: Sequence[str]) -> int | str:
    """The index where it is known, else the name."""
    if selector.index is not None:
        return selector.index
    name = selector.name or ""
    with contextlib.suppress(UnknownValue):  # the engine tells
        return match(labels, name)
    return name.casefold()


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
