"""RoiAlign that averages: every region is a separable linear map of the image, one matrix per region and axis.

y[r, c, i, j] = Σ_{h,w} A[r, i, h] · B[r, j, w] · x[n_r, c, h, w] (He et al. 2017, arXiv:1703.06870, section 3): rows of
A average the linear interpolations at the samples of a bin. Both adjoints are matrix products; nothing is scattered.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import dims
from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import dtype_of, operand
from graph_tools.vjp.roi_max import largest_image, largest_rois
from graph_tools.vjp.roi_samples import AxisSamples, axis_samples, is_max, rois_from_ends
from graph_tools.vjp.selection import plus, scalar, size, vector
from graph_tools.vjp.spatial import join
from graph_tools.vjp.table import nondiff, vjp


@vjp("RoiAlign", 0)
def roi_align_image(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """x̄[n] = Σ over the regions of image n of Aᵀ ȳ B. With ``max``, ȳ at the largest weighted pixel of a bin."""
    if is_max(node):
        return largest_image(b, node, ct)
    x = operand(node, 0)
    down, across = (_matrix(b, node, axis_samples(b, node, a), a, ct) for a in (2, 3))
    columns = _by_bins(b, b.MatMul(ct, b.Unsqueeze(across, [1])))  # [R·bins, C·W]
    hot = _images(b, node, ct)
    each = b.Unsqueeze(down, [2]) if hot is None else b.Mul(b.Unsqueeze(down, [2]), hot)  # [R, bins, N, H]
    rows, height = (vector(size(b, x, a)) for a in (0, 2))
    turned = b.Transpose(each, perm=[2, 3, 0, 1])
    wide = b.Reshape(turned, join(b, _product(b, x, 0, 2), _product(b, each, 0, 1)), allowzero=1)
    total = b.Reshape(
        b.MatMul(wide, columns), join(b, rows, height, vector(size(b, x, 1)), vector(size(b, x, 3))), allowzero=1
    )
    return b.shaped_like(b.Transpose(total, perm=[0, 2, 1, 3]), x)


@vjp("RoiAlign", 1)
def roi_align_rois(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Through the matrices: Ā[r, i, h] = Σ_{c,w} (ȳ B)[r, c, i, w] · x[n_r, c, h, w], likewise B̄, and their slopes.

    A sample at part t of a region lies at (1 − t)·start + t·end; the number of samples has no derivative.
    """
    if is_max(node):
        return largest_rois(b, node, ct)
    x = operand(node, 0)
    samples = [axis_samples(b, node, a) for a in (2, 3)]
    down, across = (_matrix(b, node, s, a, ct) for s, a in zip(samples, (2, 3), strict=True))
    turned, turned_x = (b.Transpose(v, perm=[0, 1, 3, 2]) for v in (ct, x))
    matrices = [
        _matrix_back(b, node, b.MatMul(ct, b.Unsqueeze(across, [1])), x),
        _matrix_back(b, node, b.MatMul(turned, b.Unsqueeze(down, [1])), turned_x),
    ]
    ends = [_ends(b, s, m, node, a) for s, m, a in zip(samples, matrices, (2, 3), strict=True)]
    return rois_from_ends(b, node, ends[0], ends[1])


nondiff("RoiAlign", 2)


def _matrix(b: Reverse, node: ir.Node, s: AxisSamples, axis: int, like: ir.Value) -> ir.Value:
    """[R, bins, length]: the mean over the samples of a bin of (near at first, far at the next pixel)."""
    length = size(b, operand(node, 0), axis)
    places = b.const(np.arange(length)) if isinstance(length, int) else b.Range(0, scalar(b, length), 1)
    first = b.Unsqueeze(s.first, [3])
    kind = s.near.dtype
    assert kind is not None
    parts = []
    for step, weight in ((0, s.near), (1, s.far)):
        hits = b.Cast(b.Equal(b.Add(first, [step]) if step else first, places), to=kind.value)
        parts.append(b.Mul(hits, b.Unsqueeze(b.Mul(weight, s.share), [3])))
    matrix: ir.Value = b.ReduceSum(b.Add(*parts), [2], keepdims=0)
    return matrix if kind == dtype_of(like) else b.Cast(matrix, to=dtype_of(like).value)


def _by_bins(b: Reverse, v: ir.Value) -> ir.Value:
    """[R, C, bins, length] -> [R·bins, C·length]."""
    turned = b.Transpose(v, perm=[0, 2, 1, 3])
    out: ir.Value = b.Reshape(turned, join(b, _product(b, v, 0, 2), _product(b, v, 1, 3)), allowzero=1)
    return out


def _product(b: Reverse, v: ir.Value, i: int, j: int) -> list[int] | ir.Value:
    """The product of two dimensions of ``v``, as a part for :func:`join`."""
    first, second = size(b, v, i), size(b, v, j)
    if isinstance(first, int) and isinstance(second, int):
        return [first * second]
    product: ir.Value = b.Mul(*(n if isinstance(n, ir.Value) else b.const(np.array([n])) for n in (first, second)))
    return product


def _images(b: Reverse, node: ir.Node, like: ir.Value) -> ir.Value | None:
    """[R, 1, N, 1] 0/1: which image a region lies in; None where there is one image."""
    x = operand(node, 0)
    if (dims(x) or (None,))[0] == 1:
        return None
    zero_one = np.array([0, 1], np.float32)  # ONNX Runtime has OneHot of floats, not of doubles
    count = scalar(b, size(b, x, 0))
    hot: ir.Value = b.Unsqueeze(b.OneHot(operand(node, 2), count, zero_one), [1, 3])
    return hot if dtype_of(like) == ir.DataType.FLOAT else b.Cast(hot, to=dtype_of(like).value)


def _matrix_back(b: Reverse, node: ir.Node, product: ir.Value, x: ir.Value) -> ir.Value:
    """[R, bins, length]: Σ_{c,w} product[r, c, i, w] · x[n_r, c, h, w]."""
    columns = b.Transpose(x, perm=[1, 3, 0, 2])  # [C, W, N, H]
    flat = b.Reshape(columns, join(b, _product(b, x, 1, 3), _product(b, x, 0, 2)), allowzero=1)
    shape = join(b, *(vector(size(b, v, a)) for v, a in ((product, 0), (product, 2), (x, 0), (x, 2))))
    each = b.Reshape(b.MatMul(_by_bins(b, product), flat), shape, allowzero=1)
    hot = _images(b, node, product)
    total: ir.Value = b.ReduceSum(each if hot is None else b.Mul(each, hot), [2], keepdims=0)
    return total


def _ends(b: Reverse, s: AxisSamples, matrix: ir.Value, node: ir.Node, axis: int) -> tuple[ir.Value, ir.Value]:
    """The cotangents [R] of a region's start and end, from that of its matrix."""
    top = plus(b, size(b, operand(node, 0), axis), -1)
    after = b.Min(b.Add(s.first, [1]), [top] if isinstance(top, int) else top)
    step = b.Sub(*(_along_last(b, matrix, index) for index in (after, s.first)))
    kind = s.slope.dtype
    assert kind is not None
    moved = b.Mul(b.Cast(step, to=kind.value), b.Mul(s.slope, s.share))
    start, end = (b.ReduceSum(b.Mul(moved, part), [1, 2], keepdims=0) for part in (s.to_start, s.to_end))
    return start, end


def _along_last(b: Reverse, matrix: ir.Value, index: ir.Value) -> ir.Value:
    """matrix[r, i, index[r, i, s]]."""
    shape = b.Shape(matrix)
    lead = b.Slice(shape, [0], [2])
    rows = b.Reshape(b.Range(0, b.ReduceProd(lead, keepdims=0), 1), b.Concat(lead, [1], axis=0), allowzero=1)
    out: ir.Value = b.Gather(b.Reshape(matrix, [-1]), b.Add(index, b.Mul(rows, b.Slice(shape, [2], [3]))))
    return out
