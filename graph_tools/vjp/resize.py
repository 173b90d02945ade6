"""Resize: every mode is linear in x and separable, so its adjoint is one matrix product per resized axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of, dims
from graph_tools.reverse import Reverse
from graph_tools.vjp.axis_matrix import contract
from graph_tools.vjp.resize_formula import axis_of, common_scale, formula
from graph_tools.vjp.selection import size
from graph_tools.vjp.spatial import join
from graph_tools.vjp.table import carries_integers, nondiff, vjp

_SHAPING = ("mode", "coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a", "exclude_outside", "antialias")
_COPYING = {
    ("asymmetric", "floor"),
    ("tf_half_pixel_for_nn", "floor"),
    *((half, to) for half in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
      for to in ("round_prefer_floor", "round_prefer_ceil")),
}  # fmt: skip
"""(coordinates, rounding) with which nearest, at whole scales s, copies every element to s neighbours."""


@vjp("Resize", 0)
def resize(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value | None:
    """x̄ = R_hᵀ ȳ R_w; columns of R are the same Resize of unit vectors. Whole nearest: sums over the copies."""
    plan = _plan(b, node)
    if 0 in (dims(plan.y) or ()):
        return None
    copies = _copies(plan)
    if copies is not None:
        pooled = b.AveragePool(ct, kernel_shape=copies, strides=copies)
        return b.shaped_like(b.Mul(pooled, float(math.prod(copies))), plan.x)
    kind = ct.dtype or ir.DataType.FLOAT
    for axis in sorted(plan.axes, reverse=True):
        ct = contract(b, ct, b.rank_of(plan.x), axis, _matrix(b, plan, axis, kind))
    return b.shaped_like(ct, plan.x)


nondiff("Resize", 1, 2, 3)
carries_integers("Resize")


@dataclass(frozen=True)
class _Plan:
    """A Resize: the axes that change, and where each of them stands in roi, scales and sizes."""

    node: ir.Node
    x: ir.Value
    y: ir.Value
    given: list[int]
    axes: list[int]

    def text(self, name: str, default: str) -> str:
        return self.node.attributes.get_string(name, default) or default

    def operand(self, index: int) -> ir.Value | None:
        """An optional operand; None where absent or empty."""
        v = self.node.inputs[index] if len(self.node.inputs) > index else None
        return None if v is None or dims(v) == (0,) else v

    @property
    def crops(self) -> bool:
        return self.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"

    @property
    def policy(self) -> str:
        """What keeps the aspect ratio: not_larger, not_smaller; stretch: nothing. Only sizes can."""
        return "stretch" if self.operand(2) is not None else self.text("keep_aspect_ratio_policy", "stretch")

    def scale(self, axis: int) -> float | None:
        """The factor along an axis where the file tells it."""
        scales = array_of(self.operand(2))
        if scales is not None:
            return float(scales[self.given.index(axis)]) if axis in self.given else 1.0
        before, after = (None if d is None else d[axis] for d in (dims(self.x), dims(self.y)))
        return None if before is None or after is None else after / before


def _plan(b: Reverse, node: ir.Node) -> _Plan:
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    r = b.rank_of(x)
    given = node.attributes["axes"].as_ints() if "axes" in node.attributes else range(r)
    every = _Plan(node, x, y, [a % r for a in given], [])
    return _Plan(node, x, y, every.given, [a for a in every.given if _changes(b, every, a, r)])


def _changes(b: Reverse, plan: _Plan, axis: int, r: int) -> bool:
    """Whether the axis is resized; True where that is not known, except for a leading batch."""
    if plan.operand(2) is not None and not plan.crops and _same_size(plan):
        return False  # whatever the scales, nothing is computed
    if plan.policy != "stretch":
        both = [d[axis] for d in (dims(plan.x), dims(plan.y)) if d is not None]
        return both != [1, 1]
    if plan.crops and plan.scale(axis) is not None:
        return axis > 0 or plan.scale(axis) != 1
    scale = plan.scale(axis)
    if scale is not None:
        return scale != 1
    if axis == 0 and (r > 2 or b.is_batched(plan.x)):
        return False
    assert plan.x.shape is not None
    before, after = plan.x.shape[axis], None if plan.y.shape is None else plan.y.shape[axis]
    named = isinstance(before, ir.SymbolicDim) and before.value is not None
    return not (named and before == after)


def _same_size(plan: _Plan) -> bool:
    before, after = dims(plan.x), dims(plan.y)
    return before is not None and None not in before and before == after


def _copies(plan: _Plan) -> list[int] | None:
    """Whole scales of the spatial axes, where the operator only copies elements; else None."""
    how = (
        plan.text("coordinate_transformation_mode", "half_pixel"),
        plan.text("nearest_mode", "round_prefer_floor"),
    )
    known = dims(plan.x)
    if plan.policy != "stretch":
        return None
    if plan.text("mode", "nearest") != "nearest" or how not in _COPYING or known is None or not plan.axes:
        return None
    scales = [plan.scale(a) if a in plan.axes else 1.0 for a in range(len(known))]
    if min(plan.axes) < 2 or not 3 <= len(known) <= 5 or any(s is None or s < 1 or s != int(s) for s in scales):
        return None
    return [int(s) for s in scales[2:] if s is not None]


def _matrix(b: Reverse, plan: _Plan, axis: int, kind: ir.DataType) -> ir.Value:
    """[after, before]: the Resize of one axis as a matrix, found by resizing the rows of a unit matrix.

    Constants where the sizes are known: ONNX Runtime folds the whole chain when it loads the program.
    """
    computed = ir.DataType.DOUBLE if kind == ir.DataType.DOUBLE else ir.DataType.FLOAT
    if plan.policy != "stretch":
        return _by_formula(b, plan, axis, kind, computed)
    place, count = plan.given.index(axis), len(plan.given)
    length = _size(b, plan.x, axis)
    unit = b.OneHot(*_positions(b, length), b.const([0.0, 1.0], dtype=computed))
    rows = b.Reshape(unit, join(b, [1], length, [1], length))
    roi, scales = plan.operand(1), plan.operand(2)
    # A Resize that changes no size copies, whatever scale or roi say: then a second axis is doubled, and taken half.
    doubled = (scales is not None or plan.crops) and _may_stay(plan, axis)
    attributes: dict[str, Any] = {
        name: plan.node.attributes[name].value for name in _SHAPING if name in plan.node.attributes
    }
    lead = int(doubled)
    part = b.Gather(roi, [place, count + place]) if plan.crops and roi is not None else None
    if part is not None and part.dtype not in (None, computed):
        part = b.Cast(part, to=computed.value)  # ONNX Runtime reads roi in the type of the data
    if part is not None and doubled:
        whole = [b.const([v], like=part) for v in (0.0, 1.0)]
        part = b.Concat(whole[0], b.Slice(part, [0], [1]), whole[1], b.Slice(part, [1], [2]), axis=0)
    resized = b.Resize(
        rows,
        part,
        None if scales is None else _behind(b, b.const([2.0], like=scales), b.Gather(scales, [place]), lead),
        _behind(b, b.const([2]), _size(b, plan.y, axis), lead) if scales is None else None,
        axes=[2, 3] if doubled else [3],
        **attributes,
    )
    if doubled:
        resized = b.Slice(resized, [0], [1], [2])
    matrix = b.Transpose(b.Squeeze(resized, [0, 2]), perm=[1, 0])
    return matrix if kind == computed else b.Cast(matrix, to=kind.value)


def _may_stay(plan: _Plan, axis: int) -> bool:
    """Whether the axis may keep its size."""
    before, after = (None if d is None else d[axis] for d in (dims(plan.x), dims(plan.y)))
    return before is None or after is None or before == after


def _behind(b: Reverse, first: ir.Value, second: ir.Value, lead: int) -> ir.Value:
    found: ir.Value = b.Concat(first, second, axis=0) if lead else second
    return found


def _by_formula(b: Reverse, plan: _Plan, axis: int, kind: ir.DataType, computed: ir.DataType) -> ir.Value:
    """The same where the aspect ratio is kept."""
    wanted = plan.operand(3)
    assert wanted is not None
    before = b.Gather(b.shape_of(plan.x), np.array(plan.given, np.int64))
    scale = common_scale(b, before, wanted, plan.policy, computed)
    found = axis_of(b, scale, size(b, plan.x, axis), size(b, plan.y, axis))
    roi, place = plan.operand(1), plan.given.index(axis)
    part = None
    if plan.crops and roi is not None:
        part = b.Cast(b.Gather(roi, [place, len(plan.given) + place]), to=computed.value)
    matrix = formula(b, found, plan.node, part)
    return matrix if kind == computed else b.Cast(matrix, to=kind.value)


def _size(b: Reverse, v: ir.Value, axis: int) -> ir.Value:
    """int64 [1]: the length of an axis."""
    known = dims(v)
    if known is not None and known[axis] is not None:
        return b.const(np.array([known[axis]], np.int64))
    return b.Slice(b.shape_of(v), [axis], [axis + 1])


def _positions(b: Reverse, length: ir.Value) -> tuple[ir.Value, ir.Value]:
    """int64: 0 … length − 1, and the length as a scalar."""
    known = array_of(length)
    if known is not None:
        return b.const(np.arange(int(known[0]), dtype=np.int64)), b.const(known[0])
    zero, one = (b.const(np.array(v, np.int64)) for v in (0, 1))
    count = b.Squeeze(length, [0])
    return b.Range(zero, count, one), count
