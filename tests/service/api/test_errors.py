"""Every row of the error table, over a real connection."""

from __future__ import annotations

import logging

import grpc
import pytest
from google.rpc import error_details_pb2 as rpc
from grpc_status import rpc_status

from graph_tools import errors
from service.api.codec.fields import FieldError
from service.api.errors import TABLE, fault, status
from service.api.pb.onnx_explain.v1 import explain_pb2, explain_pb2_grpc, methods_pb2, types_pb2
from service.client import Client, ServiceError
from tests.service.api.fake import WAIT, Running, running

PREFIX = "/onnx_explain.v1.ExplainService/"
REQUEST = explain_pb2.ExplainRequest(
    model="net",
    method=methods_pb2.Method(predict=methods_pb2.PredictParameters()),
    inputs=[types_pb2.Input(image=types_pb2.EncodedImage(data=b"\1"))],
)

ROWS = [
    (errors.InvalidRequest("occlusion.patch", "too big"), "INVALID_ARGUMENT", rpc.BadRequest),
    (FieldError("inputs[0].tensor.raw", "12 bytes"), "INVALID_ARGUMENT", rpc.BadRequest),
    (errors.UnknownModel("model", "nte", ["net", "scenes"]), "NOT_FOUND", rpc.ResourceInfo),
    (errors.UnknownValue("layer", "relu9", ["relu_9"]), "NOT_FOUND", rpc.ResourceInfo),
    (
        errors.UnsupportedGradient("no rule", operator="NonZero", node="n7"),
        "FAILED_PRECONDITION",
        rpc.PreconditionFailure,
    ),
    (errors.UnsupportedModel("cannot be lifted"), "FAILED_PRECONDITION", rpc.PreconditionFailure),
    (errors.ProviderUnavailable("no GPU"), "FAILED_PRECONDITION", rpc.PreconditionFailure),
    (errors.Busy("no memory", retry_after=2.5), "RESOURCE_EXHAUSTED", rpc.RetryInfo),
    (errors.DeadlinePassed("1 s is over"), "DEADLINE_EXCEEDED", None),
    (errors.Cancelled("the caller went away"), "CANCELLED", None),
    (MemoryError("no 12 GB for an array"), "RESOURCE_EXHAUSTED", rpc.RetryInfo),
]


def details(error: grpc.RpcError) -> dict[str, object]:
    found = {}
    for packed in rpc_status.from_call(error).details:
        for kind in (rpc.ErrorInfo, rpc.BadRequest, rpc.ResourceInfo, rpc.PreconditionFailure, rpc.RetryInfo):
            message = kind()
            if packed.Unpack(message):
                found[kind.__name__] = message
    return found


def every_error(kind: type[BaseException] = errors.ExplainError) -> list[type[BaseException]]:
    return [k for sub in kind.__subclasses__() for k in (sub, *every_error(sub))]


def test_every_error_has_a_row() -> None:
    public = {k for k in every_error() if k.__module__ == errors.__name__ and not k.__name__.startswith("_")}
    assert public <= set(TABLE)
    assert public <= {type(error) for error, _, _ in ROWS}


@pytest.mark.parametrize(("error", "code", "detail"), ROWS, ids=lambda v: type(v).__name__)
def test_row(server: Running, channel: grpc.Channel, error: Exception, code: str, detail: type | None) -> None:
    def behave(request: object, run: object) -> None:
        raise error

    server.engine.behave = behave  # type: ignore[assignment]
    stub = explain_pb2_grpc.ExplainServiceStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Explain(REQUEST, timeout=WAIT)
    assert caught.value.code().name == code
    assert caught.value.details() == str(error)
    found = details(caught.value)
    assert found["ErrorInfo"].domain == "onnx-explain"  # type: ignore[attr-defined]
    assert found["ErrorInfo"].reason == TABLE[type(error)][1]  # type: ignore[attr-defined]
    assert set(found) == {"ErrorInfo"} | ({detail.__name__} if detail else set())
    # the stream gives the same
    with pytest.raises(grpc.RpcError) as streamed:
        list(stub.ExplainStream(explain_pb2.ExplainStreamRequest(request=REQUEST), timeout=WAIT))
    assert (streamed.value.code(), streamed.value.details()) == (caught.value.code(), caught.value.details())


def test_details_hold_the_facts(server: Running, client: Client) -> None:
    def told(error: Exception) -> ServiceError:
        def behave(request: object, run: object) -> None:
            raise error

        server.engine.behave = behave  # type: ignore[assignment]
        with pytest.raises(ServiceError) as caught:
            client.explain("net", b"\1", method="predict")
        return caught.value

    assert told(ROWS[0][0]).field == "occlusion.patch"
    assert told(ROWS[2][0]).facts == {"nearest": "net"}
    assert told(ROWS[4][0]).facts == {"operator": "NonZero", "node": "n7"}
    assert told(ROWS[7][0]).retry_after == 2.5
    assert told(ROWS[5][0]).reason == "UNSUPPORTED_MODEL"


def test_a_bug_leaks_nothing(server: Running, channel: grpc.Channel, caplog: pytest.LogCaptureFixture) -> None:
    def behave(request: object, run: object) -> None:
        raise RuntimeError("secret /srv/models/net.onnx")

    server.engine.behave = behave  # type: ignore[assignment]
    stub = explain_pb2_grpc.ExplainServiceStub(channel)
    with caplog.at_level(logging.ERROR), pytest.raises(grpc.RpcError) as caught:
        stub.Explain(REQUEST, timeout=WAIT)
    error = caught.value
    assert error.code() is grpc.StatusCode.INTERNAL
    incident = details(error)["ErrorInfo"].metadata["incident"]  # type: ignore[attr-defined]
    assert incident in error.details()
    sent = repr(error.details()) + repr(error.trailing_metadata()) + repr(rpc_status.from_call(error))
    assert "secret" not in sent
    assert "srv" not in sent
    logged = "".join(caplog.text)
    assert incident in logged
    assert "secret /srv/models/net.onnx" in logged


def test_long_text_still_arrives(server: Running, client: Client) -> None:
    def behave(request: object, run: object) -> None:
        raise errors.UnknownValue("layer", "ä" * 3000, ["ä" * 2900, "ö" * 3000], "→" * 4000)

    server.engine.behave = behave  # type: ignore[assignment]
    with pytest.raises(ServiceError, match="ää") as caught:
        client.explain("net", b"\1", method="predict")
    assert caught.value.code == "NOT_FOUND"
    assert caught.value.message.endswith("…")
    assert len(status(fault(ROWS[0][0])).SerializeToString()) < 4000


@pytest.mark.parametrize("method", ["Explain", "ExplainStream", "ListMethods"])
@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x7fshort", b"\x0a\x02\xc3\x28"])
def test_malformed_bytes(channel: grpc.Channel, method: str, data: bytes) -> None:
    call = (channel.unary_stream if method == "ExplainStream" else channel.unary_unary)(PREFIX + method)
    with pytest.raises(grpc.RpcError) as caught:
        list(call(data, timeout=WAIT))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "protobuf" in caught.value.details()


def test_malformed_bytes_in_a_stream(channel: grpc.Channel) -> None:
    call = channel.stream_stream(PREFIX + "ExplainBatch")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([b"\xff\xff"]), timeout=WAIT))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_no_method(channel: grpc.Channel) -> None:
    stub = explain_pb2_grpc.ExplainServiceStub(channel)
    newer = explain_pb2.ExplainRequest(model="net")
    newer.method.MergeFromString(b"\xba\x0c\x00")  # oneof member 199, empty
    for request in (explain_pb2.ExplainRequest(model="net"), newer):
        with pytest.raises(grpc.RpcError, match="method unset or newer than this server") as caught:
            stub.Explain(request, timeout=WAIT)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_estimate_is_not_offered(channel: grpc.Channel) -> None:
    stub = explain_pb2_grpc.ExplainServiceStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.EstimateExplain(explain_pb2.EstimateExplainRequest(request=REQUEST), timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_unknown_rpc_and_service_stay_grpcs(channel: grpc.Channel) -> None:
    for path in (PREFIX + "Explode", "/other.Service/Do"):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(path)(b"", timeout=WAIT)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_message_over_the_cap() -> None:
    with running(most_bytes=1 << 16) as server, Client(server.address, timeout=WAIT) as client:
        with pytest.raises(ServiceError) as caught:
            client.explain("net", bytes(1 << 17), method="predict")
        assert caught.value.code == "RESOURCE_EXHAUSTED"
        assert client.explain("net", b"\5", method="predict").map[0, 0] == 5
        assert len(server.engine.requests) == 1


NAMES = ["../x", "a/b", "", "a\0b", "x" * 129, "．．", "a b", ".hidden", "-x", "ä"]


@pytest.mark.parametrize("name", NAMES)
def test_names(server: Running, client: Client, name: str) -> None:
    """No name but plain ones gets past the codec, on any RPC."""
    for call in (
        lambda: client.explain(name, b"\1", method="predict"),
        lambda: list(client.explain_stream(name, b"\1", method="predict")),
        lambda: list(client.explain_batch(name, [("a", b"\1")], method="predict")),
        lambda: client.model(name),
        lambda: client.methods(name or "."),
        lambda: client.model("net", name or "."),
        lambda: client.explain("net", b"\1", method="predict", version=name or "."),
    ):
        with pytest.raises(ServiceError) as caught:
            call()
        assert caught.value.code == "INVALID_ARGUMENT"
        assert caught.value.field
    assert server.engine.requests == []


def test_nobody_there() -> None:
    with Client("127.0.0.1:1", timeout=WAIT) as client, pytest.raises(ServiceError, match=r"no server .* 127"):
        client.models()
