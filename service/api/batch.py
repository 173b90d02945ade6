"""ExplainBatch: a header, then items; a few at a time, each with its own outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from service.api.codec.chunks import take_apart
from service.api.codec.fields import FieldError, name
from service.api.codec.requests import decode_request
from service.api.errors import fault
from service.api.pb.onnx_explain.v1 import explain_pb2, result_pb2

Answer = Callable[[explain_pb2.ExplainRequest], Awaitable[result_pb2.ExplainResponse]]
Requests = AsyncIterator[explain_pb2.ExplainBatchRequest]


async def run_batch(requests: Requests, answer: Answer, window: int) -> AsyncIterator[explain_pb2.ExplainBatchResponse]:
    """The outcomes of all items, in the order in which they are ready.

    Args:
        requests: header, then items. It is read only while fewer than ``window`` items are at work.
        answer: computes one item.
        window: most items at work at once.

    Raises:
        FieldError: no header first, a header that fits no item, a second header.
    """
    header = await _header(requests)
    reader: asyncio.Task[explain_pb2.ExplainBatchRequest | None] | None = asyncio.create_task(_next(requests))
    working: set[asyncio.Task[explain_pb2.ExplainBatchItemResult]] = set()
    try:
        while reader or working:
            reading = [reader] if reader and len(working) < window else []
            await asyncio.wait([*working, *reading], return_when=asyncio.FIRST_COMPLETED)
            if reader and reader in reading and reader.done():
                message = reader.result()
                reader = None if message is None else asyncio.create_task(_next(requests))
                if message is not None:
                    working.add(asyncio.create_task(_item(header, _expected(message), answer)))
            for task in [t for t in working if t.done()]:
                working.remove(task)
                for response in _responses(task.result()):
                    yield response
    finally:
        for item in working:
            item.cancel()
        if reader:
            reader.cancel()


async def _next(requests: Requests) -> explain_pb2.ExplainBatchRequest | None:
    return await anext(requests, None)


async def _header(requests: Requests) -> explain_pb2.ExplainBatchHeader:
    first = await _next(requests)
    if first is None or first.WhichOneof("message") != "header":
        raise FieldError("header", "the first message of a batch is its header")
    header = first.header
    if len(header.models) != 1:
        raise FieldError("header.models", f"{len(header.models)} models; this method takes exactly one")
    name(header.models[0].name, "header.models[0].name")
    name(header.models[0].version, "header.models[0].version", optional=True)
    decode_request(_request(header, explain_pb2.ExplainBatchItem()), "header.")
    return header


def _expected(message: explain_pb2.ExplainBatchRequest) -> explain_pb2.ExplainBatchItem:
    if message.WhichOneof("message") != "item":
        raise FieldError("item", "after the header come items only")
    return message.item


def _request(header: explain_pb2.ExplainBatchHeader, item: explain_pb2.ExplainBatchItem) -> explain_pb2.ExplainRequest:
    return explain_pb2.ExplainRequest(
        model=header.models[0].name,
        version=header.models[0].version,
        method=header.method,
        inputs=item.inputs,
        targets=item.targets or header.targets,
        top_k=header.top_k if header.HasField("top_k") else None,
        seed=header.seed,
        budget=header.budget if header.HasField("budget") else None,
        render=header.render if header.HasField("render") else None,
    )


async def _item(
    header: explain_pb2.ExplainBatchHeader, item: explain_pb2.ExplainBatchItem, answer: Answer
) -> explain_pb2.ExplainBatchItemResult:
    outcome = explain_pb2.ExplainBatchItemResult(item_id=item.item_id[:256])
    try:
        if not 1 <= len(item.item_id) <= 256:
            raise FieldError("item_id", "1 to 256 characters, yours to choose; it comes back with the result")
        for extra in ("truth", "mask"):
            if item.HasField(extra):
                raise FieldError(extra, "this method does not compare with it; leave it out")
        outcome.result.CopyFrom(await answer(_request(header, item)))
    except Exception as error:  # the others go on
        told = fault(error)
        outcome.error.CopyFrom(
            explain_pb2.ItemError(code=told.number, message=told.message, reason=told.reason, field=told.at)
        )
    return outcome


def _responses(
    outcome: explain_pb2.ExplainBatchItemResult,
) -> Iterator[explain_pb2.ExplainBatchResponse]:
    if outcome.WhichOneof("outcome") == "result":
        for chunk in take_apart(outcome.result, outcome.item_id):
            yield explain_pb2.ExplainBatchResponse(chunk=chunk)
    yield explain_pb2.ExplainBatchResponse(item=outcome)
