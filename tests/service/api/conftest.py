from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from service.client import Client
from tests.service.api.fake import WAIT, Running, running


@pytest.fixture
def server() -> Iterator[Running]:
    with running() as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with Client(server.address, timeout=4 * WAIT) as client:
        yield client


@pytest.fixture
def channel(server: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel
