"""What the sections print with: the header, tables, progress on stderr."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.runtime.threads import threads


@dataclass(frozen=True)
class Options:
    """What a section is told.

    Attributes:
        folder: for the files of this run.
        turns: of each measurement; None: the section's own number.
        nets, batches, settings: None: the section's own.
    """

    folder: Path
    turns: int | None = None
    nets: tuple[str, ...] | None = None
    batches: tuple[int, ...] | None = None
    settings: tuple[str, ...] | None = None

    def of(self, known: Iterable[str]) -> list[str]:
        """The nets among ``known`` that are asked for, in the order of ``known``."""
        return [name for name in known if self.nets is None or name in self.nets]


def header() -> str:
    """Date, machine, threads, versions."""
    version = next(
        (f"{p} {importlib.metadata.version(p)}" for p in ("onnxruntime-gpu", "onnxruntime") if _installed(p)), ""
    )
    return (
        f"{datetime.date.today()}  {processor()}, {threads()} threads each, {version} on the CPU, "
        f"Python {platform.python_version()}, float32"
    )


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def table(title: str, headers: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str] = ()) -> None:
    """Print: the first column to the left, the others to the right; floats with two decimals, None as a dash."""
    _clear()
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(headers), *cells]) for i in range(len(headers))]
    print(f"\n{title}")
    for row in (headers, ["-" * w for w in widths], *cells):
        first, *rest = (cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths,
                        strict=True)))  # fmt: skip
        print("  ".join([first, *rest]).rstrip())
    for note in notes:
        print(f"  {note}")
    sys.stdout.flush()


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)


def ms(seconds: float) -> str:
    """Milliseconds with as many digits as are worth reading."""
    value = seconds * 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def megabytes(count: float | None) -> str | None:
    """MB of 10^6 bytes."""
    return None if count is None else f"{count / 1e6:.0f}"


def against(value: float | None, aim: float | None, least: bool = False) -> str | None:
    """The value with what is aimed at: at most ``aim``, or at least."""
    if value is None:
        return None
    if aim is None:
        return f"{value:.2f}"
    kept = value >= aim if least else value <= aim
    return f"{value:.2f} ({'≥' if least else '≤'} {aim:g}{'' if kept else ', missed'})"


_shown = 0


def progress(text: str) -> None:
    """One line on stderr, written over the last one on a terminal."""
    global _shown
    if not sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)
        return
    print(f"\r{text.ljust(_shown)}", end="", file=sys.stderr, flush=True)
    _shown = len(text)


def _clear() -> None:
    global _shown
    if sys.stderr.isatty() and _shown:
        print(f"\r{' ' * _shown}\r", end="", file=sys.stderr, flush=True)
        _shown = 0
