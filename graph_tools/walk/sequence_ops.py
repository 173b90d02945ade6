"""Sequences of tensors in terms of operators: element by element in a Loop, zeros, sums."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from graph_tools.emit import Emitter

Each = Callable[..., ir.Value]


def is_sequence(v: ir.Value) -> bool:
    """Whether ``v`` is a sequence, or an optional sequence."""
    kind = v.type.elem_type if isinstance(v.type, ir.OptionalType) else v.type
    return isinstance(kind, ir.SequenceType)


def plain_type(v: ir.Value) -> ir.TypeProtocol | None:
    """The type of ``v`` without the optional around it."""
    kind = v.type
    return kind.elem_type if isinstance(kind, ir.OptionalType) else kind


def map_sequence(b: Emitter, each: Each, first: ir.Value, *others: ir.Value, dtype: ir.DataType) -> ir.Value:
    """The sequence of ``each(element of first, element of others…)``, floats of ``dtype``."""

    def step(i: ir.Value) -> ir.Value:
        return each(*(b.SequenceAt(s, i) for s in (first, *others)))

    return build_sequence(b, b.SequenceLength(first), step, dtype)


def build_sequence(b: Emitter, count: ir.Value, step: Callable[[ir.Value], ir.Value], dtype: ir.DataType) -> ir.Value:
    """The sequence of ``step(0), step(1), …``; ``step`` emits into the body of a Loop."""
    yes = b.const(np.array(True))
    start = b.SequenceEmpty(dtype=dtype.value)
    start.type = ir.SequenceType(ir.TensorType(dtype))
    i, go, made = (ir.Value(name=b.fresh(hint)) for hint in ("i", "go", "made"))
    i.type, go.type, made.type = ir.TensorType(ir.DataType.INT64), ir.TensorType(ir.DataType.BOOL), start.type
    i.shape, go.shape = ir.Shape([]), ir.Shape([])
    body = ir.Graph([i, go, made], [], nodes=[], name=b.fresh("each"))
    with b.inside(body):
        body.outputs.append(b.Identity(go))
        body.outputs.append(b.SequenceInsert(made, step(i)))
    body.outputs[1].type = start.type
    found: ir.Value = b.Loop(count, yes, start, body=body)
    found.type = start.type
    return found


def zeros(b: Emitter, s: ir.Value) -> ir.Value:
    """Zeros in the shapes of the elements of ``s``."""
    dtype = s.dtype or ir.DataType.FLOAT

    def zero(x: ir.Value) -> ir.Value:
        return b.Expand(b.const(0.0, dtype=dtype), b.Shape(x))  # type: ignore[no-any-return]

    whole = b.OptionalGetElement(s) if isinstance(s.type, ir.OptionalType) else s
    return map_sequence(b, zero, whole, dtype=dtype)


def add(b: Emitter, s: ir.Value, t: ir.Value) -> ir.Value:
    """The sums of the elements of two sequences of equal length."""
    return map_sequence(b, lambda x, y: b.Add(x, y), s, t, dtype=s.dtype or ir.DataType.FLOAT)
