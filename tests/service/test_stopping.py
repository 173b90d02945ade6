"""Work that nobody wants any more stops: cancel, deadline, budget; and no start without the provider asked for."""

from __future__ import annotations

import queue
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from graph_tools.errors import Cancelled, DeadlinePassed, ProviderUnavailable
from service.api.codec.requests import encode_request
from service.client import Client, ServiceError
from service.client.requests import make_call
from service.runtime.context import Run
from service.runtime.home import Runtime
from service.types import Progress
from tests.service.conftest import PATIENCE, Served
from tests.service.test_end_to_end import same

ROOT = Path(__file__).resolve().parents[2]
IMAGE = np.random.default_rng(2).integers(0, 256, (128, 128, 3)).astype(np.uint8)
WINDOWS = 128 * 128
LONG = {"method": "occlusion", "patch": 1, "stride": 1}  # a window per pixel: a minute and more
SHORT = {"method": "occlusion", "patch": 64}


@pytest.fixture
def watched(served: Served) -> Iterator[Served]:
    """The server with its engine's calls watched; what ran before must not be disturbed by what is stopped."""
    before = served.client.explain("scenes", IMAGE, **SHORT)
    served.engine.begun, served.engine.ended = queue.Queue(), queue.Queue()
    yield served
    served.engine.begun = served.engine.ended = None
    assert same(served.client.explain("scenes", IMAGE, **SHORT).items, before.items)


def outcome(served: Served) -> tuple[Run, BaseException | None]:
    assert served.engine.ended is not None
    return served.engine.ended.get(timeout=PATIENCE)


def test_leaving_a_stream_stops_the_occlusion(watched: Served) -> None:
    events = watched.client.explain_stream("scenes", IMAGE, **LONG, partial_maps=True)
    first = next(events)
    assert isinstance(first, Progress)
    assert (first.total, first.unit) == (WINDOWS, "windows")
    assert first.partial is not None
    assert first.partial.shape == (128, 128)
    events.close()
    run, error = outcome(watched)
    assert isinstance(error, Cancelled)
    assert 0 < run.rows < WINDOWS


def test_a_cancelled_call_stops(watched: Served) -> None:
    call = watched.stub.Explain.future(encode_request(make_call("scenes", IMAGE, **LONG)))
    assert watched.engine.begun is not None
    run = watched.engine.begun.get(timeout=PATIENCE)
    call.cancel()
    ended, error = outcome(watched)
    assert ended is run
    assert isinstance(error, Cancelled)
    assert run.rows < WINDOWS


def test_leaving_a_batch_stops_every_item(watched: Served) -> None:
    with Client(watched.address) as own:
        outcomes = own.explain_batch("scenes", ((str(i), IMAGE) for i in range(100)), **LONG)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(next, outcomes)
            assert watched.engine.begun is not None
            begun = [watched.engine.begun.get(timeout=PATIENCE) for _ in range(2)]
            own.close()
            with pytest.raises(ServiceError) as caught:
                reading.result(PATIENCE)
    assert caught.value.code == "CANCELLED"
    ended: dict[Run, BaseException | None] = {}
    while not ended.keys() >= set(begun):
        ended.update([outcome(watched)])
    assert all(isinstance(error, Cancelled) for error in ended.values())


def test_a_deadline_stops_the_work(watched: Served) -> None:
    with Client(watched.address, timeout=1.0) as hasty, pytest.raises(ServiceError) as caught:
        hasty.explain("scenes", IMAGE, **LONG)
    assert caught.value.code == "DEADLINE_EXCEEDED"
    run, error = outcome(watched)
    assert isinstance(error, DeadlinePassed | Cancelled)
    assert run.rows < WINDOWS


def test_a_budget_gives_the_best_so_far(served: Served) -> None:
    cut = served.client.explain("scenes", IMAGE, **LONG, max_rows=100)
    assert cut.truncated
    assert 100 <= cut.timing.rows < 200
    assert np.count_nonzero(cut.map.any(axis=1)) <= 2  # 100 windows of one pixel are in the first row
    assert not served.client.explain("scenes", IMAGE, **SHORT).truncated


@pytest.fixture(scope="module")
def no_gpu() -> str:
    """Why ``cuda`` does not work here; skips where it does."""
    try:
        Runtime("cuda")
    except ProviderUnavailable as error:
        return str(error)
    pytest.skip("CUDA works on this machine")


def test_cuda_without_a_gpu_is_no_runtime(no_gpu: str) -> None:
    assert no_gpu.startswith("provider cuda does not work here: ")
    assert no_gpu.endswith("Use provider cpu, or auto")
    assert Runtime("auto").provider.name == "CPUExecutionProvider"


def test_a_server_that_insists_on_cuda_does_not_start(no_gpu: str, served: Served) -> None:
    command = [sys.executable, "-m", "service.cli", "serve", "--models", str(served.folder), "--port", "0"]
    done = subprocess.run(
        [*command, "--provider", "cuda"], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode != 0
    told = " ".join((done.stdout + done.stderr).split())
    assert "provider cuda does not work here" in told
    assert "listening" not in told
    assert "Traceback" not in told
