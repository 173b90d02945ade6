"""How many rows a run of a program takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.models.compiled import Compiled, rows_for
from service.types import Array


class Session:
    """Takes down how many rows it was given."""

    inputs = (SimpleNamespace(name="x"), SimpleNamespace(name="target"))
    outputs = (SimpleNamespace(name="y"),)
    nbytes = 1

    def __init__(self) -> None:
        self.rows: list[int] = []

    def run(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None, run: Any = None) -> dict[str, Array]:
        self.rows.append(len(feeds["x"]))
        return {"y": feeds["x"]}


@pytest.mark.parametrize(
    ("targets", "fixed", "runs"),
    [(1, False, [8, 2]), (3, False, [2] * 5), (8, False, [1] * 10), (100, False, [1] * 10), (3, True, [8, 8])],
)
def test_targets_are_rows_of_the_backward_pass(targets: int, fixed: bool, runs: list[int]) -> None:
    session, x = Session(), np.arange(10.0)
    program = Compiled(session, 8, fixed=fixed)  # type: ignore[arg-type]
    got = program.run({"x": x, "target": np.zeros((10, targets), np.int64)})
    assert session.rows == runs
    assert np.array_equal(got["y"], x)


def test_rows_are_bounded_by_time_memory_and_use() -> None:
    assert rows_for(0, 0) == 16
    assert rows_for(1_000_000_000, 1) == 2
    assert rows_for(1, 1 << 30) == 2
    assert rows_for(1 << 60, 1 << 60) == 1
