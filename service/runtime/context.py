"""One call's life: progress out; cancel, deadline and budget in.

ONNX Runtime looks at ``RunOptions.terminate`` between nodes, so a cancel takes as long as the node that is
running; callers keep nodes short by capping the rows per run, and every run is followed by another check.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from graph_tools.errors import Cancelled, DeadlinePassed
from service.types import Array, Progress

INTERVAL = 0.1  # seconds between two progress reports


class Run:
    """What a caller wants of one call (fulfils ``service.explainers.base.RunContext``). Thread-safe."""

    def __init__(
        self,
        deadline: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        *,
        max_seconds: float | None = None,
        max_rows: int | None = None,
        partials: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A call that starts now.

        Args:
            deadline: time of ``time.monotonic()`` after which the work is stopped and DeadlinePassed raised.
            on_progress: called in the working thread, at most ten times a second and always with the last
                step.
            max_seconds: budget: after so many seconds loops end early with what they have (no error).
            max_rows: budget in forward rows, likewise.
            partials: whether ``on_progress`` wants maps so far.
            clock: seconds, monotonic.
        """
        self.deadline = deadline
        self.built, self.build_seconds = 0, 0.0  # programs compiled for this call, and how long that took
        self._on_progress, self._partials = on_progress, partials
        self._max_seconds, self._max_rows = max_seconds, max_rows
        self._clock = clock
        self._started = clock()
        self._reported = float("-inf")
        self._rows = 0
        self._cancelled = False
        self._lock = threading.Lock()
        self._stops: dict[object, Callable[[], None]] = {}

    def limit(self, max_seconds: float | None, max_rows: int | None) -> None:
        """Set the budget; seconds count from the beginning of the call."""
        self._max_seconds, self._max_rows = max_seconds, max_rows

    def cancel(self) -> None:
        """End the call: what runs is stopped, and every later step raises Cancelled. Returns at once."""
        with self._lock:
            self._cancelled = True
            stops = list(self._stops.values())
        for stop in stops:
            stop()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._cancelled

    @property
    def rows(self) -> int:
        """Forward rows evaluated so far."""
        return self._rows

    def count(self, rows: int) -> None:
        """Add to :attr:`rows`."""
        with self._lock:
            self._rows += rows

    def check(self) -> None:
        """Return if the work is still wanted.

        Raises:
            Cancelled: the caller went away.
            DeadlinePassed: the deadline is over.
        """
        if self._cancelled:
            raise Cancelled("the call was cancelled")
        if self.deadline is not None and self._clock() >= self.deadline:
            seconds = self.deadline - self._started
            raise DeadlinePassed(
                f"the deadline of {seconds:.3g} s passed; allow more time, or set a budget to get a partial result"
            )

    def budget_left(self) -> float:
        """Seconds until the deadline or the end of the time budget, whichever is first; inf where neither is set."""
        ends = [self.deadline] if self.deadline is not None else []
        if self._max_seconds is not None:
            ends.append(self._started + self._max_seconds)
        return max(0.0, min(ends) - self._clock()) if ends else float("inf")

    def exhausted(self, rows: int) -> bool:
        """Whether the budget is used up: ``rows`` forward rows spent so far, or the seconds since the start."""
        if self._max_rows is not None and rows >= self._max_rows:
            return True
        return self._max_seconds is not None and self._clock() - self._started >= self._max_seconds

    def progress(self, done: int, total: int, unit: str = "rows", partial: Callable[[], Array] | None = None) -> None:
        """Report ``done`` of ``total``; ``partial`` (the map so far) is called only for a report that goes out."""
        now = self._clock()
        if self._on_progress is None or (done < total and now - self._reported < INTERVAL):
            return
        self._reported = now
        self._on_progress(Progress(done, total, unit, partial() if partial and self._partials else None))

    @contextlib.contextmanager
    def stoppable(self, stop: Callable[[], None]) -> Iterator[None]:
        """While inside, a cancel or the deadline calls ``stop`` from another thread. Checks on the way in."""
        key = object()
        with self._lock:
            self.check()
            self._stops[key] = stop
        watch = _DEADLINES.watch(self.deadline, stop) if self.deadline is not None else None
        try:
            yield
        finally:
            with self._lock:
                del self._stops[key]
            if watch is not None:
                _DEADLINES.unwatch(watch)


class _Deadlines:
    """One daemon thread that calls ``stop`` of whatever is still watched when its time comes.

    It starts with the first watch and ends at most ``LINGER`` seconds after the last, so that a loop of short
    runs starts it once and nothing is left behind.
    """

    LINGER = 0.1

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: dict[object, tuple[float, Callable[[], None]]] = {}
        self._thread: threading.Thread | None = None
        self._wakes = 0.0

    def watch(self, deadline: float, stop: Callable[[], None]) -> object:
        key = object()
        with self._changed:
            self._watched[key] = (deadline, stop)
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="onnx-explain-deadlines", daemon=True)
                thread.start()
                self._thread = thread
            elif deadline < self._wakes:
                self._changed.notify()
        return key

    def unwatch(self, key: object) -> None:
        with self._changed:
            self._watched.pop(key, None)

    def _serve(self) -> None:
        with self._changed:
            while self._watched:
                now = time.monotonic()
                for key in [k for k, (deadline, _) in self._watched.items() if deadline <= now]:
                    self._watched.pop(key)[1]()
                nearest = min((deadline for deadline, _ in self._watched.values()), default=now)
                self._wakes = min(max(nearest, now), now + self.LINGER)
                if self._watched:
                    self._changed.wait(self._wakes - now)
            self._thread = None


_DEADLINES = _Deadlines()
