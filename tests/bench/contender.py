"""One contender in a process of its own: ``python -m tests.bench.contender KIND ARGUMENTS-AS-JSON``.

Prints ``ready``, then answers every line ``N`` on stdin with the seconds of N runs as JSON, and ``memory`` with bytes;
ends with stdin.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

MODULES = ("tests.bench.gradient_contenders", "tests.bench.service_contenders", "tests.bench.torch_contenders")


def find(kind: str):
    """The maker of this contender; modules whose libraries this environment lacks are not imported."""
    import importlib

    for module in MODULES:
        makers = importlib.import_module(module).KINDS
        if kind in makers:
            return makers[kind]
    raise SystemExit(f"there is no contender {kind!r}")


def pss() -> int:
    """Bytes of this process, pages shared with others counted in part (Linux)."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    kind, arguments = sys.argv[1], json.loads(sys.argv[2])
    make = find(kind)
    once = make(**arguments)
    for _ in range(3):
        once()
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "memory":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps({"pss": pss(), "peak": peak}), flush=True)
            continue
        seconds = []
        for _ in range(int(line)):
            started = time.perf_counter()
            told = once()
            seconds.append(told if isinstance(told, float) else time.perf_counter() - started)
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
