"""Section: how long the gradient graph takes to build, and how that grows with the nodes."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import onnx

from service.runtime.threads import threads
from tests.bench import nets
from tests.bench.process import Spec, interleave, started
from tests.bench.report import Options, against, table

TURNS = 3
PER_BLOCK = 33
"""Nodes of a transformer's block in :mod:`tests.bench.nets`, about."""


def transformer(nodes: int, width: int = 192, heads: int = 3) -> onnx.ModelProto:
    """A vision transformer of about so many nodes."""
    return nets.vit(width, max(1, round(nodes / PER_BLOCK)), heads, size=32)


CASES: dict[str, tuple[Callable[[], onnx.ModelProto], float | None]] = {
    "resnet50": (nets.resnet50, 0.5),
    "transformer of 2,000": (lambda: transformer(2_000), 2.0),
    "transformer of 1,000, narrow": (lambda: transformer(1_000, 64, 2), None),
    "transformer of 4,000, narrow": (lambda: transformer(4_000, 64, 2), None),
    "transformer of 16,000, narrow": (lambda: transformer(16_000, 64, 2), None),
}
"""Model, seconds at most."""


def run(options: Options) -> None:
    """Print one table."""
    rows, grows = [], []
    for name, (make, aim) in CASES.items():
        if options.nets is not None and name not in options.nets:
            continue
        label = f"build: {name}"
        path = options.folder / "built.onnx"
        onnx.save(nets.fixed(make(), 1), path)
        with started({"built": Spec("built", {"path": path, "threads": threads()})}, label) as contenders:
            seconds = statistics.median(interleave(contenders, options.turns or TURNS, label)["built"])
            facts = contenders["built"].facts
        path.unlink()
        each = seconds / facts["forward"] * 1e3
        rows.append([name, facts["forward"], facts["nodes"], against(seconds, aim), each])
        grows += [each] if "narrow" in name else []
    notes = ["From a model in memory, with all that loading does; Constant not counted."]
    if len(grows) > 1:
        notes.append(f"Time per node at the most nodes by that at the fewest: {grows[-1] / grows[0]:.2f} (linear: 1)")
    table("Building the gradient graph", ["model", "nodes", "program's", "seconds", "ms per node"], rows, notes)
