"""Fourier transforms. A transform is linear: its adjoint is the transform with the conjugate kernel.

With N = dft_length: Σ e^(+2πi·kn/N)·ct_k = N·inverse(ct) is the adjoint of the forward transform, forward(ct)/N that
of the inverse; then the padding to N is cropped, or what was cropped is zero. A real operand gets the real part.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of, dims
from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import dtype_of, operand, optional
from graph_tools.vjp.table import nondiff, vjp

nondiff("DFT", 1, 2)
nondiff("MelWeightMatrix", 3, 4)  # the edges are rounded to bins


@vjp("DFT", 0)
def dft(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Σ_k e^(±2πi·kn/N)·ct_k over the bins that the node returned, without 1/N (forward) or with it (inverse)."""
    x, axis = operand(node, 0), _axis(b, node)
    inverse, onesided = node.attributes.get_int("inverse", 0), node.attributes.get_int("onesided", 0)
    size = b.Gather(b.shape_of(x), b.Reshape(axis, np.array([], np.int64)), axis=0)
    n = _length(b, node, size, half=bool(inverse and onesided))
    if inverse and onesided:
        back = _weighted(b, _transform(b, ct, n, axis, onesided=1), n, axis, b.rank_of(x))
    else:
        back = _transform(b, ct, n, axis, inverse=1 - inverse)
    count = b.Cast(n, to=dtype_of(ct).value)
    back = b.Div(back, count) if inverse else b.Mul(back, count)
    if optional(node, 1) is not None or (inverse and onesided):  # N is not the size of x
        end = b.Reshape(size, [1])
        back = b.Slice(back, [0], end, axis)
        missing = b.Sub(end, b.Gather(b.Shape(back), axis, axis=0))
        back = b.Pad(back, b.Concat([0], missing, axis=0), None, axis)
    parts = (dims(x) or (None,))[-1]
    if parts != 2:
        end = b.const(np.array([1], np.int64)) if parts == 1 else b.Shape(x, start=-1)
        back = b.Slice(back, [0], end, [-1])
    return b.shaped_like(back, x)


def _axis(b: Reverse, node: ir.Node) -> ir.Value:
    """int64 [1], not negative."""
    r = b.rank_of(operand(node, 0))
    if b.graph.opset_imports[""] < 20:
        return b.const(np.array([node.attributes.get_int("axis", 1) % r], np.int64))
    given = optional(node, 2)
    known = np.array(-2) if given is None else array_of(given)
    if known is not None:
        return b.const(known.astype(np.int64).reshape(1) % r)
    return b.Mod(b.Reshape(given, [1]), [r])


def _length(b: Reverse, node: ir.Node, size: ir.Value, *, half: bool) -> ir.Value:
    """N as an int64 scalar: dft_length, else the size of the axis (a half spectrum's has 2·(size − 1))."""
    given = optional(node, 1)
    if given is None:
        return b.Mul(b.Sub(size, 1), 2) if half else size
    given = b.Reshape(given, np.array([], np.int64))
    return given if given.dtype == ir.DataType.INT64 else b.Cast(given, to=ir.DataType.INT64.value)


def _transform(
    b: Reverse, v: ir.Value, n: ir.Value, axis: ir.Value, *, inverse: int = 0, onesided: int = 0
) -> ir.Value:
    """The transform of ``v``, cropped or padded with zeros to ``n``."""
    if b.graph.opset_imports[""] < 20:
        along = int(np.asarray(array_of(axis)).item())
        return b.DFT(v, n, axis=along, inverse=inverse, onesided=onesided)
    return b.DFT(v, n, b.Squeeze(axis, [0]), inverse=inverse, onesided=onesided)


def _weighted(b: Reverse, v: ir.Value, n: ir.Value, axis: ir.Value, rank: int) -> ir.Value:
    """Bins of a half spectrum that stand for a conjugate pair (not 0, not N/2) count twice."""
    bins = b.Range(0, b.Squeeze(b.Gather(b.Shape(v), axis, axis=0), [0]), 1)
    pair = b.And(b.Greater(bins, 0), b.Not(b.Equal(b.Mul(bins, 2), n)))
    weights = b.Where(pair, b.const(2.0, like=v), b.const(1.0, like=v))
    behind = b.Expand(b.const(np.array([1], np.int64)), b.Sub([rank - 1], axis))
    return b.Mul(v, b.Reshape(weights, b.Concat([-1], behind, axis=0)))
