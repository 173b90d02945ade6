"""Health, reflection, ports, and the end of a server."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from graph_tools.errors import InvalidRequest
from service.api.server import Settings, address, background
from service.client import Client, ServiceError
from tests.service.api.fake import WAIT, FakeEngine, Gate, Running, running

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ROOT = Path(__file__).resolve().parents[3]


def test_reflection_names_the_services(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert {"onnx_explain.v1.ExplainService", "onnx_explain.v1.ModelRepositoryService"} <= services
    file = database.FindFileContainingSymbol("onnx_explain.v1.ExplainService")
    assert file.name == "onnx_explain/v1/explain.proto"


def test_unknown_health_service(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="x"), timeout=WAIT)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_background_ends_with_the_block() -> None:
    with background(FakeEngine()) as where, Client(where, timeout=WAIT) as client:  # type: ignore[arg-type]
        assert client.explain("net", b"\4", method="predict").map[0, 0] == 4
    with Client(where, timeout=WAIT) as client, pytest.raises(ServiceError, match="no server answers"):
        client.models()


def test_a_port_in_use_is_told(server: Running) -> None:
    port = int(server.address.rpartition(":")[2])
    with (
        pytest.raises(InvalidRequest, match=f"{port}; is another server running"),
        background(FakeEngine(), Settings(port=port)),  # type: ignore[arg-type]
    ):
        pass


def test_ipv6_addresses_have_brackets() -> None:
    assert address("::1", 80) == "[::1]:80"
    assert address("[::]", 80) == "[::]:80"
    assert address("0.0.0.0", 0) == "0.0.0.0:0"


def test_draining_finishes_what_runs_and_refuses_what_comes() -> None:
    with running() as server, grpc.insecure_channel(server.address) as channel:
        gate = Gate()
        server.engine.behave = gate
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="readiness"))
        assert next(watch).status == SERVING
        with ThreadPoolExecutor(1) as pool, Client(server.address, timeout=4 * WAIT) as client:
            running_call = pool.submit(client.explain, "net", b"\6", method="predict")
            assert gate.started.wait(WAIT)
            stopped = server.call(server.server.stop(WAIT))
            assert next(watch).status == NOT_SERVING
            watch.cancel()
            with Client(server.address, timeout=WAIT) as late, pytest.raises(ServiceError) as caught:
                late.explain("net", b"\1", method="predict")
            assert caught.value.code == "UNAVAILABLE"
            assert not stopped.done()
            gate.released.set()
            assert running_call.result(WAIT).map[0, 0] == 6
        stopped.result(WAIT)
        assert not gate.stopped.is_set()


def test_stopping_at_once_stops_the_engine() -> None:
    with running() as server:
        gate = Gate()
        server.engine.behave = gate
        with ThreadPoolExecutor(1) as pool, Client(server.address, timeout=4 * WAIT) as client:
            call = pool.submit(client.explain, "net", b"\6", method="predict")
            assert gate.started.wait(WAIT)
            patient = server.call(server.server.stop(WAIT))
            server.call(server.server.stop(None)).result(WAIT)
            patient.result(WAIT)
            with pytest.raises(ServiceError) as caught:
                call.result(WAIT)
            assert caught.value.code in ("CANCELLED", "UNAVAILABLE")
        assert gate.stopped.wait(WAIT)


SERVE = """
from service.api.server import Settings, serve
from tests.service.api.fake import FakeEngine, Gate
engine, gate = FakeEngine(), Gate()
def behave(request, run):
    print("started", flush=True)
    return gate(request, run)
engine.behave = behave
serve(engine, Settings(port=0, grace=60.0), lambda port: print(port, flush=True))
print("ended", flush=True)
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", SERVE], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait(WAIT)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_sigterm_ends_an_idle_server(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    with Client(f"127.0.0.1:{int(process.stdout.readline())}", timeout=WAIT) as client:
        assert len(client.models()) == 251
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT) == 0
    assert process.stdout.read() == "ended\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_second_sigterm_ends_a_busy_server(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    where = f"127.0.0.1:{int(process.stdout.readline())}"
    with Client(where, timeout=WAIT) as client, ThreadPoolExecutor(1) as pool:
        with grpc.insecure_channel(where) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == SERVING
            call = pool.submit(client.explain, "net", b"\6", method="predict")
            assert process.stdout.readline() == "started\n"
            process.send_signal(signal.SIGTERM)
            assert next(watch).status == NOT_SERVING
            assert not call.done()
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT) == 0
        with pytest.raises(ServiceError):
            call.result(WAIT)
