"""The one exception of the client."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import grpc
from google.rpc import error_details_pb2 as rpc
from grpc_status import rpc_status

from service.api.codec.fields import FieldError
from service.api.pb.onnx_explain.v1 import explain_pb2

_NAMES = {int(code.value[0]): code.name for code in grpc.StatusCode}


class ServiceError(Exception):
    """A call, or an item of a batch, failed.

    Attributes:
        code: name of the gRPC status code, for example ``INVALID_ARGUMENT``.
        message: for people: what, where, and what to do instead.
        reason: for programs, for example ``UNKNOWN_MODEL``; "" where the server did not say.
        field: path of the field at fault, "" where no field is.
        retry_after: seconds after which a retry makes sense; None where the server did not say.
        facts: more for programs: ``nearest``, ``operator``, ``node``, ``incident``.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        reason: str = "",
        field: str = "",
        retry_after: float | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """All that is known."""
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.reason, self.field = code, message, reason, field
        self.retry_after, self.facts = retry_after, dict(facts or {})


def of_item(error: explain_pb2.ItemError) -> ServiceError:
    """The error of one item of a batch."""
    code = _NAMES.get(error.code, "UNKNOWN")
    return ServiceError(code, error.message, reason=error.reason, field=error.field)


@contextlib.contextmanager
def clean(address: str) -> Iterator[None]:
    """Turns gRPC's and the codec's errors inside the block into :class:`ServiceError`."""
    try:
        yield
    except FieldError as error:
        raise ServiceError("INVALID_ARGUMENT", str(error), reason="INVALID_REQUEST", field=error.field) from None
    except grpc.RpcError as error:
        raise _of_call(error, address) from None


def _of_call(error: grpc.Call, address: str) -> ServiceError:
    code, message = error.code().name, error.details() or ""
    if code == "UNAVAILABLE":
        message = f"no server answers at {address} ({message})"
    reason, field, retry_after, facts = "", "", None, {}
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info, bad, retry = rpc.ErrorInfo(), rpc.BadRequest(), rpc.RetryInfo()
        if detail.Unpack(info):
            reason, facts = info.reason, dict(info.metadata)
        elif detail.Unpack(bad) and bad.field_violations:
            field = bad.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return ServiceError(code, message, reason=reason, field=field, retry_after=retry_after, facts=facts)
