"""Cancel, deadline, budget and progress, with real runs of ONNX Runtime."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from graph_tools.errors import Cancelled, DeadlinePassed
from service.runtime.context import Run
from service.runtime.session import Session
from service.types import Progress
from tests.service.runtime_graphs import CPU_ONLY, ENDLESS, counter

X = np.linspace(-1, 1, 4, dtype=np.float32)
SHORT = {"n": np.array(5), "x": X}
LONG = {"n": ENDLESS, "x": X}
PATIENCE = 30.0  # a run that was to be stopped and was not would never end


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(counter().SerializeToString(), CPU_ONLY)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("method", ["run", "run_to_device"])
def test_cancel_ends_an_endless_run_and_the_session_works_on(session: Session, method: str) -> None:
    before = session.run(SHORT)["y"]
    run = Run()
    with ThreadPoolExecutor(1) as pool:
        endless = pool.submit(getattr(session, method), LONG, None, run)
        threading.Timer(0.05, run.cancel).start()
        with pytest.raises(Cancelled, match="cancelled"):
            endless.result(PATIENCE)
    assert np.array_equal(session.run(SHORT)["y"], before)
    with pytest.raises(Cancelled):
        session.run(SHORT, run=run)


@pytest.mark.parametrize("method", ["run", "run_to_device"])
def test_deadline_ends_an_endless_run_and_the_session_works_on(session: Session, method: str) -> None:
    before = session.run(SHORT)["y"]
    run = Run(deadline=time.monotonic() + 0.1)
    with ThreadPoolExecutor(1) as pool, pytest.raises(DeadlinePassed, match=r"deadline of 0\.1 s"):
        pool.submit(getattr(session, method), LONG, None, run).result(PATIENCE)
    assert np.array_equal(session.run(SHORT, run=Run(deadline=time.monotonic() + 60))["y"], before)


def test_many_cancels_at_all_moments(session: Session) -> None:
    before = session.run(SHORT)["y"]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(200):
            run = Run(deadline=time.monotonic() + PATIENCE)
            endless = pool.submit(session.run, LONG, None, run)
            run.cancel()
            with pytest.raises(Cancelled):
                endless.result(PATIENCE)
    assert np.array_equal(session.run(SHORT)["y"], before)


def test_of_two_runs_on_one_session_only_the_cancelled_one_ends(session: Session) -> None:
    expected = session.run(SHORT)["y"]
    first = Run()
    with ThreadPoolExecutor(1) as pool:
        endless = pool.submit(session.run, LONG, None, first)
        others = [session.run(SHORT, run=Run(deadline=time.monotonic() + 60))["y"] for _ in range(20)]
        assert not endless.done()
        first.cancel()
        with pytest.raises(Cancelled):
            endless.result(PATIENCE)
    assert all(np.array_equal(other, expected) for other in others)


def test_one_call_may_have_several_runs_and_cancel_ends_them_all(session: Session) -> None:
    run = Run()
    with ThreadPoolExecutor(3) as pool:
        endless = [pool.submit(session.run, LONG, None, run) for _ in range(3)]
        run.cancel()
        for each in endless:
            with pytest.raises(Cancelled):
                each.result(PATIENCE)


def test_the_deadline_thread_ends_by_itself(session: Session) -> None:
    session.run(SHORT, run=Run(deadline=time.monotonic() + 3600))
    for thread in threading.enumerate():
        if thread.name == "onnx-explain-deadlines":
            thread.join(PATIENCE)
            assert not thread.is_alive()
    session.run(SHORT, run=Run(deadline=time.monotonic() + 3600))  # and starts again


def test_a_nearer_deadline_is_served_while_a_far_one_is_watched(session: Session) -> None:
    far = Run(deadline=time.monotonic() + 3600)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(session.run, LONG, None, far)
        near = pool.submit(session.run, LONG, None, Run(deadline=time.monotonic() + 0.05))
        with pytest.raises(DeadlinePassed):
            near.result(PATIENCE)
        assert not waiting.done()
        far.cancel()
        with pytest.raises(Cancelled):
            waiting.result(PATIENCE)


def test_a_passed_deadline_stops_the_next_run_before_it_starts(session: Session) -> None:
    clock = Clock()
    run = Run(deadline=101.0, clock=clock)
    run.check()
    clock.now = 101.0
    with pytest.raises(DeadlinePassed, match="deadline of 1 s"):
        session.run(SHORT, run=run)


def test_cancel_comes_before_deadline() -> None:
    clock = Clock()
    run = Run(deadline=100.0, clock=clock)
    run.cancel()
    assert run.cancelled
    with pytest.raises(Cancelled):
        run.check()


def test_progress_goes_out_ten_times_a_second_and_with_the_last_step() -> None:
    clock, seen, made = Clock(), list[Progress](), list[int]()

    def partial(step: int) -> Callable[[], np.ndarray]:
        def make() -> np.ndarray:
            made.append(step)
            return np.full((1, 1), step, np.float32)

        return make

    run = Run(on_progress=seen.append, clock=clock)
    for step in range(1, 101):
        run.progress(step, 100, "masks", partial(step))
        clock.now += 1 / 64  # exact in binary: seven steps to the next report
    assert [p.done for p in seen] == [*range(1, 100, 7), 100]
    assert made == [p.done for p in seen]
    assert all(p.total == 100 and p.unit == "masks" for p in seen)
    assert seen[1].partial is not None
    assert seen[1].partial[0, 0] == 8


def test_a_partial_map_is_made_only_for_somebody() -> None:
    def fail() -> np.ndarray:
        raise AssertionError("nobody looks at it")

    Run().progress(1, 1, partial=fail)
    seen: list[Progress] = []
    Run(on_progress=seen.append, partials=False).progress(1, 1, partial=fail)
    assert seen == [Progress(1, 1, "rows", None)]


def test_the_budget_in_rows_and_seconds() -> None:
    clock = Clock()
    run = Run(max_seconds=2.0, max_rows=10, clock=clock)
    assert [run.exhausted(rows) for rows in (0, 9, 10, 11)] == [False, False, True, True]
    clock.now += 2.0
    assert run.exhausted(0)
    run.check()  # a budget is no deadline
    unlimited = Run(clock=clock)
    assert not unlimited.exhausted(10**9)
    unlimited.limit(None, 3)
    assert unlimited.exhausted(3)


def test_budget_left_is_the_nearer_of_deadline_and_budget() -> None:
    clock = Clock()
    assert Run(clock=clock).budget_left() == float("inf")
    assert Run(deadline=105.0, clock=clock).budget_left() == 5.0
    run = Run(deadline=105.0, max_seconds=3.0, clock=clock)
    assert run.budget_left() == 3.0
    clock.now = 200.0
    assert run.budget_left() == 0.0
