"""Emit a Scan whose body is written with the same emitter."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from graph_tools.emit import Emitter

Step = Callable[[Sequence[ir.Value], Sequence[ir.Value]], tuple[Sequence[ir.Value], Sequence[ir.Value]]]


def scan(
    b: Emitter,
    node: ir.Node,
    step: Step,
    initial: Sequence[ir.Value],
    each: Sequence[ir.Value],
    *,
    outputs: int,
    backwards: bool = False,
) -> tuple[Sequence[ir.Value], Sequence[ir.Value]]:
    """States after, and outputs of, ``step(states, slices)`` over axis 0 of every value of ``each``.

    Args:
        b: emits in front of ``node``; inside ``step`` it emits into the body.
        node: the node that is being replaced; its name is the prefix of the body's.
        step: returns new states (types and shapes as before) and outputs.
        initial: the states before the first step.
        each: values whose axis 0 is walked.
        outputs: how many outputs ``step`` returns.
        backwards: whether the last slice comes first; outputs stay where their slices lie.

    Returns:
        Final states, and the outputs stacked along a new axis 0.
    """
    states = [_inner(b, v, "state", v.shape) for v in initial]
    slices = [_inner(b, v, "slice", None if v.shape is None else ir.Shape(list(v.shape)[1:])) for v in each]
    body = ir.Graph([*states, *slices], [], nodes=[], name=b.fresh(f"{node.op_type}_body"))
    with b.inside(body):
        after, made = step(states, slices)
        results: list[ir.Value] = []
        for v in (*after, *made):  # a body's output is nobody else's
            results.append(b.Identity(v) if v in (*states, *slices, *results) else v)
    for v, like in zip(results, [*states, *([None] * outputs)], strict=True):
        if like is not None:
            v.type, v.shape = v.type or like.type, like.shape
        body.outputs.append(v)
    turned = {} if not backwards else {
        "scan_input_directions": [1] * len(each), "scan_output_directions": [1] * outputs if outputs else None
    }  # fmt: skip
    found = b.Scan(*initial, *each, body=body, num_scan_inputs=len(each), _outputs=len(initial) + outputs, **turned)
    values = (found,) if isinstance(found, ir.Value) else found
    steps = None if each[0].shape is None else each[0].shape[0]
    for v, inner in zip(values, results, strict=True):
        v.type = v.type or inner.type
    for v, inner in zip(values[len(initial) :], results[len(initial) :], strict=True):
        if inner.shape is not None:
            v.shape = ir.Shape([steps, *inner.shape])
    for v, like in zip(values, initial, strict=False):
        v.shape = like.shape
    return values[: len(initial)], values[len(initial) :]


def _inner(b: Emitter, v: ir.Value, hint: str, shape: ir.Shape | None) -> ir.Value:
    return ir.Value(name=b.fresh(hint), type=v.type, shape=shape)
