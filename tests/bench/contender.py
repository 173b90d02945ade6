"""One contender in a process of its own: ``python -m tests.bench.contender KIND ARGUMENTS-AS-JSON``.

Its first line is what it knows of itself, or ``{"failed": why}``. Then it answers every line on stdin with one of JSON:
``run N`` with the seconds of N runs, ``memory N`` with bytes; it ends with stdin. What libraries print goes to stderr.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

MODULES = ("gradient_contenders", "service_contenders", "light_contenders", "torch_contenders")
Maker = Callable[..., tuple[Callable[[], object], dict[str, Any]]]
_SELF = Path("/proc/self")


def find(kind: str) -> tuple[ModuleType, Maker]:
    """The module and maker of this contender; what only other contenders need is not imported."""
    for name in MODULES:
        module = importlib.import_module(f"tests.bench.{name}")
        if kind in module.KINDS:
            return module, module.KINDS[kind]
    raise SystemExit(f"there is no contender {kind!r}")


def field(file: str, name: str) -> int:
    """Bytes behind ``name:`` in a file of /proc/self (Linux)."""
    for line in (_SELF / file).read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def memory(once: Callable[[], object], times: int, before: dict[str, int]) -> dict[str, int | None]:
    """Bytes above what the process had with its libraries imported and no model.

    ``held``: PSS after ``times`` runs, pages shared with other processes counted in part. ``peak``: most resident
    memory during these runs; None where the system does not let it be reset. What building the model freed is given
    back to the system first.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    try:
        (_SELF / "clear_refs").write_text("5")  # VmHWM starts again from what is resident now
        reset = True
    except OSError:
        reset = False
    for _ in range(times):
        once()
    peak = field("status", "VmHWM") - before["resident"] if reset else None
    return {"held": field("smaps_rollup", "Pss") - before["pss"], "peak": peak}


def timed(once: Callable[[], object], times: int) -> list[float]:
    """Seconds of each run: what the run says itself, or the wall clock."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        told = once()
        seconds.append(told if isinstance(told, float) else time.perf_counter() - started)
    return seconds


def _here() -> dict[str, int]:
    if not (_SELF / "smaps_rollup").exists():
        return {"pss": 0, "resident": 0}
    return {"pss": field("smaps_rollup", "Pss"), "resident": field("status", "VmRSS")}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(answer: object) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    module, make = find(sys.argv[1])
    try:
        module.libraries(sys.argv[1])
        before = _here()
        once, facts = make(**json.loads(sys.argv[2]))
        (first,) = timed(once, 1)
        seconds = min(timed(once, 1 if first > 1 else 2))
    except Exception as error:
        text = str(error).strip().splitlines() or [""]
        tell({"failed": f"{type(error).__name__}: {text[0]}"})
        raise
    tell({**facts, "seconds": seconds})
    for line in sys.stdin:
        order, times = line.split()
        tell(memory(once, int(times), before) if order == "memory" else timed(once, int(times)))


if __name__ == "__main__":
    main()
