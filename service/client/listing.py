"""What a server has, as plain values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from service.api.codec import listing
from service.api.pb.onnx_explain.v1 import explain_pb2
from service.api.pb.onnx_explain.v1 import model_repository_pb2 as repository_pb2

_STATES = {code: name for name, code in listing.STATES.items()}
_KINDS = {code: name for name, code in listing.KINDS.items()}
_SCORES = {code: name for name, code in listing.SCORES.items()}


@dataclass(frozen=True)
class ModelStatus:
    """One version of one model. ``state`` is LOADING, READY or UNAVAILABLE, the last with its ``reason``."""

    name: str
    version: str
    state: str
    reason: str
    digest: str
    latest: bool


@dataclass(frozen=True)
class Value:
    """An input, an output or a layer. ``shape``: sizes, names of sizes, or None each; None = rank unknown."""

    name: str
    type: str
    shape: tuple[int | str | None, ...] | None
    operator: str
    gradient: bool


@dataclass(frozen=True)
class ModelInfo:
    """All about one model; the fields are those of the message ``ModelInfo``.

    ``image`` is (height, width, channels), None for models that take tensors only; ``fixed_rows`` is None
    where the file takes any number of rows; ``score_kind`` is softmax, sigmoid or none.
    """

    name: str
    version: str
    digest: str
    provider: str
    fixed_rows: int | None
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    image: tuple[int, int, int] | None
    labels: tuple[str, ...]
    score_kind: str
    logits: str
    default_layer: str
    layers: tuple[Value, ...]
    preprocessing: str
    whitebox_reason: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method. ``minimum`` and ``maximum`` are None where there is no bound."""

    name: str
    type: str
    default: Any
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    unit: str
    help: str


@dataclass(frozen=True)
class MethodInfo:
    """A method, and whether the model asked about supports it. ``kind`` is black-box or white-box."""

    name: str
    kind: str
    summary: str
    supported: bool
    why_not: str
    parameters: tuple[Parameter, ...]
    reports_progress: bool
    needs_layer: bool
    needs_target: bool


def model_status(message: repository_pb2.ModelStatus) -> ModelStatus:
    """The value of a message."""
    state = _STATES.get(message.state, "UNAVAILABLE")
    return ModelStatus(message.name, message.version, state, message.reason, message.model_digest, message.latest)


def model_info(message: repository_pb2.ModelInfo) -> ModelInfo:
    """The value of a message."""
    image = message.image
    return ModelInfo(
        name=message.name,
        version=message.version,
        digest=message.model_digest,
        provider=message.execution_provider,
        fixed_rows=message.fixed_rows if message.HasField("fixed_rows") else None,
        inputs=tuple(_value(v) for v in message.inputs),
        outputs=tuple(_value(v) for v in message.outputs),
        image=(image.height, image.width, image.channels) if message.HasField("image") else None,
        labels=tuple(message.labels),
        score_kind=_SCORES.get(message.score_kind, "none"),
        logits=message.logits,
        default_layer=message.default_layer,
        layers=tuple(_value(v) for v in message.layers),
        preprocessing=message.preprocessing,
        whitebox_reason=message.whitebox_reason,
        notes=tuple(message.notes),
    )


def method_info(message: explain_pb2.MethodInfo) -> MethodInfo:
    """The value of a message."""
    return MethodInfo(
        name=message.name,
        kind=_KINDS.get(message.kind, ""),
        summary=message.summary,
        supported=message.supported,
        why_not=message.why_not,
        parameters=tuple(_parameter(p) for p in message.parameters),
        reports_progress=message.reports_progress,
        needs_layer=message.needs_layer,
        needs_target=message.needs_target,
    )


def _parameter(message: explain_pb2.ParameterInfo) -> Parameter:
    return Parameter(
        name=message.name,
        type=message.type,
        default=json.loads(message.default_value),
        minimum=message.minimum if message.HasField("minimum") else None,
        maximum=message.maximum if message.HasField("maximum") else None,
        choices=tuple(message.choices),
        unit=message.unit,
        help=message.help,
    )


def _value(message: repository_pb2.ValueInfo) -> Value:
    shape = tuple(_size(d) for d in message.shape) if message.shape_known else None
    return Value(message.name, message.type, shape, message.operator, message.gradient)


def _size(message: repository_pb2.Dimension) -> int | str | None:
    kind = message.WhichOneof("dimension")
    return None if kind is None else getattr(message, kind)
