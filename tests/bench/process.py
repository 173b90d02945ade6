"""Contenders, each in a process of its own, taking turns: A B C A B C …"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.report import progress

ROOT = Path(__file__).resolve().parents[2]
PARITY = ROOT / ".venv-parity" / "bin" / "python"
"""Python with torch and the peers, made by ``make parity``."""
PAUSE = 0.1
"""Seconds between contenders: a thread pool may spin a little after its last run."""


class Refused(Exception):
    """A contender cannot do what it is asked; the text is its error."""


@dataclass(frozen=True)
class Spec:
    """A contender to start.

    Attributes:
        kind: name in a ``KINDS`` of the contenders' modules.
        arguments: what it is told: path, batch, setting, threads…
        python: interpreter; the parity environment's for torch and peers.
    """

    kind: str
    arguments: Mapping[str, object]
    python: Path | str = sys.executable


class Contender:
    """A contender's process, ready to run.

    Attributes:
        facts: what it says of itself, and ``seconds`` of its last warming run.
    """

    def __init__(self, spec: Spec) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # open as long as the process
        self._process = subprocess.Popen(
            [str(spec.python), "-m", "tests.bench.contender", spec.kind, json.dumps(dict(spec.arguments), default=str)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=ROOT,
        )  # fmt: skip
        try:
            self.facts: dict[str, Any] = self._read()
            if "failed" in self.facts:
                raise Refused(f"{spec.kind}: {self.facts['failed']}")
        except BaseException:
            self.close()
            raise

    def run(self, times: int) -> list[float]:
        """Seconds of each of ``times`` runs."""
        seconds: list[float] = self._ask(f"run {times}")
        return seconds

    def memory(self, times: int = 1) -> dict[str, float | None]:
        """Bytes ``held`` after and at the ``peak`` of ``times`` runs, above the process without its model."""
        found: dict[str, float | None] = self._ask(f"memory {times}")
        return found

    def close(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=60)
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _ask(self, line: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise Refused((self._errors.read().strip().splitlines() or ["it ended"])[-1])
        return json.loads(line)


@contextlib.contextmanager
def started(specs: Mapping[str, Spec], label: str = "", optional: Sequence[str] = ()) -> Iterator[dict[str, Contender]]:
    """The contenders, started one after the other, closed at the end; an optional one that refuses is left out."""
    with contextlib.ExitStack() as stack:
        contenders = {}
        for name, spec in specs.items():
            progress(f"{label}: starting {name}")
            try:
                contender = Contender(spec)
            except Refused as error:
                if name not in optional:
                    raise
                progress(f"{label}: {name} refuses: {error}\n")
                continue
            stack.callback(contender.close)
            contenders[name] = contender
        yield contenders


def times_of(seconds: float, turn: float = 0.4, most: int = 30) -> int:
    """How many runs of ``seconds`` make a turn of about ``turn`` seconds: 1 to ``most``."""
    return max(1, min(most, round(turn / max(seconds, 1e-9))))


def interleave(contenders: Mapping[str, Contender], turns: int, label: str = "") -> dict[str, list[float]]:
    """Median seconds of every turn, by contender. Where a turn has several runs, one before them is not counted."""
    medians: dict[str, list[float]] = {name: [] for name in contenders}
    times = {name: times_of(c.facts["seconds"]) for name, c in contenders.items()}
    for turn in range(turns):
        progress(f"{label}: turn {turn + 1} of {turns}")
        for name, contender in contenders.items():
            time.sleep(PAUSE)
            seconds = contender.run(times[name] + (times[name] > 1))
            medians[name].append(statistics.median(seconds[-times[name] :]))
    return medians


def ratio(a: Sequence[float], b: Sequence[float]) -> float:
    """Median of the pairwise ratios: turn i of ``a`` by turn i of ``b``."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def geometric_mean(ratios: Iterable[float]) -> float:
    """exp(mean of logarithms)."""
    logs = [math.log(r) for r in ratios]
    return math.exp(sum(logs) / len(logs))
