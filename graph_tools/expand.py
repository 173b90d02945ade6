"""Replace a node by the body that ONNX defines for its operator, in place, names of its outputs kept."""

from __future__ import annotations

import onnx
import onnx.inliner
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from graph_tools.emit import Emitter, infer_node
from graph_tools.lowering.table import lower


def expand(model: ir.Model, node: ir.Node) -> bool:
    """Replace ``node`` by its body: ours (``graph_tools.lowering``), else the one that the standard defines.

    Returns:
        False where there is no body (the graph is unchanged).
    """
    if lower(Emitter(model), node):
        return True
    inlined = _body(model, node)
    if inlined is None:
        return False
    graph = ir.from_proto(inlined).graph
    names = {v.name for v in graph.inputs}
    mapping: dict[str | None, ir.Value] = {v.name: v for v in node.inputs if v is not None and v.name in names}
    taken = {v.name for n in model.graph for v in n.outputs} | set(model.graph.initializers)
    stand_ins, kept = _take_outputs(node)
    new_nodes: list[ir.Node] = []
    for inner in list(graph):
        inputs = [None if v is None else mapping[v.name] for v in inner.inputs]
        outputs = [kept.get(v.name) or _named(f"{node.name}/{v.name}", taken) for v in inner.outputs]
        mapping.update(zip((v.name for v in inner.outputs), outputs, strict=True))
        graph.remove(inner)
        fresh = ir.Node(inner.domain, inner.op_type, inputs, list(inner.attributes.values()), outputs=outputs)
        fresh.name = f"{node.name}/{inner.op_type}_{len(new_nodes)}"
        new_nodes.append(fresh)
    model.graph.insert_before(node, new_nodes)
    model.graph.remove(node)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    known = {v: (v.type, v.shape) for v in kept.values()}
    for fresh in new_nodes:
        if fresh.op_type != "Constant":
            infer_node(fresh, model.graph.opset_imports)
    for stand_in, old in stand_ins:
        ir.convenience.replace_all_uses_with(stand_in, old, replace_graph_outputs=True)
    for v, (kind, shape) in known.items():
        v.type, v.shape = kind or v.type, shape if shape is not None else v.shape
    return True


def _take_outputs(node: ir.Node) -> tuple[list[tuple[ir.Value, ir.Value]], dict[str | None, ir.Value]]:
    """Take the outputs off ``node``, so that the same values (callers hold them) become outputs of the body.

    Returns:
        (stand-in that the values' users read meanwhile, value) pairs, and the values by name.
    """
    outputs = list(node.outputs)
    stand_ins = [(ir.Value(name=f"{v.name}/stand_in"), v) for v in outputs]
    for stand_in, old in stand_ins:
        ir.convenience.replace_all_uses_with(old, stand_in, replace_graph_outputs=True)
    node.resize_outputs(0)
    return stand_ins, {v.name: v for v in outputs if v.name}


def _body(model: ir.Model, node: ir.Node) -> onnx.ModelProto | None:
    """A one-node model around ``node``, inlined; None where nothing was expanded."""
    if node.domain not in ("", "ai.onnx") or any(v is not None and v.type is None for v in node.inputs):
        return None
    proto = ir.to_proto(node)
    _spell_out_defaults(proto, model.graph.opset_imports[""])
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


def _spell_out_defaults(proto: onnx.NodeProto, opset: int) -> None:
    """Add the attributes that are left out: the inliner does not resolve a body's references to them."""
    given = {a.name for a in proto.attribute}
    for name, attribute in onnx.defs.get_schema(proto.op_type, opset, "").attributes.items():
        if name not in given and attribute.default_value.name:
            proto.attribute.append(attribute.default_value)


def _named(name: str, taken: set[str | None]) -> ir.Value:
    """A new value under ``name``, or the next free one like it."""
    candidate, i = name, 0
    while candidate in taken:
        i += 1
        candidate = f"{name}_{i}"
    taken.add(candidate)
    return ir.Value(name=candidate)
