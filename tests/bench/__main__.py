"""``python -m tests.bench``: every figure as a ratio from one interleaved run; medians over turns."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import nets

MODELS = ("mobilenet_v2", "resnet50")


class Contender:
    """A contender's process."""

    def __init__(self, kind: str, model: str, folder: Path) -> None:
        self.kind = kind
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.contender", kind, model, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        if self._read() != "ready":
            raise SystemExit(f"the contender {kind} did not start")

    def run(self, times: int) -> list[float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        return json.loads(self._read())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def interleave(kinds: tuple[str, ...], model: str, folder: Path, turns: int, times: int) -> dict[str, list[float]]:
    """Median seconds per turn and contender; contenders take turns A B C A B C …"""
    with contextlib.ExitStack() as stack:
        contenders = [stack.enter_context(contextlib.closing(Contender(k, model, folder))) for k in kinds]
        medians: dict[str, list[float]] = {k: [] for k in kinds}
        for _ in range(turns):
            for contender in contenders:
                medians[contender.kind].append(statistics.median(contender.run(times)))
        return medians


def ratio(a: list[float], b: list[float]) -> float:
    """Median of the pairwise ratios."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--times", type=int, default=10, help="runs per turn")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    args = parser.parse_args()
    print(f"{datetime.date.today()}  {platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
          f"Python {platform.python_version()}; median of {args.turns} turns of {args.times} runs")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nets.save(folder)
        for model in args.models:
            times = args.times if model == "mobilenet_v2" else max(2, args.times // 4)
            found = interleave(("forward", "grad_cam", "saliency", "grpc"), model, folder, args.turns, times)
            ms = {k: statistics.median(v) * 1e3 for k, v in found.items()}
            added = statistics.median(g - p for g, p in zip(found["grpc"], found["grad_cam"], strict=True)) * 1e3
            print(f"\n{model}, 224 x 224, batch 1")
            print(f"  forward (untouched file)            {ms['forward']:8.2f} ms")
            for kind in ("grad_cam", "saliency"):
                times_forward = ratio(found[kind], found["forward"])
                print(f"  {kind:10} program / forward        {times_forward:8.2f}   ({ms[kind]:.2f} ms)")
            percent = 100 * (ratio(found["grpc"], found["grad_cam"]) - 1)
            print(f"  gRPC round trip of grad_cam adds    {added:8.2f} ms = {percent:.1f} %")
            stopped = _cancel(model, folder)
            middle = statistics.median(stopped) * 1e3
            print(f"  cancelled occlusion stops within    {max(stopped) * 1e3:8.1f} ms (median {middle:.1f})")


def _cancel(model: str, folder: Path) -> list[float]:
    with contextlib.closing(Contender("cancel", model, folder)) as contender:
        return contender.run(20)


if __name__ == "__main__":
    main()
