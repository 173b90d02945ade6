"""Sequences and optionals: the cotangent of a sequence is the sequence of its elements' cotangents."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.reverse import Reverse
from graph_tools.vjp.table import ANY, nondiff, vjp
from graph_tools.walk.sequence_ops import build_sequence

nondiff("SequenceAt", 1)
nondiff("SequenceErase", 1)
nondiff("SequenceInsert", 2)
nondiff("SequenceLength", 0)
nondiff("SplitToSequence", 1)
nondiff("OptionalHasElement", 0)


@vjp("SequenceConstruct", ANY)
def sequence_construct(b: Reverse, node: ir.Node, index: int, ct: ir.Value) -> ir.Value:
    """ct_i = ct[i]."""
    return _element(b, ct, b.const(np.array(index)), node.inputs[index])


def _element(b: Reverse, ct: ir.Value, at: ir.Value, like: ir.Value | None) -> ir.Value:
    """The element of ``ct`` that belongs to ``like``."""
    found = b.SequenceAt(ct, at)
    return found if like is None else b.shaped_like(found, like)


@vjp("SequenceAt", 0)
def sequence_at(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Zeros, and ct at the position that was read."""
    s, position = node.inputs[:2]
    assert s is not None
    return _replaced(b, b.zeros_like(s), position, b.SequenceLength(s), ct)


def _replaced(b: Reverse, s: ir.Value, position: ir.Value | None, length: ir.Value, x: ir.Value) -> ir.Value:
    """``s`` with ``x`` in place of one element."""
    at = _forward_position(b, position, length)
    rest = _typed(b.SequenceErase(s, at), s)
    return _typed(b.SequenceInsert(rest, x, at), s)


def _forward_position(b: Reverse, position: ir.Value | None, length: ir.Value) -> ir.Value:
    """The position counted from the front: −1 is the last of ``length``."""
    assert position is not None
    wide = b.Reshape(b.Cast(position, to=ir.DataType.INT64.value), np.array([], np.int64))
    return b.Where(b.Less(wide, 0), b.Add(wide, length), wide)


def _typed(v: ir.Value, like: ir.Value) -> ir.Value:
    v.type = v.type or like.type
    return v


@vjp("SequenceInsert", 0)
def sequence_insert_into(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ct without the element that was inserted."""
    return _typed(b.SequenceErase(ct, _inserted(b, node, ct)), ct)


@vjp("SequenceInsert", 1)
def sequence_insert_what(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ct at the position of the insertion."""
    at = _inserted(b, node, ct)
    return _element(b, ct, b.const(np.array(-1)) if at is None else at, node.inputs[1])


def _inserted(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value | None:
    """Where the element stands afterwards; None: at the end. A negative position counted before the insertion."""
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return None
    return _forward_position(b, node.inputs[2], b.Sub(b.SequenceLength(ct), 1))


@vjp("SequenceErase", 0)
def sequence_erase(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ct with zeros where the element was."""
    s = node.inputs[0]
    position = node.inputs[1] if len(node.inputs) > 1 else None
    assert s is not None
    if position is None:
        gone = b.SequenceAt(s, b.const(np.array(-1)))
        return _typed(b.SequenceInsert(ct, b.zeros_like(gone)), s)
    at = _forward_position(b, position, b.SequenceLength(s))
    return _typed(b.SequenceInsert(ct, b.zeros_like(b.SequenceAt(s, at)), at), s)


@vjp("SplitToSequence", 0)
def split_to_sequence(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Concatenation along the axis of the split, or along a new one where it was dropped."""
    x = node.inputs[0]
    assert x is not None
    dropped = not node.attributes.get_int("keepdims", 1) and (len(node.inputs) < 2 or node.inputs[1] is None)
    joined = b.ConcatFromSequence(ct, axis=node.attributes.get_int("axis", 0), new_axis=int(dropped))
    joined.type = x.type
    return b.reshape_like(joined, x)


@vjp("ConcatFromSequence", 0)
def concat_from_sequence(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The parts of ct that stem from each element."""
    s, axis = node.inputs[0], node.attributes.get_int("axis", 0)
    assert s is not None
    if node.attributes.get_int("new_axis", 0):
        return _typed(b.SplitToSequence(ct, axis=axis, keepdims=0), s)
    rank = b.Size(b.Shape(ct))
    at = b.const(np.array(axis)) if axis >= 0 else b.Add(rank, axis)

    def length(i: ir.Value) -> ir.Value:
        return b.Gather(b.Shape(b.SequenceAt(s, i)), b.Reshape(at, [1]), axis=0)

    lengths = build_sequence(b, b.SequenceLength(s), length, ir.DataType.INT64)
    return _typed(b.SplitToSequence(ct, b.ConcatFromSequence(lengths, axis=0), axis=axis), s)


@vjp("Optional", 0)
def optional(_b: Reverse, _node: ir.Node, ct: ir.Value) -> ir.Value:
    """ct: the cotangent of an optional is that of what is in it."""
    return ct


@vjp("OptionalGetElement", 0)
def optional_get_element(_b: Reverse, _node: ir.Node, ct: ir.Value) -> ir.Value:
    """ct."""
    return ct
