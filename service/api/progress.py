"""Progress on its way from the computing thread to a stream: the newest only, and not too often."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from service.types import Progress


class Latest:
    """Holds the newest report until the stream is ready for it, so that a slow reader costs no memory."""

    def __init__(self, interval: float) -> None:
        """``interval``: least seconds between two reports. Made in the event loop that reads."""
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._newest: Progress | None = None

    def put(self, progress: Progress) -> None:
        """Take a report; from any thread."""
        self._newest = progress
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads
            self._loop.call_soon_threadsafe(self._news.set)

    async def until(self, work: asyncio.Future[Any]) -> AsyncIterator[Progress]:
        """Reports as they come, ``done`` never falling, until ``work`` is done."""
        done = -1
        while not work.done():
            news = asyncio.ensure_future(self._news.wait())
            try:
                await asyncio.wait({work, news}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
            if work.done():
                return
            self._news.clear()
            report = self._newest
            if report is not None and report.done >= done:
                done = report.done
                yield report
            await asyncio.wait({work}, timeout=self._interval)
