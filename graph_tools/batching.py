"""Making a file that was exported with a fixed batch batchable. The rewrite is checked row by row by the caller."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from graph_tools.batch_axis import batch_values as batch_values
from graph_tools.batch_axis import keeps_batch
from graph_tools.emit import array_of


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
        elif keeps_batch(node, carry, constants):
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
