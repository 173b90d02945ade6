"""Linear maps along one axis, as matrices: window sums of the pools at any stride, pad and dilation.

A separable operator (pooling, resizing) is one matrix per axis; its adjoint is two or three MatMuls. Matrices are
constants where the sizes are known, else they are built at run time.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import dims
from graph_tools.reverse import Reverse
from graph_tools.vjp.spatial import Window, sizes


def contract(b: Reverse, v: ir.Value, r: int, axis: int, matrix: ir.Value) -> ir.Value:
    """Replace ``axis`` (length a) of ``v`` (rank r) by its product with ``matrix`` [a, c]: Σ_a v[…,a,…]·matrix[a,c]."""
    if axis == r - 1:
        return b.MatMul(v, matrix)
    if axis == r - 2:
        return b.MatMul(with_rows(b, b.Transpose(matrix, perm=[1, 0]), v, r), v)
    order = [*(a for a in range(r) if a != axis), axis]
    product = b.MatMul(b.Transpose(v, perm=order), matrix)
    return b.Transpose(product, perm=[int(a) for a in np.argsort(order)])


def with_rows(b: Reverse, left: ir.Value, v: ir.Value, r: int) -> ir.Value:
    """``left`` for a product with ``v`` (rank r), repeated over the rows of ``v`` where there may be none.

    ONNX Runtime's MatMul broadcasts a single matrix over any number of rows but 0.
    """
    rows = (dims(v) or (None,))[0]
    if r < 3 or rows:
        return left
    found: ir.Value = b.Expand(left, b.Concat(b.Shape(v, start=0, end=1), [1] * (r - 1), axis=0))
    return found


def taps(window: Window, i: int) -> np.ndarray:
    """[grid, image] 0/1: which image positions each window along axis ``i`` reads. Needs known sizes."""
    size, grid = window.image[i], window.grid[i]
    assert size is not None and grid is not None
    return _reads(window, i, grid, np.arange(size))


def counts(window: Window, i: int, include_pad: bool) -> np.ndarray:
    """[grid]: taps per window along axis ``i``, in the image or (``include_pad``) in image and pads.

    A partial window of ceil_mode counts only up to the end of the pad, as in ONNX Runtime.
    """
    size, grid, before, after = window.image[i], window.grid[i], window.before[i], window.after[i]
    assert size is not None and grid is not None and before is not None and after is not None
    positions = np.arange(-before, size + after) if include_pad else np.arange(size)
    total: np.ndarray = _reads(window, i, grid, positions).sum(axis=1)
    return total


def _reads(window: Window, i: int, grid: int, positions: np.ndarray) -> np.ndarray:
    kernel, before = window.kernel[i], window.before[i]
    assert kernel is not None and before is not None
    offset = positions[None, :] - (np.arange(grid)[:, None] * window.strides[i] - before)
    d = window.dilations[i]
    return (offset >= 0) & (offset <= (kernel - 1) * d) & (offset % d == 0)


def taps_at_run(
    b: Reverse, window: Window, i: int, image: ir.Value, grid: ir.Value, include_pad: bool | None
) -> ir.Value:
    """[grid, image]: :func:`taps`, divided by :func:`counts` unless ``include_pad`` is None; sizes unknown.

    Args:
        b: the emitter.
        window: its image sizes and pads may be unknown.
        i: spatial axis.
        image: a value with the image's shape.
        grid: the cotangent with the grid's shape; gives the dtype.
        include_pad: what the counts count.
    """
    size, count = (b.Slice(sizes(b, v), [i], [i + 1]) for v in (image, grid))
    before, after = _pool_pads_at_run(b, window, i, size)
    kernel, stride, d = window.kernel[i], window.strides[i], window.dilations[i]
    assert kernel is not None
    start = b.Unsqueeze(b.Sub(b.Mul(_range(b, count), [stride]), before), [1])
    offset = b.Sub(_range(b, size), start)
    reads = b.And(b.GreaterOrEqual(offset, [0]), b.LessOrEqual(offset, [(kernel - 1) * d]))
    if d > 1:
        reads = b.And(reads, b.Equal(b.Mod(offset, [d]), [0]))
    kind = ir.DataType.DOUBLE if grid.dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT
    matrix = b.Cast(reads, to=kind.value)
    if include_pad is not None:
        held = reads
        if include_pad:
            positions = b.Add(start, np.arange(kernel, dtype=np.int64) * d)
            held = b.Less(positions, b.Add(size, after))
        matrix = b.Div(matrix, b.ReduceSum(b.Cast(held, to=kind.value), [1], keepdims=1))
    return matrix if grid.dtype == kind else b.Cast(matrix, to=grid.dtype.value)  # type: ignore[union-attr]


def _pool_pads_at_run(b: Reverse, window: Window, i: int, size: ir.Value) -> tuple[ir.Value, ir.Value]:
    """int64 [1] each: a pool's pads; SAME: total = (ceil(size / stride) − 1)·stride + k − size."""
    before, after, kernel, stride = window.before[i], window.after[i], window.kernel[i], window.strides[i]
    if before is not None and after is not None:
        return b.const(np.array([before])), b.const(np.array([after]))
    assert kernel is not None
    full = b.Mul(b.Div(b.Add(size, [stride - 1]), [stride]), [stride])
    total = b.Sub(b.Add(full, [kernel - stride]), size)
    front = b.Div(total if window.upper else b.Add(total, [1]), [2])
    return front, b.Sub(total, front)


def _range(b: Reverse, length: ir.Value) -> ir.Value:
    """int64: 0 … length − 1, for a length of shape [1]."""
    zero, one = (b.const(np.array(v, np.int64)) for v in (0, 1))
    return b.Range(zero, b.Squeeze(length, [0]), one)
