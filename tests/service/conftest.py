"""A real server over a folder of real files, once for all tests that need one."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from service.api.pb.onnx_explain.v1 import explain_pb2_grpc
from service.api.server import Settings, background
from service.client import Client
from service.core import Engine
from service.models.repository import Repository
from service.runtime.context import Run
from service.runtime.home import Runtime
from service.types import ExplainRequest, ExplainResult
from tests.service import shelf

PATIENCE = 120.0  # seconds after which a test that hangs gives up
MOST_BYTES = 4 << 20


class Watched(Engine):
    """An engine that tells how its calls ended.

    Attributes:
        begun: where set, gets every call's run when it begins.
        ended: where set, gets every call's run and what it raised (None: an answer).
    """

    begun: queue.Queue[Run] | None = None
    ended: queue.Queue[tuple[Run, BaseException | None]] | None = None

    def explain(self, request: ExplainRequest, run: Run) -> ExplainResult:
        error: BaseException | None = None
        if self.begun is not None:
            self.begun.put(run)
        try:
            return super().explain(request, run)
        except BaseException as raised:
            error = raised
            raise
        finally:
            if self.ended is not None:
                self.ended.put((run, error))


@dataclass(frozen=True)
class Served:
    """The server: its address and engine, its models folder, and a client."""

    address: str
    engine: Watched
    folder: Path
    client: Client
    stub: explain_pb2_grpc.ExplainServiceStub


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("home") / "models"
    folder.mkdir()
    shelf.build(folder)
    engine = Watched(Repository(Runtime("cpu", threads=1), folder))
    engine.repository.load_all()
    settings = Settings(port=0, most_bytes=MOST_BYTES, interval=0.0)
    with (
        background(engine, settings) as address,
        Client(address, timeout=PATIENCE) as client,
        grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel,
    ):
        stub = explain_pb2_grpc.ExplainServiceStub(channel)  # type: ignore[no-untyped-call]
        yield Served(address, engine, folder, client, stub)
