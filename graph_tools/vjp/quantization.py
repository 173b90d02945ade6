"""Quantisation, by the straight-through estimator (Bengio et al. 2013, arXiv:1308.3432).

Rounding counts as the identity and saturation as a clip, so the gradient is that of the float function that the
quantised graph stands for. The integers in between have float32 cotangents in units of the integer (so have 8-bit
floats). Scales and zero points are constants of the file: no gradient.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of, dims
from graph_tools.reverse import FLOATS, Reverse
from graph_tools.vjp.pointwise import operand, optional
from graph_tools.vjp.selection import scalar, size
from graph_tools.vjp.table import carries_integers, nondiff, vjp

F32 = ir.DataType.FLOAT

nondiff("QuantizeLinear", 1, 2)
nondiff("DequantizeLinear", 1, 2)
carries_integers("QuantizeLinear", "DynamicQuantizeLinear")


@vjp("QuantizeLinear", 0)
def quantize(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ct / scale where round(x / scale) + zero point lies in the integer's range, both ends included; else 0."""
    x = operand(node, 0)
    scale = _along(b, node, operand(node, 1), x)
    units = b.Div(_float32(b, x), scale)
    if not _is_narrow_float(node.outputs[0]):
        units = b.Round(units)  # half to even, as the operator does
    zero = optional(node, 2)
    if zero is not None and not _all_zero(zero):
        units = b.Add(units, _along(b, node, zero, x))
    low, high = _range(node)
    clipped = b.Clip(units, b.const(low, like=units), b.const(high, like=units))
    slope = b.Where(b.Equal(units, clipped), b.Reciprocal(scale), b.const(0.0, like=units))
    return b.times(ct, slope, x)


@vjp("DequantizeLinear", 0)
def dequantize(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ct · scale."""
    scale = operand(node, 1)
    return b.times(_float32(b, ct), _along(b, node, scale, operand(node, 0)), scale)


@vjp("DynamicQuantizeLinear", 0)
def dynamic_quantize(b: Reverse, node: ir.Node, ct: ir.Value | None, *_parameters: ir.Value | None) -> ir.Value | None:
    """ct / scale: the range is chosen to hold every x. What x does to the scale is not followed."""
    if ct is None:
        return None
    return b.Div(ct, b.extra_output(node, 1))


def _range(node: ir.Node) -> tuple[float, float]:
    """The smallest and the largest number of the quantised type."""
    kind = node.outputs[0].dtype or ir.DataType.UINT8
    if kind.is_integer():
        bits = int(kind.bitwidth)
        return (0, 2**bits - 1) if kind.name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return float(kind.min), float(kind.max)


def _is_narrow_float(v: ir.Value) -> bool:
    return v.dtype is not None and v.dtype.is_floating_point() and v.dtype not in FLOATS


def _all_zero(v: ir.Value) -> bool:
    known = array_of(v)
    return known is not None and not np.any(known.astype(np.float32))


def _float32(b: Reverse, v: ir.Value) -> ir.Value:
    return v if v.dtype == F32 else b.Cast(v, to=F32.value)


def _along(b: Reverse, node: ir.Node, parameter: ir.Value, x: ir.Value) -> ir.Value:
    """A scale or zero point as float32, in a shape that broadcasts over ``x``: per tensor, per axis, or per block."""
    block = node.attributes.get_int("block_size", 0)
    known = dims(parameter)
    v = _float32(b, parameter)
    if block:
        axis = node.attributes.get_int("axis", 1) % b.rank_of(x)
        length = scalar(b, size(b, x, axis))
        blocks = np.arange(length) // block if isinstance(length, int) else b.Div(b.Range(0, length, 1), block)
        return b.Gather(v, blocks, axis=axis)
    if known is not None and (len(known) == 0 or known == (1,)):
        return v
    rank = b.rank_of(x)
    axis = node.attributes.get_int("axis", 1) % max(rank, 1)
    return b.Reshape(v, [-1] + [1] * (rank - axis - 1))
