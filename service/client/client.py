"""A client that blocks: one method per call of the service."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc

from service.api.codec.chunks import Assembler
from service.api.codec.requests import encode_request
from service.api.codec.results import decode_progress
from service.api.pb.onnx_explain.v1 import (
    explain_pb2,
    explain_pb2_grpc,
    model_repository_pb2,
    model_repository_pb2_grpc,
)
from service.client import listing
from service.client.errors import ServiceError, clean, of_item
from service.client.requests import Image, make_call
from service.client.result import Result, result_of
from service.types import Array, Progress


class Client:
    """A connection to a server; thread-safe. Every method raises :class:`ServiceError` when a call fails."""

    def __init__(self, address: str, *, timeout: float | None = None) -> None:
        """Connect when the first call is made.

        Args:
            address: ``host:port``.
            timeout: seconds that a call may take; None = no limit. When they are over, the server stops too.
        """
        self.address, self.timeout = address, timeout
        self._channel = grpc.insecure_channel(
            address,
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )
        self._explain = explain_pb2_grpc.ExplainServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._models = model_repository_pb2_grpc.ModelRepositoryServiceStub(  # type: ignore[no-untyped-call]
            self._channel
        )

    def __enter__(self) -> Client:
        """For ``with Client(…) as client``."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        self.close()

    def close(self) -> None:
        """Disconnect; running calls end."""
        self._channel.close()

    def explain(self, model: str, image: Image | Sequence[Image] | None = None, **request: Any) -> Result:
        """The answer to one request.

        Args:
            model: name of the model on the server.
            image: path, bytes or uint8 array of a picture, or a list of them.
            **request: what :func:`make_call` takes: ``method``, ``targets``, ``tensor``…, and the parameters
                of the method by name, for example ``layer="relu_12"``.
        """
        with clean(self.address):
            call = make_call(model, image, **request)
            return result_of(self._explain.Explain(encode_request(call), timeout=self.timeout))

    def explain_stream(
        self,
        model: str,
        image: Image | Sequence[Image] | None = None,
        *,
        partial_maps: bool = False,
        **request: Any,
    ) -> Iterator[Progress | Result]:
        """Progress as it comes, then one Result. Closing the iterator cancels the call.

        Args:
            model: name of the model on the server.
            image: as in :meth:`explain`.
            partial_maps: whether progress carries the map so far.
            **request: as in :meth:`explain`.
        """
        with clean(self.address):
            message = encode_request(make_call(model, image, **request))
            events = self._explain.ExplainStream(
                explain_pb2.ExplainStreamRequest(request=message, partial_maps=partial_maps),
                timeout=self.timeout,
            )
            try:
                for event in events:
                    if event.WhichOneof("event") == "progress":
                        yield decode_progress(event.progress)
                    else:
                        yield result_of(event.result)
            finally:
                events.cancel()

    def explain_batch(
        self,
        model: str,
        items: Iterable[tuple[str, Image | Mapping[str, Array]]],
        **request: Any,
    ) -> Iterator[tuple[str, Result | ServiceError]]:
        """Many inputs over one stream: (id, Result or the item's error), in the order they are ready.

        Args:
            model: name of the model on the server.
            items: pairs of an id of your own and an image, or tensors by input name; read as the server asks
                for them, so that any number takes constant memory.
            **request: as in :meth:`explain`.
        """
        with clean(self.address):
            shared = encode_request(make_call(model, **request))
            responses = self._explain.ExplainBatch(_batch(shared, items), timeout=self.timeout)
            pieces = Assembler()
            try:
                for response in responses:
                    kind = response.WhichOneof("message")
                    if kind == "chunk":
                        pieces.add(response.chunk)
                    elif kind == "item":
                        yield response.item.item_id, _outcome(response.item, pieces)
            finally:
                responses.cancel()

    def models(self) -> list[listing.ModelStatus]:
        """All models of the server with their state."""
        out: list[listing.ModelStatus] = []
        token = ""
        with clean(self.address):
            while True:
                request = model_repository_pb2.ListModelsRequest(page_token=token)
                page = self._models.ListModels(request, timeout=self.timeout)
                out += [listing.model_status(m) for m in page.models]
                token = page.next_page_token
                if not token:
                    return out

    def model(self, name: str, version: str = "", *, values: bool = False) -> listing.ModelInfo:
        """All about one model: inputs, outputs, layers, labels, what was inferred and what was assumed.

        Args:
            name: name of the model.
            version: "" = the latest that is ready.
            values: also list every value of the graph.
        """
        with clean(self.address):
            request = model_repository_pb2.GetModelRequest(name=name, version=version, values=values)
            return listing.model_info(self._models.GetModel(request, timeout=self.timeout).model)

    def methods(self, model: str = "", version: str = "") -> list[listing.MethodInfo]:
        """The methods with their parameters, and whether ``model`` supports them."""
        out: list[listing.MethodInfo] = []
        token = ""
        with clean(self.address):
            while True:
                request = explain_pb2.ListMethodsRequest(model=model, version=version, page_token=token)
                page = self._explain.ListMethods(request, timeout=self.timeout)
                out += [listing.method_info(m) for m in page.methods]
                token = page.next_page_token
                if not token:
                    return out


def _batch(
    shared: explain_pb2.ExplainRequest, items: Iterable[tuple[str, Image | Mapping[str, Array]]]
) -> Iterator[explain_pb2.ExplainBatchRequest]:
    header = explain_pb2.ExplainBatchHeader(
        models=[explain_pb2.ModelReference(name=shared.model, version=shared.version)],
        method=shared.method,
        targets=shared.targets,
        top_k=shared.top_k,
        seed=shared.seed,
        budget=shared.budget if shared.HasField("budget") else None,
        render=shared.render if shared.HasField("render") else None,
    )
    yield explain_pb2.ExplainBatchRequest(header=header)
    for item_id, given in items:
        tensor, image = (given, None) if isinstance(given, Mapping) else (None, given)
        inputs = encode_request(make_call("", image, tensor=tensor, method="predict")).inputs
        yield explain_pb2.ExplainBatchRequest(item=explain_pb2.ExplainBatchItem(item_id=item_id, inputs=inputs))


def _outcome(item: explain_pb2.ExplainBatchItemResult, pieces: Assembler) -> Result | ServiceError:
    if item.WhichOneof("outcome") == "error":
        return of_item(item.error)
    pieces.complete(item.result, item.item_id)
    return result_of(item.result)
