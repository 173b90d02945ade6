"""From what a caller has at hand — paths, arrays, class names — to a request."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from service.api.codec.fields import FieldError
from service.api.codec.requests import Call, Render
from service.types import Array, ExplainRequest, Selector, Target

Image = str | os.PathLike[str] | bytes | Array
"""Path of a PNG, JPEG or WebP file; its bytes; or uint8 [H, W], [H, W, 3], [H, W, 4]."""

Class = int | str | Selector
"""Index, label, or Selector (by rank)."""

AnyTarget = Class | Target | tuple[Class, Class]
"""A class, a pair (class, class subtracted), or a Target."""


def make_call(
    model: str,
    image: Image | Sequence[Image] | None = None,
    *,
    method: str = "grad_cam",
    tensor: Array | Mapping[str, Array] | None = None,
    targets: AnyTarget | Iterable[AnyTarget] = (),
    version: str = "",
    top_k: int = 5,
    seed: int = 0,
    max_seconds: float | None = None,
    max_rows: int | None = None,
    render: str | Render | None = None,
    parameters: Mapping[str, Any] | None = None,
    **more: Any,
) -> Call:
    """A request from what a caller has at hand.

    Args:
        model: name of the model on the server.
        image: path, bytes or uint8 array of a picture, or a list of them.
        method: name of the method, see :meth:`Client.methods`.
        tensor: the model's own input with its batch axis, or several by name; instead of ``image``.
        targets: what is explained: a class index or label, a Target, or a list of these and of pairs (class,
            class subtracted); nothing = the strongest class.
        version: "" = the latest that is ready.
        top_k: how many predictions to return.
        seed: for methods that draw at random.
        max_seconds: budget of computing; the best result within it is returned, marked ``truncated``.
        max_rows: budget of rows fed through the model, likewise.
        render: ``overlay``, ``heatmap`` or ``sheet`` for a PNG of every map; None = no pictures.
        parameters: the method's parameters; text is parsed.
        **more: the same, as keywords.
    """
    request = ExplainRequest(
        model=model,
        method=method,
        version=version,
        parameters={**(parameters or {}), **more},
        images=as_images(image),
        tensors=as_tensors(tensor),
        targets=as_targets(targets),
        top_k=top_k,
        seed=seed,
        max_seconds=max_seconds,
        max_rows=max_rows,
    )
    return Call(request, Render(render) if isinstance(render, str) else render)


def as_images(given: Image | Sequence[Image] | None) -> tuple[bytes | Array, ...]:
    """One image or several as the request holds them.

    Raises:
        OSError: a file cannot be read.
    """
    if given is None:
        return ()
    several = given if isinstance(given, list | tuple) else [given]
    return tuple(_image(one) for one in several)


def _image(given: Any) -> bytes | Array:
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    if isinstance(given, str | os.PathLike):
        return Path(given).read_bytes()
    return np.asarray(given)


def as_tensors(given: Array | Mapping[str, Array] | None) -> dict[str, Array]:
    """One tensor, or several by input name."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {name: np.asarray(value) for name, value in given.items()}
    return {"": np.asarray(given)}


def as_targets(given: AnyTarget | Iterable[AnyTarget]) -> tuple[Target, ...]:
    """One target or several; a pair stands for a difference only inside a list.

    Raises:
        FieldError: what is no class: a number with a fraction, a truth value, a tuple that is no pair.
    """
    if isinstance(given, str | Selector | Target) or not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
        return (_target(given, "targets[0]"),)
    return tuple(_target(one, f"targets[{i}]") for i, one in enumerate(given))


def _target(given: Any, field: str) -> Target:
    if isinstance(given, Target):
        return given
    if isinstance(given, tuple):
        if len(given) != 2:
            raise FieldError(field, f"{given!r} is no pair (class, class subtracted)")
        return Target(_selector(given[0], field), _selector(given[1], f"{field}.minus"))
    return Target(_selector(given, field))


def _selector(given: Any, field: str) -> Selector:
    if isinstance(given, Selector):
        return given
    if isinstance(given, str):
        return Selector(name=given)
    if isinstance(given, bool) or not isinstance(given, int | np.integer):
        raise FieldError(field, f"{given!r} is no class; give an index (a whole number) or a label")
    return Selector(index=int(given))
