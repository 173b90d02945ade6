"""Section: forward and gradient of the logits with respect to the image, against ONNX Runtime's forward and torch."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from service.runtime.threads import threads
from tests.bench import nets
from tests.bench.process import PARITY, Spec, geometric_mean, interleave, ratio, started
from tests.bench.report import Options, against, ms, table

AIMS = {
    "resnet50": {1: 2.3, 8: 2.4},
    "vgg16": {1: 2.25, 8: 2.25},
    "convnext_tiny": {1: 2.25, 8: 2.25},
    "vit_base": {1: 2.25, 8: 2.25},
    "vit_tiny": {1: 2.5, 8: 2.5},
    "mobilenet_v2": {1: 3.6, 8: 3.6},
    "squeezenet": {},
}
"""Gradient by forward at most, by batch, in the setting ``fast``; SqueezeNet is reported only."""
TORCH_AIMS = {1: 1.45, 8: 1.25}
"""Geometric mean of torch by ours at least, by batch; at batch 1 no net slower than torch."""
NODES = 3.0
SETTINGS = ("fast", "shared", "low")
TURNS = {1: 7, 8: 3}


def run(options: Options) -> None:
    """Print a table per batch."""
    for batch in options.batches or (1, 8):
        rows, by_torch = [], []
        for name in options.of(AIMS):
            row, faster = _measure(name, batch, options)
            rows.append(row)
            by_torch += [] if faster is None else [faster]
        notes = [
            "forward: the untouched file; fast, shared, low: forward and gradient / forward, as medians of pairs; "
            "nodes: forward -> program, Constant not counted.",
        ]
        if by_torch:
            mean = against(geometric_mean(by_torch), TORCH_AIMS.get(batch), least=True)
            notes.append(f"torch / fast, geometric mean: {mean}. torch: eager, eval, forward and backward, only the "
                         "image requires a gradient,")  # fmt: skip
            notes.append(
                "BatchNormalization as modules (the files have it folded, as exporters write them), fused attention."
            )
        elif not PARITY.exists():
            notes.append("torch: not measured (make parity installs it)")
        settings = options.settings or SETTINGS
        headers = ["net", "forward ms", *(f"{s} / fwd" for s in settings), "torch ms", "torch / fast", "nodes", "ratio"]
        table(f"Input gradient, 224 x 224, batch {batch}", headers, rows, notes)


def specs(path: Path, name: str, batch: int, settings: tuple[str, ...]) -> dict[str, Spec]:
    """The contenders of one net and batch."""
    common: dict[str, Any] = {"threads": threads()}
    found = {"forward": Spec("ort_forward", {"path": path, **common})}
    for setting in settings:
        found[setting] = Spec("gradient", {"path": path, "setting": setting, **common})
    if PARITY.exists():
        found["torch"] = Spec("torch_gradient", {"net": name, "batch": batch, **common}, PARITY)
    return found


def _measure(name: str, batch: int, options: Options) -> tuple[list[object], float | None]:
    """The table's row, and torch by ours."""
    settings = options.settings or SETTINGS
    label = f"gradient: {name} batch {batch}"
    path = nets.save_fixed(options.folder, name, batch)
    with started(specs(path, name, batch, settings), label) as contenders:
        found = interleave(contenders, options.turns or TURNS.get(batch, 5), label)
        forward = contenders["forward"].facts["nodes"]
        program = contenders[settings[0]].facts["nodes"]
    path.unlink()
    row: list[object] = [name, ms(statistics.median(found["forward"]))]
    for setting in settings:
        aim = AIMS[name].get(batch) if setting == "fast" else None
        row.append(against(ratio(found[setting], found["forward"]), aim))
    faster = ratio(found["torch"], found["fast"]) if {"torch", "fast"} <= found.keys() else None
    row += [ms(statistics.median(found["torch"])) if "torch" in found else None]
    row += [against(faster, 1.0 if batch == 1 else None, least=True)]
    return [*row, f"{forward} -> {program}", against(program / forward, NODES)], faster
