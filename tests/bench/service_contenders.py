"""Contenders of the service benchmarks: forward, compiled programs, a gRPC round trip, a cancelled run."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def libraries(kind: str) -> None:
    """Import what the contenders need."""
    import service.core  # noqa: F401


def photo(side: int = 256) -> bytes:
    """A JPEG of textured noise at several scales (about as many bytes as a photo of this size)."""
    from PIL import Image

    rng = np.random.default_rng(0)
    total = np.zeros((side, side, 3))
    for cells in (4, 16, 64, 128):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8))
        total += np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC)) / 4
    out = io.BytesIO()
    Image.fromarray(total.astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def _engine(folder: str):
    from service.core import Engine
    from service.models.repository import Repository
    from service.runtime.home import Runtime

    return Engine(Repository(Runtime("cpu"), Path(folder)))


def forward(model: str, folder: str) -> Callable[[], object]:
    """ONNX Runtime's own forward of the untouched file."""
    from service.runtime.providers import resolve
    from service.runtime.session import Session

    session = Session(str(Path(folder) / f"{model}.onnx"), resolve("cpu"))
    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    return lambda: session.run({"image_in": x})


def program(method: str, parameters: dict[str, object]) -> Callable[[str, str], Callable[[], object]]:
    """The compiled program of a method, fed with a ready batch: no decoding, no transport."""

    def make(model: str, folder: str) -> Callable[[], object]:
        from service.runtime.context import Run
        from service.types import ExplainRequest

        engine = _engine(folder)
        request = ExplainRequest(model, method, images=(photo(),), parameters=parameters)
        engine.explain(request, Run())
        loaded = engine.repository.get(model)
        kept = loaded._runtime.programs._kept
        (compiled,) = [p for key, p in kept.items() if method in key]
        image = np.zeros((1, 224, 224, 3), np.float32) + np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3))
        feeds = {"image": image.astype(np.float32), "target": np.array([[-1]])}
        return lambda: compiled.run(feeds, Run())

    return make


def grpc(model: str, folder: str) -> Callable[[], object]:
    """Grad-CAM through a server in another process: JPEG in, map of the layer's size out."""
    from service.client import Client

    server = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.service_contenders", folder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    client = Client(server.stdout.readline().strip(), timeout=60)
    jpeg = photo()
    return lambda: client.explain(model, jpeg, method="grad_cam", resize=False)


def serve(folder: str) -> None:
    from service.api.server import background

    engine = _engine(folder)
    with background(engine) as address:
        print(address, flush=True)
        sys.stdin.read()


def cancel(model: str, folder: str) -> Callable[[], object]:
    """Cancel an occlusion in full swing: from the cancel to the end of all computing."""
    from graph_tools.errors import Cancelled
    from service.runtime.context import Run
    from service.types import ExplainRequest

    engine = _engine(folder)
    request = ExplainRequest(model, "occlusion", images=(photo(),), parameters={"patch": (16,), "stride": (4,)})

    def once() -> float:
        going = threading.Event()
        run = Run(on_progress=lambda p: going.set())
        ended: list[float] = []

        def work() -> None:
            try:
                engine.explain(request, run)
            except Cancelled:
                ended.append(time.perf_counter())

        thread = threading.Thread(target=work)
        thread.start()
        going.wait()
        asked = time.perf_counter()
        run.cancel()
        thread.join()
        return ended[0] - asked

    return once


def _told(
    make: Callable[[str, str], Callable[[], object]],
) -> Callable[..., tuple[Callable[[], object], dict[str, Any]]]:
    """The maker with the facts that contenders tell: none here."""
    return lambda model, folder: (make(model, folder), {})


KINDS = {
    "forward": _told(forward),
    "grad_cam": _told(program("grad_cam", {"resize": False})),
    "saliency": _told(program("saliency", {})),
    "grpc": _told(grpc),
    "cancel": _told(cancel),
}


if __name__ == "__main__":
    serve(sys.argv[1])
