"""Programs with their sessions: batches split to fit, a composer joined to the served file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from service.runtime.context import Run
from service.runtime.rows import run_rows
from service.runtime.session import Session
from service.types import Array

NODE_MACS = 2_500_000_000  # products that one node may have per run: about 50 ms on two cores, so that cancel is prompt
MEMORY = 2 << 30  # bytes of activations per run
MOST_ROWS = 16  # more rows a run gain nothing on a CPU


def rows_for(max_node_macs: int, row_bytes: int) -> int:
    """Rows per run: bounded by the longest node, by memory, and by what gains anything."""
    by_time = NODE_MACS // max(max_node_macs, 1)
    by_memory = MEMORY // max(row_bytes, 1)
    return int(max(1, min(by_time, by_memory, MOST_ROWS)))


class Compiled:
    """A program and its session (fulfils ``service.explainers.base.Program``)."""

    def __init__(self, session: Session, rows: int, *, fixed: bool) -> None:
        """``rows`` per run; ``fixed``: exactly so many."""
        self.session, self.rows, self._fixed = session, rows, fixed
        self.inputs = {v.name for v in session.inputs}
        self._whole = {v.name for v in session.outputs if v.name.startswith("channel_axis_")}

    @property
    def nbytes(self) -> int:
        """Bytes the program cache counts."""
        return self.session.nbytes

    def run(self, feeds: Mapping[str, Array], run: Run | None = None) -> dict[str, Array]:
        """Run, the batch split along axis 0; K targets make K rows of each in the backward pass."""
        targets = feeds["target"].shape[1] if "target" in feeds and not self._fixed else 1
        rows = max(1, self.rows // targets)
        return run_rows(self.session, dict(feeds), list(feeds), rows, run, whole=self._whole, fixed=self._fixed)

    def to_device(self, feeds: Mapping[str, Array], run: Run | None = None) -> dict[str, Any]:
        """Run whole, outputs left on the device."""
        return self.session.run_to_device({k: v for k, v in feeds.items() if k in self.inputs}, None, run)


class Composed:
    """A composer whose rows go straight into the served file (fulfils ``service.explainers.base.Composer``)."""

    def __init__(
        self, composer: Compiled, rows: int, fed: str, scored: Callable[[Mapping[str, Any], str, Run | None], Array]
    ) -> None:
        """``fed``: the model's input that the composer's only output feeds; ``scored``: the served file's scores."""
        self.rows = rows
        self._composer, self._fed, self._scored = composer, fed, scored

    def scores(self, feeds: Mapping[str, Array], score: str, run: Run | None = None) -> Array:
        """float32 [rows, classes] of the composed rows."""
        (composed,) = self._composer.to_device(feeds, run).values()
        rows = int(composed.shape()[0])
        others = {k: np.repeat(v, rows, axis=0) for k, v in feeds.items() if k not in self._composer.inputs}
        if run is not None:
            run.count(rows)
        return self._scored({**others, self._fed: composed}, score, run)
