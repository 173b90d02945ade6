"""Replace a node by a body, in place, names of its outputs kept: ours, else the one ONNX defines for its operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from graph_tools.emit import Emitter, infer_node
from graph_tools.lowering.table import lower
from graph_tools.scopes import captured


def expand(model: ir.Model, node: ir.Node, b: Emitter | None = None) -> bool:
    """Replace ``node`` by its body: ours (``graph_tools.lowering``), else the one that the standard defines.

    Args:
        model: changed in place.
        node: a node of it, of a subgraph too.
        b: an emitter of the model, where the caller expands many nodes; its names must be up to date.

    Returns:
        False where there is no body (the graph is unchanged).
    """
    b = Emitter(model) if b is None else b
    return lower(b, node) or lower(b, node, standard_body)


def standard_body(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """The nodes of the operator's ONNX function, emitted in front of ``node``; None where it has none."""
    opsets = b.graph.opset_imports
    function = _function(node, opsets)
    if function is None or len(node.inputs) > len(function.input):
        return None
    formals = {name: v for name, v in zip(function.input, node.inputs, strict=False) if v is not None}
    proto = _instance(function, node, set(function.input) - set(formals), opsets)
    outer = {v.name: v for v in captured(node) if v.name and v.name not in formals}
    proto.input.extend(onnx.ValueInfoProto(name=name) for name in outer)
    formals.update(outer)
    body = ir.serde.deserialize_graph(proto)
    for v in body.inputs:
        ir.convenience.replace_all_uses_with(v, formals[v.name or ""], replace_graph_outputs=True)
    found = list(body.outputs)
    body.outputs.clear()
    for inner in list(body.all_nodes()):
        if inner.op_type == "Constant" and inner.domain in ("", "ai.onnx"):
            _lift(b, inner, found)
    _rename(b, body, node)
    graph = node.graph
    assert graph is not None
    for inner in list(body):
        body.remove(inner)
        graph.insert_before(node, inner)
        infer_node(inner, opsets)
    for entry in function.opset_import:
        opsets.setdefault(entry.domain, entry.version)
    return tuple(v if v.name else None for v in found)


def _function(node: ir.Node, opsets: dict[str, int]) -> onnx.FunctionProto | None:
    """The function that the standard gives for this node at the model's opset, None where it has none."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opsets.get(domain, 1), domain)
    except onnx.defs.SchemaError:
        return None
    opset = opsets.get(domain, 1) if domain == "" else opsets.get("", 1)
    if schema.has_function:
        body = _latest(schema.function_opset_versions, opset)
        return None if body is None else _parsed(schema.get_function_with_opset_version(body))
    if not schema.has_context_dependent_function or any(v is not None and v.type is None for v in node.inputs):
        return None
    proto = ir.to_proto(node)
    for attribute in proto.attribute:
        _constants_as_nodes(attribute.g)
    _spell_out_defaults(proto, schema)
    types = [b"" if v is None else ir.to_proto(v).type.SerializeToString() for v in node.inputs]
    body = _latest(schema.context_dependent_function_opset_versions, opset)
    if body is None:
        return None
    try:
        built = schema.get_context_dependent_function_with_opset_version(body, proto.SerializeToString(), types)
    except Exception:  # no body for these attributes and types
        return None
    return _parsed(built) if built else None


def _constants_as_nodes(graph: onnx.GraphProto) -> None:
    """Initializers of an attribute's graph as Constant nodes: builders of bodies copy only nodes."""
    nodes = [onnx.helper.make_node("Constant", [], [t.name], value=t) for t in graph.initializer]
    nodes.extend(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.node.extend(nodes)


def _latest(versions: list[int], opset: int) -> int | None:
    return max((v for v in versions if v <= opset), default=None)


def _parsed(function: bytes | onnx.FunctionProto) -> onnx.FunctionProto:
    return onnx.FunctionProto.FromString(function) if isinstance(function, bytes) else function


def _instance(function: onnx.FunctionProto, node: ir.Node, absent: set[str], opsets: dict[str, int]) -> onnx.GraphProto:
    """The function as a graph: the node's attributes in place of references, operands left out where absent."""
    call = ir.to_proto(node)
    _spell_out_defaults(call, onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain))
    given = {a.name: a for a in (*function.attribute_proto, *call.attribute)}
    graph = onnx.GraphProto(name="body")
    graph.node.extend(function.node)
    _resolve(graph.node, given, absent)
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in function.input if name not in absent)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in function.output[: len(node.outputs)])
    return graph


def _resolve(nodes: list[onnx.NodeProto], given: dict[str, onnx.AttributeProto], absent: set[str]) -> None:
    """References to attributes of the call become these, or go where the call has none; in subgraphs too."""
    for node in nodes:
        for i, name in enumerate(node.input):
            if name in absent:
                node.input[i] = ""
        attributes = []
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                if attribute.ref_attr_name not in given:
                    continue
                name, source = attribute.name, given[attribute.ref_attr_name]
                attribute = onnx.AttributeProto()
                attribute.CopyFrom(source)
                attribute.name = name
            for graph in (attribute.g, *attribute.graphs):
                _resolve(graph.node, given, absent)
            attributes.append(attribute)
        kept = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in attributes]
        del node.attribute[:]
        node.attribute.extend(kept)


def _spell_out_defaults(proto: onnx.NodeProto, schema: onnx.defs.OpSchema) -> None:
    """Add the attributes that are left out, where they have a default: bodies refer to them."""
    given = {a.name for a in proto.attribute}
    for name, attribute in schema.attributes.items():
        if name not in given and attribute.default_value.name:
            proto.attribute.append(attribute.default_value)


def _lift(b: Emitter, constant: ir.Node, outputs: list[ir.Value]) -> None:
    """A Constant node as an initializer."""
    name, attribute = next(iter(constant.attributes.items()))
    if name == "value":
        tensor = attribute.as_tensor()
        v = b.const(tensor.numpy(), dtype=tensor.dtype)
    elif name.startswith("value_float"):
        v = b.const(np.asarray(attribute.value, np.float32))
    elif name.startswith("value_int"):
        v = b.const(np.asarray(attribute.value, np.int64))
    else:
        return
    old = constant.outputs[0]
    outputs[:] = [v if o is old else o for o in outputs]
    ir.convenience.replace_all_uses_with(old, v, replace_graph_outputs=True)
    if constant.graph is not None:
        constant.graph.remove(constant, safe=True)


def _rename(b: Emitter, body: ir.Graph, node: ir.Node) -> None:
    """Names that the model does not use yet, for all that the body makes, in its subgraphs too."""
    for inner in body.all_nodes():
        inner.name = b.fresh(f"{inner.op_type}_node")
        for v in inner.outputs:
            if v.name:
                v.name = b.fresh(v.name)
        if inner.graph is body:
            b.made.update(v.name for v in inner.outputs)
        for attribute in inner.attributes.values():
            graphs = attribute.as_graphs() if attribute.type == ir.AttributeType.GRAPHS else []
            graphs = [attribute.as_graph()] if attribute.type == ir.AttributeType.GRAPH else graphs
            for graph in graphs:
                for v in (*graph.inputs, *graph.initializers.values()):
                    v.name = b.fresh(v.name or "v")
