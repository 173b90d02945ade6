"""Sequences whose elements are known when the graph is built become plain tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from graph_tools.emit import Emitter, array_of, dims
from graph_tools.lowering.table import lower

Known = dict[ir.Value, list[ir.Value]]


def resolve(b: Emitter) -> None:
    """Replace reads of sequences with known elements by the elements, in every graph; sequences nobody reads go.

    SequenceConstruct, SequenceEmpty, SequenceInsert, SequenceErase and SplitToSequence make such sequences where
    positions and sizes are constants; SequenceAt, SequenceLength and ConcatFromSequence read them.
    """
    known: Known = {}
    made: list[ir.Node] = []
    for node in list(b.graph.all_nodes()):
        elements = _elements(b, node, known)
        if elements is not None:
            known[node.outputs[0]] = elements
            made += [*_emitted(node, elements), node]
        elif (read := _READS.get(node.op_type)) is not None and node.inputs and node.inputs[0] in known:
            lower(b, node, lambda b, n, read=read: read(b, n, known[n.inputs[0]]))  # type: ignore[misc]
    for node in reversed(made):
        read_by = any(v.uses() or v.is_graph_output() for v in node.outputs)
        if node.graph is not None and not read_by:
            node.graph.remove(node, safe=True)


def _elements(b: Emitter, node: ir.Node, known: Known) -> list[ir.Value] | None:
    """The elements of the sequence that ``node`` makes, or None."""
    if node.domain not in ("", "ai.onnx"):
        return None
    inputs = list(node.inputs)
    if node.op_type == "SequenceEmpty":
        return []
    if node.op_type == "SequenceConstruct":
        return [v for v in inputs if v is not None]
    if node.op_type == "SplitToSequence":
        return _split(b, node)
    if not inputs or inputs[0] not in known:
        return None
    elements = list(known[inputs[0]])
    if node.op_type == "Identity":
        return elements
    if node.op_type == "SequenceInsert" and inputs[1] is not None:
        at = _position(inputs[2] if len(inputs) > 2 else None, len(elements), len(elements))
        return None if at is None else [*elements[:at], inputs[1], *elements[at:]]
    if node.op_type == "SequenceErase":
        at = _position(inputs[1] if len(inputs) > 1 else None, len(elements), len(elements) - 1)
        return None if at is None else [*elements[:at], *elements[at + 1 :]]
    return None


def _emitted(node: ir.Node, elements: list[ir.Value]) -> list[ir.Node]:
    """The nodes that were made for the parts of a split, first to last."""
    if node.op_type != "SplitToSequence":
        return []
    last = [p for v in elements if (p := v.producer()) is not None]
    first = [p for n in last if n.op_type == "Squeeze" and n.inputs[0] is not None and (p := n.inputs[0].producer())]
    return list(dict.fromkeys([*first, *last]))


def _position(v: ir.Value | None, length: int, default: int) -> int | None:
    """A constant position counted from the front; None where it is computed at run time."""
    if v is None:
        return default
    given = array_of(v)
    if given is None:
        return None
    at = int(given.item())
    return at + length if at < 0 else at


def _split(b: Emitter, node: ir.Node) -> list[ir.Value] | None:
    """The parts, computed by a Split in front of ``node``."""
    x = node.inputs[0]
    known = None if x is None else dims(x)
    if x is None or known is None:
        return None
    axis = node.attributes.get_int("axis", 0) % len(known)
    split = node.inputs[1] if len(node.inputs) > 1 else None
    whole, sizes = known[axis], None if split is None else array_of(split)
    if split is not None and sizes is not None and sizes.ndim == 1:
        parts = [int(n) for n in sizes]
    elif whole is None or (split is not None and sizes is None):
        return None
    else:
        size = 1 if sizes is None else int(sizes.item())
        parts = [min(size, whole - at) for at in range(0, whole, size)]
    if not parts:
        return None
    with b.before(node):
        found = b.Split(x, np.array(parts, np.int64), axis=axis, _outputs=len(parts))
        pieces = [found] if isinstance(found, ir.Value) else list(found)
        if split is None and not node.attributes.get_int("keepdims", 1):
            pieces = [b.Squeeze(p, [axis]) for p in pieces]
    return pieces


def _at(b: Emitter, node: ir.Node, elements: list[ir.Value]) -> ir.Value | None:
    at = _position(node.inputs[1], len(elements), 0)
    return None if at is None or not 0 <= at < len(elements) else b.Identity(elements[at])


def _length(b: Emitter, _node: ir.Node, elements: list[ir.Value]) -> ir.Value | None:
    return b.Identity(b.const(np.array(len(elements))))  # type: ignore[no-any-return]


def _concat(b: Emitter, node: ir.Node, elements: list[ir.Value]) -> ir.Value | None:
    axis = node.attributes.get_int("axis", 0)
    if not elements:
        return None
    if node.attributes.get_int("new_axis", 0):
        elements = [b.Unsqueeze(v, [axis]) for v in elements]
    return b.Concat(*elements, axis=axis)  # type: ignore[no-any-return]


_READS: dict[str, Callable[[Emitter, ir.Node, list[ir.Value]], ir.Value | None]] = {
    "SequenceAt": _at, "SequenceLength": _length, "ConcatFromSequence": _concat,
}  # fmt: skip
