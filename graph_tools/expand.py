"""Replace a node by the body that ONNX defines for its operator, in place, names of its outputs kept."""

from __future__ import annotations

import onnx
import onnx.inliner
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from graph_tools.emit import infer_node


def expand(model: ir.Model, node: ir.Node) -> bool:
    """Replace ``node`` by its ONNX function body, where the standard defines one.

    Returns:
        False where there is no body (the graph is unchanged).
    """
    inlined = _body(model, node)
    if inlined is None:
        return False
    graph = ir.from_proto(inlined).graph
    names = {v.name for v in graph.inputs}
    mapping: dict[str, ir.Value] = {v.name: v for v in node.inputs if v is not None and v.name in names}
    taken = {v.name for n in model.graph for v in n.outputs} | set(model.graph.initializers)
    new_nodes = []
    for inner in list(graph):
        inputs = [None if v is None else mapping[v.name] for v in inner.inputs]
        graph.remove(inner)
        fresh = ir.Node(
            inner.domain,
            inner.op_type,
            inputs,
            list(inner.attributes.values()),
            num_outputs=len(inner.outputs),
        )
        fresh.name = f"{node.name}/{inner.op_type}_{len(new_nodes)}"
        for old, new in zip(inner.outputs, fresh.outputs, strict=True):
            mapping[old.name or ""] = new
            new.name = _unused(f"{node.name}/{old.name}", taken)
        new_nodes.append(fresh)
    model.graph.insert_before(node, new_nodes)
    for fresh in new_nodes:
        infer_node(fresh, model.graph.opset_imports)
    for old, proto_out in zip(node.outputs, graph.outputs, strict=True):
        new = mapping[proto_out.name or ""]
        _replace(model, old, new)
    model.graph.remove(node)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return True


def _body(model: ir.Model, node: ir.Node) -> onnx.ModelProto | None:
    """A one-node model around ``node``, inlined; None where nothing was expanded."""
    if node.domain not in ("", "ai.onnx") or any(v is not None and v.type is None for v in node.inputs):
        return None
    proto = ir.to_proto(node)
    seen: dict[str, onnx.ValueInfoProto] = {}
    for v in node.inputs:
        if v is not None and v.name not in seen:
            seen[v.name or ""] = ir.to_proto(v)
    outputs = [ir.to_proto(v) for v in node.outputs if v.name]
    opsets = [onnx.helper.make_opsetid(d, o) for d, o in model.graph.opset_imports.items()]
    tiny = onnx.helper.make_model(
        onnx.helper.make_graph([proto], "one", list(seen.values()), outputs),
        opset_imports=opsets, ir_version=model.ir_version,
    )  # fmt: skip
    try:
        inlined = onnx.inliner.inline_selected_functions(tiny, [("", node.op_type)], inline_schema_functions=True)
    except Exception:  # no body for these attributes
        return None
    if any(n.op_type == node.op_type for n in inlined.graph.node):
        return None
    return inlined


def _unused(name: str, taken: set[str | None]) -> str:
    candidate, i = name, 0
    while candidate in taken:
        i += 1
        candidate = f"{name}_{i}"
    taken.add(candidate)
    return candidate


def _replace(model: ir.Model, old: ir.Value, new: ir.Value) -> None:
    """``new`` takes the place, name, type and shape of ``old``."""
    new.name, new.type, new.shape = old.name, old.type or new.type, old.shape or new.shape
    old.name = None
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
