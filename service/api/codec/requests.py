"""ExplainRequest: message <-> value, both ways, so that server and client cannot drift apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.api.codec.fields import (
    MAX_INPUTS,
    MAX_TARGETS,
    MAX_TOP_K,
    FieldError,
    at_most,
    name,
    positive,
    text,
)
from service.api.codec.methods import from_method, to_method
from service.api.codec.tensors import to_array, to_tensor
from service.api.pb.onnx_explain.v1 import explain_pb2, types_pb2
from service.types import Array, ExplainRequest, Selector, Target

STYLES = {
    types_pb2.RENDER_STYLE_UNSPECIFIED: "overlay",
    types_pb2.RENDER_STYLE_OVERLAY: "overlay",
    types_pb2.RENDER_STYLE_HEATMAP: "heatmap",
    types_pb2.RENDER_STYLE_SHEET: "sheet",
}
_STYLE_CODES = {style: code for code, style in STYLES.items()}


@dataclass(frozen=True)
class Render:
    """How a picture of a map shall look.

    Attributes:
        style: ``overlay``, ``heatmap`` or ``sheet``.
        opacity: of the heatmap in an overlay, 0..1; None = the style's own.
        max_side: longest side of an overlay or heatmap in pixels, 16..4096; None = that of the image, at most 1024,
            or of the map.
    """

    style: str = "overlay"
    opacity: float | None = None
    max_side: int | None = None


@dataclass(frozen=True)
class Call:
    """A decoded request: what the engine gets, and what is drawn of its answer (None: nothing)."""

    request: ExplainRequest
    render: Render | None = None


def decode_request(message: explain_pb2.ExplainRequest, at: str = "") -> Call:
    """The call that a message asks for.

    Args:
        message: the request.
        at: path of the message within the one that came, for example ``request.``.

    Raises:
        FieldError: with the path of the field at fault.
    """
    method, parameters = from_method(message.method, at=at)
    images, tensors = _inputs(message.inputs, f"{at}inputs")
    top_k = message.top_k if message.HasField("top_k") else 5
    if top_k > MAX_TOP_K:
        raise FieldError(f"{at}top_k", f"{top_k} is out of range: 0 to {MAX_TOP_K}")
    seconds, rows = _budget(message.budget, f"{at}budget")
    request = ExplainRequest(
        model=name(message.model, f"{at}model"),
        version=name(message.version, f"{at}version", optional=True),
        method=method,
        parameters=parameters,
        images=images,
        tensors=tensors,
        targets=_targets(message.targets, f"{at}targets"),
        top_k=top_k,
        seed=message.seed,
        max_seconds=seconds,
        max_rows=rows,
    )
    render = _render(message.render, f"{at}render") if message.HasField("render") else None
    return Call(request, render)


def located(field: str, message: explain_pb2.ExplainRequest, at: str = "") -> str:
    """The path in ``message`` of a field that the engine names: a ``top_k`` of the message is several of its targets.

    Args:
        field: path in the value that :func:`decode_request` made.
        message: the request.
        at: as in :func:`decode_request`; parameters of methods have no such prefix.
    """
    root, _, rest = field.partition("[")
    number, _, inner = rest.partition("]")
    if root == "targets" and number:
        ranks = [entry.WhichOneof("select") == "top_k" for entry in message.targets]
        places = [i for i, entry in enumerate(message.targets) for _ in range(entry.top_k if ranks[i] else 1)]
        place = places[int(number)] if places else 0
        field = f"targets[{place}]{'.top_k' if inner == '.rank' and places and ranks[place] else inner}"
    known = explain_pb2.ExplainRequest.DESCRIPTOR.fields_by_name
    return at + field if root.partition(".")[0] in known else field


def encode_request(call: Call) -> explain_pb2.ExplainRequest:
    """The message of a call.

    Raises:
        FieldError: a value that the contract cannot hold.
    """
    try:
        return _request_message(call.request, call.render)
    except FieldError:
        raise
    except (TypeError, ValueError) as error:  # a number that is negative or too large for its field
        raise FieldError("", f"the request cannot be sent: {error}") from None


def _request_message(request: ExplainRequest, render: Render | None) -> explain_pb2.ExplainRequest:
    budget = None
    if request.max_seconds is not None or request.max_rows is not None:
        budget = types_pb2.Budget(max_seconds=request.max_seconds, max_rows=request.max_rows)
    return explain_pb2.ExplainRequest(
        model=request.model,
        version=request.version,
        method=to_method(request.method, request.parameters),
        inputs=[
            *(_image(image) for image in request.images),
            *(types_pb2.Input(name=n, tensor=to_tensor(t)) for n, t in request.tensors.items()),
        ],
        targets=[_target_message(t) for t in request.targets],
        top_k=request.top_k,
        seed=request.seed,
        budget=budget,
        render=None if render is None else _render_message(render),
    )


def _inputs(inputs: Sequence[types_pb2.Input], at: str) -> tuple[tuple[bytes | Array, ...], dict[str, Array]]:
    at_most(len(inputs), MAX_INPUTS, at)
    images: list[bytes | Array] = []
    tensors: dict[str, Array] = {}
    for i, entry in enumerate(inputs):
        path, kind = f"{at}[{i}]", entry.WhichOneof("value")
        if kind is None:
            raise FieldError(path, "has no value; set image, pixels or tensor")
        if (images and kind == "tensor") or (tensors and kind != "tensor"):
            raise FieldError(path, "images and tensors do not mix in one call")
        if kind == "image":
            if not entry.image.data:
                raise FieldError(f"{path}.image.data", "is empty; send the bytes of a PNG, JPEG or WebP file")
            images.append(entry.image.data)
        elif kind == "pixels":
            images.append(_pixels(entry.pixels, f"{path}.pixels"))
        else:
            key = text(entry.name, f"{path}.name")
            if key in tensors or (not key and len(inputs) > 1):
                raise FieldError(f"{path}.name", f"{key!r} twice or missing; name each of several tensors once")
            tensors[key] = to_array(entry.tensor, f"{path}.tensor")
    return tuple(images), tensors


def _pixels(tensor: types_pb2.Tensor, path: str) -> Array:
    if tensor.dtype != types_pb2.DATA_TYPE_UINT8:
        raise FieldError(f"{path}.dtype", "pixels are UINT8; send other numbers as a tensor")
    shape = list(tensor.shape)
    if len(shape) not in (2, 3) or shape[2:] not in ([], [3], [4]) or 0 in shape:
        raise FieldError(f"{path}.shape", f"{shape} is none of [H, W], [H, W, 3], [H, W, 4]")
    return to_array(tensor, path)


def _targets(targets: Sequence[types_pb2.Target], at: str) -> tuple[Target, ...]:
    at_most(len(targets), MAX_TARGETS, at)
    out: list[Target] = []
    for i, entry in enumerate(targets):
        path = f"{at}[{i}]"
        output = text(entry.output_name, f"{path}.output_name")
        minus = _selector(entry.minus, f"{path}.minus") if entry.HasField("minus") else None
        if entry.WhichOneof("select") == "top_k":
            if not 1 <= entry.top_k <= MAX_TARGETS:
                raise FieldError(f"{path}.top_k", f"{entry.top_k} is out of range: 1 to {MAX_TARGETS}")
            selected = [Selector(rank=r + 1) for r in range(entry.top_k)]
        elif entry.WhichOneof("select") is None:
            selected = [Selector(rank=1)]
        else:
            selected = [_selector(entry, path)]
        out += [Target(select, minus, output) for select in selected]
    at_most(len(out), MAX_TARGETS, at)
    return tuple(out)


def _selector(message: types_pb2.ClassSelector | types_pb2.Target, path: str) -> Selector:
    kind = message.WhichOneof("select")
    if kind == "class_index":
        if message.class_index < 0:
            raise FieldError(f"{path}.class_index", f"{message.class_index} is negative; classes count from 0")
        return Selector(index=message.class_index)
    if kind == "class_name":
        if not message.class_name:
            raise FieldError(f"{path}.class_name", "is empty")
        return Selector(name=text(message.class_name, f"{path}.class_name"))
    if isinstance(message, types_pb2.Target) and kind == "rank":
        if message.rank < 1:
            raise FieldError(f"{path}.rank", "counts from 1, the strongest class")
        return Selector(rank=message.rank)
    raise FieldError(path, "names no class; set class_index or class_name")


def _target_message(target: Target) -> types_pb2.Target:
    if target.minus is not None and target.minus.rank is not None:
        raise FieldError("targets.minus", "names a class by its index or label, not by rank")
    minus = None if target.minus is None else _selector_fields(target.minus)
    return types_pb2.Target(
        output_name=target.output,
        minus=None if minus is None else types_pb2.ClassSelector(**minus),
        **_selector_fields(target.select),
    )


def _selector_fields(selector: Selector) -> dict[str, Any]:
    fields = {"class_index": selector.index, "class_name": selector.name, "rank": selector.rank}
    return {k: v for k, v in fields.items() if v is not None}


def _image(image: bytes | Array) -> types_pb2.Input:
    if isinstance(image, bytes):
        return types_pb2.Input(image=types_pb2.EncodedImage(data=image))
    return types_pb2.Input(pixels=to_tensor(image))


def _budget(budget: types_pb2.Budget, at: str) -> tuple[float | None, int | None]:
    seconds = budget.max_seconds if budget.HasField("max_seconds") else None
    rows = budget.max_rows if budget.HasField("max_rows") else None
    if seconds is not None:
        positive(seconds, f"{at}.max_seconds")
    if rows is not None:
        positive(rows, f"{at}.max_rows")
    return seconds, rows


def _render(options: types_pb2.RenderOptions, at: str) -> Render:
    if options.style not in STYLES:
        raise FieldError(f"{at}.style", f"value {options.style} is newer than this server")
    opacity = options.opacity if options.HasField("opacity") else None
    if opacity is not None and not 0 <= opacity <= 1:
        raise FieldError(f"{at}.opacity", f"{opacity} is out of range: 0 to 1")
    side = options.max_side if options.HasField("max_side") else None
    if side is not None and not 16 <= side <= 4096:
        raise FieldError(f"{at}.max_side", f"{side} is out of range: 16 to 4096 pixels")
    return Render(STYLES[options.style], opacity, side)


def _render_message(render: Render) -> types_pb2.RenderOptions:
    if render.style not in _STYLE_CODES:
        raise FieldError("render.style", f"{render.style!r} is none of {', '.join(_STYLE_CODES)}")
    return types_pb2.RenderOptions(style=_STYLE_CODES[render.style], opacity=render.opacity, max_side=render.max_side)
