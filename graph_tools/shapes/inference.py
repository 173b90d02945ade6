"""Types and shapes of all values: what can be inferred is believed before what the file declares."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import onnx
import onnx_ir as ir

from graph_tools import scopes
from graph_tools.emit import infer_node
from graph_tools.errors import UnsupportedModel
from graph_tools.loading.signatures import check_types, told
from graph_tools.shapes.node_types import node_types, read
from graph_tools.shapes.ranks import drop_false_zeros, fill_ranks
from graph_tools.shapes.refine import refine
from graph_tools.shapes.window_shapes import correct_windows

_log = logging.getLogger(__name__)
_SEEN = 1000  # bytes of the initializers whose values inference may need: shapes, axes, indices
Declared = dict[ir.Value, tuple[ir.TypeProtocol | None, ir.Shape | None]]


def infer(model: ir.Model) -> None:
    """Infer types and shapes of all values in place (partial results are kept)."""
    _infer(model)
    if fill_ranks(model.graph.all_nodes()):
        _infer(model)
    drop_false_zeros(model.graph.all_nodes())
    _infer_behind_windows(model)
    refine(model)


def _infer_behind_windows(model: ir.Model) -> None:
    """Correct the sizes of windows, and infer again what was inferred from wrong ones."""
    wrong: set[ir.Value] = set()
    for node in model.graph.all_nodes():
        if correct_windows(node):
            wrong.update(node.outputs)
        elif not wrong.isdisjoint(v for v in node.inputs if v is not None):
            infer_node(node, model.graph.opset_imports)
            wrong.update(node.outputs)


def _infer(model: ir.Model) -> None:
    """One pass of the standard's inference.

    Raises:
        UnsupportedModel: a tensor that cannot be read.
    """
    proto = _without_weights(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=True)
    except Exception as error:  # partial results are lost too: what the file declares stays
        _log.debug("inference failed: %s", error)
        return
    _take(model.graph, inferred.graph)


def _without_weights(model: ir.Model) -> onnx.ModelProto:
    """The model with its larger initializers as inputs: what inference needs, in megabytes rather than gigabytes."""
    proto = onnx.ModelProto(ir_version=max(model.ir_version, 8))  # below 4 initializers must be inputs too
    proto.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in model.graph.opset_imports.items())
    graph = model.graph
    for v in graph.inputs:
        ir.serde.serialize_value_into(proto.graph.input.add(), v)
    for v in graph.initializers.values():
        data = v.const_value
        if data is not None and data.nbytes <= _SEEN and not isinstance(data, ir.ExternalTensor):
            try:
                ir.serde.serialize_tensor_into(proto.graph.initializer.add(), data)
            except ValueError as error:
                raise UnsupportedModel(f"data of {v.name!r}: {error}") from error
            proto.graph.initializer[-1].name = v.name or ""
        elif not v.is_graph_input():
            ir.serde.serialize_value_into(proto.graph.input.add(), v)
    for node in graph:
        ir.serde.serialize_node_into(proto.graph.node.add(), node)
        if node.op_type == "STFT" and "onesided" not in node.attributes:  # inference takes the default 1 for 0
            proto.graph.node[-1].attribute.append(onnx.helper.make_attribute("onesided", 1))
        for v in node.outputs:
            if v.name and (v.type is not None or v.shape is not None) and not v.is_graph_output():
                ir.serde.serialize_value_into(proto.graph.value_info.add(), v)
    for v in graph.outputs:
        if v.type is None:
            proto.graph.output.add().name = v.name or ""
        else:
            ir.serde.serialize_value_into(proto.graph.output.add(), v)
    return proto


def _take(graph: ir.Graph, inferred: onnx.GraphProto) -> None:
    """Note the types that were inferred for the values of ``graph`` and of its subgraphs."""
    found = {v.name: v.type for v in (*inferred.value_info, *inferred.output) if v.HasField("type")}
    for node, proto in zip(graph, inferred.node, strict=True):
        for v in node.outputs:
            if v.name in found:
                _note(v, found[v.name])
        inner = scopes.subgraphs(node)
        if inner:
            graphs = {a.name: [a.g] if a.type == onnx.AttributeProto.GRAPH else a.graphs for a in proto.attribute}
            protos = [g for name in sorted(graphs, reverse=True) for g in graphs[name]]
            for subgraph, subproto in zip(inner, protos, strict=True):
                declared = {v.name: v.type for v in subproto.input if v.HasField("type")}
                for v in subgraph.inputs:
                    if v.name in declared:
                        _note(v, declared[v.name])
                _take(subgraph, subproto)


def _note(v: ir.Value, inferred: onnx.TypeProto) -> None:
    """Give ``v`` an inferred type and shape; what was not inferred stays."""
    found = read(inferred)
    if found is not None:
        v.type = found[0]
        v.shape = v.shape if found[1] is None else found[1]


def infer_anew(model: ir.Model) -> None:
    """Infer without believing what the file says about values that standard operators compute.

    A declared shape fills in what inference leaves open (a Reshape by a computed shape); where the two contradict
    each other the declaration is a lie and is dropped.

    Raises:
        UnsupportedModel: the operands of a node contradict its operator; names the node.
    """
    declared = _forget(model)
    infer(model)
    _check_typed(model.graph.all_nodes(), model.graph.opset_imports)
    filled = [v for v, (kind, shape) in declared.items() if _fill(v, kind, shape)]
    if any(v.uses() for v in filled):
        infer(model)
    for v in filled:  # never less than was known
        _fill(v, *declared[v])


def _forget(model: ir.Model) -> Declared:
    """Take the declared types off the outputs of standard operators."""
    declared: Declared = {}
    for v in model.graph.initializers.values():
        if v.const_value is not None:  # the data is what it is
            v.type, v.shape = ir.TensorType(v.const_value.dtype), ir.Shape(v.const_value.shape.numpy())
    for node in model.graph.all_nodes():
        if node.domain != "":
            continue
        for v in node.outputs:
            if v.type is not None or v.shape is not None:
                declared[v] = v.type, v.shape
                v.type = v.shape = None
    return declared


def _fill(v: ir.Value, kind: ir.TypeProtocol | None, shape: ir.Shape | None) -> bool:
    """Add to what was inferred what only the file says; whether anything was added."""
    if v.type is None:
        v.type, v.shape = kind, shape
        return kind is not None
    if kind is not None and v.type != kind:
        _log.debug("%r is declared %s, but is %s", v.name, kind, v.type)
        return False
    if shape is None:
        return False
    if v.shape is None:
        v.shape = shape
        return True
    if len(v.shape) != len(shape) or any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(v.shape, shape, strict=True)
    ):
        _log.debug("%r is declared %s, but has shape %s", v.name, shape, v.shape)
        return False
    merged = [b if not isinstance(a, int) and _says_more(b) else a for a, b in zip(v.shape, shape, strict=True)]
    changed = merged != list(v.shape)
    if changed:
        v.shape = ir.Shape(merged)
    return changed


def _says_more(d: int | ir.SymbolicDim) -> bool:
    return isinstance(d, int) or (d.value is not None and not d.value.startswith("unk__"))


def _check_typed(nodes: Iterable[ir.Node], opsets: dict[str, int]) -> None:
    """Operands of types that the operator does not take, or known operands and no result: their shapes do not fit."""
    for node in nodes:
        if node.domain != "":
            continue
        check_types(node, opsets[""])
        if all(v.type is not None for v in node.outputs if v.name):
            continue
        subgraph = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
        if subgraph or any(v is not None and v.type is None for v in node.inputs):
            continue
        try:
            node_types(node, opsets)
        except onnx.shape_inference.InferenceError as error:
            reason = str(error).strip().splitlines()[0].removeprefix("[ShapeInferenceError] ")
            operands = ", ".join(f"{v.name!r} {v.dtype}{v.shape if v.shape is not None else ''}"
                                 for v in node.inputs if v is not None)  # fmt: skip
            raise UnsupportedModel(f"the operands of {told(node)} do not fit it: {reason} ({operands})") from error
        except Exception:  # no inference for this operator
            continue
