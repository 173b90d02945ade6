"""Which values carry the batch on axis 0: row i of such a value depends on row i of the inputs alone.

The analysis walks forward from the inputs and asks, operator by operator, whether axis 0 survives. It errs towards
"no": a value missed is repeated as an input, never silently mixed up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graph_tools.cut import between, read_by
from graph_tools.emit import array_of, rank
from graph_tools.scopes import subgraphs
from graph_tools.vjp.linear import einsum_labels
from graph_tools.vjp.table import operator_name


def batch_values(model: ir.Model) -> frozenset[str]:
    """Names of the values whose axis 0 is the batch of the graph's inputs (all inputs of rank ≥ 1 share it)."""
    carry = {v for v in model.graph.inputs if v.name and (rank(v) or 0) >= 1}
    for node in model.graph:
        if keeps_batch(node, carry):
            carry.update(node.outputs)
    return frozenset(v.name for v in carry if v.name)


def batch_throughout(model: ir.Model, start: ir.Value, end: ir.Value) -> bool:
    """Whether all data on the paths from ``start`` to ``end``, and all that joins them, has the batch on axis 0.

    Constants, and what is computed from shapes alone, are no data.
    """
    named, data = batch_values(model), set(model.graph.inputs)
    for node in model.graph:
        if node.op_type not in ("Shape", "Size") and data.intersection(read_by(node)):
            data.update(node.outputs)
    path = between(model, [start], end)
    return all(v.name in named for n in path for v in (*read_by(n), *n.outputs) if v.name and v in data)


def keeps_batch(node: ir.Node, carry: set[ir.Value], constants: Mapping[ir.Value, np.ndarray] | None = None) -> bool:
    """Whether axis 0 of the node's outputs is the batch.

    Args:
        node: any operator of the main graph.
        carry: the values whose axis 0 is the batch.
        constants: values known beside initializers (Constant nodes of a file that was not loaded).
    """
    if subgraphs(node):
        return False
    site = _Site(node, [v for v in node.inputs if v is not None], carry, constants or {})
    if not any(v in carry for v in site.data) or rank(node.outputs[0]) == 0:
        return False
    rule = _RULES.get(operator_name(node), _elementwise)
    return rule(site)


@dataclass(frozen=True)
class _Site:
    """A node and what is known around it."""

    node: ir.Node
    data: list[ir.Value]
    carry: set[ir.Value]
    constants: Mapping[ir.Value, np.ndarray]

    @property
    def x(self) -> ir.Value:
        """The first operand."""
        return self.data[0]

    @property
    def all_carry(self) -> bool:
        """Whether every operand has the batch."""
        return all(v in self.carry for v in self.data)

    def constant(self, index: int) -> np.ndarray | None:
        """Operand ``index`` where it is known."""
        v = self.node.inputs[index] if len(self.node.inputs) > index else None
        if v is None:
            return None
        return self.constants[v] if v in self.constants else array_of(v)

    def number(self, name: str, default: int) -> int:
        """An integer attribute."""
        return self.node.attributes.get_int(name, default)

    def spares(self, axis: int) -> bool:
        """Whether ``axis`` of x, perhaps counted from the end, is not the first."""
        r = rank(self.x)
        return axis != 0 and (r is None or axis + r != 0)


_Rule = Callable[[_Site], bool]


def _elementwise(s: _Site) -> bool:
    """Elementwise operators and all others: no broadcasting may put axes, or rows of another operand, in front."""
    out = rank(s.node.outputs[0])
    carrying = [v for v in s.data if v in s.carry]
    if out is None or rank(carrying[0]) is None:
        return True
    fixed = [v for v in s.data if v not in s.carry and rank(v) == out and not _one_row(v)]
    return any(rank(v) == out for v in carrying) and not fixed


def _one_row(v: ir.Value) -> bool:
    """Whether axis 0 is 1, so that it is broadcast over the batch."""
    return v.shape is not None and len(v.shape) > 0 and v.shape[0] == 1


def _never(_: _Site) -> bool:
    return False


def _first_operand(s: _Site) -> bool:
    """Axis 0 of the weights is no batch."""
    return s.x in s.carry


def _deformable(s: _Site) -> bool:
    """The offsets and the mask have as many rows as the image."""
    moving = [v for i, v in enumerate(s.node.inputs) if i in (0, 2, 4) and v is not None]
    return all(v in s.carry for v in moving)


def _one_axis(default: int) -> _Rule:
    """The operator works along one axis."""

    def rule(s: _Site) -> bool:
        return s.x in s.carry and s.spares(s.number("axis", default))

    return rule


def _cumulative(s: _Site) -> bool:
    axis = s.constant(1)
    return s.x in s.carry and axis is not None and s.spares(int(axis.item()))


def _axes_rule(s: _Site) -> bool:
    of_rank = rank(s.node.outputs[0]) if s.node.op_type == "Unsqueeze" else rank(s.x)
    return s.x in s.carry and 0 not in _axes(s, of_rank)


def _axes(s: _Site, of_rank: int | None) -> set[int]:
    """Normalised axes of a reduction, Squeeze or Unsqueeze; the first where they cannot be read."""
    if "axes" in s.node.attributes:
        axes = list(s.node.attributes.get_ints("axes"))
    else:
        given = s.constant(1)
        if given is None:
            return {0}
        axes = [int(a) for a in np.atleast_1d(given)]
    return {a + of_rank if a < 0 and of_rank is not None else a for a in axes}


def _concat(s: _Site) -> bool:
    return s.spares(s.number("axis", 0)) and s.all_carry


def _transpose(s: _Site) -> bool:
    perm = s.node.attributes.get_ints("perm") if "perm" in s.node.attributes else None
    return perm is not None and perm[0] == 0


def _flatten(s: _Site) -> bool:
    axis, r = s.number("axis", 1), rank(s.x)
    return axis == 1 or (r is not None and axis + r == 1)


def _gather(s: _Site) -> bool:
    axis = s.number("axis", 0)
    return s.spares(axis) if s.x in s.carry else s.data[1] in s.carry and axis == 0


def _gather_nd(s: _Site) -> bool:
    if s.x not in s.carry:
        return (rank(s.data[1]) or 0) >= 2
    return s.number("batch_dims", 0) >= 1 and s.all_carry


def _own_indices(s: _Site) -> bool:
    """GatherElements, ScatterElements: every row is read, or written, by indices of its own."""
    return s.spares(s.number("axis", 0)) and s.all_carry


def _reverse_sequence(s: _Site) -> bool:
    return s.number("batch_axis", 1) == 0 and s.all_carry


def _tile(s: _Site) -> bool:
    repeats = s.constant(1)
    return s.x in s.carry and repeats is not None and repeats.size > 0 and int(repeats[0]) == 1


def _trilu(s: _Site) -> bool:
    return s.x in s.carry and (rank(s.x) or 0) >= 3


def _center_crop_pad(s: _Site) -> bool:
    return s.x in s.carry and "axes" in s.node.attributes and 0 not in _axes(s, rank(s.x))


def _batch_normalization(s: _Site) -> bool:
    """In training its statistics mix the rows."""
    return s.number("training_mode", 0) != 1 and _elementwise(s)


def _gemm(s: _Site) -> bool:
    return s.x in s.carry and not s.number("transA", 0)


def _matmul(s: _Site) -> bool:
    """The batch is a leading axis of the product; of a matrix only on the left."""
    pair = s.data[:2]
    ranks = [rank(v) for v in pair]
    if None in ranks:
        return False
    most = max(r for r in ranks if r is not None)
    for i, v in enumerate(pair):
        if v in s.carry and (ranks[i] != most or most < 2 or (most == 2 and i == 1)):
            return False
        if v not in s.carry and most > 2 and ranks[i] == most and not _one_row(v):
            return False
    return True


def _einsum(s: _Site) -> bool:
    """The batch's label comes first in the output and in every operand that has a batch, and nowhere else."""
    labels = einsum_labels(s.node)
    if labels is None or not labels[1]:
        return False
    terms, first = labels[0], labels[1][0]
    return all(
        (term.startswith(first) and term.count(first) == 1) if v in s.carry else first not in term
        for term, v in zip(terms, s.data, strict=True)
    )


def _resize(s: _Site) -> bool:
    """Whether it leaves axis 0 alone; where no shape tells, planes are resized along both axes, images not."""
    x, y = s.x, s.node.outputs[0]
    if x not in s.carry or not x.shape or not y.shape:
        return False
    before, after = x.shape[0], y.shape[0]
    if isinstance(before, int) and isinstance(after, int):
        return before == after
    return len(x.shape) > 2 or (before == after and getattr(before, "value", None) is not None)


def _target(s: _Site) -> bool:
    """Reshape/Expand to a constant whose first entry copies axis 0, or a −1 that can only be the batch."""
    if s.x not in s.carry:
        return False
    target, shape = s.constant(1), s.x.shape
    if target is None:  # computed: it keeps axis 0 where the exporter read it from Shape(x)[0]
        return _first_entry_from_shape(s.node.inputs[1])
    if target.size == 0:
        return False
    if s.node.op_type == "Expand":
        return int(target[0]) == 1 and target.size == rank(s.x)
    if target[0] == 0 and not s.number("allowzero", 0):
        return True
    rest = None if shape is None else list(shape[1:])
    if target[0] == -1 and rest is not None and all(isinstance(d, int) for d in rest):
        return int(np.prod(target[1:])) == int(np.prod([int(d) for d in rest]))  # type: ignore[arg-type]
    first = None if shape is None or not len(shape) else shape[0]
    return isinstance(first, int) and int(target[0]) == first and first > 1


def _first_entry_from_shape(v: ir.Value | None) -> bool:
    """Whether entry 0 of a computed shape stems from a Shape operator (Shape → Gather/Slice → Concat chains)."""
    for _ in range(8):
        node = None if v is None else v.producer()
        if node is None:
            return False
        if node.op_type == "Shape":
            return True
        v = node.inputs[0]
    return False


def _slice(s: _Site) -> bool:
    if "starts" in s.node.attributes:  # below opset 10
        given = s.node.attributes.get_ints("axes") if "axes" in s.node.attributes else None
    else:
        axes = s.constant(3)
        given = None if axes is None else [int(a) for a in axes]
    return s.x in s.carry and given is not None and all(s.spares(a) for a in given)


def _pad(s: _Site) -> bool:
    if "pads" in s.node.attributes:
        flat = list(s.node.attributes.get_ints("pads"))
    else:
        pads = s.constant(1)
        if pads is None or len(s.node.inputs) > 3:
            return False
        flat = [int(p) for p in pads]
    return s.x in s.carry and flat[0] == 0 and flat[len(flat) // 2] == 0


def _attention(s: _Site) -> bool:
    """Q, K, V and what else has a row for each of theirs; masks of lower rank are shared by all rows."""
    owns = [i for i in (0, 1, 2, 4, 5, 6) if i < len(s.node.inputs)]
    own = [v for i in owns if (v := s.node.inputs[i]) is not None]
    mask = s.node.inputs[3] if len(s.node.inputs) > 3 else None
    shared = mask is None or (mask in s.carry if rank(mask) == 4 else mask not in s.carry) or _one_row(mask)
    return all(v in s.carry for v in own) and shared


def _rotary(s: _Site) -> bool:
    """The input, and positions (without them: cosines and sines) of its rows."""
    ids = s.node.inputs[3] if len(s.node.inputs) > 3 else None
    cos, sin = s.node.inputs[1], s.node.inputs[2]
    if ids is not None:
        return s.x in s.carry and (ids in s.carry or _one_row(ids)) and cos not in s.carry and sin not in s.carry
    return s.x in s.carry and all(v in s.carry or (v is not None and _one_row(v)) for v in (cos, sin))


_RULES: dict[str, _Rule] = {
    "Concat": _concat, "Transpose": _transpose, "Flatten": _flatten, "Reshape": _target, "Expand": _target,
    "Gather": _gather, "GatherND": _gather_nd, "GatherElements": _own_indices, "ScatterElements": _own_indices,
    "ReverseSequence": _reverse_sequence, "Tile": _tile, "Trilu": _trilu, "com.microsoft::Inverse": _trilu,
    "CenterCropPad": _center_crop_pad,
    "BatchNormalization": _batch_normalization, "Gemm": _gemm, "MatMul": _matmul, "MatMulInteger": _matmul,
    "Attention": _attention, "RotaryEmbedding": _rotary,
    "Einsum": _einsum, "Resize": _resize, "DeformConv": _deformable, "Slice": _slice, "Pad": _pad,
    **dict.fromkeys(("Shape", "Size", "ConstantOfShape", "Range", "NonZero", "EyeLike", "Unique", "Compress", "If",
                     "Loop", "Scan", "RandomNormal", "RandomUniform", "LSTM", "GRU", "RNN", "NonMaxSuppression",
                     "SequenceAt", "ScatterND", "RoiAlign", "MaxRoiPool"), _never),
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "QLinearMatMul", "AffineGrid", "Col2Im",
                     "com.microsoft::FusedConv", "com.microsoft::FusedMatMul", "com.microsoft::FusedGemm"),
                    _first_operand),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd",
                     "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
                     "MeanVarianceNormalization"), _axes_rule),
    **dict.fromkeys(("Split", "ArgMax", "ArgMin"), _one_axis(0)),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "TopK", "LayerNormalization", "RMSNormalization",
                     "LpNormalization"), _one_axis(-1)),
    **dict.fromkeys(("CumSum", "CumProd"), _cumulative),
}  # fmt: skip
