"""Batches split to fit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from graph_tools.errors import Busy, Cancelled, InvalidRequest
from service.runtime.context import Run
from service.runtime.rows import run_rows
from service.runtime.session import Session
from service.types import Array
from tests.service.runtime_graphs import CPU_ONLY, affine
from tests.service.test_runtime_session import ROOT

X = np.random.default_rng(0).standard_normal((11, 3)).astype(np.float32)
ONE = np.ones(1, np.float32)


class Small:
    """A stand-in that has memory for ``fits`` rows: y = 2 x + b, and the number of rows it was given."""

    def __init__(self, fits: int, run: Run | None = None, cancel_at: int = -1) -> None:
        self.fits, self.seen, self.released = fits, list[int](), 0
        self._run, self._cancel_at = run, cancel_at

    def run(
        self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None, run: Run | None = None
    ) -> dict[str, Array]:
        if run is not None:
            run.check()
        x = feeds["x"]
        self.seen.append(len(x))
        if len(x) > self.fits:
            raise Busy("out of memory")
        if self._run is not None and len(self.seen) == self._cancel_at:
            self._run.cancel()
        return {"y": 2 * x + feeds["b"], "pairs": np.repeat(x, 2, axis=0), "b": feeds["b"]}

    def release_memory(self) -> None:
        self.released += 1


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(affine().SerializeToString(), CPU_ONLY)


@pytest.mark.parametrize("max_rows", [1, 2, 3, 4, 10, 11, 12, 1000])
def test_parts_equal_one_run(session: Session, max_rows: int) -> None:
    run = Run()
    parts = run_rows(session, {"x": X}, {"x"}, max_rows, run)["y"]
    np.testing.assert_allclose(parts, session.run({"x": X})["y"], rtol=2e-6)
    assert run.rows == 11


def test_a_device_value_is_split_too(session: Session) -> None:
    kept = session.run_to_device({"x": X})["y"]
    whole = run_rows(session, {"x": kept}, {"x"}, 100)["y"]
    np.testing.assert_allclose(run_rows(session, {"x": kept}, {"x"}, 4)["y"], whole, rtol=2e-6)


def test_inputs_without_batch_go_into_every_part_and_outputs_without_it_come_back_once() -> None:
    small = Small(100)
    found = run_rows(small, {"x": X, "b": ONE}, {"x"}, 4, whole={"b"})
    assert small.seen == [4, 4, 3]
    assert np.array_equal(found["y"], 2 * X + 1)
    assert np.array_equal(found["pairs"], np.repeat(X, 2, axis=0))
    assert np.array_equal(found["b"], ONE)


def test_a_graph_of_fixed_rows_gets_full_parts() -> None:
    small, run = Small(4), Run()
    found = run_rows(small, {"x": X, "b": 0 * ONE}, {"x"}, 4, run, whole={"b"}, fixed=True)
    assert small.seen == [4, 4, 4]
    assert np.array_equal(found["y"], 2 * X)
    assert np.array_equal(found["pairs"], np.repeat(X, 2, axis=0))
    assert run.rows == 11
    one = run_rows(small, {"x": X[:1], "b": 0 * ONE}, {"x"}, 4, fixed=True, whole={"b"})
    assert one["y"].shape == (1, 3)


def test_where_memory_runs_out_parts_are_halved() -> None:
    small, run = Small(2), Run()
    found = run_rows(small, {"x": X, "b": 0 * ONE}, {"x"}, 9, run, whole={"b"})
    assert small.seen == [9, 4, 2, 2, 2, 2, 2, 1]
    assert small.released == 2
    assert np.array_equal(found["y"], 2 * X)
    assert run.rows == 11


@pytest.mark.parametrize(("fits", "fixed"), [(0, False), (3, True)])
def test_one_row_or_a_fixed_part_that_does_not_fit_is_busy(fits: int, fixed: bool) -> None:
    with pytest.raises(Busy):
        run_rows(Small(fits), {"x": X, "b": 0 * ONE}, {"x"}, 4, fixed=fixed)


def test_cancel_between_parts() -> None:
    run = Run()
    small = Small(100, run, cancel_at=2)
    with pytest.raises(Cancelled):
        run_rows(small, {"x": X, "b": 0 * ONE}, {"x"}, 2, run)
    assert small.seen == [2, 2]
    assert run.rows == 4


def test_rows_must_be_there_and_agree() -> None:
    with pytest.raises(InvalidRequest, match="no rows"):
        run_rows(Small(9), {"x": X[:0]}, {"x"}, 4)
    with pytest.raises(InvalidRequest, match="x: 11, b: 2"):
        run_rows(Small(9), {"x": X, "b": X[:2]}, {"x", "b"}, 4)


# 12 MB of scratch memory per row: 60 rows do not fit under a limit of 500 MB. The limit holds for a process of its own.
SCARCE = """
import resource
import numpy as np
from graph_tools.errors import Busy
from service.runtime.context import Run
from service.runtime.rows import run_rows
from service.runtime.session import Session
from tests.service.runtime_graphs import CPU_ONLY, wide

def pages(field):
    return int(open("/proc/self/statm").read().split()[field]) * resource.getpagesize()

session = Session(wide(1 << 20).SerializeToString(), CPU_ONLY)
x = np.arange(-30, 30, dtype=np.float32)[:, None]
session.run({"x": x[:20]})
held = pages(1)
session.release_memory()
assert pages(1) < held - (100 << 20), "the arena kept what the run needed"
resource.setrlimit(resource.RLIMIT_AS, (pages(0) + (500 << 20),) * 2)
try:
    session.run({"x": x})
    raise SystemExit("60 rows fit")
except Busy:
    pass
call = Run()
y = run_rows(session, {"x": x}, {"x"}, 60, call)["y"]
assert np.array_equal(y, np.minimum(x[:, 0], 0)), y
assert call.rows == 60
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own address space through Linux' rlimit")
def test_a_failed_batch_gives_its_memory_back_and_is_done_in_parts() -> None:
    found = subprocess.run([sys.executable, "-c", SCARCE], cwd=ROOT, timeout=120, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
