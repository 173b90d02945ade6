"""The program cache: least recently used out first, one build per key, failures not kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from graph_tools.errors import Cancelled, UnsupportedModel
from service.runtime import programs
from service.runtime.context import Run
from service.runtime.programs import ProgramCache

PATIENCE = 30.0


@dataclass(frozen=True)
class Program:
    name: str
    nbytes: int = 10


def making(name: str, nbytes: int = 10) -> Callable[[], Program]:
    return lambda: Program(name, nbytes)


def never() -> Program:
    raise AssertionError("it is in the cache")


class Watched(Run):
    """A run that tells when it was asked whether it is still wanted: its thread is waiting then."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def check(self) -> None:
        self.waiting.set()
        super().check()


def test_a_second_request_builds_nothing() -> None:
    cache, run = ProgramCache[Program](100), Run()
    first = cache.get(("digest", "saliency"), making("a"), run)
    assert cache.get(("digest", "saliency"), never, run) is first
    assert (cache.built, cache.hits, run.built, len(cache), cache.bytes) == (1, 1, 1, 1, 10)


def test_a_build_inside_another_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, run = ProgramCache[Program](100), Run()
    ticks = iter([0.0, 1.0, 3.0, 10.0])  # outer begins, inner begins, inner ends, outer ends
    monkeypatch.setattr(programs.time, "perf_counter", lambda: next(ticks))
    cache.get("outer", lambda: cache.get("inner", making("a"), run), run)
    assert (run.built, run.build_seconds) == (2, 10.0)
    cache.get("outer", never, run)
    assert (run.built, run.build_seconds) == (2, 10.0)


def test_the_least_recently_used_go_when_bytes_run_out() -> None:
    cache = ProgramCache[Program](30)
    for name in "abc":
        cache.get(name, making(name))
    cache.get("a", never)
    cache.get("d", making("d", 15))  # 45 bytes: b and c have to go
    assert (cache.evicted, cache.bytes, len(cache)) == (2, 25, 2)
    cache.get("a", never)
    cache.get("d", never)
    cache.get("b", making("b again", 5))
    assert (cache.built, cache.evicted, cache.bytes) == (5, 2, 30)


def test_one_program_above_the_limit_is_kept_until_the_next() -> None:
    cache = ProgramCache[Program](30)
    cache.get("small", making("small"))
    big = cache.get("big", making("big", 1000))
    assert cache.get("big", never) is big
    assert (len(cache), cache.bytes, cache.evicted) == (1, 1000, 1)
    cache.get("small", making("small"))
    assert (len(cache), cache.bytes, cache.evicted) == (1, 10, 2)


def test_threads_that_ask_together_share_one_build() -> None:
    cache = ProgramCache[Program](100)
    barrier, builds = threading.Barrier(16), list[int]()

    def ask(_: int) -> Program:
        barrier.wait(PATIENCE)
        return cache.get("key", lambda: builds.append(1) or Program("one"))  # type: ignore[func-returns-value]

    with ThreadPoolExecutor(16) as pool:
        programs = list(pool.map(ask, range(16)))
    assert len(builds) == cache.built == 1
    assert cache.hits == 15
    assert all(program is programs[0] for program in programs)


def waiters(
    cache: ProgramCache[Program], pool: ThreadPoolExecutor, build: Callable[[], Program], runs: list[Watched]
) -> list[object]:
    """Threads that ask while another builds; returns once all of them are waiting."""
    futures = [pool.submit(cache.get, "key", build, run) for run in runs]
    for run in runs:
        assert run.waiting.wait(PATIENCE)
    return list(futures)


def test_a_failed_build_reaches_all_who_wait_and_is_not_kept() -> None:
    cache = ProgramCache[Program](100)
    started, fail = threading.Event(), threading.Event()

    def failing() -> Program:
        started.set()
        assert fail.wait(PATIENCE)
        raise UnsupportedModel("no gradient here")

    with ThreadPoolExecutor(5) as pool:
        builder = pool.submit(cache.get, "key", failing)
        assert started.wait(PATIENCE)
        others = waiters(cache, pool, never, [Watched() for _ in range(4)])
        fail.set()
        for future in [builder, *others]:
            with pytest.raises(UnsupportedModel, match="no gradient here"):
                future.result(PATIENCE)  # type: ignore[attr-defined]
    assert (cache.built, cache.bytes, len(cache)) == (0, 0, 0)
    assert cache.get("key", making("second try")).name == "second try"


def test_a_waiter_takes_over_when_the_builder_was_cancelled() -> None:
    cache = ProgramCache[Program](100)
    started, end = threading.Event(), threading.Event()

    def cancelled() -> Program:
        started.set()
        assert end.wait(PATIENCE)
        raise Cancelled("its caller went away")

    with ThreadPoolExecutor(3) as pool:
        builder = pool.submit(cache.get, "key", cancelled)
        assert started.wait(PATIENCE)
        others = waiters(cache, pool, making("taken over"), [Watched(), Watched()])
        end.set()
        with pytest.raises(Cancelled):
            builder.result(PATIENCE)
        assert [f.result(PATIENCE).name for f in others] == ["taken over"] * 2  # type: ignore[attr-defined]
    assert cache.built == 1


def test_a_cancelled_waiter_does_not_wait_on() -> None:
    cache = ProgramCache[Program](100)
    started, end = threading.Event(), threading.Event()

    def slow() -> Program:
        started.set()
        assert end.wait(PATIENCE)
        return Program("slow")

    with ThreadPoolExecutor(2) as pool:
        builder = pool.submit(cache.get, "key", slow)
        assert started.wait(PATIENCE)
        run = Watched()
        [other] = waiters(cache, pool, never, [run])
        run.cancel()
        with pytest.raises(Cancelled):
            other.result(PATIENCE)  # type: ignore[attr-defined]
        end.set()
        assert builder.result(PATIENCE).name == "slow"


def test_a_build_may_ask_for_other_programs() -> None:
    cache = ProgramCache[Program](100)
    outer = cache.get("outer", lambda: Program("outer of " + cache.get("inner", making("inner")).name))
    assert outer.name == "outer of inner"
    assert cache.built == 2


def test_programs_of_an_unloaded_model_are_discarded() -> None:
    cache = ProgramCache[Program](100)
    for key in (("a", 1), ("a", 2), ("b", 1)):
        cache.get(key, making(str(key)))
    assert cache.discard(lambda key: isinstance(key, tuple) and key[0] == "a") == 2
    assert (len(cache), cache.bytes, cache.evicted) == (1, 10, 0)
