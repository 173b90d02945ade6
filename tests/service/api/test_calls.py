"""Whole calls: answers, streams, batches, cancel, deadline, overload."""

from __future__ import annotations

import asyncio
import io
import queue
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from service.api.codec.methods import to_method
from service.api.codec.requests import Render
from service.api.pb.onnx_explain.v1 import explain_pb2, explain_pb2_grpc, types_pb2
from service.api.progress import Latest
from service.client import Client, Result, ServiceError
from service.runtime import context
from service.types import ExplainRequest, ExplainResult, Geometry, Progress, Selector, Target
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


def test_sizes_of_pictures(server: Running, client: Client) -> None:
    def size(style: str, **more: Any) -> tuple[int, int]:
        answer = client.explain("net", b"\7", method="predict", render=Render(style, **more))
        return Image.open(io.BytesIO(answer.picture)).size

    assert size("overlay") == (8, 6)
    assert size("overlay", max_side=64) == (64, 48)
    assert size("heatmap") == (8, 6)
    assert size("heatmap", max_side=400) == (400, 300)

    def photo(request: ExplainRequest, run: context.Run) -> ExplainResult:
        given = result(request)
        (item,) = given.items
        original = np.zeros((2000, 1000, 3), np.uint8)
        geometry = Geometry((2000, 1000), (6, 8), (0, 0, 6, 8))
        return replace(given, items=(replace(item, original=original, geometry=geometry),))

    server.engine.behave = photo
    assert size("overlay") == (512, 1024)


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
    with Client(server.address, timeout=1.0) as hasty, pytest.raises(ServiceError) as caught:
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


def request_message() -> explain_pb2.ExplainRequest:
    return explain_pb2.ExplainRequest(
        model="net",
        method=to_method("predict", {}),
        inputs=[types_pb2.Input(image=types_pb2.EncodedImage(data=b"\1"))],
    )
