"""Reading an image at fractional positions: taps, weights, and both adjoints of the reading.

A sample is Σ_t weight_t · x[index_t] over the taps around its position, separable over the axes. It is linear in x
(its adjoint scatters weighted cotangents) and piecewise smooth in the position (the slopes of the weights). Images are
[N, C, *space], positions and cotangents of the samples [N, P] and [N, C, P].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
import onnx_ir as ir

from graph_tools.reverse import Reverse
from graph_tools.vjp.selection import Size, plus, scatter_add, size, vector
from graph_tools.vjp.spatial import join

_KEYS = -0.75
"""Coefficient of the cubic kernel in GridSample (Keys 1981, eq. 4, with a = −0.75)."""


@dataclass(frozen=True)
class Taps:
    """What every position reads along one axis; one entry per tap.

    Attributes:
        index: int64, inside the axis.
        weight: floats of the positions' shape; 0 where the tap reads padding.
        slope: the weights' derivatives by the position.
    """

    index: list[ir.Value]
    weight: list[ir.Value]
    slope: list[ir.Value]


def taps(
    b: Reverse, position: ir.Value, length: Size, mode: str, padding: str, corners: bool = False, cubic: float = _KEYS
) -> Taps:
    """The taps around each position.

    Args:
        b: the emitter.
        position: in pixels, 0 = centre of the first one.
        length: of the axis.
        mode: ``nearest`` (half to even), ``linear`` or ``cubic``.
        padding: ``zeros``, ``border`` or ``reflection``: what lies outside.
        corners: reflection is about the centres of the outer pixels instead of their edges.
        cubic: coefficient of the cubic kernel.
    """
    if padding != "reflection":  # 3 pixels outside, only padding is read: positions too large for integers end there
        last = b.Cast(_shaped(b, plus(b, length, 2)), to=position.dtype.value)  # type: ignore[union-attr]
        position = b.Max(b.Min(position, last), b.const([-3.0], like=position))
    weights: list[tuple[ir.Value, ir.Value | None]] = [(b.const(1.0, like=position), None)]
    start = b.Round(position) if mode == "nearest" else b.Floor(position)
    if mode != "nearest":
        fraction = b.Sub(position, start)
        weights = _linear(b, fraction) if mode == "linear" else _cubic(b, fraction, cubic)
    first = b.Cast(start, to=ir.DataType.INT64.value)
    if mode == "cubic":
        first = b.Sub(first, [1])
    found = Taps([], [], [])
    for t, (weight, slope) in enumerate(weights):
        index, inside = _padded(b, b.Add(first, [t]) if t else first, length, padding, corners)
        if inside is not None:
            mask = b.Cast(inside, to=position.dtype.value)  # type: ignore[union-attr]
            weight, slope = b.Mul(weight, mask), None if slope is None else b.Mul(slope, mask)
        found.index.append(index)
        found.weight.append(weight)
        if slope is not None:
            found.slope.append(slope)
    return found


def _linear(b: Reverse, f: ir.Value) -> list[tuple[ir.Value, ir.Value | None]]:
    """1 − f and f."""
    one = b.const(1.0, like=f)
    return [(b.Sub(one, f), b.const(-1.0, like=f)), (f, one)]


def _cubic(b: Reverse, f: ir.Value, a: float) -> list[tuple[ir.Value, ir.Value | None]]:
    """Keys' kernel at the distances f + 1, f, 1 − f, 2 − f, as polynomials in f."""
    rows = [(a, -2 * a, a, 0), (a + 2, -(a + 3), 0, 1), (-(a + 2), 2 * a + 3, -a, 0), (-a, a, 0, 0)]
    return [
        (_polynomial(b, f, row), _polynomial(b, f, (3 * row[0], 2 * row[1], row[2]))) for row in rows
    ]  # fmt: skip


def _polynomial(b: Reverse, f: ir.Value, coefficients: Sequence[float]) -> ir.Value:
    """Horner's scheme, highest power first."""
    total = b.const(float(coefficients[0]), like=f)
    for c in coefficients[1:]:
        total = b.Mul(total, f)
        total = b.Add(total, b.const(float(c), like=f)) if c else total
    return total


def _padded(b: Reverse, index: ir.Value, length: Size, padding: str, corners: bool) -> tuple[ir.Value, ir.Value | None]:
    """The index inside the axis, and (bool) where it was before; None where padding has pixels of its own."""
    if padding == "reflection":
        top = plus(b, _twice(b, length), -2 if corners else -1)
        period = b.Max(_shaped(b, plus(b, top, 0 if corners else 1)), [1])
        m = b.Mod(index, period)
        return b.Min(m, b.Sub(_shaped(b, top), m)), None
    inside = b.Max(b.Min(index, _shaped(b, plus(b, length, -1))), [0])
    return inside, None if padding == "border" else b.Equal(inside, index)


def _twice(b: Reverse, n: Size) -> Size:
    return 2 * n if isinstance(n, int) else b.Mul(n, [2])


def _shaped(b: Reverse, n: Size) -> ir.Value:
    """int64 [1]."""
    return b.const(np.array([n])) if isinstance(n, int) else n


def size_product(b: Reverse, sizes: Sequence[Size]) -> Size:
    """The number of elements of a block of these sizes."""
    known = prod(n for n in sizes if isinstance(n, int))
    total: Size = known
    for n in sizes:
        if not isinstance(n, int):
            total = n if isinstance(total, int) and total == 1 else b.Mul(n, vector(total))
    return total


def reshaped(b: Reverse, v: ir.Value, *sizes: Size) -> ir.Value:
    """``v`` with its rows and these sizes: [N, *sizes]; sizes may be 0."""
    if all(isinstance(n, int) and n > 0 for n in sizes):
        out: ir.Value = b.Reshape(v, join(b, [0], *(vector(n) for n in sizes)))
    else:
        rows = size(b, v, 0)
        out = b.Reshape(v, join(b, vector(rows), *(vector(n) for n in sizes)), allowzero=1)
    if out.shape is None:
        out.shape = ir.Shape([None, *(n if isinstance(n, int) else None for n in sizes)])
    return out


@dataclass(frozen=True)
class Samples:
    """Positions inside an image, all taps of all axes joined.

    Attributes:
        index: int64 [N, T, P], into the flattened space.
        weight: [N, T, P].
        slopes: one [N, T, P] per spatial axis: the weights' derivatives by the position along it.
    """

    index: ir.Value
    weight: ir.Value
    slopes: list[ir.Value]


def joined(b: Reverse, axes: Sequence[Taps], space: Sequence[Size], want_slopes: bool = False) -> Samples:
    """All combinations of the taps of the axes (each [N, P]) as one axis T."""
    parts: list[tuple[ir.Value, ir.Value, list[ir.Value]]] = []
    for chosen in product(*(range(len(t.index)) for t in axes)):
        index = axes[0].index[chosen[0]]
        for axis, t in enumerate(chosen[1:], 1):
            index = b.Add(b.Mul(index, _shaped(b, space[axis])), axes[axis].index[t])
        weights = [a.weight[t] for a, t in zip(axes, chosen, strict=True)]
        slopes = []
        if want_slopes:
            for axis, t in enumerate(chosen):
                slopes.append(_times_all(b, [*weights[:axis], axes[axis].slope[t], *weights[axis + 1 :]]))
        parts.append((index, _times_all(b, weights), slopes))
    stacked = [_stack(b, column) for column in ([p[0] for p in parts], [p[1] for p in parts])]
    return Samples(stacked[0], stacked[1], [_stack(b, list(c)) for c in zip(*(p[2] for p in parts), strict=True)])


def _times_all(b: Reverse, factors: Sequence[ir.Value]) -> ir.Value:
    total = factors[0]
    for f in factors[1:]:
        total = b.Mul(total, f)
    return total


def _stack(b: Reverse, columns: list[ir.Value]) -> ir.Value:
    """[N, P] each -> [N, T, P]; a weight that is the same everywhere stays a scalar only where it is alone."""
    if len(columns) == 1:
        return b.Unsqueeze(columns[0], [1]) if columns[0].shape is None or len(columns[0].shape) else columns[0]
    return b.Concat(*(b.Unsqueeze(c, [1]) for c in columns), axis=1)


def read(b: Reverse, x: ir.Value, index: ir.Value) -> ir.Value:
    """[N, T, P, C]: the pixels of ``x`` [N, C, *space] at ``index`` [N, T, P], channels last: whole rows are copied."""
    r = b.rank_of(x)
    space = size_product(b, [size(b, x, a) for a in range(2, r)])
    rows = b.Transpose(reshaped(b, x, size(b, x, 1), space), perm=[0, 2, 1])
    out: ir.Value = b.GatherND(rows, b.Unsqueeze(index, [3]), batch_dims=1)
    if out.shape is None:
        out.shape = ir.Shape([None] * 4)
    return out


def spread(b: Reverse, ct: ir.Value, samples: Samples, space: Size) -> ir.Value:
    """[N, C, space]: the adjoint of reading, ``ct`` [N, C, P] added to the pixels that were read.

    Index and weight have the rows of the cotangent, or one row.
    """
    weight = b.Unsqueeze(samples.weight, [1]) if samples.weight.shape else samples.weight
    weighted = b.Mul(b.Unsqueeze(ct, [2]), weight)
    index = b.Expand(b.Unsqueeze(samples.index, [1]), b.Shape(weighted))
    target = [size(b, ct, 1), size_product(b, [size(b, weighted, 2), size(b, weighted, 3)])]
    shape = join(b, b.Shape(ct, start=0, end=2), vector(space))
    zeros = b.Expand(b.const(0.0, like=ct), shape)
    return scatter_add(b, zeros, reshaped(b, index, *target), reshaped(b, weighted, *target), axis=2)
