"""What all white-box programs share: the target as an input, the seed on the scores, and K targets per forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from graph_tools import model as models
from graph_tools.backward import backward
from graph_tools.batch_axis import batch_throughout
from graph_tools.errors import UnsupportedGradient
from graph_tools.reverse import Reverse
from service.explainers.base import Batch, Explainable, Graph, RunContext, Targets
from service.types import Array, Attribution, ResolvedTarget

_PER_TARGET = ("attribution", "resolved_target", "target_value")

Tail = Callable[[Reverse, Graph, ir.Value, ir.Value, ir.Value], ir.Value]
"""(emitter, graph, value explained, its cotangent [N·K, …], target [N, K]) -> attribution [N, K, …]."""


class OneAtATime(Exception):
    """The targets of a row cannot share a forward pass in this model."""


def attribution_program(graph: Graph, wrt: str, many: bool, tail: Tail) -> ir.Model:
    """The program of a one-shot gradient method.

    Inputs: the graph's own; ``target`` int64 [N, K]: class index, −j = the j-th strongest; ``minus`` int64, broadcast
    to [N, K]: class subtracted, −1 (the default) = none.
    Outputs: ``attribution`` [N, K, …]; ``resolved_target`` int64 [N, K]; ``target_value`` [N, K]; ``class_scores``
    [N, classes]; the model's own.

    Args:
        graph: the white-box graph; changed.
        wrt: value whose cotangent the method reads.
        many: K may be more than 1: one forward pass, K backward rows per input.
        tail: the method's formula.

    Raises:
        OneAtATime: ``many``, but some value on the way does not have the batch on axis 0, and only such are repeated.
        UnsupportedGradient: the gradient is zero everywhere, or an operator has none.
    """
    model = graph.model
    named = models.values_by_name(model)
    scores, v = named[graph.scores], named[wrt]
    if many and not batch_throughout(model, v, scores):
        raise OneAtATime(wrt)
    own = list(model.graph.outputs)
    b = Reverse(model, None, frozenset(), graph.form)
    target, resolved, hot = _seed(b, scores)
    k = b.Gather(b.Shape(target), np.array(1, np.int64)) if many else None
    flat = b.Reshape(hot, np.array([-1, scores.shape[1]], np.int64))  # type: ignore[index]
    (ct,) = backward(model, {scores: flat}, [v], repeat=k, form=graph.form)
    if ct is None:
        raise UnsupportedGradient(
            f"the gradient of the class scores with respect to {wrt!r} is zero everywhere: only piecewise-constant "
            "operators lie between; black-box methods (occlusion, predict) work on this model"
        )
    b = Reverse(model, None, frozenset(), graph.form)
    result = tail(b, graph, v, ct, target)
    value = b.ReduceSum(b.Mul(hot, b.Unsqueeze(scores, [1])), [2], keepdims=0)
    model.graph.outputs.clear()
    b.output(b.Cast(result, to=ir.DataType.FLOAT.value), "attribution")
    b.output(resolved, "resolved_target")
    b.output(b.Cast(value, to=ir.DataType.FLOAT.value), "target_value")
    b.output(b.Cast(scores, to=ir.DataType.FLOAT.value), "class_scores")
    model.graph.outputs.extend(own)
    return model


def per_target(b: Reverse, v: ir.Value, target: ir.Value) -> ir.Value:
    """[N·K, …] -> [N, K, …]."""
    return b.Reshape(v, b.Concat(b.Shape(target), b.Shape(v, start=1), axis=0))  # type: ignore[no-any-return]


def _seed(b: Reverse, scores: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """(target, resolved target [N, K], seed [N, K, classes] = one-hot(target) − one-hot(minus))."""
    target = b.input("target", ir.DataType.INT64, ["batch", "K"])
    minus = b.initializer("minus", np.array([[-1]], np.int64))
    minus.shape = ir.Shape(["minus_rows", "minus_K"])
    b.graph.inputs.append(minus)
    classes = b.Gather(b.Shape(scores), np.array([1], np.int64))
    rank = b.Sub(b.Neg(target), 1)  # target −j -> rank j − 1
    depth = b.Min(b.Max(b.Add(b.ReduceMax(rank, keepdims=0), 1), 1), classes)
    _, order = b.TopK(scores, b.Reshape(depth, [1]), axis=1, _outputs=2)
    place = b.Min(b.Max(rank, 0), b.Sub(depth, 1))
    resolved = b.Where(b.Less(target, 0), b.GatherElements(order, place, axis=1), target)
    values = b.const(np.array([0, 1], np.float32))  # ONNX Runtime knows OneHot of floats, not of doubles or halves
    hot = b.OneHot(resolved, classes, values, axis=-1)
    out_of_range = b.Where(b.Less(minus, 0), classes, minus)  # an index beyond the depth gives zeros
    hot = b.Sub(hot, b.OneHot(out_of_range, classes, values, axis=-1))
    hot = hot if scores.dtype in (None, ir.DataType.FLOAT) else b.Cast(hot, to=scores.dtype.value)
    return target, resolved, hot


def run_program(
    model: Explainable,
    method: str,
    structure: tuple[Any, ...],
    batch: Batch,
    targets: Targets,
    build: Callable[[Graph, bool], ir.Model],
    run: RunContext,
) -> dict[str, Array]:
    """Run a method's program on a batch with its targets; K > 1 shares the forward pass where the model allows it."""
    K = targets.index.shape[1]
    if K == 1:
        return _run(model, method, structure, batch, targets, build, run, many=False)
    try:
        return _run(model, method, structure, batch, targets, build, run, many=True)
    except OneAtATime:
        singles = [Targets(targets.index[:, k : k + 1], targets.minus[:, k : k + 1]) for k in range(K)]
        found = [_run(model, method, structure, batch, one, build, run, many=False) for one in singles]
        joined = {name: np.concatenate([f[name] for f in found], axis=1) for name in _PER_TARGET}
        return {**found[0], **joined}


def _run(
    model: Explainable,
    method: str,
    structure: tuple[Any, ...],
    batch: Batch,
    targets: Targets,
    build: Callable[[Graph, bool], ir.Model],
    run: RunContext,
    *,
    many: bool,
) -> dict[str, Array]:
    program = model.program(method, (*structure, "many" if many else "one"), batch, lambda g: build(g, many), run)
    feeds: dict[str, Array] = {"target": targets.index}
    if targets.mixed:
        feeds["minus"] = targets.minus
    if batch.image is not None:
        feeds["image"] = batch.image
    feeds.update(batch.tensors)
    return program.run(feeds, run)


def attributions(
    outputs: dict[str, Array], targets: Targets, *, signed: bool, layer: str = ""
) -> tuple[tuple[Attribution, ...], ...]:
    """Per input and target, the map with the target it explains. Labels are filled in by the core."""
    maps, resolved, values = outputs["attribution"], outputs["resolved_target"], outputs["target_value"]
    found = []
    for n in range(maps.shape[0]):
        row = []
        for k in range(maps.shape[1]):
            against = int(targets.minus[n, k])
            target = ResolvedTarget(int(resolved[n, k]), "", against if against >= 0 else None, "", float(values[n, k]))
            row.append(Attribution(np.ascontiguousarray(maps[n, k]), target, signed, layer))
        found.append(tuple(row))
    return tuple(found)
