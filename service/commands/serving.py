"""The work behind ``serve``: load, tell what is there, listen."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from graph_tools.errors import ExplainError, InvalidRequest
from service.api import server
from service.commands.console import Meter, note, say, watch
from service.core import Engine
from service.models.repository import ModelStatus, Repository
from service.runtime.home import Runtime


def run(
    models: Path,
    *,
    host: str,
    port: int,
    provider: str,
    threads: int,
    memory: str,
    workers: int,
    queue: int,
    grace: float,
    most_bytes: int,
    store: Path | None,
    log_level: str,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        InvalidRequest: no such folder, no model in it, an address that cannot be had.
        ProviderUnavailable: no working GPU, and one was asked for.
    """
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("onnx_ir", "service.runtime.providers"):  # the provider is told below
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
    if not models.is_dir():
        raise InvalidRequest("--models", f"there is no folder {str(models)!r}")
    with _ended_by_sigterm():
        runtime = watch(lambda _: Runtime(provider, store=store, threads=threads, memory=memory), "looking for a GPU")
        repository = Repository(runtime, models)
        if not repository.list():
            raise InvalidRequest(
                "--models", f"folder {str(models)!r} holds no model; put NAME.onnx or NAME/VERSION/model.onnx there"
            )
        say(f"provider {runtime.provider.name}: {runtime.provider.detail}")
        found = watch(lambda meter: load(repository, meter), "loading models")
    ready = sum(status.state == "READY" for status in found)
    if not ready:
        note("none of the models could be loaded; the server lists them with the reasons")
    settings = server.Settings(host=host, port=port, workers=workers, queue=queue, most_bytes=most_bytes, grace=grace)
    server.serve(
        Engine(repository), settings,
        lambda bound: say(f"listening on {host}:{bound}, {ready} of {len(found)} models ready", "bold"),
    )  # fmt: skip
    say("stopped")


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the process while it loads: as process 1 of a container it would be ignored."""
    try:
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def load(repository: Repository, meter: Meter) -> list[ModelStatus]:
    """Load every version, a line each; the broken ones are told and left."""
    versions = repository.list()
    for i, status in enumerate(versions):
        meter.at(f"loading {status.name}", i, len(versions))
        name, started, reason = " ".join(filter(None, (status.name, status.version))), time.perf_counter(), ""
        try:
            repository.get(status.name, status.version)
        except ExplainError as error:
            reason = str(error)
        seconds = time.perf_counter() - started
        say(f"UNAVAILABLE  {name}: {reason}" if reason else f"READY        {name} ({seconds:.1f} s)",
            "yellow" if reason else "")  # fmt: skip
    return list(repository.list())
