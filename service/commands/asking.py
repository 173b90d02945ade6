"""Who answers ``explain``: a model file in this process, or a server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from service.commands.inputs import Picture
from service.commands.rows import Columns
from service.types import ExplainRequest, ExplainResult, Progress

if TYPE_CHECKING:
    from service.client import Client
    from service.commands.opening import Opened

Report = Callable[[Progress], None]
PORTION = 8  # pictures that go through a program together


@dataclass(frozen=True)
class Method:
    """What the command line needs to know of a method.

    Attributes:
        parameters: names of its parameters.
        loops: whether it reports progress.
        needs_target: whether what it shows depends on a class.
    """

    name: str
    parameters: tuple[str, ...]
    loops: bool
    needs_target: bool = True


class Answerer(Protocol):
    """Explains requests."""

    name: str
    columns: Columns
    labels: tuple[str, ...]

    def method(self, name: str) -> Method:
        """The method ``name``.

        Raises:
            UnknownValue: with the nearest names.
        """

    def explain(self, request: ExplainRequest, pictures: Sequence[Picture], report: Report) -> ExplainResult:
        """The answer to ``request``, over ``pictures`` where there are any; blocks. Items carry their picture."""

    def portion(self, method: Method) -> int:
        """How many pictures to give at a time."""

    def cancel(self) -> None:
        """End what runs."""


class Here:
    """A file in this process."""

    def __init__(self, opened: Opened) -> None:
        """The loaded file."""
        from service.runtime.context import Run

        self._engine, self._new_run, self._run = opened.engine, Run, Run()
        self.name = opened.model.name
        self.columns = Columns({v.name: (v.dtype, v.shape) for v in opened.model.served.session.inputs})
        self.labels = opened.model.labels

    def method(self, name: str) -> Method:
        """From the registry."""
        from service.explainers.registry import find

        found = find(name)
        return Method(name, tuple(p.name for p in found.parameter_infos()), found.loops, found.needs_target)

    def explain(self, request: ExplainRequest, pictures: Sequence[Picture], report: Report) -> ExplainResult:
        """By the engine."""
        self._run = self._new_run(on_progress=report, partials=False)
        shown = tuple(p.pixels for p in pictures)
        return self._engine.explain(dataclasses.replace(request, images=shown), self._run)

    def portion(self, method: Method) -> int:
        """One where a method takes its time, so that its progress is seen."""
        return 1 if method.loops else PORTION

    def cancel(self) -> None:
        """Stop the run."""
        self._run.cancel()


class There:
    """A model on a server."""

    def __init__(self, client: Client, model: str) -> None:
        """Ask the server what the model takes.

        Raises:
            ServiceError: no such server or model.
        """
        self._client, self.name = client, model
        info = client.model(model)
        self.columns = Columns({v.name: (v.type, v.shape) for v in info.inputs})
        self.labels = tuple(info.labels)

    def method(self, name: str) -> Method:
        """From the server's list."""
        from graph_tools.errors import UnknownValue

        methods = {m.name: m for m in self._client.methods()}
        if name not in methods:
            raise UnknownValue("method", name, methods, f"Methods: {', '.join(sorted(methods))}")
        found = methods[name]
        return Method(name, tuple(p.name for p in found.parameters), found.reports_progress, found.needs_target)

    def explain(self, request: ExplainRequest, pictures: Sequence[Picture], report: Report) -> ExplainResult:
        """Over a stream, for its progress."""
        names = ("method", "parameters", "targets", "top_k", "seed", "max_seconds")
        stream = self._client.explain_stream(
            request.model,
            [p.pixels if p.data is None else p.data for p in pictures] or None,
            tensor=request.tensors or None,
            **{name: getattr(request, name) for name in names},
        )
        answer: ExplainResult | None = None
        for event in stream:
            if isinstance(event, Progress):
                report(event)
            else:
                answer = event
        assert answer is not None  # a stream without its result is an error
        shown = tuple(
            dataclasses.replace(item, original=pictures[n].pixels) if pictures else item
            for n, item in enumerate(answer.items)
        )
        return dataclasses.replace(answer, items=shown)

    def portion(self, method: Method) -> int:  # noqa: ARG002
        """One: a message has a largest size."""
        return 1

    def cancel(self) -> None:
        """Hang up; the server stops."""
        self._client.close()


def merged(results: Sequence[ExplainResult]) -> ExplainResult:
    """Several answers to parts of one call as one, without items: rows, seconds and notes of all."""
    first = results[0]
    spent = {f.name: sum(getattr(r.timing, f.name) for r in results) for f in dataclasses.fields(first.timing)}
    return dataclasses.replace(
        first,
        items=(),
        timing=dataclasses.replace(first.timing, **spent),
        notes=tuple(dict.fromkeys(note for r in results for note in r.notes)),
        truncated=any(r.truncated for r in results),
    )
