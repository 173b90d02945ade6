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
    """One version of one model. ``state`` is UNLOADED, LOADING, READY or UNAVAILABLE (see ``reason``)."""

    name: str
    version: str
    state: str
    reason: str
    digest: str
    latest: bool


@dataclass(frozen=True)
class Value:
    """An edge of the graph. ``shape``: sizes, names of sizes, or None each; None = rank unknown."""

    name: str
    type: str
    shape: tuple[int | str | None, ...] | None
    operator: str
    node: str
    gradient: bool


@dataclass(frozen=True)
class ModelInfo:
    """All about one model; the fields are those of the message ``ModelInfo``.

    ``image`` is (height, width, channels), None for models that take tensors only; ``fixed_rows`` is None where
    the file takes any number of rows; ``score_kind`` is softmax, multi-label, binary, logits, probabilities or
    regression; ``values`` is empty where not asked for.
    """

    name: str
    version: str
    digest: str
    provider: str
    size: int
    fixed_rows: int | None
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    image: tuple[int, int, int] | None
    preprocessing: str
    labels: tuple[str, ...]
    classes: int | None
    output: str
    logits: str
    score_kind: str
    default_layer: str
    layers: tuple[str, ...]
    multiply_adds: int
    notes: tuple[str, ...]
    whitebox_error: str
    values: tuple[Value, ...]


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
    state = _name(_STATES, message.state).upper()
    return ModelStatus(message.name, message.version, state, message.reason, message.model_digest, message.latest)


def model_info(message: repository_pb2.ModelInfo) -> ModelInfo:
    """The value of a message."""
    image = message.image
    return ModelInfo(
        name=message.name,
        version=message.version,
        digest=message.model_digest,
        provider=message.execution_provider,
        size=message.size,
        fixed_rows=message.fixed_rows if message.HasField("fixed_rows") else None,
        inputs=tuple(_value(v) for v in message.inputs),
        outputs=tuple(_value(v) for v in message.outputs),
        image=(image.height, image.width, image.channels) if message.HasField("image") else None,
        preprocessing=message.preprocessing,
        labels=tuple(message.labels),
        classes=message.classes if message.HasField("classes") else None,
        output=message.output,
        logits=message.logits,
        score_kind=_name(_SCORES, message.score_kind),
        default_layer=message.default_layer,
        layers=tuple(message.layers),
        multiply_adds=message.multiply_adds,
        notes=tuple(message.notes),
        whitebox_error=message.whitebox_error,
        values=tuple(_value(v) for v in message.values),
    )


def method_info(message: explain_pb2.MethodInfo) -> MethodInfo:
    """The value of a message."""
    return MethodInfo(
        name=message.name,
        kind=_name(_KINDS, message.kind),
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
    shape = tuple(_size(d) for d in message.shape) if message.rank_known else None
    return Value(message.name, message.type, shape, message.operator, message.node, message.gradient)


def _size(message: repository_pb2.Dimension) -> int | str | None:
    kind = message.WhichOneof("dimension")
    return None if kind is None else getattr(message, kind)


def _name(names: dict[int, str], code: int) -> str:
    """The service's own word; "unknown" where the server is newer than this client."""
    return names.get(code, "unknown").replace("_", "-")
