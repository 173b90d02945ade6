"""The core: one request over one model, from decoded fields to plain results. Knows no transport."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from graph_tools.errors import InvalidRequest, UnsupportedGradient
from service import resolve
from service.explainers.base import Batch, Explainable, Explainer, Explanation, Targets
from service.explainers.registry import EXPLAINERS, find
from service.models import images, resize
from service.models.loaded import LoadedModel
from service.models.repository import Repository
from service.runtime.context import Run
from service.types import (
    Array,
    Attribution,
    ExplainRequest,
    ExplainResult,
    ItemResult,
    ResolvedTarget,
    Score,
    Timing,
)

MOST_INPUTS = 256
MOST_PICTURES = 8  # images of the largest size that one call may hold: 0.8 GB


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
            obstacle = loaded.obstacle(explainer)
            found.append(MethodInfo(explainer, obstacle is None, str(obstacle or "")))
        return found

    def explain(self, request: ExplainRequest, run: Run) -> ExplainResult:
        """Answer one request.

        Raises:
            ExplainError: see :mod:`graph_tools.errors`.
        """
        explainer = find(request.method)
        try:
            return self._explain(request, explainer, run)
        except InvalidRequest as error:
            raise InvalidRequest(resolve.field_path(error.field, explainer, request), error.reason) from error

    def _explain(self, request: ExplainRequest, explainer: Explainer, run: Run) -> ExplainResult:
        started = time.perf_counter()
        parameters = explainer.make(request.parameters)
        run.limit(request.max_seconds, request.max_rows)
        model = self.repository.get(request.model, request.version)
        obstacle = model.obstacle(explainer, resolve.layer_named(parameters))
        if obstacle is not None:
            raise UnsupportedGradient(
                f"{request.method} cannot explain model {model.name!r}: {obstacle}",
                operator=getattr(obstacle, "operator", ""),
                node=getattr(obstacle, "node", ""),
            )
        begun = time.perf_counter()
        batch, items = self._batch(model, request)
        decoded = time.perf_counter()
        run.check()
        before = run.built, run.build_seconds
        # Where the file does not say how many classes there are, or −j means its own ranking and not the float graph's:
        first = explainer.needs_target and (model.classes is None or model.quantised)
        predicted = model.predict(batch, run) if first else None
        classes = model.classes or (_first(predicted).shape[1] if predicted else None)
        targets = resolve.targets_of(model, request, batch.rows, classes)
        if predicted and model.quantised:
            targets = _ranked(targets, _first(predicted))
        explanation = explainer.function(cast(Explainable, model), batch, targets, parameters, run)
        logits, probabilities = predicted or _predictions(model, batch, explanation, run)
        done = time.perf_counter()
        build = run.build_seconds - before[1]
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
                decode=decoded - begun,
                build=build,
                run=done - decoded - build,
                total=time.perf_counter() - started,
                rows=explanation.rows,
                built=run.built - before[0],
            ),
            notes=(
                *model.notes,
                *(model.image_notes if batch.image is not None else ()),
                *explanation.notes,
                *_odd_scores(_first((logits, probabilities))),
            ),
            truncated=explanation.truncated,
        )

    def _batch(self, model: LoadedModel, request: ExplainRequest) -> tuple[Batch, list[ItemResult]]:
        if bool(request.images) == bool(request.tensors):
            raise InvalidRequest("inputs", "give images, or the model's own tensors, and not both")
        if request.tensors:
            tensors = resolve.tensors(model, dict(request.tensors))
            return Batch(None, tensors), [ItemResult()] * len(next(iter(tensors.values())))
        if len(request.images) > MOST_INPUTS:
            raise InvalidRequest("inputs", f"{len(request.images)} images; at most {MOST_INPUTS} go into one call")
        size = model.input_size()
        assert model.image is not None
        others = [v.name for v in model.served.session.inputs if v.name != model.image.name]
        if others:
            raise InvalidRequest("inputs", f"the model takes {', '.join(others)} beside the image; send all as tensors")
        items, stack, pixels = [], [], 0
        for i, source in enumerate(request.images):
            field = f"inputs[{i}].{'image' if isinstance(source, bytes) else 'pixels'}"
            picture = images.decode(source, 3, field=field, max_pixels=self._max_pixels)
            pixels += picture.shape[0] * picture.shape[1]
            if pixels > MOST_PICTURES * self._max_pixels:
                most = MOST_PICTURES * self._max_pixels / 1e6
                raise InvalidRequest(
                    "inputs", f"the images have more than {most:g} megapixels in all; send fewer per call"
                )
            seen = picture if model.image.channels == 3 else images.grey(picture)
            fitted, geometry = resize.fit(seen, model.numbers, size)
            stack.append(fitted)
            items.append(ItemResult(geometry=geometry, image=fitted, original=picture))
        return Batch(np.stack(stack).astype(np.float32), {}), items


def _odd_scores(scores: Array) -> tuple[str, ...]:
    """The caveat for scores that are not finite."""
    odd = np.flatnonzero(~np.isfinite(scores).all(axis=1)).tolist()
    return (f"the model's scores are not finite for input {', '.join(map(str, odd))}",) if odd else ()


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
                f"the attribution for input {i} is not finite: an overflow or a division by zero inside the model; "
                "check the input's scale, or try another method"
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
