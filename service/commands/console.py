"""The terminal: results on stdout; progress, notes and errors on stderr."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

T = TypeVar("T")

BAR_AFTER = 1.0  # seconds of work before a progress bar appears
_REDRAW = 0.1  # seconds
_FAREWELL = 5.0  # seconds that cancelled work has to end
_WIDE = 120  # columns where the output is no terminal


def stdout() -> Console:
    """For results."""
    return Console(highlight=False, width=_width(sys.stdout.isatty()))


def stderr() -> Console:
    """For everything else."""
    return Console(highlight=False, stderr=True, width=_width(sys.stderr.isatty()))


def _width(terminal: bool) -> int | None:
    return None if terminal or "COLUMNS" in os.environ else _WIDE


def plain(text: object, style: str = "") -> Text:
    """``text`` as it is: no markup, no control characters."""
    return Text("".join(c if c.isprintable() else " " for c in str(text)), style=style)


def say(text: object, style: str = "") -> None:
    """One line of result; not wrapped."""
    stdout().print(plain(text, style), soft_wrap=True)


def note(text: object) -> None:
    """One line beside the result."""
    stderr().print(plain(f"note: {text}", "yellow"), soft_wrap=True)


def complain(text: object) -> None:
    """The one red line of an error."""
    stderr().print(plain(f"error: {' '.join(str(text).split())}", "red"), soft_wrap=True)


def table(*columns: str, right: tuple[str, ...] = (), title: str = "") -> Table:
    """An empty table; the columns in ``right`` are aligned right."""
    shown = plain(title, "bold") if title else None
    made = Table(title=shown, title_justify="left", title_style="", header_style="dim", box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


class Meter:
    """How far a piece of work is; written by the working thread, read by the one that draws."""

    def __init__(self, text: str = "") -> None:
        """Nothing is known yet but what is done, in words."""
        self.text, self.done, self.total = text, 0.0, 0.0

    def at(self, text: str, done: float = 0.0, total: float = 0.0) -> None:
        """``done`` of ``total`` (0 = nobody knows)."""
        self.text, self.done, self.total = text, done, total


def watch(work: Callable[[Meter], T], text: str, cancel: Callable[[], None] = lambda: None) -> T:
    """Do ``work`` in a thread while this one shows a progress bar, from the first second on.

    Args:
        work: gets the meter to report to.
        text: what is done, in words.
        cancel: called on Ctrl-C, shall make ``work`` return soon.
    """
    meter, outcome = Meter(text), Future[T]()

    def body() -> None:
        try:
            outcome.set_result(work(meter))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=body, name="work", daemon=True)
    try:
        thread.start()
        wait([outcome], BAR_AFTER)
        if not outcome.done() and stderr().is_terminal:
            with _bar() as bar:
                task = bar.add_task("")
                while not outcome.done():
                    bar.update(task, description=meter.text, completed=meter.done, total=meter.total or None)
                    wait([outcome], _REDRAW)
        return outcome.result()
    except KeyboardInterrupt:
        cancel()
        thread.join(_FAREWELL)
        raise


def _bar() -> Bar:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=stderr(), transient=True)
