"""Quantisation, by the straight-through estimator (Bengio et al. 2013, arXiv:1308.3432).

Rounding counts as the identity and saturation as a clip, so the gradient is that of the float function that the
quantised graph stands for. The integers in between have float32 cotangents in units of the integer (so have 8-bit
floats). Scales have the gradient of that function too: of x → quantise → dequantise it is round(x / s) − x / s (Esser
et al. 2020, Learned Step Size Quantization, arXiv:1902.08153). Zero points have none.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of, dims
from graph_tools.reverse import FLOATS, Reverse
from graph_tools.vjp.pointwise import as_mask, operand, optional
from graph_tools.vjp.selection import scalar, size
from graph_tools.vjp.table import carries_integers, nondiff, vjp

F32 = ir.DataType.FLOAT

for _domain in ("", "com.microsoft::"):  # ONNX Runtime's take 16-bit integers at any opset
    nondiff(f"{_domain}QuantizeLinear", 2)
    nondiff(f"{_domain}DequantizeLinear", 2)
    carries_integers(f"{_domain}QuantizeLinear")
carries_integers("DynamicQuantizeLinear")


@vjp("com.microsoft::QuantizeLinear", 0)
@vjp("QuantizeLinear", 0)
def quantize(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ct / scale where round(x / scale) + zero point lies in the integer's range, both ends included; else 0."""
    x = operand(node, 0)
    scale = _along(b, node, operand(node, 1), x)
    inside = _inside(b, node, scale)
    slope = b.Where(inside, b.Reciprocal(scale), b.const(0.0, like=scale))
    return b.times(ct, slope, x)


@vjp("com.microsoft::QuantizeLinear", 1)
@vjp("QuantizeLinear", 1)
def quantize_scale(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """−Σ ct · x / scale² over what the scale applies to, where nothing is clipped."""
    x, parameter = operand(node, 0), operand(node, 1)
    scale = _along(b, node, parameter, x)
    slope = b.Neg(b.Div(_float32(b, x), b.Mul(scale, scale)))
    slope = b.Where(_inside(b, node, scale), slope, b.const(0.0, like=slope))
    return _to_parameter(b, node, b.times(ct, slope, x), parameter, x)


def _inside(b: Reverse, node: ir.Node, scale: ir.Value) -> ir.Value:
    """Whether round(x / scale) + zero point lies in the quantised type's range."""
    x = operand(node, 0)
    units = b.Div(_float32(b, x), scale)
    if not _is_narrow_float(node.outputs[0]):
        units = b.Round(units)  # half to even, as the operator does
    zero = optional(node, 2)
    if zero is not None and not _all_zero(zero):
        units = b.Add(units, _along(b, node, zero, x))
    low, high = _range(node)
    clipped = b.Clip(units, b.const(low, like=units), b.const(high, like=units))
    return b.Equal(units, clipped)


@vjp("com.microsoft::DequantizeLinear", 0)
@vjp("DequantizeLinear", 0)
def dequantize(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """ct · scale."""
    scale = operand(node, 1)
    return b.times(_float32(b, ct), _along(b, node, scale, operand(node, 0)), scale)


@vjp("com.microsoft::DequantizeLinear", 1)
@vjp("DequantizeLinear", 1)
def dequantize_scale(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Σ ct · (x − zero point) over what the scale applies to."""
    x, parameter, zero = operand(node, 0), operand(node, 1), optional(node, 2)
    units = _float32(b, x)
    if zero is not None and not _all_zero(zero):
        units = b.Sub(units, _along(b, node, zero, x))
    return _to_parameter(b, node, b.times(_float32(b, ct), units, x), parameter, x)


@vjp("DynamicQuantizeLinear", 0)
def dynamic_quantize(
    b: Reverse, node: ir.Node, ct: ir.Value | None, ct_scale: ir.Value | None = None, *_zero: ir.Value | None
) -> ir.Value | None:
    """ct / scale: the range is chosen to hold every x. What x does to the scale is not followed.

    Only where nothing reads the integers: scale = (max(x, 0) − min(x, 0)) / 255, ties sharing the cotangent.
    """
    if ct is not None:
        return b.Div(ct, b.extra_output(node, 1))
    if ct_scale is None:
        return None
    x = operand(node, 0)
    total = None
    for reduce, sign in ((b.ReduceMax, 1.0), (b.ReduceMin, -1.0)):
        end = reduce(x, keepdims=0)
        at = as_mask(b, b.Equal(x, end), x)
        reached = as_mask(b, b.Greater(b.Mul(end, sign), 0.0), x)
        share = b.Mul(at, b.Div(b.Mul(reached, sign / 255.0), b.ReduceSum(at, keepdims=0)))
        total = share if total is None else b.Add(total, share)
    return b.Mul(total, ct_scale)


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


def _to_parameter(b: Reverse, node: ir.Node, v: ir.Value, parameter: ir.Value, x: ir.Value) -> ir.Value:
    """``v``, in the shape of x, summed over the elements that each scale applies to."""
    block = node.attributes.get_int("block_size", 0)
    known = dims(parameter)
    r = b.rank_of(x)
    if block:
        axis = node.attributes.get_int("axis", 1) % r
        short = b.Mod(b.Neg(b.Slice(b.Shape(v), [axis], [axis + 1])), block)
        ends = [[0] * (r + axis), [0] * (r - axis - 1)]
        parts = [np.array(ends[0], np.int64), short, np.array(ends[1], np.int64)]
        padded = b.Pad(v, b.Concat(*(p for p in parts if not (isinstance(p, np.ndarray) and p.size == 0)), axis=0))
        shape = b.Shape(padded)
        front = [b.Slice(shape, [0], [axis])] if axis else []
        back = [b.Slice(shape, [axis + 1], [r])] if axis + 1 < r else []
        target = b.Concat(*front, np.array([-1, block], np.int64), *back, axis=0)
        return b.ReduceSum(b.Reshape(padded, target, allowzero=0), [axis + 1], keepdims=0)
    if known is not None and (len(known) == 0 or known == (1,)):
        total = b.ReduceSum(v, keepdims=0)
        return b.Reshape(total, [1]) if known else total
    axis = node.attributes.get_int("axis", 1) % max(r, 1)
    others = [i for i in range(r) if i != axis]
    return b.ReduceSum(v, np.array(others, np.int64), keepdims=0) if others else v


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
