"""Occlusion: cover part of the input, watch the target's score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graph_tools import model as models
from graph_tools.emit import Emitter, rank
from graph_tools.errors import InvalidRequest
from service.explainers.base import (
    Batch,
    Explainable,
    Explanation,
    Graph,
    RunContext,
    Targets,
    explainer,
    param,
)
from service.explainers.baselines import BASELINES, baseline
from service.types import Array, Attribution, ResolvedTarget


@dataclass(frozen=True)
class Occlusion:
    """Parameters of occlusion sensitivity.

    Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 4.1. The attribution of a
    position is the mean of f(x) − f(x with the patch replaced by the baseline) over all patches that cover it.
    """

    patch: tuple[int, ...] = param(
        (),
        "height and width of the patch (one number: square); empty = a seventh of the short side",
        ge=1,
        unit="pixels",
    )
    stride: tuple[int, ...] = param(
        (), "step down and across, at most the patch; empty = half the patch", ge=1, unit="pixels"
    )
    baseline: str = param("grey", "what covers the patch", choices=BASELINES)
    value: float = param(0.0, "the baseline's level with baseline=value (0-255 for images)")
    score: str = param("logit", "what is watched", choices=("logit", "probability"))


@explainer("occlusion", Occlusion, kind="black-box", loops=True)
def occlusion(model: Explainable, batch: Batch, targets: Targets, params: Occlusion, run: RunContext) -> Explanation:
    """How much the target's score falls when a patch of the input is covered, averaged over overlapping patches.

    Units: logit or probability, as ``score`` says; negative = covering it helps the target.
    """
    entry = model.primary(batch)
    x = batch.image if batch.image is not None else batch.tensors[entry]
    rows_axis, cols_axis = model.plane(batch)
    size = (x.shape[rows_axis], 1 if cols_axis is None else x.shape[cols_axis])
    patch, stride = _grid(params, size, cols_axis is not None)
    composer = model.compose(
        "occlusion", (rows_axis, cols_axis), batch, lambda graph: _composer(graph, rows_axis, cols_axis), run
    )
    clean = model.scores(batch, params.score, run)
    index = _resolve(targets.index, clean)
    windows = list(_windows(size, patch, stride))
    total, spent, found, truncated = len(windows) * batch.rows, batch.rows, [], False
    for n in range(batch.rows):
        drops = _Drops(size, clean[n], index[n], targets.minus[n])
        feeds = _feeds(batch, n, entry, params)
        for chunk in _chunks(windows, composer.rows):
            run.check()
            if run.exhausted(spent):
                truncated = True
                break
            drops.add(chunk, composer.scores({**feeds, "boxes": np.array(chunk, np.int64)}, params.score, run))
            spent += len(chunk)
            run.progress(spent - batch.rows, total, "windows", lambda d=drops: d.maps()[0])  # type: ignore[misc]
        found.append(drops.attributions())
    return Explanation(tuple(found), scores=clean if params.score == "logit" else None, rows=spent, truncated=truncated)


class _Drops:
    """Mean drop of the targets' scores per position, from boxes by two-dimensional prefix sums."""

    def __init__(self, size: tuple[int, int], clean: Array, index: Array, minus: Array) -> None:
        self._index, self._minus, self._clean = index, minus, clean.astype(np.float64)
        self._sums = np.zeros((len(index), size[0] + 1, size[1] + 1))
        self._cover = np.zeros((size[0] + 1, size[1] + 1))

    @np.errstate(invalid="ignore")  # scores that are not finite: the core tells
    def add(self, boxes: list[tuple[int, int, int, int]], scores: Array) -> None:
        drop = self._target(self._clean[None]) - self._target(scores.astype(np.float64))  # [boxes, K]
        for (top, left, bottom, right), d in zip(boxes, drop, strict=True):
            for grid, amount in ((self._sums, d), (self._cover, 1.0)):
                grid[..., top, left] += amount
                grid[..., bottom, right] += amount
                grid[..., top, right] -= amount
                grid[..., bottom, left] -= amount

    @np.errstate(invalid="ignore")
    def maps(self) -> Array:
        """float32 [K, H, W]; 0 where no patch has been yet."""
        sums, cover = (g.cumsum(-1).cumsum(-2)[..., :-1, :-1] for g in (self._sums, self._cover))
        return np.asarray(np.where(cover > 0.5, sums / np.maximum(cover, 1.0), 0.0), dtype=np.float32)

    def attributions(self) -> tuple[Attribution, ...]:
        values = self._target(self._clean[None])[0]
        return tuple(
            Attribution(
                m if m.shape[1] > 1 or self._sums.shape[2] > 2 else m[:, 0],
                ResolvedTarget(int(i), "", int(j) if j >= 0 else None, "", float(v)),
                signed=True,
            )
            for m, i, j, v in zip(self.maps(), self._index, self._minus, values, strict=True)
        )

    def _target(self, scores: Array) -> Array:
        """[rows, classes] -> [rows, K]: score of the class, less that of the class subtracted."""
        value = scores[:, self._index]
        against = np.where(self._minus >= 0, scores[:, np.maximum(self._minus, 0)], 0.0)
        return np.asarray(value - against)


def _resolve(index: Array, scores: Array) -> Array:
    """−j -> the class with the j-th highest score of that row."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(order, np.clip(-index - 1, 0, scores.shape[1] - 1), axis=1)
    return np.asarray(np.where(index < 0, ranked, index))


def _grid(params: Occlusion, size: tuple[int, int], plane: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """Patch and stride as pairs, defaults filled in and checked."""
    for name in ("patch", "stride"):
        if len(getattr(params, name)) > 2:
            raise InvalidRequest(f"occlusion.{name}", "give one number, or height and width")
    short = min(size) if plane else size[0]
    patch = _pair(params.patch, max(1, round(short / 7)), plane)
    for p, s, axis in zip(patch, size, ("high", "wide"), strict=True):
        if p > s:
            raise InvalidRequest("occlusion.patch", f"the patch is {p} {axis}, but the input only {s}")
    default = tuple(max(1, p // 2) for p in patch)
    stride = _pair(params.stride, None, plane) if params.stride else (default[0], default[1])
    if stride[0] > patch[0] or stride[1] > patch[1]:
        raise InvalidRequest(
            "occlusion.stride", f"{stride} is more than the patch {patch}: some pixels would never be covered"
        )
    return patch, stride


def _pair(given: tuple[int, ...], default: int | None, plane: bool) -> tuple[int, int]:
    first = given[0] if given else default or 1
    second = given[1] if len(given) > 1 else first
    return first, second if plane else 1


def _windows(
    size: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int]
) -> Iterator[tuple[int, int, int, int]]:
    """(top, left, bottom, right) of every patch; the last ones are clipped at the border."""
    counts = [1 + -(-(s - p) // t) for s, p, t in zip(size, patch, stride, strict=True)]
    for i in range(counts[0]):
        for j in range(counts[1]):
            top, left = i * stride[0], j * stride[1]
            yield top, left, min(top + patch[0], size[0]), min(left + patch[1], size[1])


def _chunks(windows: list[tuple[int, int, int, int]], rows: int) -> Iterator[list[tuple[int, int, int, int]]]:
    for start in range(0, len(windows), rows):
        yield windows[start : start + rows]


def _feeds(batch: Batch, n: int, entry: str, params: Occlusion) -> dict[str, Array]:
    """One input's composer feeds: itself and its baseline; other inputs of the model ride along."""
    if batch.image is not None:
        one = batch.image[n : n + 1]
        return {"image": one, "fill": baseline(params.baseline, one, params.value, image=True)}
    one = batch.tensors[entry][n : n + 1]
    fill = baseline(params.baseline, one, params.value, image=False)
    others = {k: v[n : n + 1] for k, v in batch.tensors.items() if k != entry}
    return {**others, entry: one, "fill": fill}


def _composer(graph: Graph, rows_axis: int, cols_axis: int | None) -> ir.Model:
    """Put the patches in front: x [1, …], fill [1, …], boxes int64 [B, 4] -> B covered copies, then on as before.

    Inside a box means: top <= row < bottom and left <= column < right.
    """
    model = graph.model
    x = next(v for v in model.graph.inputs if v.name == graph.entry)
    r = rank(x) or 1
    tail = [node for node, _ in x.uses()]
    b = Emitter(model, "_occlude_")
    boxes = b.input("boxes", ir.DataType.INT64, ["boxes", 4])
    fill = b.input("fill", x.dtype or ir.DataType.FLOAT, x.shape)
    shape = b.Shape(x)
    inside = None
    for axis, low, high in ((rows_axis, 0, 2), (cols_axis, 1, 3)):
        if axis is None:
            continue
        length = b.Gather(shape, np.array(axis, np.int64))
        at = b.Range(np.array(0, np.int64), length, np.array(1, np.int64))
        at = b.Reshape(at, np.array([1 if i != axis else -1 for i in range(r)], np.int64))
        first, last = (
            b.Reshape(b.Gather(boxes, np.array([c], np.int64), axis=1), np.array([-1] + [1] * (r - 1), np.int64))
            for c in (low, high)
        )
        within = b.And(b.GreaterOrEqual(at, first), b.Less(at, last))
        inside = within if inside is None else b.And(inside, within)
    covered = b.Where(inside, fill, x)
    for node in tail:
        for i, v in enumerate(node.inputs):
            if v is x:
                node.replace_input_with(i, covered)
    if x in model.graph.outputs:
        model.graph.outputs[list(model.graph.outputs).index(x)] = covered
    model.graph.sort()
    models.infer(model)
    return model
