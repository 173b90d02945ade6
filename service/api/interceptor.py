"""One interceptor around every call: it parses the messages and turns every exception into a clean status."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from service.api.codec.fields import FieldError
from service.api.errors import fault, status

Parse = Callable[[bytes], Any]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]]


class Errors(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Gives handlers parsed messages and callers rich errors.

    gRPC's own parsing answers malformed bytes with UNKNOWN, and any exception with its text; so the wrapped
    handlers get bytes, parse them here, and no text of a bug leaves the server. gRPC's own services stay as
    they are.
    """

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """The handler of this method, wrapped."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith("/grpc."):
            return handler
        return _wrapped(handler)


def _wrapped(handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
    parse = handler.request_deserializer
    if handler.request_streaming and handler.response_streaming:
        make, behaviour = (
            grpc.stream_stream_rpc_method_handler,
            _streaming(handler.stream_stream, _parsed(parse)),
        )
    elif handler.request_streaming:
        make, behaviour = grpc.stream_unary_rpc_method_handler, _single(handler.stream_unary, _parsed(parse))
    elif handler.response_streaming:
        make, behaviour = grpc.unary_stream_rpc_method_handler, _streaming(handler.unary_stream, _one(parse))
    else:
        make, behaviour = grpc.unary_unary_rpc_method_handler, _single(handler.unary_unary, _one(parse))
    return make(behaviour, request_deserializer=None, response_serializer=handler.response_serializer)


def _single(method: Any, prepare: Callable[[Any], Any]) -> Any:
    async def behaviour(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await method(prepare(request), context)
        except Exception as error:
            return await _abort(context, error)

    return behaviour


def _streaming(method: Any, prepare: Callable[[Any], Any]) -> Any:
    async def behaviour(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        try:
            async for response in method(prepare(request), context):
                yield response
        except Exception as error:
            await _abort(context, error)

    return behaviour


def _one(parse: Parse) -> Callable[[bytes], Any]:
    def prepare(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            raise FieldError("", "the request is not a valid protobuf message of this method") from None

    return prepare


def _parsed(parse: Parse) -> Callable[[AsyncIterator[bytes]], AsyncIterator[Any]]:
    one = _one(parse)

    async def prepare(messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for data in messages:
            yield one(data)

    return prepare


async def _abort(context: grpc.aio.ServicerContext, error: Exception) -> None:
    """Ends the call; raises AbortError."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    await context.abort_with_status(rpc_status.to_status(status(fault(error))))
