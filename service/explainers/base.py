"""What an explainer is given, what it returns, and the registry that a decorator fills.

An explainer is one module: a frozen dataclass of parameters and one function decorated with :func:`explainer`.
It sees a model through :class:`Explainable` and a :class:`RunContext`; it imports no transport and no runtime.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import onnx_ir as ir

from graph_tools.errors import InvalidRequest, UnknownValue
from service.types import Array, Attribution, ItemResult, LayerActivations

Kind = Literal["black-box", "white-box"]


class RunContext(Protocol):
    """Progress out, cancel and budget in. Looping explainers call :meth:`check` between steps."""

    def check(self) -> None:
        """Raise Cancelled or DeadlinePassed when the work is no longer wanted."""

    def progress(self, done: int, total: int, unit: str = "rows", partial: Callable[[], Array] | None = None) -> None:
        """Report progress; ``partial`` is called only when somebody will look at the map so far."""

    def exhausted(self, rows: int) -> bool:
        """True when the caller's budget (seconds or forward rows, ``rows`` spent so far) is used up."""


class Program(Protocol):
    """A compiled graph. ``run`` feeds named arrays and returns the named outputs."""

    def run(self, feeds: Mapping[str, Array], run: RunContext | None = None) -> dict[str, Array]:
        """Run once; splits the batch where it would not fit."""


@dataclass(frozen=True)
class Batch:
    """The inputs of one call.

    Attributes:
        image: float32 [N, H, W, C], grey levels 0–255, RGB or one grey channel; None for tensor inputs.
        tensors: the model's own inputs with batch axis; empty for images.
    """

    image: Array | None
    tensors: Mapping[str, Array]

    @property
    def rows(self) -> int:
        """N."""
        first = self.image if self.image is not None else next(iter(self.tensors.values()))
        return int(first.shape[0])


@dataclass(frozen=True)
class Targets:
    """Resolved targets of a batch.

    Attributes:
        index: int64 [N, K], class index; −j = the j-th strongest class of that row.
        minus: int64 [N, K], class subtracted; −1 = none.
        mixed: True where any ``minus`` is set.
    """

    index: Array
    minus: Array

    @property
    def mixed(self) -> bool:
        """Whether any target is a difference."""
        return bool((self.minus >= 0).any())


class Explainable(Protocol):
    """A loaded model, as explainers see it (implemented by service.models.loaded.LoadedModel)."""

    name: str
    digest: str
    rows: int | None
    """Rows that each run takes; None = any number."""

    @property
    def default_layer(self) -> str | None:
        """Value name of the layer CAM methods explain by default; None where no cut with space exists."""

    def program(
        self,
        method: str,
        structure: tuple[Any, ...],
        batch: Batch,
        build: Callable[[Graph], ir.Model],
        run: RunContext | None = None,
    ) -> Program:
        """The compiled program of this method, cached by (digest, method, structure, kind of input).

        Args:
            method: registry name.
            structure: parameters that change the graph (layer, K == 1, …); hashable.
            batch: the inputs: images enter in front of the preprocessing, tensors at the model's own input.
            build: called on a miss with the white-box graph; returns the program's graph (it may change in place).
            run: counts the build, and ends the wait for another call's build.

        Raises:
            UnsupportedModel, UnsupportedGradient: the model cannot be explained this way.
        """

    def scores(self, batch: Batch, score: str, run: RunContext | None = None) -> Array:
        """float32 [N, classes] of the served file. ``score``: ``logit`` or ``probability``."""

    def compose(
        self,
        method: str,
        structure: tuple[Any, ...],
        batch: Batch,
        build: Callable[[Graph], ir.Model],
        run: RunContext | None = None,
    ) -> Composer:
        """A black-box composer: its output rows go into the untouched file without leaving the device.

        ``build`` gets the preprocessing graph alone (for tensors: an identity) and puts masks in front of it;
        ``run`` is that of :meth:`program`.
        """

    def primary(self, batch: Batch) -> str:
        """Name of the input that is explained: ``image``, or the model's own float input for tensors."""

    def plane(self, batch: Batch) -> tuple[int, int | None]:
        """Axes (rows, columns) of the explained input over which patches slide; columns None for sequences."""

    def layer(self, name: str) -> str:
        """The value name meant by ``name`` ("" = the default layer).

        Raises:
            UnknownValue: no node of the model makes such a value; with the nearest names.
            InvalidRequest: no default layer in this model.
        """


@dataclass(frozen=True)
class Graph:
    """The white-box graph a program is built from: a fresh copy, free to be changed.

    Attributes:
        model: inputs: ``image`` or the model's own; outputs: the model's own.
        scores: name of the value [N, classes] with the class scores (logits where the file has them).
        entry: name of the input that is explained.
        image: whether ``entry`` is a float image [N, H, W, C].
        channels: channel axis by value name, where known (1 where not listed).
        plane: axes (rows, columns) of ``entry`` that are space; columns None for sequences.
        form: ``cpu`` or ``cuda``.
    """

    model: ir.Model
    scores: str
    entry: str
    image: bool
    channels: Mapping[str, int]
    plane: tuple[int, int | None]
    form: str


class Composer(Protocol):
    """Composer and served model as one call."""

    rows: int
    """Number of composed rows per call that keeps the model busy and every node short."""

    def scores(self, feeds: Mapping[str, Array], score: str, run: RunContext | None = None) -> Array:
        """float32 [rows, classes] for composed rows. ``score``: ``logit`` or ``probability``."""


@dataclass(frozen=True)
class Explanation:
    """What an explainer returns: per input of the batch, its attributions or activations."""

    attributions: tuple[tuple[Attribution, ...], ...] = ()
    activations: tuple[tuple[LayerActivations, ...], ...] = ()
    scores: Array | None = None  # float32 [N, classes] as the program computed them
    rows: int = 0
    truncated: bool = False
    notes: tuple[str, ...] = ()

    def item(self, i: int, base: ItemResult) -> ItemResult:
        """``base`` with the results of input ``i`` filled in."""
        return dataclasses.replace(
            base,
            attributions=self.attributions[i] if self.attributions else (),
            activations=self.activations[i] if self.activations else (),
        )


Function = Callable[[Explainable, Batch, Targets, Any, RunContext], Explanation]


def param(
    default: Any,
    help: str,  # noqa: A002
    *,
    ge: float | None = None,
    le: float | None = None,
    choices: tuple[str, ...] = (),
    unit: str = "",
    structural: bool = False,
) -> Any:
    """A dataclass field with what a user needs to know about it: range, choices, unit, one sentence."""
    meta = {"help": help, "ge": ge, "le": le, "choices": choices, "unit": unit, "structural": structural}
    if isinstance(default, list | tuple):
        return dataclasses.field(default_factory=lambda: tuple(default), metadata=meta)
    return dataclasses.field(default=default, metadata=meta)


@dataclass(frozen=True)
class ParameterInfo:
    """One parameter as ListMethods and ``--help`` show it. ``type`` is int, float, bool, str or list[str]…"""

    name: str
    type: str
    default: Any
    help: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    unit: str


@dataclass(frozen=True)
class Explainer:
    """A registered method."""

    name: str
    kind: Kind
    parameters: type[Any]
    function: Function
    summary: str
    loops: bool  # reports progress and partial maps
    needs_layer: bool
    needs_target: bool

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.parameters)

    def parameter_infos(self) -> list[ParameterInfo]:
        """Parameters in declaration order."""
        hints = self._hints
        return [
            ParameterInfo(
                f.name, _type_name(hints[f.name]), _default(f), f.metadata["help"], f.metadata["ge"],
                f.metadata["le"], f.metadata["choices"], f.metadata["unit"],
            )
            for f in dataclasses.fields(self.parameters)
        ]  # fmt: skip

    def make(self, given: Mapping[str, Any]) -> Any:
        """The parameter dataclass with defaults filled in.

        Raises:
            InvalidRequest: unknown name, wrong type, outside the range; the field is ``<method>.<name>``.
        """
        fields = {f.name: f for f in dataclasses.fields(self.parameters)}
        hints = self._hints
        for name in given:
            if name not in fields:
                raise InvalidRequest(f"{self.name}.{name}", f"no such parameter; it has {', '.join(fields) or 'none'}")
        values = {
            name: _checked(f"{self.name}.{name}", value, hints[name], fields[name].metadata)
            for name, value in given.items()
        }
        return self.parameters(**values)


EXPLAINERS: dict[str, Explainer] = {}


def explainer(
    name: str,
    parameters: type[Any],
    *,
    kind: Kind,
    loops: bool = False,
    needs_layer: bool = False,
    needs_target: bool = True,
) -> Callable[[Function], Function]:
    """Register the decorated function as method ``name``; its docstring's first line is the summary."""

    def register(function: Function) -> Function:
        if name in EXPLAINERS:
            raise ValueError(f"method {name!r} is registered twice")
        summary = (function.__doc__ or "").strip().splitlines()[0]
        EXPLAINERS[name] = Explainer(name, kind, parameters, function, summary, loops, needs_layer, needs_target)
        return function

    return register


def find(name: str) -> Explainer:
    """The method ``name``.

    Raises:
        UnknownValue: with the nearest names.
    """
    if name not in EXPLAINERS:
        raise UnknownValue("method", name, EXPLAINERS, f"Methods: {', '.join(sorted(EXPLAINERS))}")
    return EXPLAINERS[name]


def _default(f: dataclasses.Field[Any]) -> Any:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return f.default


def _type_name(hint: Any) -> str:
    args = [a for a in typing.get_args(hint) if a is not type(None) and a is not Ellipsis]
    if typing.get_origin(hint) is tuple:
        return f"list[{_type_name(args[0])}]"
    if isinstance(hint, types.UnionType):
        return _type_name(args[0])
    return str(hint.__name__)


def _checked(path: str, value: Any, hint: Any, meta: Mapping[str, Any]) -> Any:
    if value is None and isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint):
        return None
    if isinstance(hint, types.UnionType):
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
    if typing.get_origin(hint) is tuple:
        items = value.split(",") if isinstance(value, str) else list(value) if np.iterable(value) else [value]
        inner = typing.get_args(hint)[0]
        return tuple(_checked(f"{path}[{i}]", v, inner, meta) for i, v in enumerate(items) if v != "")
    value = _convert(path, value, hint)
    if meta["choices"] and value not in meta["choices"]:
        raise InvalidRequest(path, f"{value!r} is not one of {', '.join(meta['choices'])}")
    low, high = meta["ge"], meta["le"]
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"{low} to {high}" if low is not None else f"at most {high}"
        raise InvalidRequest(path, f"{value} is out of range: {bounds}{' ' + meta['unit'] if meta['unit'] else ''}")
    return value


def _convert(path: str, value: Any, hint: type) -> Any:
    """``value`` as ``hint``; text is parsed (command line), numbers are not silently truncated."""
    if hint is bool:
        if isinstance(value, str) and value.lower() in ("true", "1", "yes", "false", "0", "no"):
            return value.lower() in ("true", "1", "yes")
        if isinstance(value, bool | np.bool_):
            return bool(value)
    elif hint is str and isinstance(value, str):
        return value
    elif hint in (int, float) and not isinstance(value, bool):
        try:
            number = hint(value) if isinstance(value, str) else value
            if hint is float and math.isfinite(number):
                return float(number)
            if hint is int and int(number) == number:
                return int(number)
        except (TypeError, ValueError, OverflowError):
            pass
    raise InvalidRequest(
        path,
        f"{value!r} is not {'an' if hint is int else 'a finite' if hint is float else 'a'} {hint.__name__}",
    )
