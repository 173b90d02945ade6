"""ExplainBatch: items fail alone, overtake one another, and are read only as fast as they are worked on."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from graph_tools.errors import InvalidRequest
from service.api.codec.methods import to_method
from service.api.pb.onnx_explain.v1 import explain_pb2, explain_pb2_grpc, types_pb2
from service.client import Client, Result, ServiceError
from service.runtime import context
from service.types import ExplainRequest, ExplainResult, Selector, Target
from tests.service.api.fake import WAIT, Gate, Running, result, running


def test_batch_items_fail_alone(server: Running, client: Client) -> None:
    def behave(request: ExplainRequest, run: context.Run) -> ExplainResult:
        if request.images == (b"\2",):
            raise InvalidRequest("occlusion.patch", "larger than the image")
        if request.images == (b"\3",):
            raise RuntimeError("secret")
        return result(request)

    server.engine.behave = behave
    items = [(f"item {i}", bytes([i])) for i in range(1, 6)] + [("", b"\1"), ("empty", b"")]
    outcomes = list(client.explain_batch("net", items, method="occlusion"))
    assert sorted(i for i, _ in outcomes) == sorted(i for i, _ in items)
    by_id = dict(outcomes)
    for i in (1, 4, 5):
        assert isinstance(by_id[f"item {i}"], Result)
        assert by_id[f"item {i}"].map[0, 0] == i
    told = {k: (v.code, v.field) for k, v in by_id.items() if isinstance(v, ServiceError)}
    assert told == {
        "item 2": ("INVALID_ARGUMENT", "occlusion.patch"),
        "item 3": ("INTERNAL", ""),
        "": ("INVALID_ARGUMENT", "item_id"),
        "empty": ("INVALID_ARGUMENT", "inputs[0].image.data"),
    }
    assert "secret" not in by_id["item 3"].message


def test_batch_results_overtake_and_reading_waits() -> None:
    """With one slow item at work the others go on; no more items are read than can be worked on."""
    with running(workers=2) as server, Client(server.address, timeout=WAIT) as client:
        gate = Gate()
        server.engine.behave = lambda request, run: (
            gate(request, run) if request.images == (b"\0",) else result(request)
        )
        taken = []

        def items() -> Iterator[tuple[str, bytes]]:
            for i in range(100):
                taken.append(i)
                yield str(i), bytes([i])

        outcomes = client.explain_batch("net", items(), method="predict")
        first = [next(outcomes)[0] for _ in range(20)]
        assert "0" not in first
        assert gate.started.wait(WAIT)
        gate.released.set()
        rest = [i for i, _ in outcomes]
        assert sorted(map(int, first + rest)) == list(range(100))


def test_a_batch_takes_what_its_window_holds() -> None:
    with running(workers=2) as server, Client(server.address, timeout=WAIT) as client:
        gate = Gate()
        server.engine.behave = gate
        outcomes = client.explain_batch("net", ((str(i), b"\1") for i in range(50)), method="predict")
        collected: list[Any] = []
        reader = threading.Thread(target=lambda: collected.extend(outcomes))
        reader.start()
        assert gate.started.wait(WAIT)
        # unary calls still find a place in the queue while the batch waits for its own
        with ThreadPoolExecutor(1) as pool:
            single = pool.submit(client.explain, "net", b"\7", method="predict")
            gate.released.set()
            assert single.result(WAIT).map[0, 0] == 7
        reader.join(WAIT)
        assert len(collected) == 50


def test_leaving_a_batch_stops_the_engine(server: Running, client: Client) -> None:
    gate = Gate()
    server.engine.behave = lambda request, run: gate(request, run) if request.images == (b"\2",) else result(request)
    outcomes = client.explain_batch("net", [("a", b"\1"), ("b", b"\2")], method="predict")
    assert next(outcomes)[0] == "a"
    assert gate.started.wait(WAIT)
    outcomes.close()
    assert gate.stopped.wait(WAIT)


def header(**more: Any) -> explain_pb2.ExplainBatchRequest:
    fields = {
        "models": [explain_pb2.ModelReference(name="net")],
        "method": to_method("predict", {}),
        **more,
    }
    return explain_pb2.ExplainBatchRequest(header=explain_pb2.ExplainBatchHeader(**fields))


def item(**more: Any) -> explain_pb2.ExplainBatchRequest:
    image = types_pb2.Input(image=types_pb2.EncodedImage(data=b"\1"))
    fields = {"item_id": "a", "inputs": [image], **more}
    return explain_pb2.ExplainBatchRequest(item=explain_pb2.ExplainBatchItem(**fields))


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([], "first message"),
        ([item()], "first message"),
        ([explain_pb2.ExplainBatchRequest()], "first message"),
        ([header(models=[])], "header.models"),
        ([header(models=[explain_pb2.ModelReference(name="../x")])], "models[0].name"),
        ([header(top_k=2000)], "header.top_k"),
        ([header(), header()], "items only"),
    ],
)
def test_batches_that_do_not_begin(channel: grpc.Channel, messages: list[Any], text: str) -> None:
    stub = explain_pb2_grpc.ExplainServiceStub(channel)
    with pytest.raises(grpc.RpcError, match=re.escape(text)) as caught:
        list(stub.ExplainBatch(iter(messages), timeout=WAIT))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_batch_targets_and_extras(server: Running, channel: grpc.Channel) -> None:
    stub = explain_pb2_grpc.ExplainServiceStub(channel)
    messages = [
        header(targets=[types_pb2.Target(class_index=1)]),
        item(item_id="shared"),
        item(item_id="own", targets=[types_pb2.Target(class_index=2)]),
        item(item_id="truth", truth=types_pb2.ClassSelector(class_index=3)),
    ]
    outcomes = {r.item.item_id: r.item for r in stub.ExplainBatch(iter(messages), timeout=WAIT)}
    assert outcomes["truth"].error.field == "truth"
    targets = {r.targets for r in server.engine.requests}
    assert targets == {(Target(Selector(index=1)),), (Target(Selector(index=2)),)}


def test_a_reader_who_stops_reading_and_leaves_stops_the_engine(server: Running, client: Client) -> None:
    gate = Gate()
    large = np.zeros((1500, 1500), np.float32)
    server.engine.behave = lambda request, run: (
        gate(request, run) if request.images == (b"\0",) else result(request, values=large)
    )
    outcomes = client.explain_batch("net", [(str(i), bytes([i])) for i in range(100)], method="predict")
    assert next(outcomes)[0] != "0"
    assert gate.started.wait(WAIT)
    outcomes.close()
    assert gate.stopped.wait(WAIT)
    assert len(server.engine.requests) < 100
