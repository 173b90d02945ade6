"""``python -m tests.bench [SECTION...]``: every figure as a ratio from one interleaved run, medians of pairs.

Contenders run in processes of their own with the same number of threads and take turns. Sections print as they finish,
progress goes to stderr.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path

from tests.bench import nets
from tests.bench.report import Options, header

SECTIONS = ("gradient", "light", "memory", "build", "service")
SETTINGS = ("fast", "shared", "low")


def main(arguments: list[str] | None = None) -> None:
    """Run sections."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--turns", type=int, help="of each measurement; default: as many as each section needs")
    parser.add_argument("--nets", nargs="+", help=f"of {', '.join(nets.NETS)}; in light: without the light_ in front")
    parser.add_argument("--batch", nargs="+", type=int, help="default: 1 8")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, help="of the section gradient; default: all")
    args = parser.parse_args(arguments)
    unknown = [s for s in args.sections if s not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    print(header(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        options = Options(Path(folder), args.turns, _tuple(args.nets), _tuple(args.batch), _tuple(args.settings))
        for section in args.sections or SECTIONS:
            importlib.import_module(f"tests.bench.sections.{section}").run(options)


def _tuple(values: list | None) -> tuple | None:
    return None if values is None else tuple(values)


if __name__ == "__main__":
    main()
