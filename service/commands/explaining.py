"""The work behind ``explain``: read, explain in portions, write, report."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import typer

from graph_tools.errors import InvalidRequest
from service.commands import outputs, parsing, report
from service.commands.asking import Answerer, Here, Method, There, merged
from service.commands.console import Meter, complain, note, say, stdout, watch
from service.commands.group import WRONG
from service.commands.inputs import Input, Picture, read_inputs
from service.types import ExplainRequest, ExplainResult, ItemResult, Progress

_LAST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Order:
    """The command line of ``explain``, as it came."""

    model: str
    inputs: tuple[str, ...]
    method: str
    targets: tuple[str, ...] = ()
    minus: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    card: Path | None = None
    preset: str | None = None
    top_k: int = 5
    seed: int = 0
    max_seconds: float | None = None
    provider: str = "auto"
    threads: int = 0
    server: str | None = None


@dataclass
class Work:
    """What a call has come to.

    Attributes:
        answers: one per portion.
        single: the only input's name and result; None where there are several.
        lines: a line per input, where there are several.
        failed: inputs that could not be read.
    """

    answers: list[ExplainResult] = field(default_factory=list)
    single: tuple[str, ItemResult] | None = None
    lines: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)


def run(order: Order) -> None:
    """Do it all; prints as it goes.

    Raises:
        ExplainError, ServiceError: with what is wrong.
        Exit: some of several inputs could not be read.
    """
    started = time.perf_counter()
    with _answerer(order) as (answerer, card):
        method = answerer.method(order.method)
        given = read_inputs(order.inputs, answerer.columns)
        request = _request(order, answerer, method)
        sinks = outputs.plan(order.outputs, [n for i in given for n in i.names()], method.name, _used(order, given))
        with _options():
            work = watch(
                lambda meter: _explain(answerer, method, request, given, sinks, meter),
                f"{method.name} on {answerer.name}",
                answerer.cancel,
            )
    _print(work, card, time.perf_counter() - started)
    if work.failed:
        raise typer.Exit(WRONG)


@contextlib.contextmanager
def _answerer(order: Order) -> Iterator[tuple[Answerer, Path | None]]:
    """Who answers, and the model card in use."""
    if order.server is None:
        from service.commands.opening import open_model

        opened = watch(
            lambda _: open_model(
                Path(order.model), order.card, order.preset, provider=order.provider, threads=order.threads
            ),
            f"loading {Path(order.model).name}",
        )
        yield Here(opened), opened.card
        return
    for name, value in (("--card", order.card), ("--preset", order.preset)):
        if value is not None:
            raise InvalidRequest(name, "belongs to the server's models folder; it cannot be given with --server")
    from service.client import Client

    with Client(order.server) as client:
        yield watch(lambda _: There(client, order.model), f"asking {order.server}", client.close), None


@contextlib.contextmanager
def _options() -> Iterator[None]:
    """The request's ``targets[0]`` is this command's ``--target``."""
    try:
        yield
    except Exception as error:
        path = getattr(error, "field", "")  # of an InvalidRequest, or of the server's
        if not path.startswith(("targets[", "request.targets[")):
            raise
        option = "--minus" if ".minus" in path else "--target"
        message = getattr(error, "message", str(error))
        raise InvalidRequest(option, message.removeprefix(f"{path}: ")) from error


def _request(order: Order, answerer: Answerer, method: Method) -> ExplainRequest:
    if order.max_seconds is not None and not order.max_seconds > 0:
        raise InvalidRequest("--max-seconds", f"{order.max_seconds:g} is out of range: more than 0")
    if not 0 <= order.seed <= _LAST_SEED:
        raise InvalidRequest("--seed", f"{order.seed} is out of range: 0 to 2^63 - 1")
    settings = parsing.parameters(method, order.layers, order.settings)
    if method.name == "activations" and any(o.lower().endswith(".npy") for o in order.outputs):
        settings.setdefault("channels", "0")  # raw means all of them, in their own order
    return ExplainRequest(
        answerer.name,
        method.name,
        parameters=settings,
        targets=parsing.targets(method, order.targets, order.minus, answerer.labels),
        top_k=order.top_k,
        seed=order.seed,
        max_seconds=order.max_seconds,
    )


def _used(order: Order, given: list[Input]) -> list[Path]:
    return [i.path for i in given] + ([Path(order.model)] if order.server is None else [])


def _explain(
    answerer: Answerer,
    method: Method,
    request: ExplainRequest,
    given: list[Input],
    sinks: list[outputs.Sink],
    meter: Meter,
) -> Work:
    """Portion by portion: explain, write."""
    work, total, done = Work(), sum(i.rows for i in given), 0
    for part in _portions(given, answerer.portion(method)):
        rows = sum(i.rows for i in part)
        step = _Step(meter, f"{method.name}: {part[0].path.name}", done, rows, total)
        step(Progress(0, 1))
        named, pictures = _pictures(part, work, several=len(given) > 1)
        done += rows
        if not named:
            continue
        answer = answerer.explain(dataclasses.replace(request, tensors=named[0].tensors), pictures, step)
        names = [n for i in named for n in i.names()]
        for name, item in zip(names, answer.items, strict=True):
            for sink in sinks:
                sink.add(name, item, answer)
            work.lines.append(" · ".join(report.summary(name, item)))
            work.single = (name, item) if total == 1 else None
        work.answers.append(dataclasses.replace(answer, items=()))
    work.written = [path for sink in sinks for path in sink.close()] if work.answers else []
    return work


@dataclass(frozen=True)
class _Step:
    """Progress of one portion as progress of the call: ``rows`` of ``total``, after ``done``."""

    meter: Meter
    text: str
    done: int
    rows: int
    total: int

    def __call__(self, p: Progress) -> None:
        done = self.done + self.rows * p.done / max(p.total, 1)
        self.meter.at(self.text, done, self.total if done else 0)


def _portions(given: list[Input], size: int) -> Iterator[list[Input]]:
    """Pictures by ``size``, tensor files one at a time."""
    part: list[Input] = []
    for one in given:
        if part and (one.tensors or len(part) == size):
            yield part
            part = []
        if one.tensors:
            yield [one]
        else:
            part.append(one)
    if part:
        yield part


def _pictures(part: list[Input], work: Work, *, several: bool) -> tuple[list[Input], list[Picture]]:
    """The inputs that can be read; of several, those that cannot are told and left out."""
    named, pictures = [], []
    for one in part:
        try:
            if not one.tensors:
                pictures.append(one.picture())
            named.append(one)
        except InvalidRequest as error:
            if not several:
                raise
            work.failed.append(str(error))
    return named, pictures


def _print(work: Work, card: Path | None, seconds: float) -> None:
    for failure in work.failed:
        complain(failure)
    if not work.answers:
        return
    whole = merged(work.answers)
    if work.single is not None:
        name, item = work.single
        if item.predictions:
            stdout().print(report.predictions(item, name))
        for line in report.lines(item):
            say(line)
    else:
        for line in work.lines:
            say(line)
    say(report.footing(whole, seconds) + (f", card {card.name}" if card else ""), "dim")
    for text in whole.notes:
        note(text)
    if whole.truncated:
        note("the time was up: this is the best result so far")
    shown = work.written if len(work.written) <= 3 else []
    for path in shown:
        say(f"wrote {path}", "green")
    if len(work.written) > 3:
        say(f"wrote {len(work.written)} files, {work.written[0]} to {work.written[-1]}", "green")
