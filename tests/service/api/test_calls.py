"""Whole calls: answers, streams, batches, cancel, deadline, overload."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from graph_tools.errors import InvalidRequest
from service.api.codec.methods import to_method
from service.api.pb.onnx_explain.v1 import explain_pb2, explain_pb2_grpc, types_pb2
from service.api.progress import Latest
from service.client import Client, Result, ServiceError
from service.runtime import context
from service.types import ExplainRequest, ExplainResult, Progress, Selector, Target
from tests.service.api.fake import WAIT, Gate, Running, result, running


def test_one_answer(server: Running, client: Client) -> None:
    answer = client.explain(
        "net", b"\7", method="occlusion", patch=16, targets=["cat", (1, 2)], seed=5, top_k=2, max_rows=9
    )
    (request,) = server.engine.requests
    assert request.parameters == {"patch": (16,)}
    assert request.targets == (Target(Selector(name="cat")), Target(Selector(index=1), Selector(index=2)))
    assert (request.seed, request.top_k, request.max_rows) == (5, 2, 9)
    assert answer.map.shape == (6, 8)
    assert (answer.map == 7).all()
    assert answer.predictions[0].label == "bull mastiff"
    assert answer.picture == b""
    assert (answer.provider, answer.digest) == ("CPUExecutionProvider", "sha256:cd")


@pytest.mark.parametrize("style", ["overlay", "heatmap", "sheet"])
def test_pictures_on_request(client: Client, style: str) -> None:
    answer = client.explain("net", [b"\7", b"\1"], method="predict", render=style)
    assert [[p[:4] for p in item] for item in answer.pictures] == [[b"\x89PNG"] * 2] * 2


def test_a_map_that_cannot_be_drawn_is_still_sent(server: Running, client: Client) -> None:
    broken = np.full((6, 8), np.nan, np.float32)
    server.engine.behave = lambda request, run: result(request, values=broken)
    answer = client.explain("net", b"\7", method="predict", render="overlay")
    assert np.isnan(answer.map).all()
    assert answer.picture == b""
    assert any("no picture" in note for note in answer.notes)


def test_an_answer_over_the_cap_says_what_to_do() -> None:
    with running(most_bytes=1 << 16) as server, Client(server.address, timeout=WAIT) as client:
        server.engine.behave = lambda request, run: result(request, channels=10_000)
        with pytest.raises(ServiceError, match="ExplainBatch") as caught:
            client.explain("net", b"\7", method="predict")
        assert caught.value.code == "INVALID_ARGUMENT"
        ((item_id, answer),) = client.explain_batch("net", [("a", b"\7")], method="predict")
        assert item_id == "a"
        assert isinstance(answer, Result)
        assert answer.items[0].activations[0].values.size == 60_000


@pytest.mark.parametrize("partial", [False, True])
def test_a_stream_is_progress_then_one_result(
    server: Running, client: Client, monkeypatch: pytest.MonkeyPatch, partial: bool
) -> None:
    monkeypatch.setattr(context, "INTERVAL", 0.0)
    seen: queue.Queue[None] = queue.Queue()
    made = []

    def behave(request: ExplainRequest, run: context.Run) -> ExplainResult:
        for done in range(1, 6):
            run.progress(done, 5, "steps", lambda d=done: made.append(d) or np.full((2, 3), d, np.float32))
            seen.get(timeout=WAIT)
        return result(request)

    server.engine.behave = behave
    events: list[Progress | Result] = []
    for event in client.explain_stream("net", b"\7", method="predict", partial_maps=partial):
        events.append(event)
        seen.put(None)
    *reports, last = events
    assert isinstance(last, Result)
    assert (last.map == 7).all()
    assert [(r.done, r.total, r.unit) for r in reports] == [(d, 5, "steps") for d in range(1, 6)]
    assert made == ([1, 2, 3, 4, 5] if partial else [])
    maps = [None if r.partial is None else float(r.partial[1, 2]) for r in reports]
    assert maps == ([1, 2, 3, 4, 5] if partial else [None] * 5)


def latest_reports(interval: float, puts: list[int]) -> list[int]:
    """What a reader sees who is given ``puts`` while it has the first report in hand."""

    async def run() -> list[int]:
        latest = Latest(interval)
        work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        latest.put(Progress(puts[0], 100))
        seen = []
        async for report in latest.until(work):
            seen.append(report.done)
            if len(seen) == 1:
                for done in puts[1:]:
                    latest.put(Progress(done, 100))
            if interval or len(seen) == 2:
                asyncio.get_running_loop().call_soon(work.set_result, None)
        return seen

    return asyncio.run(asyncio.wait_for(run(), WAIT))


def test_a_slow_reader_gets_the_newest_report_only() -> None:
    assert latest_reports(0.0, [1, 2, 3, 50]) == [1, 50]


def test_reports_keep_their_distance_and_the_end_does_not_wait() -> None:
    assert latest_reports(3600.0, [1, 2, 3, 50]) == [1]


def test_cancel_stops_the_engine(server: Running, client: Client) -> None:
    gate = Gate()
    server.engine.behave = gate
    stub = explain_pb2_grpc.ExplainServiceStub(client._channel)
    call = stub.Explain.future(request_message())
    assert gate.started.wait(WAIT)
    call.cancel()
    assert gate.stopped.wait(WAIT)
    server.engine.behave = lambda request, run: result(request)
    assert client.explain("net", b"\3", method="predict").map[0, 0] == 3


def test_leaving_a_stream_stops_the_engine(server: Running, client: Client) -> None:
    gate = Gate()

    def behave(request: ExplainRequest, run: context.Run) -> ExplainResult:
        run.progress(1, 9)
        return gate(request, run)

    server.engine.behave = behave
    events = client.explain_stream("net", b"\3", method="predict")
    assert next(events) == Progress(1, 9, "rows", None)
    assert gate.started.wait(WAIT)
    events.close()
    assert gate.stopped.wait(WAIT)


def test_a_deadline_stops_the_engine(server: Running) -> None:
    gate = Gate()
    server.engine.behave = gate
    with Client(server.address, timeout=0.2) as hasty, pytest.raises(ServiceError) as caught:
        hasty.explain("net", b"\3", method="predict")
    assert caught.value.code == "DEADLINE_EXCEEDED"
    assert gate.started.wait(WAIT)
    assert gate.stopped.wait(WAIT)


def test_work_whose_time_is_over_in_the_queue_is_not_begun() -> None:
    with running(workers=1, queue=1) as server, Client(server.address, timeout=WAIT) as client:
        gate = Gate()
        server.engine.behave = gate
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.explain, "net", b"\1", method="predict")
            assert gate.started.wait(WAIT)
            with Client(server.address, timeout=0.2) as hasty, pytest.raises(ServiceError):
                hasty.explain("net", b"\2", method="predict")
            gate.released.set()
            assert first.result(WAIT).map[0, 0] == 1
        client.explain("net", b"\3", method="predict")
        assert [r.images for r in server.engine.requests] == [(b"\1",), (b"\3",)]


def test_overload_is_refused_at_once_and_health_answers() -> None:
    with running(workers=2, queue=8) as server, grpc.insecure_channel(server.address) as channel:
        gate = Gate()
        server.engine.behave = gate
        stub = explain_pb2_grpc.ExplainServiceStub(channel)
        answered: queue.Queue[grpc.Future] = queue.Queue()
        calls = [stub.Explain.future(request_message(), timeout=WAIT) for _ in range(50)]
        for call in calls:
            call.add_done_callback(answered.put)
        refused = [answered.get(timeout=WAIT) for _ in range(40)]
        assert {call.code().name for call in refused} == {"RESOURCE_EXHAUSTED"}
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "readiness", "onnx_explain.v1.ExplainService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=WAIT)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with Client(server.address, timeout=WAIT) as client:
            with pytest.raises(ServiceError, match="2 requests are running and 8 are waiting") as caught:
                client.explain("net", b"\1", method="predict")
            assert caught.value.retry_after >= 0.1
            assert len(client.models()) == 251  # listing has its own threads
        gate.released.set()
        done = [answered.get(timeout=WAIT) for _ in range(10)]
        assert {call.code().name for call in done} == {"OK"}
        assert len(server.engine.requests) == 10


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
        ([header(models=[explain_pb2.ModelReference(name="../x")])], "header.model"),
        ([header(top_k=2000)], "header.top_k"),
        ([header(), header()], "items only"),
    ],
)
def test_batches_that_do_not_begin(channel: grpc.Channel, messages: list[Any], text: str) -> None:
    stub = explain_pb2_grpc.ExplainServiceStub(channel)
    with pytest.raises(grpc.RpcError, match=text) as caught:
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


def request_message() -> explain_pb2.ExplainRequest:
    return explain_pb2.ExplainRequest(
        model="net",
        method=to_method("predict", {}),
        inputs=[types_pb2.Input(image=types_pb2.EncodedImage(data=b"\1"))],
    )
