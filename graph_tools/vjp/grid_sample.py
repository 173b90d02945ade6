"""GridSample and AffineGrid: images read at positions that the graph computes (spatial transformers, optical flow).

Positions lie in [−1, 1], in the reverse order of the axes. Outside, ``zeros`` reads 0, ``border`` the nearest pixel,
``reflection`` the mirrored one; only pixels are mirrored or clamped, never positions, which gives the same samples.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of, dims
from graph_tools.reverse import Reverse
from graph_tools.vjp.axis_matrix import with_rows
from graph_tools.vjp.pointwise import dtype_of, operand
from graph_tools.vjp.sampling import Samples, Taps, joined, read, reshaped, size_product, spread, taps
from graph_tools.vjp.selection import Size, plus, scalar, size, vector
from graph_tools.vjp.spatial import join
from graph_tools.vjp.table import nondiff, vjp

_MODES = {"bilinear": "linear", "bicubic": "cubic", "trilinear": "linear"}


@vjp("GridSample", 0)
def grid_sample_image(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """x̄[index_t] += weight_t · ȳ, over the taps of every position."""
    x, grid = operand(node, 0), operand(node, 1)
    samples = _samples(b, node, x, grid)
    wide = Samples(b.widen(samples.index, grid), samples.weight, [])
    if samples.weight.shape is None or len(samples.weight.shape):
        wide = Samples(wide.index, b.widen(samples.weight, grid), [])
    points = size_product(b, [size(b, grid, a) for a in range(1, b.rank_of(x) - 1)])
    space = size_product(b, [size(b, x, a) for a in range(2, b.rank_of(x))])
    return b.reshape_like(spread(b, reshaped(b, ct, size(b, x, 1), points), wide, space), x)


@vjp("GridSample", 1)
def grid_sample_grid(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value | None:
    """ḡ_a = (pixels per unit of g) · Σ_t slope_{t,a} · Σ_c ȳ_c · x_c[index_t]; nearest: 0."""
    x, grid = operand(node, 0), operand(node, 1)
    if _mode(node) == "nearest":
        return None
    r = b.rank_of(x)
    samples = _samples(b, node, x, grid, want_slopes=True)
    points = size_product(b, [size(b, grid, a) for a in range(1, r - 1)])
    rows = b.Unsqueeze(b.Transpose(reshaped(b, ct, size(b, x, 1), points), perm=[0, 2, 1]), [1])
    dots = b.ReduceSum(b.times(rows, read(b, x, samples.index), x), [3], keepdims=0)  # [N, T, P]
    columns = []
    for axis in reversed(range(r - 2)):
        moved = b.ReduceSum(b.times(dots, samples.slopes[axis], grid), [1], keepdims=0)
        columns.append(b.Unsqueeze(b.Mul(moved, _scale(b, node, x, axis + 2, ct)), [2]))
    return b.reshape_like(b.Concat(*columns, axis=2), grid)


def _mode(node: ir.Node) -> str:
    mode = node.attributes.get_string("mode", "linear") or "linear"
    return _MODES.get(mode, mode)


def _corners(node: ir.Node) -> bool:
    return bool(node.attributes.get_int("align_corners", 0))


def _scale(b: Reverse, node: ir.Node, x: ir.Value, axis: int, like: ir.Value) -> ir.Value:
    """Pixels per unit of the grid: length / 2, or (length − 1) / 2 where the corners' centres are aligned; [1]."""
    length = plus(b, size(b, x, axis), -1 if _corners(node) else 0)
    return _half(b, length, like)


def _half(b: Reverse, n: Size, like: ir.Value) -> ir.Value:
    if isinstance(n, int):
        return b.const([n / 2], like=like)
    return b.Mul(b.Cast(n, to=dtype_of(like).value), b.const(0.5, like=like))


def _samples(b: Reverse, node: ir.Node, x: ir.Value, grid: ir.Value, want_slopes: bool = False) -> Samples:
    """The taps of every position of the grid. In pixels: (g + 1)·length/2 − ½, or (g + 1)·(length − 1)/2."""
    r = b.rank_of(x)
    space = [size(b, x, a) for a in range(2, r)]
    points = size_product(b, [size(b, grid, a) for a in range(1, r - 1)])
    flat = reshaped(b, grid, points, r - 2)
    padding = node.attributes.get_string("padding_mode", "zeros") or "zeros"
    axes: list[Taps] = []
    for i, length in enumerate(space):
        g = b.Gather(flat, b.const(np.array(r - 3 - i)), axis=2)
        position = b.Mul(b.Add(g, b.const(1.0, like=g)), _scale(b, node, x, i + 2, g))
        if not _corners(node):
            position = b.Sub(position, b.const(0.5, like=g))
        axes.append(taps(b, position, length, _mode(node), padding, _corners(node)))
    return joined(b, axes, space, want_slopes)


@vjp("AffineGrid", 0)
def affine_grid(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """grid = base · θᵀ with rows (x, y, (z), 1) of the base: θ̄ᵀ = baseᵀ · ȳ."""
    theta = operand(node, 0)
    known = dims(operand(node, 1)) or (None,)
    r = b.rank_of(node.outputs[0]) - 2 if known[0] is None else known[0] - 2
    base = _base(b, node, r, ct)
    flat = reshaped(b, ct, size_product(b, [size(b, ct, a) for a in range(1, r + 1)]), r)
    product = b.MatMul(with_rows(b, b.Transpose(base, perm=[1, 0]), flat, 3), flat)
    return b.shaped_like(b.Transpose(product, perm=[0, 2, 1]), theta)


nondiff("AffineGrid", 1)


def _base(b: Reverse, node: ir.Node, r: int, like: ir.Value) -> ir.Value:
    """[P, r + 1]: the coordinates of every position, the last axis of space first, and 1."""
    sizes = array_of(operand(node, 1))
    spaces: list[Size] = (
        [int(n) for n in sizes[2:]] if sizes is not None else [size(b, like, a) for a in range(1, r + 1)]
    )
    shape = join(b, *(vector(n) for n in spaces), [1])
    columns = []
    for axis in reversed(range(r)):
        line = _line(b, spaces[axis], _corners(node), like)
        along = b.Reshape(line, join(b, [1] * axis, [-1], [1] * (r - axis)))
        columns.append(b.Expand(along, shape))
    columns.append(b.Expand(b.const(1.0, like=like), shape))
    points = size_product(b, spaces)
    return b.Reshape(b.Concat(*columns, axis=r), join(b, vector(points), [r + 1]))


def _line(b: Reverse, n: Size, corners: bool, like: ir.Value) -> ir.Value:
    """[n]: −1 … 1 over the centres of the outer pixels (one pixel: −1), or over their edges: (2i + 1)/n − 1."""
    if isinstance(n, int):
        steps = np.arange(n)
        return b.const(2 * steps / max(n - 1, 1) - 1 if corners else (2 * steps + 1) / n - 1, like=like)
    kind = dtype_of(like).value
    steps = b.Cast(b.Range(0, scalar(b, n), 1), to=kind)
    span = b.Max(plus(b, n, -1), [1]) if corners else n
    twice = b.Mul(steps, b.const(2.0, like=like))
    if not corners:
        twice = b.Add(twice, b.const(1.0, like=like))
    return b.Sub(b.Div(twice, b.Cast(span, to=kind)), b.const(1.0, like=like))
