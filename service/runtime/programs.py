"""Compiled programs, kept until memory is needed for others."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from graph_tools.errors import Cancelled, DeadlinePassed
from service.runtime.context import Run

POLL = 0.05  # seconds between two looks at whether a waiting call is still wanted


class Kept(Protocol):
    """Anything that knows its size."""

    @property
    def nbytes(self) -> int:
        """Bytes it holds."""


T = TypeVar("T", bound=Kept)


class _Build(Generic[T]):
    """One build under way: its end, and what came of it."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.value: T | None = None
        self.error: BaseException | None = None


class ProgramCache(Generic[T]):
    """Programs by key, least recently used ones dropped beyond ``max_bytes``. Thread-safe.

    A key is (model digest, method, structural parameters, provider form, our version). Dropping one forgets
    it here; who is running it keeps it alive. The newest program is kept even where it alone is over the
    limit.

    Attributes:
        built: builds that ended well.
        hits: calls answered without a build of their own (waiting for another's build counts).
        evicted: programs dropped for space.
        bytes: sum of ``nbytes`` of what is kept.
    """

    def __init__(self, max_bytes: int) -> None:
        """An empty cache of at most ``max_bytes`` bytes."""
        self.max_bytes = max_bytes
        self.built = self.hits = self.evicted = self.bytes = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._building: dict[Hashable, _Build[T]] = {}

    def get(self, key: Hashable, build: Callable[[], T], run: Run | None = None) -> T:
        """The program of ``key``, built once however many threads ask for it at the same time.

        Args:
            key: see the class.
            build: makes the program; called outside the lock. It may ask this cache for other keys.
            run: ends the waiting for another thread's build; a build of its own is counted in ``run.built`` and
                timed in ``run.build_seconds``.

        Raises:
            Exception: whatever ``build`` raised, in every thread that waited for it; nothing is kept and the
                next call builds again. A build that ended because *its* call was cancelled is taken over by a
                waiter.
            Cancelled, DeadlinePassed: by ``run``.
        """
        while True:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    self.hits += 1
                    return self._kept[key]
                pending = self._building.get(key)
                if pending is None:
                    own = self._building[key] = _Build[T]()
                    break
            while not pending.ended.wait(POLL if run is not None else None):
                assert run is not None
                run.check()
            if pending.error is None:
                with self._lock:
                    self.hits += 1
                assert pending.value is not None
                return pending.value
            if not isinstance(pending.error, Cancelled | DeadlinePassed):
                raise pending.error
        return self._build(key, own, build, run)

    def discard(self, where: Callable[[Hashable], bool]) -> int:
        """Forget the programs whose key satisfies ``where`` (a model was unloaded); returns how many."""
        with self._lock:
            gone = [key for key in self._kept if where(key)]
            for key in gone:
                self.bytes -= self._kept.pop(key).nbytes
            return len(gone)

    def __len__(self) -> int:
        """Programs kept."""
        return len(self._kept)

    def _build(self, key: Hashable, own: _Build[T], build: Callable[[], T], run: Run | None) -> T:
        started, before = time.perf_counter(), 0.0 if run is None else run.build_seconds
        try:
            own.value = build()
        except BaseException as error:
            own.error = error
            raise
        else:
            with self._lock:
                self.built += 1
                self._keep(key, own.value)
            if run is not None:
                run.built += 1
                run.build_seconds = before + time.perf_counter() - started  # a build inside is not counted twice
            return own.value
        finally:
            with self._lock:
                del self._building[key]
            own.ended.set()

    def _keep(self, key: Hashable, program: T) -> None:
        """Insert as the newest, then drop the oldest while there is too much (the lock is held)."""
        self._kept[key] = program
        self.bytes += program.nbytes
        while self.bytes > self.max_bytes and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= oldest.nbytes
            self.evicted += 1
