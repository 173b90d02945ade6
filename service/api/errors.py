"""Errors on the wire: one table from exceptions to status codes and google.rpc details, and back to facts."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as rpc
from google.rpc import status_pb2

from graph_tools.errors import (
    Busy,
    Cancelled,
    DeadlinePassed,
    InvalidRequest,
    ProviderUnavailable,
    UnknownModel,
    UnknownValue,
    UnsupportedGradient,
    UnsupportedModel,
)
from service.api.codec.fields import FieldError

DOMAIN = "onnx-explain"
LOG = logging.getLogger(__name__)

# The status travels twice in one header block, percent-encoded and as base64, of 8 kB in all.
_MAX_BYTES = 700


class NotOfferedError(Exception):
    """The contract has it, this server does not."""


@dataclass(frozen=True)
class Fault:
    """What a caller is told.

    Attributes:
        code: gRPC status code.
        reason: for programs, UPPER_SNAKE.
        message: for people.
        details: google.rpc messages beside ErrorInfo.
        metadata: facts for programs in ErrorInfo.
    """

    code: grpc.StatusCode
    reason: str
    message: str
    details: tuple[Message, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """The code as a number."""
        return int(self.code.value[0])

    @property
    def at(self) -> str:
        """Path of the field at fault, or ""."""
        bad = [d for d in self.details if isinstance(d, rpc.BadRequest)]
        return bad[0].field_violations[0].field if bad else ""


Detail = Callable[[BaseException], tuple[Message, ...]]


def _bad_request(error: BaseException) -> tuple[Message, ...]:
    path, reason = getattr(error, "field", ""), getattr(error, "reason", str(error))
    violation = rpc.BadRequest.FieldViolation(field=_short(path, 200), description=_short(reason))
    return (rpc.BadRequest(field_violations=[violation]),)


def _resource(error: BaseException) -> tuple[Message, ...]:
    kind, name = getattr(error, "kind", ""), getattr(error, "name", "")
    return (rpc.ResourceInfo(resource_type=kind, resource_name=_short(name, 200), description=_short(str(error))),)


def _precondition(error: BaseException) -> tuple[Message, ...]:
    subject = ":".join(filter(None, (getattr(error, "operator", ""), getattr(error, "node", ""))))
    violation = rpc.PreconditionFailure.Violation(
        type=TABLE[type(error)][1] if type(error) in TABLE else "",
        subject=_short(subject, 200),
        description=_short(str(error)),
    )
    return (rpc.PreconditionFailure(violations=[violation]),)


def _retry(error: BaseException) -> tuple[Message, ...]:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(getattr(error, "retry_after", 1.0) * 1e9))
    return (rpc.RetryInfo(retry_delay=delay),)


def _nothing(error: BaseException) -> tuple[Message, ...]:
    del error
    return ()


TABLE: dict[type[BaseException], tuple[grpc.StatusCode, str, Detail]] = {
    FieldError: (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", _bad_request),
    InvalidRequest: (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", _bad_request),
    UnknownModel: (grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL", _resource),
    UnknownValue: (grpc.StatusCode.NOT_FOUND, "UNKNOWN_VALUE", _resource),
    UnsupportedGradient: (grpc.StatusCode.FAILED_PRECONDITION, "UNSUPPORTED_GRADIENT", _precondition),
    UnsupportedModel: (grpc.StatusCode.FAILED_PRECONDITION, "UNSUPPORTED_MODEL", _precondition),
    ProviderUnavailable: (grpc.StatusCode.FAILED_PRECONDITION, "PROVIDER_UNAVAILABLE", _precondition),
    Busy: (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY", _retry),
    DeadlinePassed: (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_PASSED", _nothing),
    Cancelled: (grpc.StatusCode.CANCELLED, "CANCELLED", _nothing),
    MemoryError: (grpc.StatusCode.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY", _retry),
    NotOfferedError: (grpc.StatusCode.UNIMPLEMENTED, "NOT_OFFERED", _nothing),
}


def fault(error: BaseException) -> Fault:
    """What the caller is told of ``error``; anything outside the table is a bug, told by an incident id only.

    The text of a bug goes to the log, with the same id.
    """
    for kind in type(error).__mro__:
        if kind in TABLE:
            code, reason, detail = TABLE[kind]
            message = _short(str(error) or reason.lower().replace("_", " "))
            return Fault(code, reason, message, detail(error), _facts(error))
    incident = uuid.uuid4().hex[:12]
    LOG.error("incident %s", incident, exc_info=error)
    message = f"internal error, incident {incident}; the server's log says more"
    return Fault(grpc.StatusCode.INTERNAL, "INTERNAL", message, metadata={"incident": incident})


def status(told: Fault) -> status_pb2.Status:
    """The google.rpc.Status of a fault: ErrorInfo first, then its details."""
    info = rpc.ErrorInfo(reason=told.reason, domain=DOMAIN, metadata=told.metadata)
    out = status_pb2.Status(code=told.number, message=told.message)
    for detail in (info, *told.details):
        packed = any_pb2.Any()
        packed.Pack(detail)
        out.details.append(packed)
    return out


def _facts(error: BaseException) -> dict[str, str]:
    facts = {
        "nearest": ", ".join(getattr(error, "nearest", ())),
        "operator": getattr(error, "operator", ""),
        "node": getattr(error, "node", ""),
    }
    return {k: _short(v, 400) for k, v in facts.items() if v}


def _short(text: str, most: int = _MAX_BYTES) -> str:
    """``text`` in at most ``most`` bytes of UTF-8."""
    data = text.encode(errors="replace")
    return text if len(data) <= most else data[: most - 3].decode(errors="ignore") + "…"
