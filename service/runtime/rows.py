"""Batches split to fit: a run over many rows as runs over few, along axis 0."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from graph_tools.errors import Busy, InvalidRequest
from service.runtime import ort
from service.runtime.context import Run
from service.types import Array

_log = logging.getLogger(__name__)


class Runs(Protocol):
    """What a batch is run on: :class:`service.runtime.session.Session`, or a stand-in."""

    def run(
        self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None, run: Run | None = None
    ) -> dict[str, Array]:
        """Run once."""

    def release_memory(self) -> None:
        """Make room for a retry."""


def run_rows(
    session: Runs,
    feeds: Mapping[str, Any],
    batched: Collection[str],
    max_rows: int,
    run: Run | None = None,
    *,
    outputs: Sequence[str] | None = None,
    whole: Collection[str] = (),
    fixed: bool = False,
) -> dict[str, Array]:
    """Run ``feeds`` in parts of at most ``max_rows`` rows and join the outputs.

    Where memory runs out the part is halved and tried again, down to one row. Rows are counted on ``run``,
    which is checked with every part.

    Args:
        session: runs one part.
        feeds: inputs by name.
        batched: names of the inputs whose axis 0 is the batch; the others go into every part as they are.
        max_rows: rows per part, >= 1.
        run: cancel, deadline and row counter.
        outputs: names wanted; None = all.
        whole: outputs without a batch axis; the first part's value is returned.
        fixed: the graph takes exactly ``max_rows`` rows: the last part is filled up by repeating its last
            row, and nothing is halved.

    Returns:
        Arrays by name; axis 0 of those not in ``whole`` is that of all parts, one after the other.

    Raises:
        InvalidRequest: no rows, or inputs that disagree on their number.
        Busy: one row does not fit.
        Cancelled, DeadlinePassed: by ``run``.
    """
    rows = _rows(feeds, batched)
    # Nothing to cut: OrtValues stay on their device.
    size, start, parts = max_rows if fixed else min(max_rows, rows), 0, []
    while start < rows:
        take = min(size, rows - start)
        try:
            part = session.run(_part(feeds, batched, start, take, size if fixed else take, rows), outputs, run)
        except Busy:
            if fixed or take == 1:
                raise
            size = take // 2
            _log.warning("out of memory at %d rows per run, going on with %d", take, size)
            session.release_memory()
            continue
        if run is not None:
            run.count(take)
        if fixed and take < size:
            part = {k: v if k in whole else v[: len(v) * take // size] for k, v in part.items()}
        parts.append(part)
        start += take
    if len(parts) == 1:
        return parts[0]
    return {
        name: value if name in whole else np.concatenate([part[name] for part in parts])
        for name, value in parts[0].items()
    }


def _rows(feeds: Mapping[str, Any], batched: Collection[str]) -> int:
    counts = {name: _shape(feeds[name])[0] for name in feeds if name in batched}
    if not counts or not min(counts.values()):
        raise InvalidRequest("", "the batch has no rows")
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise InvalidRequest("", f"the inputs have different numbers of rows ({listed})")
    return int(next(iter(counts.values())))


def _shape(value: Any) -> Sequence[int]:
    shape: Sequence[int] = value.shape() if isinstance(value, ort.OrtValue) else value.shape
    return shape


def _part(
    feeds: Mapping[str, Any], batched: Collection[str], start: int, take: int, fill: int, rows: int
) -> dict[str, Any]:
    """Rows ``start`` to ``start + take`` of the batched feeds, the last one repeated up to ``fill`` rows."""
    if take == rows == fill:
        return dict(feeds)
    part = dict(feeds)
    for name in batched:
        if name not in feeds:
            continue
        value = feeds[name].numpy() if isinstance(feeds[name], ort.OrtValue) else feeds[name]
        cut = value[start : start + take]
        part[name] = np.concatenate([cut, *[cut[-1:]] * (fill - take)]) if fill > take else cut
    return part
