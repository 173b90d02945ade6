"""Contenders, each in a process of its own, taking turns: A B C A B C …"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARITY = ROOT / ".venv-parity" / "bin" / "python"
"""Python with torch and the peers, made by ``make parity``."""


class Contender:
    """A contender's process.

    Args:
        kind: name in ``tests.bench.contender.KINDS`` (or of the torch contenders).
        arguments: what the contender is told: model, folder, batch, setting…
        python: interpreter; the parity environment's for torch and peers.
        module: module that answers.
    """

    def __init__(
        self, kind: str, arguments: Mapping[str, object], python: Path | str = sys.executable,
        module: str = "tests.bench.contender",
    ) -> None:  # fmt: skip
        self.kind = kind
        self._process = subprocess.Popen(
            [str(python), "-m", module, kind, json.dumps(dict(arguments), default=str)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        if self._read() != "ready":
            raise SystemExit(f"the contender {kind} did not start")

    def run(self, times: int) -> list[float]:
        """Seconds of each of ``times`` runs."""
        return json.loads(self._ask(str(times)))

    def memory(self) -> dict[str, float]:
        """Bytes: ``pss`` of the process now, ``before`` its model was loaded, and ``peak`` resident set."""
        return json.loads(self._ask("memory"))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def interleave(contenders: Mapping[str, Contender], turns: int, times: int) -> dict[str, list[float]]:
    """Median seconds of every turn, by contender."""
    medians: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, contender in contenders.items():
            medians[name].append(statistics.median(contender.run(times)))
    return medians


@contextlib.contextmanager
def started(contenders: Mapping[str, Contender]):
    """The contenders, closed at the end."""
    try:
        yield contenders
    finally:
        for contender in contenders.values():
            contender.close()


def ratio(a: list[float], b: list[float]) -> float:
    """Median of the pairwise ratios."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))
