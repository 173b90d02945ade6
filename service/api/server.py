"""The gRPC server: services, health, reflection, limits, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from graph_tools.errors import InvalidRequest
from service.api.interceptor import Errors
from service.api.pb.onnx_explain.v1 import (
    explain_pb2,
    explain_pb2_grpc,
    model_repository_pb2,
    model_repository_pb2_grpc,
)
from service.api.servicers import ExplainServicer, ModelRepositoryServicer
from service.api.workers import Workers

if TYPE_CHECKING:
    from service.core import Engine

LOG = logging.getLogger(__name__)
SERVICES = (
    explain_pb2.DESCRIPTOR.services_by_name["ExplainService"].full_name,
    model_repository_pb2.DESCRIPTOR.services_by_name["ModelRepositoryService"].full_name,
)
READINESS = "readiness"


@dataclass(frozen=True)
class Settings:
    """How to serve.

    Attributes:
        host: address to listen on; 0.0.0.0 = every one. The connection is plain text.
        port: 0 = any free one.
        workers: explanations computed at a time.
        queue: requests that may wait beyond them; more are refused with RESOURCE_EXHAUSTED.
        most_bytes: largest message, in bytes, in and out.
        grace: seconds that running calls have to finish when the server stops.
        interval: least seconds between two progress messages of a stream.
    """

    host: str = "127.0.0.1"
    port: int = 8001
    workers: int = 2
    queue: int = 32
    most_bytes: int = 32 * 1024 * 1024
    grace: float = 30.0
    interval: float = 0.1


class Server:
    """A server of one engine, living in one event loop."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        """Nothing listens yet."""
        self._engine, self.settings = engine, settings
        self._health = health.aio.HealthServicer()

    async def start(self) -> int:
        """Listen.

        Returns:
            The port.

        Raises:
            InvalidRequest: the address cannot be had.
        """
        settings = self.settings
        self._explain = Workers(settings.workers, settings.queue)
        self._listing = Workers(2, 64, "listing")
        self._server = grpc.aio.server(interceptors=[Errors()], options=_options(settings))
        explain_pb2_grpc.add_ExplainServiceServicer_to_server(  # type: ignore[no-untyped-call]
            ExplainServicer(
                self._engine,
                self._explain,
                self._listing,
                most_bytes=settings.most_bytes,
                interval=settings.interval,
            ),
            self._server,
        )
        model_repository_pb2_grpc.add_ModelRepositoryServiceServicer_to_server(  # type: ignore[no-untyped-call]
            ModelRepositoryServicer(self._engine, self._listing), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        try:
            port = int(self._server.add_insecure_port(address(settings.host, settings.port)))
        except RuntimeError:
            where = address(settings.host, settings.port)
            raise InvalidRequest("port", f"cannot listen on {where}; is another server running there?") from None
        await self._server.start()
        for service in (*SERVICES, READINESS):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        LOG.info("listening on %s", address(settings.host, port))
        return port

    async def stop(self, grace: float | None = None) -> None:
        """Say NOT_SERVING, refuse new calls, let running ones finish for ``grace`` seconds; None = at once.

        May be called again with a shorter grace while it waits.
        """
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
        self._explain.close()
        self._listing.close()


async def run(engine: Engine, settings: Settings, ready: Callable[[int], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends it at once.

    Args:
        engine: what is served.
        settings: how.
        ready: called with the port once calls are answered.
    """
    server = Server(engine, settings)
    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, signals.put_nowait, number)
    port = await server.start()
    if ready:
        ready(port)
    await signals.get()
    LOG.info("draining for up to %g s", settings.grace)
    drained = asyncio.create_task(server.stop(settings.grace))
    again = asyncio.create_task(signals.get())
    await asyncio.wait({drained, again}, return_when=asyncio.FIRST_COMPLETED)
    if not drained.done():
        LOG.info("second signal: stopping at once")
        await server.stop(None)
    again.cancel()
    await drained


def serve(engine: Engine, settings: Settings, ready: Callable[[int], None] | None = None) -> None:
    """:func:`run` in a loop of its own; blocks."""
    asyncio.run(run(engine, settings, ready))


@contextlib.contextmanager
def background(engine: Engine, settings: Settings | None = None) -> Iterator[str]:
    """A server in a thread of this process, for as long as the block runs; gives its address ``host:port``.

    Raises:
        InvalidRequest: the address cannot be had.
    """
    settings = settings or Settings(port=0)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="grpc-server", daemon=True)
    thread.start()
    server = Server(engine, settings)
    try:
        port = asyncio.run_coroutine_threadsafe(server.start(), loop).result()
        try:
            yield address(settings.host, port)
        finally:
            asyncio.run_coroutine_threadsafe(server.stop(settings.grace), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def address(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.most_bytes),
        ("grpc.max_send_message_length", -1),  # answers are measured before they are sent
        ("grpc.so_reuseport", 0),  # else a second server on the port would share its calls unseen
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
