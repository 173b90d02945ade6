"""Reductions, CumSum and CumProd. The reduced axes come back as ones (:func:`spread`), then everything broadcasts.

ReduceMax and ReduceMin share a cotangent evenly among tied elements, as torch.amax does. ReduceL2 and ReduceL1 have
gradient 0 where the element (L1) or the norm (L2) is 0.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of, dims, rank
from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import as_mask, dtype_of, operand, optional
from graph_tools.vjp.table import nondiff, vjp

_OPERATORS = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")


@vjp("ReduceSum", 0)
def reduce_sum(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1."""
    return b.expand_like(spread(b, node, ct), operand(node, 0))


@vjp("ReduceMean", 0)
def reduce_mean(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1/n for n elements per mean."""
    x, n = operand(node, 0), _count(node)
    share = b.const(1.0 / n, like=ct) if n is not None else _reciprocal_count(b, node)
    return b.expand_like(spread(b, node, b.Mul(ct, share)), x)


@vjp("ReduceMax", 0)
@vjp("ReduceMin", 0)
def reduce_extremum(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1/t at the t elements that equal the extremum, else 0."""
    x, y = operand(node, 0), node.outputs[0]
    tied = as_mask(b, b.Equal(x, spread(b, node, y)), x)
    share = b.Reciprocal(_again(b, node, "ReduceSum", tied))
    return b.times(b.times(spread(b, node, ct), share, y), tied, x)


@vjp("ReduceProd", 0)
def reduce_prod(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The product of the other elements: Π(nonzero)/(x or 1) where no other element is 0, else 0."""
    x, y = operand(node, 0), node.outputs[0]
    zero = as_mask(b, b.Equal(x, b.const(0.0, like=x)), x)
    nonzero = b.Add(x, zero)  # x, and 1 in place of 0
    others = b.Sub(_again(b, node, "ReduceSum", zero), zero)
    alone = as_mask(b, b.Equal(others, b.const(0.0, like=x)), x)
    product = _again(b, node, "ReduceProd", nonzero)
    return b.times(b.times(spread(b, node, ct), product, y), b.Div(alone, nonzero), x)


@vjp("ReduceL1", 0)
def reduce_l1(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Sign of x."""
    x = operand(node, 0)
    return b.times(spread(b, node, ct), b.Sign(x), x)


@vjp("ReduceL2", 0)
def reduce_l2(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """x/y; 0 where y = 0."""
    x, y = operand(node, 0), node.outputs[0]
    norm = b.Add(y, as_mask(b, b.Equal(y, b.const(0.0, like=y)), y))  # x is 0 wherever the norm is
    return b.times(spread(b, node, b.times(ct, b.Reciprocal(norm), y)), x)


@vjp("ReduceSumSquare", 0)
def reduce_sum_square(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """2x."""
    return b.times(spread(b, node, b.Mul(ct, 2.0)), operand(node, 0))


@vjp("ReduceLogSum", 0)
def reduce_log_sum(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """1/Σx = exp(−y)."""
    y = node.outputs[0]
    return b.expand_like(spread(b, node, b.times(ct, b.Exp(b.Neg(y)), y)), operand(node, 0))


@vjp("ReduceLogSumExp", 0)
def reduce_log_sum_exp(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """exp(x − y); 0 where all elements are −∞."""
    x, y = operand(node, 0), node.outputs[0]
    lowest = float(np.finfo(dtype_of(y).numpy()).min) if y.dtype != ir.DataType.BFLOAT16 else -3e38
    finite = b.Max(y, b.const(lowest, like=y))
    return b.times(spread(b, node, ct), b.Exp(b.Sub(x, spread(b, node, finite))), x)


@vjp("CumSum", 0)
def cum_sum(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The cumulative sum from the other end."""
    reverse, exclusive = node.attributes.get_int("reverse", 0), node.attributes.get_int("exclusive", 0)
    return b.CumSum(ct, node.inputs[1], reverse=1 - reverse, exclusive=exclusive)


@vjp("CumProd", 0)
def cum_prod(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Σ over the products that hold x of ct·(product of their other factors), zeros counted instead of divided by."""
    x, axis = operand(node, 0), operand(node, 1)
    reverse, exclusive = node.attributes.get_int("reverse", 0), node.attributes.get_int("exclusive", 0)
    none, one = b.const(0.0, like=x), b.const(1.0, like=x)
    zero = as_mask(b, b.Equal(x, none), x)
    nonzero = b.Add(x, zero)
    product = b.CumProd(nonzero, axis, reverse=reverse, exclusive=exclusive)
    zeros = b.CumSum(zero, axis, reverse=reverse, exclusive=exclusive)
    first = b.Mul(zero, as_mask(b, b.Equal(b.CumSum(zero, axis, reverse=reverse, exclusive=1), none), x))
    weights = (b.Div(b.Sub(one, zero), nonzero), none), (first, one)  # x ≠ 0: no zero in the product; x = 0: itself
    sums = []
    for weight, allowed in weights:
        factors = b.Mul(product, as_mask(b, b.Equal(zeros, allowed), x))
        later = b.CumSum(b.times(ct, factors, x), axis, reverse=1 - reverse, exclusive=exclusive)
        sums.append(b.times(later, weight, x))
    return b.Add(*sums)


def spread(b: Reverse, node: ir.Node, v: ir.Value) -> ir.Value:
    """``v``, shaped like the reduction's output or its cotangent, with ones in place of the axes reduced away."""
    if node.attributes.get_int("keepdims", 1):
        return v
    axes, known = optional(node, 1), reduced_axes(node)
    if known is not None:
        return b.Unsqueeze(v, list(known)) if known else v
    if axes is not None:
        return b.Unsqueeze(v, axes)  # an empty list: a scalar, or nothing was reduced
    ones = b.Expand(b.const(np.array([1], np.int64)), b.Shape(b.Shape(operand(node, 0))))
    return b.Reshape(v, ones)


def reduced_axes(node: ir.Node) -> tuple[int, ...] | None:
    """The axes that the node reduces, as given or all of them; None where only the run knows."""
    axes, r = optional(node, 1), rank(operand(node, 0))
    known = None if axes is None else array_of(axes)
    if axes is not None and known is None:
        return None
    if known is not None and known.size:
        return tuple(int(a) for a in known.reshape(-1))
    if node.attributes.get_int("noop_with_empty_axes", 0):
        return ()
    return None if r is None else tuple(range(r))


def _again(b: Reverse, node: ir.Node, operator: str, v: ir.Value) -> ir.Value:
    """``v`` reduced over the node's axes, kept as ones."""
    noop = node.attributes.get_int("noop_with_empty_axes", 0)
    return getattr(b, operator)(v, optional(node, 1), keepdims=1, noop_with_empty_axes=noop)


def _count(node: ir.Node) -> int | None:
    """Elements per reduced one, where known."""
    shape, axes = dims(operand(node, 0)), reduced_axes(node)
    if shape is None or axes is None:
        return None
    sizes = [shape[a] for a in axes]
    return None if any(s is None for s in sizes) else math.prod(s for s in sizes if s is not None)


def _reciprocal_count(b: Reverse, node: ir.Node) -> ir.Value:
    """1/n from the sizes of the primals: their ratio does not depend on the rows."""
    x, y = operand(node, 0), node.outputs[0]
    sizes = [b.Cast(b.Size(v), to=ir.DataType.FLOAT.value) for v in (y, x)]
    return b.Cast(b.Div(*sizes), to=dtype_of(x).value)


for _name in _OPERATORS:
    nondiff(f"Reduce{_name}", 1)
nondiff("CumSum", 1)
nondiff("CumProd", 1)
