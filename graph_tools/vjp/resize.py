"""Resize: every mode is linear in x and separable, so its adjoint is one matrix product per resized axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of, dims
from graph_tools.errors import UnsupportedGradient
from graph_tools.reverse import Reverse
from graph_tools.vjp.axis_matrix import contract
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
def resize(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """x̄ = R_hᵀ ȳ R_w; columns of R are the same Resize of unit vectors. Whole nearest: sums over the copies."""
    plan = _plan(b, node)
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
    if (node.attributes.get_string("keep_aspect_ratio_policy", "stretch") or "stretch") != "stretch":
        raise UnsupportedGradient(
            f"operator Resize (node {node.name!r}): no gradient with keep_aspect_ratio_policy; export with the sizes "
            "that it leads to, or use a black-box method",
            operator="Resize",
            node=node.name or "",
        )
    r = b.rank_of(x)
    given = node.attributes["axes"].as_ints() if "axes" in node.attributes else range(r)
    every = _Plan(node, x, y, [a % r for a in given], [])
    return _Plan(node, x, y, every.given, [a for a in every.given if _changes(b, every, a, r)])


def _changes(b: Reverse, plan: _Plan, axis: int, r: int) -> bool:
    """Whether the axis is resized; True where that is not known, except for a leading batch."""
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


def _copies(plan: _Plan) -> list[int] | None:
    """Whole scales of the spatial axes, where the operator only copies elements; else None."""
    how = (
        plan.text("coordinate_transformation_mode", "half_pixel"),
        plan.text("nearest_mode", "round_prefer_floor"),
    )
    known = dims(plan.x)
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
    place, count = plan.given.index(axis), len(plan.given)
    size = _size(b, plan.x, axis)
    unit = b.OneHot(*_positions(b, size), b.const([0.0, 1.0], dtype=computed))
    roi, scales = plan.operand(1), plan.operand(2)
    attributes: dict[str, Any] = {
        name: plan.node.attributes[name].value for name in _SHAPING if name in plan.node.attributes
    }
    resized = b.Resize(
        b.Reshape(unit, join(b, [1, 1], size, size)),
        b.Gather(roi, [place, count + place]) if plan.crops and roi is not None else None,
        None if scales is None else b.Gather(scales, [place]),
        _size(b, plan.y, axis) if scales is None else None,
        axes=[3],
        **attributes,
    )
    matrix = b.Transpose(b.Squeeze(resized, [0, 1]), perm=[1, 0])
    return matrix if kind == computed else b.Cast(matrix, to=kind.value)


def _size(b: Reverse, v: ir.Value, axis: int) -> ir.Value:
    """int64 [1]: the length of an axis."""
    known = dims(v)
    if known is not None and known[axis] is not None:
        return b.const(np.array([known[axis]], np.int64))
    return b.Slice(b.shape_of(v), [axis], [axis + 1])


def _positions(b: Reverse, size: ir.Value) -> tuple[ir.Value, ir.Value]:
    """int64: 0 … size − 1, and size as a scalar."""
    length = array_of(size)
    if length is not None:
        return b.const(np.arange(int(length[0]), dtype=np.int64)), b.const(length[0])
    zero, one = (b.const(np.array(v, np.int64)) for v in (0, 1))
    count = b.Squeeze(size, [0])
    return b.Range(zero, count, one), count
