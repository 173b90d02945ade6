"""Blocking work in few threads, with a queue that has an end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from graph_tools.errors import Busy

T = TypeVar("T")


class Workers:
    """A pool of threads for one event loop. Work beyond threads + queue is refused at once."""

    def __init__(self, threads: int, queue: int, name: str = "explain") -> None:
        """``threads`` calls at a time; ``queue`` more may wait."""
        self.threads, self.queue = threads, queue
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._places = asyncio.Semaphore(threads + queue)
        self._waiting = 0
        self._seconds = 0.1  # moving average of one call

    @property
    def in_flight(self) -> int:
        """Calls that run or wait."""
        return self._waiting

    async def run(self, work: Callable[[], T], cancel: Callable[[], None], *, patient: bool = False) -> T:
        """The result of ``work`` from one of the threads.

        Args:
            work: blocking.
            cancel: called when the caller goes away; shall make ``work`` return soon. Its place is free again
                when it has returned.
            patient: wait for a place instead of being refused.

        Raises:
            Busy: the queue is full.
        """
        if self._places.locked() and not patient:
            full = f"{self.threads} requests are running and {self.queue} are waiting; try again later"
            raise Busy(full, retry_after=self._delay())
        await self._places.acquire()
        self._waiting += 1
        loop = asyncio.get_running_loop()
        future = self._pool.submit(self._timed, work)
        future.add_done_callback(lambda _: _on(loop, self._release))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            cancel()
            raise

    def close(self) -> None:
        """Take no more work; drop what waits."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _timed(self, work: Callable[[], T]) -> T:
        start = time.monotonic()
        try:
            return work()
        finally:
            self._seconds += 0.2 * (time.monotonic() - start - self._seconds)

    def _release(self) -> None:
        self._waiting -= 1
        self._places.release()

    def _delay(self) -> float:
        """Seconds until the calls that are here now should be through."""
        return max(0.1, self._seconds * self._waiting / self.threads)


def _on(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts places any more
        loop.call_soon_threadsafe(call)
