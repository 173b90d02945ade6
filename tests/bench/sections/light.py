"""Section: the ``light_*`` networks against onnx-ad, their gradients checked before anything is timed."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import numpy as np
import onnx

import graph_tools
from service.runtime.home import Runtime
from service.runtime.threads import threads
from tests.bench import light, numeric
from tests.bench.gradient_contenders import image, seeded
from tests.bench.process import PARITY, Spec, geometric_mean, interleave, ratio, started
from tests.bench.report import Options, against, ms, progress, table

TURNS = 5
CLOSE = 1e-2
"""Largest difference to central differences and to onnx-ad, by the gradient's norm: in float32 one unit within rounding
of zero, or two within rounding of each other in a max pool, may move a gradient by so much."""
NODES = 3.0
HEADERS = ("net", "image err", "interior err", "vs onnx-ad", "forward ms", "ours ms", "ours / fwd", "onnx-ad ms",
           "onnx-ad / ours", "nodes", "ours x", "onnx-ad x")  # fmt: skip


def run(options: Options) -> None:
    """Print one table; every contender with the same Python, the parity environment's where it is there."""
    rows, by_ad = [], []
    for name in options.of(light.NAMES):
        row, faster = _measure(name, options)
        rows.append(row)
        by_ad += [] if faster is None else [faster]
    notes = [
        "err: |analytic - central difference in float64| / |gradient|, the largest of several directions (at most "
        f"{CLOSE:g}, checked first); vs onnx-ad: |difference| / |gradient|;",
        "nodes: forward -> ours, onnx-ad's; x: by the forward's; Constant not counted. Setting fast, batch 1.",
    ]
    if by_ad:
        notes.append(f"onnx-ad / ours, geometric mean: {geometric_mean(by_ad):.2f}")
    if not PARITY.exists():
        notes.append("onnx-ad: not measured (make parity installs it)")
    table(
        "Input gradient of onnx's light networks, seeded weights, 224 x 224, against onnx-ad 0.3.0",
        HEADERS,
        rows,
        notes,
    )


def check(model: onnx.ModelProto, directions: int = 1) -> tuple[float, float]:
    """:func:`tests.bench.numeric.error` of our gradients with respect to the image and to the middle Conv."""
    x, y, interior = model.graph.input[0].name, model.graph.output[0].name, light.interior(model)
    runtime = Runtime("cpu", threads=threads())
    session = runtime.program(graph_tools.gradient(model, [y], [x, interior], form=runtime.form), "model", None)
    (ct,) = (v for v in session.inputs if v.name != x)
    feeds = {x: image(model), ct.name: seeded(ct.shape, 1)}
    found = session.run(feeds)
    value = numeric.scalar(model, interior, feeds[x], feeds[ct.name])
    return (
        numeric.error(lambda d: value(d, 0.0), found[f"grad_{x}"], directions),
        numeric.error(lambda d: value(0.0, d), found[f"grad_{interior}"], directions),
    )


def _measure(name: str, options: Options) -> tuple[list[object], float | None]:
    """The table's row, and onnx-ad by ours."""
    label = f"light: {name}"
    path = light.save(options.folder, name)
    saved = {k: options.folder / f"{name}_{k}.npy" for k in ("ours", "onnx-ad")}
    with started(_specs(path, saved), label, optional=("onnx-ad",)) as contenders:
        progress(f"{label}: central differences")
        errors = check(onnx.load(path))
        apart = difference(np.load(saved["ours"]), np.load(saved["onnx-ad"])) if "onnx-ad" in contenders else None
        wrong = [f"{e:.1e}" for e in (*errors, apart or 0.0) if not e <= CLOSE]
        if wrong:
            raise SystemExit(f"light_{name}: the gradient differs by {', '.join(wrong)}")
        found = interleave(contenders, options.turns or TURNS, label)
        counts = {k: c.facts["nodes"] for k, c in contenders.items()}
    for file in (path, *saved.values()):
        file.unlink(missing_ok=True)
    row: list[object] = [name, *(f"{e:.0e}" for e in errors), None if apart is None else f"{apart:.0e}"]
    row += [ms(statistics.median(found[k])) for k in ("forward", "ours")]
    row += [ratio(found["ours"], found["forward"])]
    if "onnx-ad" not in found:
        said = "refused" if PARITY.exists() else None
        return [*row, said, None, f"{counts['forward']} -> {counts['ours']}",
                against(counts["ours"] / counts["forward"], NODES), None], None  # fmt: skip
    faster = ratio(found["onnx-ad"], found["ours"])
    row += [ms(statistics.median(found["onnx-ad"])), against(faster, 1.0, least=True)]
    row += [f"{counts['forward']} -> {counts['ours']}, {counts['onnx-ad']}"]
    row += [against(counts["ours"] / counts["forward"], NODES), counts["onnx-ad"] / counts["forward"]]
    return row, faster


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """|a − b| by |a|."""
    return float(np.linalg.norm(a.astype(np.float64) - b) / np.linalg.norm(a))


def _specs(path: Path, saved: dict[str, Path]) -> dict[str, Spec]:
    python = PARITY if PARITY.exists() else sys.executable
    common = {"path": path, "threads": threads()}
    y = onnx.load(path).graph.output[0].name
    specs = {
        "forward": Spec("ort_forward", common, python),
        "ours": Spec("gradient", {**common, "output": y, "save": saved["ours"]}, python),
    }
    if PARITY.exists():
        specs["onnx-ad"] = Spec("onnx_ad", {**common, "save": saved["onnx-ad"]}, python)
    return specs
