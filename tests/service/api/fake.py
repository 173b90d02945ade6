"""An engine that does what a test tells it, and a server around it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from graph_tools.errors import UnknownModel
from service.api.server import Server, Settings
from service.explainers.base import Explainer, param
from service.runtime.context import Run
from service.types import (
    Attribution,
    ExplainRequest,
    ExplainResult,
    Geometry,
    ItemResult,
    LayerActivations,
    ResolvedTarget,
    Score,
    Timing,
)

WAIT = 30.0  # seconds after which a test that hangs gives up; never reached when all is well


@dataclass(frozen=True)
class OcclusionLike:
    patch: tuple[int, ...] = param((), "Side of the patch.", ge=1, unit="pixels")
    baseline: str = param("grey", "What takes the place of the patch.", choices=("grey", "blur"))
    value: float = param(0.0, "Grey level.", ge=0, le=255)


def occlusion_like(*args: Any) -> Any:
    raise NotImplementedError


class FakeEngine:
    """Answers with ``behave(request, run)``; a canned result until a test sets another."""

    def __init__(self) -> None:
        self.behave: Callable[[ExplainRequest, Run], ExplainResult] = lambda request, run: result(request)
        self.requests: list[ExplainRequest] = []
        self.repository = FakeRepository()

    def explain(self, request: ExplainRequest, run: Run) -> ExplainResult:
        self.requests.append(request)
        return self.behave(request, run)

    def methods(self, model: str = "", version: str = "") -> list[Any]:
        black = Explainer("occlusion", "black-box", OcclusionLike, occlusion_like, "Hides patches.", True, False, True)
        white = Explainer("grad_cam", "white-box", OcclusionLike, occlusion_like, "Weighs a layer.", False, True, True)
        return [
            SimpleNamespace(explainer=black, supported=True, why_not=""),
            SimpleNamespace(explainer=white, supported=False, why_not="no layer with space; try occlusion"),
        ]


class FakeRepository:
    def list(self) -> list[Any]:
        ready = {"state": "READY", "reason": "", "digest": "sha256:ab", "latest": True}
        models = [SimpleNamespace(name=f"model-{i:03}", version="1", **ready) for i in range(250)]
        broken = SimpleNamespace(
            name="broken", version="1", state="UNAVAILABLE", reason="truncated", digest="", latest=False
        )
        return [*reversed(models), broken]

    def get(self, name: str, version: str = "") -> Any:
        raise UnknownModel("model", name, ["net", "network"])


def result(request: ExplainRequest, *, values: Any = None, channels: int = 4) -> ExplainResult:
    """A result with one item per image, whose map is the image's first byte everywhere."""
    target = ResolvedTarget(243, "bull mastiff", 285, "Egyptian cat", 1.5)
    image = np.full((6, 8, 3), 90, np.uint8)
    layer = LayerActivations(
        "relu_9",
        np.arange(channels * 6, dtype=np.float32).reshape(channels, 2, 3),
        np.arange(channels),
        np.arange(channels, 0, -1, dtype=np.float64),
        0.25,
        2 * channels,
    )
    items = []
    for given in request.images or (b"\0",):
        value = given[0] if isinstance(given, bytes) else int(given.flat[0])
        heat = np.full((6, 8), value, np.float32) if values is None else values
        items.append(
            ItemResult(
                attributions=(Attribution(heat, target, True, "relu_9"),),
                activations=(layer,),
                predictions=(Score(243, "bull mastiff", 9.5, 0.75), Score(1, "", 3.0)),
                geometry=Geometry((60, 80), (6, 8), (0, 0, 6, 8)),
                image=image,
            )
        )
    return ExplainResult(
        model=request.model,
        version="3",
        digest="sha256:cd",
        method=request.method,
        parameters=request.parameters,
        provider="CPUExecutionProvider",
        seed=request.seed,
        items=tuple(items),
        timing=Timing(0.001, 0.0, 0.002, 0.003, 4, 0),
        notes=("assumed RGB",),
    )


class Gate:
    """Work that runs until it is released or stopped, and says which."""

    def __init__(self) -> None:
        self.started, self.released, self.stopped = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, request: ExplainRequest, run: Run) -> ExplainResult:
        wake = threading.Event()
        release = threading.Thread(target=lambda: (self.released.wait(WAIT), wake.set()), daemon=True)
        release.start()
        try:
            with run.stoppable(wake.set):
                self.started.set()
                wake.wait(WAIT)
            run.check()
        except BaseException:
            self.stopped.set()
            raise
        return result(request)


class Running:
    """A real server on a free port, its loop in a thread of this process."""

    def __init__(self, engine: FakeEngine, settings: Settings) -> None:
        self.engine = engine
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.server = Server(engine, settings)  # type: ignore[arg-type]
        self.address = f"127.0.0.1:{self.call(self.server.start()).result(WAIT)}"

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def close(self) -> None:
        self.call(self.server.stop(None)).result(WAIT)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT)


@contextlib.contextmanager
def running(**settings: Any) -> Iterator[Running]:
    server = Running(FakeEngine(), Settings(**{"port": 0, "interval": 0.0, **settings}))
    try:
        yield server
    finally:
        server.close()
