"""Picking by index and writing by index: cotangents go back along the index, and add up where it repeats.

Indices have no derivative. Where the reductions max and min of a scatter tie, the tied elements share the cotangent
evenly, as in torch; products are right for zero factors too.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of
from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import dtype_of, operand
from graph_tools.vjp.selection import (
    Size,
    minus,
    pad,
    plus,
    positions,
    put_back,
    put_back_at_run,
    put_back_flat,
    scalar,
    scatter_add,
    size,
    vector,
)
from graph_tools.vjp.spatial import join
from graph_tools.vjp.table import carries_integers, nondiff, vjp

for _op in ("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND", "TopK", "Compress"):
    nondiff(_op, 1)
nondiff("OneHot", 0, 1)
carries_integers("Gather", "GatherElements", "GatherND", "Compress")


@vjp("Gather", 0)
def gather(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Every picked slice added where it was taken from."""
    x, picked = operand(node, 0), operand(node, 1)
    rank, picked_rank = b.rank_of(x), b.rank_of(picked)
    axis = node.attributes.get_int("axis", 0) % rank
    length = size(b, x, axis)
    if axis == 0 or not b.is_batched(x):
        picked = b.primal(picked)
    known = array_of(picked)
    if picked_rank == 0:
        ct = b.Unsqueeze(ct, [axis])
    elif picked_rank > 1:  # the axes of the index become one
        rest = [vector(size(b, ct, a)) for a in range(axis + picked_rank, rank + picked_rank - 1)]
        ct = b.Reshape(ct, join(b, [0] * axis, [-1], *rest))
    if known is not None and isinstance(length, int):
        back = put_back(b, ct, known.reshape(-1) % length, axis, rank, length)
    elif known is not None and known.size == 1:
        back = _one(b, ct, int(known.item()), axis, rank, length)
    else:
        back = put_back_at_run(b, ct, b.Reshape(_int64(b, picked), [-1]), axis, rank, length)
    return b.shaped_like(back, x)


def _one(b: Reverse, ct: ir.Value, index: int, axis: int, rank: int, length: Size) -> ir.Value:
    """One slice of an axis of open length: padding."""
    before = plus(b, length, index) if index < 0 else index
    return pad(b, ct, rank, {axis: (before, minus(b, length, before, 1))})


def _int64(b: Reverse, v: ir.Value) -> ir.Value:
    return v if v.dtype == ir.DataType.INT64 else b.Cast(v, to=ir.DataType.INT64.value)


@vjp("GatherElements", 0)
def gather_elements(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ScatterElements(add) into zeros."""
    x, axis = operand(node, 0), node.attributes.get_int("axis", 0)
    return b.shaped_like(scatter_add(b, b.zeros_like(x), b.primal(operand(node, 1)), ct, axis), x)


@vjp("GatherND", 0)
def gather_nd(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The positions of x are gathered the same way, and the cotangent added there."""
    x, batch_dims = operand(node, 0), node.attributes.get_int("batch_dims", 0)
    picked = b.GatherND(positions(b, x), _int64(b, b.primal(operand(node, 1))), batch_dims=batch_dims)
    return put_back_flat(b, ct, picked, x)


@vjp("Compress", 0)
def compress(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Zeros where the condition dropped a slice."""
    x, keep = operand(node, 0), operand(node, 1)
    if "axis" not in node.attributes:
        total = b.ReduceProd(b.ct_shape(x, exact=True), keepdims=1)
        kept = b.Compress(b.Range(0, b.Squeeze(total, [0]), 1), keep, axis=0)
        return b.reshape_like(put_back_at_run(b, ct, kept, 0, 1, total, unique=True), x)
    rank = b.rank_of(x)
    axis = node.attributes.get_int("axis") % rank
    length = size(b, x, axis)
    kept = b.Compress(b.Range(0, scalar(b, length), 1), keep, axis=0)
    return b.shaped_like(put_back_at_run(b, ct, kept, axis, rank, length, unique=True), x)


@vjp("TopK", 0)
def top_k(b: Reverse, node: ir.Node, ct: ir.Value | None, *_indices: ir.Value | None) -> ir.Value | None:
    """Each value's cotangent at the position it came from, as the operator's own indices say (ties too)."""
    if ct is None:
        return None
    x, axis = operand(node, 0), node.attributes.get_int("axis", -1)
    where = b.primal(b.extra_output(node, 1))
    return b.shaped_like(b.ScatterElements(b.zeros_like(x), where, ct, axis=axis), x)


@vjp("Unique", 0)
def unique(b: Reverse, node: ir.Node, ct: ir.Value | None, *_indices: ir.Value | None) -> ir.Value | None:
    """Each unique element's cotangent at its first occurrence, as the operator's own indices say."""
    if ct is None:
        return None
    x, first = operand(node, 0), b.extra_output(node, 1)
    if "axis" not in node.attributes:
        total = b.ReduceProd(b.ct_shape(x, exact=True), keepdims=1)
        return b.reshape_like(put_back_at_run(b, ct, first, 0, 1, total, unique=True), x)
    rank = b.rank_of(x)
    axis = node.attributes.get_int("axis") % rank
    return b.shaped_like(put_back_at_run(b, ct, first, axis, rank, size(b, x, axis), unique=True), x)


@vjp("OneHot", 2)
def one_hot_values(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """y = off + (on − off)·h with h = 1 at the index: (Σ ct·(1 − h), Σ ct·h)."""
    indices, depth = b.primal(operand(node, 0)), operand(node, 1)
    like, axis = ir.DataType.FLOAT.numpy(), node.attributes.get_int("axis", -1)
    hot = b.Cast(b.OneHot(indices, depth, np.array([0, 1], like), axis=axis), to=dtype_of(ct).value)
    sums = [b.ReduceSum(b.Mul(ct, part), keepdims=0) for part in (b.Sub(b.const(1.0, like=ct), hot), hot)]
    return b.Concat(*(b.Unsqueeze(s, [0]) for s in sums), axis=0)


# --- scatter: y is data with updates written, added, multiplied, or compared in, at the indices


@vjp("ScatterElements", 0)
def scatter_elements_data(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """none: zero where it was overwritten. add: 1. mul: the product of the updates. max, min: its share of a tie."""
    data, indices, updates = (operand(node, i) for i in range(3))
    axis, reduction = node.attributes.get_int("axis", 0), _reduction(node)
    if reduction == "add":
        return ct
    index = b.primal(indices)
    if reduction == "none":
        return b.shaped_like(b.ScatterElements(ct, index, b.zeros_like(updates), axis=axis), data)
    written = _Written(b, data, index, updates, node.outputs[0], axis)
    return b.shaped_like(written.to_data(reduction, ct), data)


@vjp("ScatterElements", 2)
def scatter_elements_updates(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """none, add: ct at the index. mul: times data and the other updates there. max, min: its share of a tie."""
    data, indices, updates = (operand(node, i) for i in range(3))
    axis, reduction = node.attributes.get_int("axis", 0), _reduction(node)
    index = b.primal(indices)
    if reduction in ("none", "add"):
        return b.shaped_like(b.GatherElements(ct, index, axis=axis), updates)
    written = _Written(b, data, index, updates, node.outputs[0], axis)
    return b.shaped_like(written.to_updates(reduction, ct), updates)


@vjp("ScatterND", 0)
def scatter_nd_data(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """As for ScatterElements."""
    data, indices, updates = (operand(node, i) for i in range(3))
    reduction = _reduction(node)
    if reduction == "add":
        return ct
    if reduction == "none":
        return b.shaped_like(b.ScatterND(ct, b.primal(indices), b.zeros_like(updates)), data)
    return b.reshape_like(_flat(b, node).to_data(reduction, b.Reshape(ct, [-1])), data)


@vjp("ScatterND", 2)
def scatter_nd_updates(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """As for ScatterElements."""
    updates, reduction = operand(node, 2), _reduction(node)
    if reduction in ("none", "add"):
        return b.shaped_like(b.GatherND(ct, b.primal(operand(node, 1))), updates)
    return b.reshape_like(_flat(b, node).to_updates(reduction, b.Reshape(ct, [-1])), updates)


def _reduction(node: ir.Node) -> str:
    return node.attributes.get_string("reduction", "none") or "none"


def _flat(b: Reverse, node: ir.Node) -> _Written:
    """A ScatterND as ScatterElements on vectors."""
    data, indices, updates = (operand(node, i) for i in range(3))
    index = b.Reshape(b.GatherND(positions(b, data), b.primal(indices)), [-1])
    return _Written(b, data, index, updates, node.outputs[0], 0, flat=True)


class _Written:
    """What a scatter with a product or a comparison wrote: ``f(data, updates at the index…)``."""

    def __init__(
        self,
        b: Reverse,
        data: ir.Value,
        index: ir.Value,
        updates: ir.Value,
        y: ir.Value,
        axis: int,
        *,
        flat: bool = False,
    ) -> None:
        """Take the primals; in float32 for half floats, whose reductions have no kernel on the CPU."""
        self.b, self.index, self.axis, self.flat = b, index, axis, flat
        self.data, self.updates, self.y = (self._plain(b.primal(v), flat) for v in (data, updates, y))

    def to_data(self, reduction: str, ct: ir.Value) -> ir.Value:
        """The cotangent of ``data``."""
        b, ct = self.b, self._plain(ct)
        if reduction == "mul":
            return b.Mul(ct, self._product(self.updates))
        return b.Mul(self._share(ct), self._equals(self.data, self.y))

    def to_updates(self, reduction: str, ct: ir.Value) -> ir.Value:
        """The cotangent of ``updates``."""
        b, ct = self.b, self._plain(ct)
        if reduction == "mul":
            return b.Mul(self._at(b.Mul(ct, self.data)), self._other_updates())
        return b.Mul(self._at(self._share(ct)), self._equals(self.updates, self._at(self.y)))

    def _other_updates(self) -> ir.Value:
        """For each update the product of the others at its place: all/own; where zeros are among them, counted."""
        b, one, nil = self.b, self.b.const(1.0, like=self.updates), self.b.const(0.0, like=self.updates)
        is_zero = b.Equal(self.updates, nil)
        safe = b.Where(is_zero, one, self.updates)
        zeros = b.Cast(is_zero, to=dtype_of(self.updates).value)
        others = b.Sub(self._at(self._sum(zeros)), zeros)
        return b.Where(b.Equal(others, nil), b.Div(self._at(self._product(safe)), safe), nil)

    def _share(self, ct: ir.Value) -> ir.Value:
        """``ct`` over the number of elements that equal the result at each place (1 where nothing was written)."""
        ties = self._equals(self.updates, self._at(self.y))
        count = self.b.Add(self._equals(self.data, self.y), self._sum(ties))
        return self.b.Div(ct, count)

    def _equals(self, v: ir.Value, w: ir.Value) -> ir.Value:
        return self.b.Cast(self.b.Equal(v, w), to=dtype_of(v).value)

    def _at(self, v: ir.Value) -> ir.Value:
        if self.flat:
            return self.b.Gather(v, self.index)
        return self.b.GatherElements(v, self.index, axis=self.axis)

    def _product(self, updates: ir.Value) -> ir.Value:
        ones = self._filled(1.0)
        return self.b.ScatterElements(ones, self.index, updates, axis=self.axis, reduction="mul")

    def _sum(self, updates: ir.Value) -> ir.Value:
        return scatter_add(self.b, self._filled(0.0), self.index, updates, self.axis)

    def _filled(self, number: float) -> ir.Value:
        return self.b.Expand(self.b.const(number, like=self.data), self.b.Shape(self.data))

    def _plain(self, v: ir.Value, flat: bool = False) -> ir.Value:
        if v.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
            v = self.b.Cast(v, to=ir.DataType.FLOAT.value)
        return self.b.Reshape(v, [-1]) if flat else v
