"""Which values carry the batch on axis 0, and making a file that was exported with a fixed batch batchable.

The analysis walks forward from the inputs and asks, operator by operator, whether axis 0 survives. It errs towards
"no": a value missed is repeated as an input, never silently mixed up; the rewrite is checked row by row by the caller.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from graph_tools.emit import array_of, rank
from graph_tools.vjp.linear import einsum_labels
from graph_tools.vjp.table import operator_name

_NO_BATCH = {"Shape", "Size", "ConstantOfShape", "Range", "NonZero", "EyeLike", "Unique", "Compress", "If", "Loop",
             "Scan", "RandomNormal", "RandomUniform", "LSTM", "GRU", "RNN", "NonMaxSuppression", "SequenceAt",
             "ScatterND"}  # fmt: skip
_AXES = {"Squeeze", "Unsqueeze", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
         "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "MeanVarianceNormalization"}  # fmt: skip
_ONE_AXIS = {"Concat": None, "Split": 0, "Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "ArgMax": 0, "ArgMin": 0,
             "TopK": -1, "CumSum": None, "CumProd": None, "LayerNormalization": -1,
             "RMSNormalization": -1, "LpNormalization": -1}  # fmt: skip

_INDEXED_ROWS = {"GatherElements", "ScatterElements", "GatherND", "ReverseSequence"}
_WEIGHTED = {"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "QLinearMatMul", "DeformConv",
             "com.microsoft::FusedConv", "com.microsoft::FusedMatMul", "com.microsoft::FusedGemm"}  # fmt: skip


def batch_values(model: ir.Model) -> frozenset[str]:
    """Names of the values whose axis 0 is the batch of the graph's inputs (all inputs of rank ≥ 1 share it)."""
    carry = {v for v in model.graph.inputs if v.name and (rank(v) or 0) >= 1}
    for node in model.graph:
        if _keeps_batch(node, carry):
            carry.update(node.outputs)
    return frozenset(v.name for v in carry if v.name)


def relax(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """Make a graph with a fixed batch take any number of rows: axis 0 of its inputs becomes symbolic.

    Constants that hold the batch are replaced: Reshape's leading 1 by 0 (copy the input's), Expand's and Tile's
    stay 1, Resize ``sizes`` become scales. Stale shapes are dropped.

    Args:
        proto: any opset; not changed.

    Returns:
        (relaxed copy, whether anything had to change). The caller must compare rows against single runs: where they
        differ the file is to be run row by row.
    """
    fixed = [v for v in _own_inputs(proto.graph) if _fixed_rows(v) is not None]
    if not fixed:
        return proto, False
    work = onnx.ModelProto()
    work.CopyFrom(proto)
    rows = {v.name: _fixed_rows(v) for v in fixed}
    constants = _batch_constants(proto, rows)
    for v in work.graph.input:
        if v.name in rows:
            v.type.tensor_type.shape.dim[0].dim_param = "batch"
    for v in work.graph.output:
        if v.type.HasField("tensor_type"):
            v.type.tensor_type.ClearField("shape")
    del work.graph.value_info[:]
    _replace_constants(work.graph, constants)
    return work, True


def fixed_rows(proto: onnx.ModelProto) -> int | None:
    """The number of rows that the file was exported for, or None where any number goes in."""
    return next((rows for v in _own_inputs(proto.graph) if (rows := _fixed_rows(v)) is not None), None)


def _own_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    held = {t.name for t in graph.initializer}
    return [v for v in graph.input if v.name not in held]


def _fixed_rows(v: onnx.ValueInfoProto) -> int | None:
    dims = v.type.tensor_type.shape.dim
    return int(dims[0].dim_value) if len(dims) and dims[0].HasField("dim_value") else None


def _batch_constants(proto: onnx.ModelProto, rows: dict[str, int | None]) -> dict[tuple[str, int], np.ndarray]:
    """(first output of the node, input index) -> the constant without the batch in it."""
    try:
        model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    except Exception:  # maps and the like: only the input's dimension can be opened
        return {}
    constants = _constants(model)
    carry: set[ir.Value] = {v for v in model.graph.inputs if v.name in rows}
    batch = next(iter(rows.values())) or 1
    found: dict[tuple[str, int], np.ndarray] = {}
    for node in model.graph:
        new = _without_batch(node, carry, constants, batch)
        if new is not None:
            found[node.outputs[0].name or "", new[0]] = new[1]
            carry.update(node.outputs)
        elif _keeps_batch(node, carry, constants):
            carry.update(node.outputs)
    return found


def _without_batch(
    node: ir.Node, carry: set[ir.Value], constants: dict[ir.Value, np.ndarray], batch: int
) -> tuple[int, np.ndarray] | None:
    """The replaced constant operand of a node that spells the batch out, and its input index."""
    if not node.inputs or node.inputs[0] not in carry or len(node.inputs) < 2:
        return None
    index = 3 if node.op_type == "Resize" else 1
    operand = node.inputs[index] if len(node.inputs) > index else None
    shape = None if operand is None else constants.get(operand)
    if shape is None or shape.ndim != 1 or not shape.size:
        return None
    if node.op_type == "Reshape" and shape[0] == batch and "allowzero" not in node.attributes:
        return 1, np.concatenate([[0], shape[1:]]).astype(np.int64)
    if node.op_type == "Expand" and shape[0] == batch:
        return 1, np.concatenate([[1], shape[1:]]).astype(np.int64)
    return None


def _constants(model: ir.Model) -> dict[ir.Value, np.ndarray]:
    found = {v: a for v in model.graph.initializers.values() if v.dtype == ir.DataType.INT64 for a in [array_of(v)]}
    for node in model.graph:
        if node.op_type == "Constant" and "value" in node.attributes:
            found[node.outputs[0]] = node.attributes["value"].as_tensor().numpy()
    return {v: a for v, a in found.items() if a is not None}


def _replace_constants(graph: onnx.GraphProto, constants: dict[tuple[str, int], np.ndarray]) -> None:
    """Point the nodes at fresh initializers (others may share the old ones)."""
    for node in graph.node:
        for index in range(len(node.input)):
            new = constants.get((node.output[0] if node.output else "", index))
            if new is not None:
                name = f"{node.output[0]}_any_batch_{index}"
                graph.initializer.append(onnx.numpy_helper.from_array(new, name))
                node.input[index] = name


def _keeps_batch(node: ir.Node, carry: set[ir.Value], constants: dict[ir.Value, np.ndarray] | None = None) -> bool:
    """Whether axis 0 of the node's outputs is the batch, given the values that carry it."""
    op = operator_name(node)
    data = [v for v in node.inputs if v is not None]
    carrying = [v for v in data if v in carry]
    if not carrying or op in _NO_BATCH:
        return False
    x = data[0]
    out_rank, in_rank = rank(node.outputs[0]), rank(carrying[0])
    if out_rank == 0:
        return False
    if op in ("Reshape", "Expand"):
        return x in carry and _target_keeps_batch(node, x, constants)
    if op == "Transpose":
        perm = node.attributes.get_ints("perm") if "perm" in node.attributes else None
        return perm is not None and perm[0] == 0
    if op == "Flatten":
        axis = node.attributes.get_int("axis", 1) if "axis" in node.attributes else 1
        return axis == 1 or (in_rank is not None and axis + in_rank == 1)
    if op in _AXES:
        return x in carry and 0 not in _axes(node, in_rank if op != "Unsqueeze" else out_rank, constants)
    if op in _ONE_AXIS:
        default = _ONE_AXIS[op]
        axis = node.attributes.get_int("axis", default if default is not None else 0)
        if op == "Concat":
            return axis != 0 and (in_rank is None or axis + in_rank != 0) and len(carrying) == len(data)
        return x in carry and axis != 0 and (in_rank is None or axis + in_rank != 0)
    if op == "Gather":
        axis = node.attributes.get_int("axis", 0) if "axis" in node.attributes else 0
        return (x in carry and axis != 0) if x in carry else (data[1] in carry and axis == 0)
    if op in ("Slice", "Pad"):
        return x in carry and _spares_axis_zero(node, in_rank, constants)
    if op in _WEIGHTED:  # axis 0 of the weights is no batch
        return x in carry
    if op == "BatchNormalization" and node.attributes.get_int("training_mode", 0) == 1:
        return False  # its statistics mix the rows
    if op == "Resize":
        return x in carry and _same_rows(x, node.outputs[0])
    if op == "Gemm":
        return x in carry and not node.attributes.get_int("transA", 0)
    if op in _INDEXED_ROWS:
        return _indexes_within_rows(op, node, data, carry)
    if op == "Tile":
        repeats = _constant(data[1], constants)
        return x in carry and repeats is not None and repeats.size > 0 and int(repeats[0]) == 1
    if op == "Trilu":
        return x in carry and (in_rank or 0) >= 3
    if op == "CenterCropPad":
        return x in carry and "axes" in node.attributes and 0 not in _axes(node, in_rank, constants)
    if op in ("MatMul", "MatMulInteger"):
        return _product_keeps_batch(data[:2], carry)
    if op == "Einsum":
        return _einsum_keeps_batch(node, carry)
    # Elementwise and all else: the batch stays in front where no broadcasting puts axes before it.
    if out_rank is None or in_rank is None:
        return True
    fixed = [v for v in data if v not in carry and rank(v) == out_rank and not _one_row(v)]
    return any(rank(v) == out_rank for v in carrying) and not fixed


def _one_row(v: ir.Value) -> bool:
    """Whether axis 0 is 1, so that it is broadcast over the batch."""
    return v.shape is not None and len(v.shape) > 0 and v.shape[0] == 1


def _indexes_within_rows(op: str, node: ir.Node, data: list[ir.Value], carry: set[ir.Value]) -> bool:
    """Whether every row is read, or written, by indices of its own."""
    attributes = node.attributes
    if op == "ReverseSequence":
        return attributes.get_int("batch_axis", 1) == 0 and all(v in carry for v in data)
    if op == "GatherND" and data[0] not in carry:
        return (rank(data[1]) or 0) >= 2
    if op == "GatherND":
        return attributes.get_int("batch_dims", 0) >= 1 and all(v in carry for v in data)
    axis, in_rank = attributes.get_int("axis", 0), rank(data[0])
    return axis != 0 and (in_rank is None or axis + in_rank != 0) and all(v in carry for v in data)


def _product_keeps_batch(pair: list[ir.Value], carry: set[ir.Value]) -> bool:
    """A matrix product keeps the batch of a leading axis; of a matrix only on the left."""
    ranks = [rank(v) for v in pair]
    if None in ranks:
        return False
    most = max(r for r in ranks if r is not None)
    if most < 2:
        return False
    for i, v in enumerate(pair):
        if v in carry and (ranks[i] != most or (most == 2 and i == 1)):
            return False
        if v not in carry and most > 2 and ranks[i] == most and not _one_row(v):
            return False
    return True


def _einsum_keeps_batch(node: ir.Node, carry: set[ir.Value]) -> bool:
    """The batch's label comes first in the output and in every operand that has a batch, and nowhere else."""
    labels = einsum_labels(node)
    if labels is None or not labels[1]:
        return False
    terms, first = labels[0], labels[1][0]
    return all(
        (term.startswith(first) and term.count(first) == 1) if v in carry else first not in term
        for term, v in zip(terms, node.inputs, strict=True)
    )


def _same_rows(x: ir.Value, y: ir.Value) -> bool:
    """Whether a Resize leaves axis 0 alone; where no shape tells, planes are resized along both axes, images not."""
    if not x.shape or not y.shape:
        return False
    before, after = x.shape[0], y.shape[0]
    if isinstance(before, int) and isinstance(after, int):
        return before == after
    return len(x.shape) > 2 or (before == after and getattr(before, "value", None) is not None)


def _target_keeps_batch(node: ir.Node, x: ir.Value, constants: dict[ir.Value, np.ndarray] | None) -> bool:
    """Reshape/Expand to a constant whose first entry copies axis 0, or a −1 that can only be the batch."""
    target = _constant(node.inputs[1], constants)
    if target is None:  # computed: it keeps axis 0 where the exporter read it from Shape(x)[0]
        return _first_entry_from_shape(node.inputs[1])
    if target.size == 0:
        return False
    if node.op_type == "Expand":
        return int(target[0]) == 1 and target.size == rank(x)
    if target[0] == 0 and not node.attributes.get_int("allowzero", 0):
        return True
    rest = None if x.shape is None else list(x.shape[1:])
    if target[0] == -1 and rest is not None and all(isinstance(d, int) for d in rest):
        return int(np.prod(target[1:])) == int(np.prod([int(d) for d in rest]))  # type: ignore[arg-type]
    first = None if x.shape is None or not len(x.shape) else x.shape[0]
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


def _spares_axis_zero(node: ir.Node, in_rank: int | None, constants: dict[ir.Value, np.ndarray] | None) -> bool:
    if node.op_type == "Slice":
        if "starts" in node.attributes:  # below opset 10
            axes = node.attributes.get_ints("axes") if "axes" in node.attributes else None
            return axes is not None and 0 not in axes
        given = _constant(node.inputs[3], constants) if len(node.inputs) > 3 else None
        return given is not None and not any(a == 0 or (in_rank is not None and a + in_rank == 0) for a in given)
    if "pads" in node.attributes:
        flat = list(node.attributes.get_ints("pads"))
    else:
        pads = _constant(node.inputs[1], constants) if len(node.inputs) > 1 else None
        if pads is None or len(node.inputs) > 3:
            return False
        flat = [int(p) for p in pads]
    return flat[0] == 0 and flat[len(flat) // 2] == 0


def _axes(node: ir.Node, of_rank: int | None, constants: dict[ir.Value, np.ndarray] | None) -> set[int]:
    """Normalised axes of a reduction, Squeeze or Unsqueeze; all of them where they cannot be read."""
    if "axes" in node.attributes:
        axes = list(node.attributes.get_ints("axes"))
    else:
        given = _constant(node.inputs[1], constants) if len(node.inputs) > 1 else None
        if given is None:
            return {0}
        axes = [int(a) for a in np.atleast_1d(given)]
    return {a + of_rank if a < 0 and of_rank is not None else a for a in axes}


def _constant(v: ir.Value | None, constants: dict[ir.Value, np.ndarray] | None) -> np.ndarray | None:
    if v is None:
        return None
    return constants[v] if constants is not None and v in constants else array_of(v)
