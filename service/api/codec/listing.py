"""What the server has: models, methods and their parameters as messages, page by page."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from service.api.codec.fields import FieldError
from service.api.codec.methods import choices
from service.api.pb.onnx_explain.v1 import explain_pb2
from service.api.pb.onnx_explain.v1 import model_repository_pb2 as repository_pb2

if TYPE_CHECKING:
    from graph_tools.values import ValueInfo
    from service.core import MethodInfo
    from service.explainers.base import ParameterInfo
    from service.models.describe import ModelInfo, TensorDescription
    from service.models.repository import ModelStatus

T = TypeVar("T")

DEFAULT_PAGE = 100
MAX_PAGE = 1000
KINDS = choices(explain_pb2.DESCRIPTOR.enum_types_by_name["MethodKind"])
STATES = choices(repository_pb2.DESCRIPTOR.enum_types_by_name["ModelState"])
SCORES = choices(repository_pb2.DESCRIPTOR.enum_types_by_name["ScoreKind"])


def page(items: Sequence[T], size: int, token: str) -> tuple[Sequence[T], str]:
    """One page of ``items`` and the token of the next, ``""`` after the last.

    Args:
        items: everything, in a stable order.
        size: most items on a page; 0 = 100; more than 1000 count as 1000.
        token: ``""`` for the first page, else as an earlier call gave it.

    Raises:
        FieldError: a token that no call gave.
    """
    start = _offset(token)
    end = start + (min(size, MAX_PAGE) or DEFAULT_PAGE)
    following = base64.urlsafe_b64encode(f"page:{end}".encode()).decode() if end < len(items) else ""
    return items[start:end], following


def _offset(token: str) -> int:
    if not token:
        return 0
    try:
        kind, _, number = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
        if kind == "page" and number.isascii() and number.isdigit() and len(number) < 10:
            return int(number)
    except (binascii.Error, UnicodeError):
        pass
    raise FieldError("page_token", "is none that this server gave; start again without one")


def method_message(method: MethodInfo) -> explain_pb2.MethodInfo:
    """The message of a method."""
    explainer = method.explainer
    return explain_pb2.MethodInfo(
        name=explainer.name,
        kind=_code(KINDS, explainer.kind),
        summary=explainer.summary,
        supported=method.supported,
        why_not=method.why_not,
        parameters=[_parameter(p) for p in explainer.parameter_infos()],
        reports_progress=explainer.loops,
        needs_layer=explainer.needs_layer,
        needs_target=explainer.needs_target,
    )


def _parameter(info: ParameterInfo) -> explain_pb2.ParameterInfo:
    return explain_pb2.ParameterInfo(
        name=info.name,
        type=info.type,
        default_value=json.dumps(info.default),
        minimum=info.minimum,
        maximum=info.maximum,
        choices=info.choices,
        unit=info.unit,
        help=info.help,
    )


def status_message(status: ModelStatus) -> repository_pb2.ModelStatus:
    """The message of a model's state."""
    return repository_pb2.ModelStatus(
        name=status.name,
        version=status.version,
        state=_code(STATES, status.state),
        reason=status.reason,
        model_digest=status.digest,
        latest=status.latest,
    )


def info_message(info: ModelInfo, values: Sequence[ValueInfo]) -> repository_pb2.ModelInfo:
    """The message of a model's description and, where asked for, its values."""
    image = None
    if info.image is not None:
        height, width, channels = info.image
        image = repository_pb2.ImageEntry(height=height, width=width, channels=channels)
    return repository_pb2.ModelInfo(
        name=info.name,
        version=info.version,
        model_digest=info.digest,
        execution_provider=info.provider,
        size=info.size,
        fixed_rows=None if info.rows == "any" else int(info.rows),
        inputs=[_tensor(v) for v in info.inputs],
        outputs=[_tensor(v) for v in info.outputs],
        image=image,
        preprocessing=info.preprocessing,
        labels=info.labels,
        classes=info.classes,
        output=info.output,
        logits=info.logits,
        score_kind=_code(SCORES, info.score_kind),
        default_layer=info.default_layer,
        layers=info.layers,
        multiply_adds=info.macs,
        notes=info.notes,
        whitebox_error=info.whitebox_error,
        values=[_value(v) for v in values],
    )


def _tensor(value: TensorDescription) -> repository_pb2.ValueInfo:
    shape = [_dimension(d) for d in value.shape]
    return repository_pb2.ValueInfo(name=value.name, type=value.dtype, shape=shape, rank_known=True)


def _value(value: ValueInfo) -> repository_pb2.ValueInfo:
    return repository_pb2.ValueInfo(
        name=value.name,
        type=value.dtype,
        shape=[_dimension(d) for d in value.shape or ()],
        rank_known=value.shape is not None,
        operator=value.operator,
        node=value.node,
        gradient=value.gradient,
    )


def _dimension(size: int | str | None) -> repository_pb2.Dimension:
    if isinstance(size, str):
        return repository_pb2.Dimension(symbol=size)
    return repository_pb2.Dimension(size=size)


def _code(codes: dict[str, int], name: str) -> Any:
    return codes[name.lower().replace("-", "_")]
