"""DeformConv: a convolution whose taps are moved by offsets and weighted by a mask that the graph computes.

y[m, o] = Σ_{c,t} W[m, c, t] · column[c, t, o] with column[c, t, o] = mask_t[o] · x_c(o·s + t·d − p + offset_t[o]), read
linearly, 0 outside (Dai et al. 2017, arXiv:1703.06211, eq. 2; Zhu et al. 2018, arXiv:1811.11168, eq. 1).

Shapes below: N rows, M output and C input channels, g groups, f groups of offsets, T taps, P output positions, Q
pixels that a tap reads.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.reverse import Reverse
from graph_tools.vjp.axis_matrix import with_rows
from graph_tools.vjp.pointwise import dtype_of, operand, optional
from graph_tools.vjp.sampling import Samples, joined, read, reshaped, size_product, spread, taps
from graph_tools.vjp.selection import Size, scalar, size, vector
from graph_tools.vjp.spatial import conv_window, join
from graph_tools.vjp.table import vjp


@vjp("DeformConv", 0)
def deform_image(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The columns' cotangents, masked, added to the pixels that they were read from."""
    d = _Deformed(b, node, ct)
    x, offset = operand(node, 0), operand(node, 2)
    samples = d.samples(slopes=False)
    wide = [
        d.merged(b.widen(d.split(v, d.pixels(v), d.reads), offset), d.pixels(v), d.reads)
        for v in (samples.index, samples.weight)
    ]
    columns = d.merged(d.masked(d.columns_back()), d.per_offset, d.reads)
    return b.reshape_like(spread(b, columns, Samples(wide[0], wide[1], []), d.space), x)


@vjp("DeformConv", 1)
def deform_weights(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """W̄[m, (c, t)] = Σ_{n,o} ȳ[n, m, o] · column[n, (c, t), o] per group."""
    d = _Deformed(b, node, ct)
    x, w = operand(node, 0), operand(node, 1)
    read_ = b.Transpose(d.sampled(), perm=[0, 1, 3, 2])  # [N, f, C/f, T·P]
    columns = d.masked(b.widen(read_, x))
    columns = reshaped(b, columns, d.groups, d.taps_per_group, d.points)
    product = b.MatMul(d.grouped_ct(), b.Transpose(columns, perm=[0, 1, 3, 2]))  # [N, g, M/g, C/g·T]
    return b.reshape_like(b.ReduceSum(product, [0], keepdims=0), w)


@vjp("DeformConv", 2)
def deform_offset(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Per axis: Σ over the pixels of a tap of (weight's slope) · Σ_c (column's cotangent, masked) · pixel."""
    d = _Deformed(b, node, ct)
    x, offset = operand(node, 0), operand(node, 2)
    samples = d.samples(slopes=True)
    pixels = d.split(read(b, d.image(), samples.index), d.pixels(samples.index), d.reads, d.per_offset)
    columns = b.Unsqueeze(b.Transpose(d.masked(d.columns_back()), perm=[0, 1, 3, 2]), [2])
    dots = b.ReduceSum(b.times(columns, pixels, x), [4], keepdims=0)  # [N, f, Q, T·P]
    parts = []
    for slope in samples.slopes:
        moved = b.times(dots, d.split(slope, d.pixels(slope), d.reads), offset)
        parts.append(reshaped(b, b.ReduceSum(moved, [2], keepdims=0), d.offsets, d.taps, 1, d.points))
    return b.reshape_like(b.Concat(*parts, axis=3), offset)


@vjp("DeformConv", 3)
def deform_bias(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The sum over rows and space."""
    axes = [0, *range(2, b.rank_of(operand(node, 0)))]
    return b.ReduceSum(ct, np.array(axes, np.int64), keepdims=0)


@vjp("DeformConv", 4)
def deform_mask(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Σ_c (column's cotangent) · sample, over the channels of the offset group."""
    d = _Deformed(b, node, ct)
    columns = b.Transpose(d.columns_back(), perm=[0, 1, 3, 2])
    products = b.times(columns, d.sampled(), operand(node, 0))  # [N, f, T·P, C/f]
    return b.reshape_like(b.ReduceSum(products, [3], keepdims=0), operand(node, 4))


class _Deformed:
    """A DeformConv on its way back: sizes, the taps of its samples, cotangents of its columns."""

    def __init__(self, b: Reverse, node: ir.Node, ct: ir.Value) -> None:
        """Read the sizes: numbers where they are known."""
        self.b, self.node, self.ct = b, node, ct
        x, w = operand(node, 0), operand(node, 1)
        self.window = conv_window(node, x, w)
        n = self.window.n
        self.groups = node.attributes.get_int("group", 1) or 1
        self.offsets = node.attributes.get_int("offset_group", 1) or 1
        self.kernel = [size(b, w, 2 + i) if k is None else k for i, k in enumerate(self.window.kernel)]
        self.out = [size(b, operand(node, 2), a) for a in range(2, n + 2)]
        self.spaces = [size(b, x, a) for a in range(2, n + 2)]
        self.space = size_product(b, self.spaces)
        self.taps, self.points = size_product(b, self.kernel), size_product(b, self.out)
        self.reads = size_product(b, [self.taps, self.points])
        per_group = size(b, w, 1)
        self.taps_per_group = size_product(b, [per_group, self.taps])
        self.per_offset = _over(b, size_product(b, [per_group, self.groups]), self.offsets)

    def image(self) -> ir.Value:
        """[N·f, C/f, *space]."""
        return self.merged(operand(self.node, 0), self.per_offset, *self.spaces)

    def merged(self, v: ir.Value, *sizes: Size) -> ir.Value:
        """[N, …] -> [N·f, *sizes]."""
        if self.offsets == 1:
            return reshaped(self.b, v, *sizes)
        rows = self.b.Mul(self.b.Shape(v, start=0, end=1), [self.offsets])
        out: ir.Value = self.b.Reshape(v, join(self.b, rows, *(vector(s) for s in sizes)), allowzero=1)
        out.shape = ir.Shape([None, *(s if isinstance(s, int) else None for s in sizes)])
        return out

    def split(self, v: ir.Value, *sizes: Size) -> ir.Value:
        """[N·f, …] -> [N, f, *sizes]."""
        b = self.b
        rows = b.Shape(operand(self.node, 0), start=0, end=1)
        out: ir.Value = b.Reshape(v, join(b, rows, [self.offsets], *(vector(s) for s in sizes)), allowzero=1)
        out.shape = ir.Shape([None, self.offsets, *(s if isinstance(s, int) else None for s in sizes)])
        return out

    def pixels(self, v: ir.Value) -> Size:
        """Q, which is axis 1 of a sample's index or weight."""
        return size(self.b, v, 1)

    def samples(self, slopes: bool) -> Samples:
        """Index, weight and slopes [N·f, Q, T·P]."""
        b, offset = self.b, operand(self.node, 2)
        n = self.window.n
        moves = reshaped(b, offset, self.offsets, self.taps, n, self.points)
        axes = []
        for i in range(n):
            here = b.Add(b.Gather(moves, b.const(np.array(i)), axis=3), self._grid(i, offset))
            axes.append(taps(b, self.merged(here, self.reads), self.spaces[i], "linear", "zeros"))
        return joined(b, axes, self.spaces, slopes)

    def sampled(self) -> ir.Value:
        """[N, f, T·P, C/f]: what the taps read, before the mask."""
        b, samples = self.b, self.samples(slopes=False)
        pixels = read(b, self.image(), samples.index)
        total = b.ReduceSum(b.Mul(pixels, b.Unsqueeze(samples.weight, [3])), [1], keepdims=0)
        return self.split(total, self.reads, self.per_offset)

    def grouped_ct(self) -> ir.Value:
        """[N, g, M/g, P]."""
        per_group = _over(self.b, size(self.b, operand(self.node, 1), 0), self.groups)
        return reshaped(self.b, self.ct, self.groups, per_group, self.points)

    def columns_back(self) -> ir.Value:
        """[N, f, C/f, T·P]: Wᵀ ȳ per group, the cotangents of the columns."""
        b, w = self.b, operand(self.node, 1)
        rows = _over(b, size(b, w, 0), self.groups)
        matrices = b.Reshape(w, join(b, [self.groups], vector(rows), vector(self.taps_per_group)))
        turned = b.Transpose(matrices, perm=[0, 2, 1])
        ct = self.grouped_ct()
        return reshaped(b, b.MatMul(with_rows(b, turned, ct, 4), ct), self.offsets, self.per_offset, self.reads)

    def masked(self, columns: ir.Value) -> ir.Value:
        """``columns`` [N, f, C/f, T·P] times the mask."""
        mask = optional(self.node, 4)
        if mask is None:
            return columns
        return self.b.times(columns, reshaped(self.b, mask, self.offsets, 1, self.reads), mask)

    def _grid(self, axis: int, like: ir.Value) -> ir.Value:
        """[T, P]: o·s + t·d − p along ``axis``."""
        b, window = self.b, self.window
        before = window.before[axis]
        assert before is not None
        tap = _line(b, self.kernel, axis, window.dilations[axis], 0)
        place = _line(b, self.out, axis, window.strides[axis], -before)
        return b.Cast(b.Add(b.Unsqueeze(tap, [1]), place), to=dtype_of(like).value)


def _over(b: Reverse, n: Size, divisor: int) -> Size:
    if isinstance(n, int):
        return n // divisor
    return n if divisor == 1 else b.Div(n, [divisor])


def _line(b: Reverse, sizes: list[Size], axis: int, step: int, start: int) -> ir.Value:
    """int64 [∏ sizes]: start + step·(position along ``axis``) for every position of a block of ``sizes``."""
    if all(isinstance(n, int) for n in sizes):
        return b.const(np.indices(sizes)[axis].reshape(-1) * step + start)  # type: ignore[arg-type]
    steps = b.Add(b.Mul(b.Range(0, scalar(b, sizes[axis]), 1), [step]), [start])
    along = b.Reshape(steps, [1] * axis + [-1] + [1] * (len(sizes) - axis - 1))
    return b.Reshape(b.Expand(along, join(b, *(vector(n) for n in sizes))), [-1])
