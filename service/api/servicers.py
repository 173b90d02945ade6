"""Decode, call the engine in a thread, encode. What goes wrong passes the interceptor."""
# ruff: noqa: N802, ARG002 -- names and arguments are gRPC's

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, TypeAlias

import grpc

from graph_tools.errors import InvalidRequest
from service.api.batch import run_batch
from service.api.codec import listing
from service.api.codec.fields import FieldError, name
from service.api.codec.requests import decode_request, located
from service.api.codec.results import encode_progress, encode_result
from service.api.errors import NotOfferedError
from service.api.pb.onnx_explain.v1 import (
    explain_pb2,
    explain_pb2_grpc,
    model_repository_pb2,
    model_repository_pb2_grpc,
    result_pb2,
)
from service.api.progress import Latest
from service.api.render import Drawing
from service.api.workers import Workers
from service.models import describe
from service.runtime.context import Run
from service.types import Progress

if TYPE_CHECKING:
    from service.core import Engine

Context: TypeAlias = grpc.aio.ServicerContext


def new_run(context: Context, on_progress: Callable[[Progress], None] | None = None, *, partials: bool = False) -> Run:
    """The run of a call: it ends at the call's deadline."""
    left = context.time_remaining()
    deadline = None if left is None else time.monotonic() + left
    return Run(deadline, on_progress, partials=partials)


class ExplainServicer(explain_pb2_grpc.ExplainServiceServicer):
    """``onnx_explain.v1.ExplainService`` over an engine."""

    def __init__(
        self, engine: Engine, explain: Workers, short: Workers, *, most_bytes: int, interval: float = 0.1
    ) -> None:
        """What serves the calls.

        Args:
            engine: does the work.
            explain: threads for explanations.
            short: threads for everything short, so that it is answered under load.
            most_bytes: largest message that callers are told to accept.
            interval: least seconds between two progress messages of a stream.
        """
        self._engine, self._explain, self._short = engine, explain, short
        self._most_bytes, self._interval = most_bytes, interval

    async def Explain(self, request: explain_pb2.ExplainRequest, context: Context) -> result_pb2.ExplainResponse:
        """One answer."""
        run = new_run(context)
        return await self._explain.run(lambda: self.answer(request, run, limited=True), run.cancel)

    async def ExplainStream(
        self, request: explain_pb2.ExplainStreamRequest, context: Context
    ) -> AsyncIterator[explain_pb2.ExplainStreamResponse]:
        """Progress, then one answer."""
        latest = Latest(self._interval)
        run = new_run(context, latest.put, partials=request.partial_maps)
        work = asyncio.ensure_future(
            self._explain.run(lambda: self.answer(request.request, run, at="request.", limited=True), run.cancel)
        )
        try:
            async for report in latest.until(work):
                yield explain_pb2.ExplainStreamResponse(progress=encode_progress(report))
            yield explain_pb2.ExplainStreamResponse(result=await work)
        finally:
            work.cancel()

    async def ExplainBatch(
        self, requests: AsyncIterator[explain_pb2.ExplainBatchRequest], context: Context
    ) -> AsyncIterator[explain_pb2.ExplainBatchResponse]:
        """Many items, each with its own outcome."""

        async def answer(request: explain_pb2.ExplainRequest) -> result_pb2.ExplainResponse:
            run = new_run(context)
            return await self._explain.run(lambda: self.answer(request, run), run.cancel, patient=True)

        async for response in run_batch(requests, answer, window=self._explain.threads + 1):
            yield response

    async def EstimateExplain(
        self, request: explain_pb2.EstimateExplainRequest, context: Context
    ) -> explain_pb2.EstimateExplainResponse:
        """Not offered yet."""
        raise NotOfferedError("this server does not estimate costs; set a deadline or a budget instead")

    async def ListMethods(
        self, request: explain_pb2.ListMethodsRequest, context: Context
    ) -> explain_pb2.ListMethodsResponse:
        """The methods, and whether the model supports them."""
        model = name(request.model, "model", optional=True)
        version = name(request.version, "version", optional=True)
        methods = await self._short.run(lambda: self._engine.methods(model, version), _nothing)
        methods = sorted(methods, key=lambda m: m.explainer.name)
        shown, following = listing.page(methods, request.page_size, request.page_token)
        return explain_pb2.ListMethodsResponse(
            methods=[listing.method_message(m) for m in shown], next_page_token=following
        )

    def answer(
        self, message: explain_pb2.ExplainRequest, run: Run, *, at: str = "", limited: bool = False
    ) -> result_pb2.ExplainResponse:
        """The answer to one request; blocking.

        Args:
            message: the request.
            run: cancel, deadline and progress.
            at: path of the request in the message that came.
            limited: refuse an answer that is too large for one message.
        """
        run.check()
        call = decode_request(message, at)
        try:
            result = self._engine.explain(call.request, run)
        except InvalidRequest as error:
            raise FieldError(located(error.field, message, at), error.reason) from error
        drawing = None if call.render is None else Drawing(call.render, result)
        response = encode_result(result, drawing)
        if drawing is not None:
            response.notes.extend(drawing.notes)
        size = response.ByteSize()
        if limited and size > self._most_bytes:
            raise FieldError(
                "",
                f"the answer has {size:,} bytes, and a message at most {self._most_bytes:,}: ask for fewer "
                "inputs, targets, layers or channels, or use ExplainBatch, which sends pieces",
            )
        return response


class ModelRepositoryServicer(model_repository_pb2_grpc.ModelRepositoryServiceServicer):
    """``onnx_explain.v1.ModelRepositoryService`` over the engine's repository."""

    def __init__(self, engine: Engine, workers: Workers) -> None:
        """The engine, and threads for short work."""
        self._engine, self._workers = engine, workers

    async def ListModels(
        self, request: model_repository_pb2.ListModelsRequest, context: Context
    ) -> model_repository_pb2.ListModelsResponse:
        """All models with their state."""
        models = await self._workers.run(self._engine.repository.list, _nothing)
        models = sorted(models, key=lambda m: (m.name, m.version))
        shown, following = listing.page(models, request.page_size, request.page_token)
        return model_repository_pb2.ListModelsResponse(
            models=[listing.status_message(m) for m in shown], next_page_token=following
        )

    async def GetModel(
        self, request: model_repository_pb2.GetModelRequest, context: Context
    ) -> model_repository_pb2.GetModelResponse:
        """All about one model."""
        model = name(request.name, "name")
        version = name(request.version, "version", optional=True)
        return await self._workers.run(lambda: self._describe(model, version, request.values), _nothing)

    def _describe(self, name: str, version: str, values: bool) -> model_repository_pb2.GetModelResponse:
        model = self._engine.repository.get(name, version)
        listed = describe.values(model) if values else []
        info = listing.info_message(describe.describe(model), listed)
        return model_repository_pb2.GetModelResponse(model=info)


def _nothing() -> None:
    """Short work is not stopped."""
