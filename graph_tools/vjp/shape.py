"""Operators that move whole tensors about: reshapes, permutations, repetition, joining, splitting; value generators.

All of them pass cotangents of quantised integers too.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of
from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import dtype_of, operand
from graph_tools.vjp.selection import LAST, Size, pad, plus, size, vector
from graph_tools.vjp.spatial import join
from graph_tools.vjp.table import ANY, carries_integers, nondiff, vjp

for _op in ("Reshape", "Squeeze", "Unsqueeze", "Expand", "Tile", "Split", "Trilu", "ReverseSequence", "Range"):
    nondiff(_op, 1)
carries_integers(
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile", "Concat", "Split", "DepthToSpace",
    "SpaceToDepth", "Trilu", "ReverseSequence",
)  # fmt: skip

# They read the shape of their input, not its values.
for _op in ("Shape", "Size", "EyeLike", "RandomNormalLike", "RandomUniformLike"):
    nondiff(_op, 0)


@vjp("Reshape", 0)
@vjp("Flatten", 0)
def reshaped(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The inverse reshape."""
    return b.reshape_like(ct, operand(node, 0))


@vjp("Squeeze", 0)
def squeeze(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Unsqueeze of the same axes."""
    return _with_axes(b, node, "Unsqueeze", ct)


@vjp("Unsqueeze", 0)
def unsqueeze(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Squeeze of the same axes."""
    return _with_axes(b, node, "Squeeze", ct)


def _with_axes(b: Reverse, node: ir.Node, inverse: str, ct: ir.Value) -> ir.Value:
    x = operand(node, 0)
    axes = array_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None:
        return b.reshape_like(ct, x)
    return b.shaped_like(getattr(b, inverse)(ct, axes.astype(np.int64)), x)


@vjp("Transpose", 0)
def transpose(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The inverse permutation."""
    perm = node.attributes.get_ints("perm") if "perm" in node.attributes else None
    inverse = None if perm is None else [int(i) for i in np.argsort(perm)]
    return b.shaped_like(b.Transpose(ct, perm=inverse), operand(node, 0))


@vjp("Expand", 0)
def expand(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The sum over the repetitions, which is the walk's un-broadcasting."""
    return ct


@vjp("Tile", 0)
def tile(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The sum over the copies: axis [r·d] is seen as [r, d]."""
    x = operand(node, 0)
    rank = b.rank_of(x)
    known = array_of(node.inputs[1])
    if known is None:
        both = [b.Unsqueeze(v, [1]) for v in (operand(node, 1), b.ct_shape(x))]
        split = b.Reshape(ct, b.Reshape(b.Concat(*both, axis=1), [-1]))
        return b.shaped_like(b.ReduceSum(split, np.arange(0, 2 * rank, 2), keepdims=0), x)
    repeats = [int(r) for r in known]
    parts: list[list[int] | ir.Value] = []
    copies = []
    for axis, r in enumerate(repeats):
        if r != 1:
            copies.append(len(parts))
            parts.append([r])
        batch = axis == 0 and b.is_batched(x)
        parts.append([-1] if batch else vector(size(b, x, axis)))
    if not copies:
        return ct
    return b.shaped_like(b.ReduceSum(b.Reshape(ct, join(b, *parts)), copies, keepdims=0), x)


@vjp("Concat", ANY)
def concat(b: Reverse, node: ir.Node, index: int, ct: ir.Value) -> ir.Value:
    """The slice that this operand filled."""
    x = operand(node, index)
    axis = _axis(b, node, x)
    if len(node.inputs) == 1:
        return ct
    start = plus(b, 0, *(size(b, operand(node, i), axis) for i in range(index)))
    end: Size = LAST if index == len(node.inputs) - 1 else plus(b, start, size(b, x, axis))
    return b.shaped_like(b.Slice(ct, join(b, vector(start)), join(b, vector(end)), [axis]), x)


@vjp("Split", 0)
def split(b: Reverse, node: ir.Node, *cts: ir.Value | None) -> ir.Value:
    """The cotangents of the parts joined again; zeros for parts that nobody used."""
    x = operand(node, 0)
    axis = _axis(b, node, x)
    parts = list(zip(node.outputs, cts, strict=True))
    zeros = [0, 0]
    for end in (0, -1):  # unused parts of known size at either end are padding
        while parts[end][1] is None and isinstance(n := size(b, parts[end][0], axis), int):
            zeros[end] += n
            parts.pop(end)
    filled = [b.zeros_like(part) if ct is None else ct for part, ct in parts]
    joined = filled[0] if len(filled) == 1 else b.Concat(*filled, axis=axis)
    if any(zeros):
        joined = pad(b, joined, b.rank_of(x), {axis: (zeros[0], zeros[1])})
    return b.shaped_like(joined, x)


def _axis(b: Reverse, node: ir.Node, x: ir.Value) -> int:
    """The node's axis, counted from the front."""
    axis = node.attributes.get_int("axis", 0)
    return axis if axis >= 0 else axis + b.rank_of(x)


@vjp("DepthToSpace", 0)
def depth_to_space(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """SpaceToDepth; in mode CRD the channels it makes, (block, C), are reordered to (C, block)."""
    x, block = operand(node, 0), node.attributes.get_int("blocksize")
    packed = b.SpaceToDepth(ct, blocksize=block)
    if node.attributes.get_string("mode", "DCR") == "CRD":
        apart = b.Reshape(packed, join(b, [0, block * block], vector(size(b, ct, 1)), [-1]))
        packed = b.reshape_like(b.Transpose(apart, perm=[0, 2, 1, 3]), x)
    return b.shaped_like(packed, x)


@vjp("SpaceToDepth", 0)
def space_to_depth(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """DepthToSpace, in the same mode."""
    block, mode = node.attributes.get_int("blocksize"), node.attributes.get_string("mode", "DCR")
    return b.shaped_like(b.DepthToSpace(ct, blocksize=block, mode=mode), operand(node, 0))


@vjp("Trilu", 0)
def trilu(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The same triangle."""
    k = node.inputs[1] if len(node.inputs) > 1 else None
    operands = (ct,) if k is None else (ct, k)
    return b.shaped_like(b.Trilu(*operands, upper=node.attributes.get_int("upper", 1)), operand(node, 0))


@vjp("ReverseSequence", 0)
def reverse_sequence(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Its own inverse."""
    axes = {key: node.attributes.get_int(key, default) for key, default in (("batch_axis", 1), ("time_axis", 0))}
    return b.shaped_like(b.ReverseSequence(ct, b.primal(operand(node, 1)), **axes), operand(node, 0))


@vjp("Range", 0)
def range_start(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """y_i = start + i · delta: 1."""
    return ct


@vjp("Range", 2)
def range_delta(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """y_i = start + i · delta: i."""
    count = b.Range(0, b.Squeeze(b.shape_of(ct), [0]), 1)
    return b.Mul(ct, b.Cast(count, to=dtype_of(ct).value))
