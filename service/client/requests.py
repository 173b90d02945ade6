"""From what a caller has at hand — paths, arrays, class names — to a request."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
    """One target or several; a pair stands for a difference only inside a list."""
    if isinstance(given, int | str | Selector | Target | np.integer):
        return (_target(given),)
    return tuple(_target(one) for one in given)


def _target(given: Any) -> Target:
    if isinstance(given, Target):
        return given
    if isinstance(given, tuple):
        select, minus = given
        return Target(_selector(select), _selector(minus))
    return Target(_selector(given))


def _selector(given: Any) -> Selector:
    if isinstance(given, Selector):
        return given
    return Selector(name=given) if isinstance(given, str) else Selector(index=int(given))
