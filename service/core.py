"""The core: one request over one model, from decoded fields to plain results. Knows no transport."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graph_tools.errors import InvalidRequest, UnsupportedGradient
from service.explainers.base import Batch, Explainer, Explanation, Targets
from service.explainers.registry import EXPLAINERS, find
from service.models import images, resize
from service.models.labels import match
from service.models.loaded import LoadedModel
from service.models.repository import Repository
from service.models.served import check_finite
from service.runtime.context import Run
from service.types import (
    Array,
    Attribution,
    ExplainRequest,
    ExplainResult,
    ItemResult,
    ResolvedTarget,
    Score,
    Selector,
    Target,
    Timing,
)

MOST_INPUTS = 256
MOST_TARGETS = 100


@dataclass(frozen=True)
class MethodInfo:
    """A method, and whether a certain model can be explained by it."""

    explainer: Explainer
    supported: bool
    why_not: str


class Engine:
    """Explanations over the models of a repository. Thread-safe; every call blocks."""

    def __init__(self, repository: Repository, *, max_pixels: int = 32_000_000) -> None:
        """``max_pixels``: largest image that is decoded."""
        self.repository, self._max_pixels = repository, max_pixels

    def methods(self, model: str = "", version: str = "") -> list[MethodInfo]:
        """All methods; with a model, whether each works on it and why not."""
        if not model:
            return [MethodInfo(e, True, "") for e in EXPLAINERS.values()]
        loaded = self.repository.get(model, version)
        found = []
        for explainer in EXPLAINERS.values():
            why = loaded.supports(explainer)
            found.append(MethodInfo(explainer, not why, why))
        return found

    def explain(self, request: ExplainRequest, run: Run) -> ExplainResult:
        """Answer one request.

        Raises:
            ExplainError: see :mod:`graph_tools.errors`.
        """
        started = time.perf_counter()
        explainer = find(request.method)
        parameters = explainer.make(request.parameters)
        run.limit(request.max_seconds, request.max_rows)
        model = self.repository.get(request.model, request.version)
        why = model.supports(explainer, getattr(parameters, "layer", ""))
        if why:
            raise UnsupportedGradient(f"{request.method} cannot explain model {model.name!r}: {why}")
        batch, items = self._batch(model, request)
        decoded = time.perf_counter()
        targets = _targets(model, request, batch.rows)
        run.check()
        predicted: tuple[Array | None, Array | None] | None = None
        if model.quantised and explainer.needs_target and (targets.index < 0).any():
            predicted = model.predict(batch, run)  # −j means the served file's ranking, not the float graph's
            targets = _ranked(targets, _first(predicted))
        built = run.built
        explanation = explainer.function(model, batch, targets, parameters, run)
        logits, probabilities = predicted or _predictions(model, batch, explanation, run)
        done = time.perf_counter()
        results = tuple(
            _item(model, explanation, i, item, logits, probabilities, request.top_k) for i, item in enumerate(items)
        )
        return ExplainResult(
            model=model.name,
            version=model.version,
            digest=model.digest,
            method=request.method,
            parameters={f.name: getattr(parameters, f.name) for f in dataclasses.fields(parameters)},
            provider=model.provider,
            seed=request.seed,
            items=results,
            timing=Timing(
                decode=decoded - started,
                run=done - decoded,
                total=time.perf_counter() - started,
                rows=explanation.rows,
                built=run.built - built,
            ),
            notes=(*model.notes, *explanation.notes),
            truncated=explanation.truncated,
        )

    def _batch(self, model: LoadedModel, request: ExplainRequest) -> tuple[Batch, list[ItemResult]]:
        if bool(request.images) == bool(request.tensors):
            raise InvalidRequest("inputs", "give images, or the model's own tensors, and not both")
        if request.tensors:
            tensors = _tensors(model, dict(request.tensors))
            return Batch(None, tensors), [ItemResult()] * len(next(iter(tensors.values())))
        if len(request.images) > MOST_INPUTS:
            raise InvalidRequest("inputs", f"{len(request.images)} images; at most {MOST_INPUTS} go into one call")
        size = model.input_size()
        assert model.image is not None
        items, stack = [], []
        for i, source in enumerate(request.images):
            field = f"inputs[{i}].image"
            picture = images.decode(source, 3, field=field, max_pixels=self._max_pixels, extra=True)
            seen = picture if model.image.channels == 3 else images.grey(picture)
            fitted, geometry = resize.fit(seen, model.numbers, size)
            stack.append(fitted)
            items.append(ItemResult(geometry=geometry, image=fitted, original=picture))
        return Batch(np.stack(stack).astype(np.float32), {}), items


def _tensors(model: LoadedModel, given: dict[str, Array]) -> dict[str, Array]:
    """The model's own inputs, checked against the session's names, dtypes and shapes."""
    inputs = {v.name: v for v in model.served.session.inputs}
    if list(given) == [""]:
        given = {model.primary_input: given[""]}
    for name in given:
        if name not in inputs:
            raise InvalidRequest(f"inputs[{name}]", f"no such input; the model takes {', '.join(inputs)}")
    missing = [n for n in inputs if n not in given]
    if missing:
        raise InvalidRequest("inputs", f"input {missing[0]!r} is missing")
    checked = {}
    for name, array in given.items():
        want = inputs[name]
        if str(array.dtype) != want.dtype:
            same_kind = array.dtype.kind == "f" and want.dtype.startswith("float")
            if not same_kind:
                raise InvalidRequest(f"inputs[{name}]", f"is {array.dtype}, but the model takes {want.dtype}")
            array = array.astype(want.dtype)
        fits = len(array.shape) == len(want.shape) and all(
            not isinstance(w, int) or w == s for w, s in list(zip(want.shape, array.shape, strict=True))[1:]
        )
        if not fits or not array.size:
            shown = ", ".join(str(d or "?") for d in want.shape)
            raise InvalidRequest(f"inputs[{name}]", f"has shape {list(array.shape)}, but the model takes [{shown}]")
        check_finite(f"inputs[{name}]", array)
        checked[name] = np.ascontiguousarray(array)
    rows = {len(a) for a in checked.values()}
    if len(rows) > 1:
        raise InvalidRequest("inputs", f"the inputs disagree on the number of rows: {sorted(rows)}")
    return checked


def _targets(model: LoadedModel, request: ExplainRequest, rows: int) -> Targets:
    """Every target for every row; ranks stay ranks (−j)."""
    asked = request.targets or (Target(),)
    if len(asked) > MOST_TARGETS:
        raise InvalidRequest("targets", f"{len(asked)} targets; at most {MOST_TARGETS} go into one call")
    index, minus = [], []
    for i, target in enumerate(asked):
        if target.output and target.output != model.tail.output:
            raise InvalidRequest(
                f"targets[{i}].output",
                f"{target.output!r} is not explained; the model card names {model.tail.output!r}",
            )
        index.append(_class(model, target.select, f"targets[{i}]"))
        minus.append(-1 if target.minus is None else _class(model, target.minus, f"targets[{i}].minus"))
        if target.minus is not None and minus[-1] < 0:
            raise InvalidRequest(f"targets[{i}].minus", "name a class or its index")
    shape = (rows, len(index))
    return Targets(np.broadcast_to(np.array(index, np.int64), shape).copy(),
                   np.broadcast_to(np.array(minus, np.int64), shape).copy())  # fmt: skip


def _class(model: LoadedModel, select: Selector, field: str) -> int:
    """Class index, or −rank."""
    classes = model.classes or len(model.labels) or None
    if select.name is not None:
        if not model.labels:
            raise InvalidRequest(field, "this model has no labels; give a class index, or labels in the model card")
        return match(model.labels, select.name)
    if select.index is not None:
        if select.index < 0 or (classes is not None and select.index >= classes):
            raise InvalidRequest(field, f"class {select.index} is out of range: 0 to {(classes or 1) - 1}")
        return select.index
    rank = select.rank or 1
    if rank < 1 or (classes is not None and rank > classes):
        raise InvalidRequest(field, f"rank {rank} is out of range: 1 to {classes}")
    return -rank


def _first(predicted: tuple[Array | None, Array | None]) -> Array:
    scores = predicted[0] if predicted[0] is not None else predicted[1]
    assert scores is not None
    return scores


def _ranked(targets: Targets, scores: Array) -> Targets:
    """−j -> the class with the j-th highest score of that row."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(order, np.maximum(-targets.index - 1, 0), axis=1)
    return Targets(np.where(targets.index < 0, ranked, targets.index), targets.minus)


def _predictions(
    model: LoadedModel, batch: Batch, explanation: Explanation, run: Run
) -> tuple[Array | None, Array | None]:
    """(logits, probabilities): from the program where it computed them, else from the served file."""
    if explanation.scores is not None and not model.quantised and model.tail.kind != "probabilities":
        return explanation.scores, model.tail.probabilities(explanation.scores, None)
    return model.predict(batch, run)


def _item(
    model: LoadedModel,
    explanation: Explanation,
    i: int,
    base: ItemResult,
    logits: Array | None,
    probabilities: Array | None,
    top_k: int,
) -> ItemResult:
    item = explanation.item(i, base)
    named = tuple(dataclasses.replace(a, target=_labelled(model, a)) for a in item.attributions)
    for a in named:
        if not np.isfinite(a.values).all():
            raise UnsupportedGradient(
                "the attribution is not finite (overflow, or a division by zero inside the model); try occlusion"
            )
    ranking = logits if logits is not None else probabilities
    return dataclasses.replace(
        item, attributions=named, predictions=_top(model, i, ranking, logits, probabilities, top_k)
    )


def _labelled(model: LoadedModel, attribution: Attribution) -> ResolvedTarget:
    t = attribution.target
    minus = "" if t.minus_index is None else model.label(t.minus_index)
    return dataclasses.replace(t, label=model.label(t.index), minus_label=minus)


def _top(
    model: LoadedModel,
    i: int,
    ranking: Array | None,
    logits: Array | None,
    probabilities: Array | None,
    top_k: int,
) -> tuple[Score, ...]:
    if ranking is None or top_k <= 0:
        return ()
    order: Sequence[int] = np.argsort(-ranking[i], kind="stable")[:top_k].tolist()
    return tuple(
        Score(
            c,
            model.label(c),
            None if logits is None else float(logits[i, c]),
            None if probabilities is None else float(probabilities[i, c]),
        )
        for c in order
    )
