"""The table of bodies: operator -> how the standard operators compute it.

A body is ``body(b, node)``: it emits standard operators in front of ``node`` with ``b.Op(...)``, reads operands as
``node.inputs[i]`` (None = absent), and returns one value per output of the node (a single value for one output; None
for an output that nobody reads or that is unnamed). It returns ``None`` alone where these attributes have no body.

``at_load`` bodies replace every node of that operator when a model is loaded (fused and quantised operators that
ONNX Runtime's optimiser writes: what they are made of can be differentiated, cut and named; ONNX Runtime fuses them
again where it can). The others are used only where a gradient passes through the node and no rule exists.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from graph_tools.emit import Emitter, infer_node, operator_name
from graph_tools.errors import UnsupportedGradient
from graph_tools.walk.blame import blamed

Body = Callable[[Emitter, ir.Node], ir.Value | tuple[ir.Value | None, ...] | None]
BODIES: dict[str, Body] = {}
AT_LOAD: set[str] = set()


def lowering(*operators: str, at_load: bool = False) -> Callable[[Body], Body]:
    """Register the decorated body for ``operators`` (``domain::Name`` outside ai.onnx)."""

    def register(body: Body) -> Body:
        for operator in operators:
            if operator in BODIES:
                raise ValueError(f"{operator} has two bodies")
            BODIES[operator] = body
            if at_load:
                AT_LOAD.add(operator)
        return body

    return register


def lower(b: Emitter, node: ir.Node, body: Body | None = None) -> bool:
    """Replace ``node`` by its body; the node's output values stay the same objects under the same names.

    Args:
        b: an emitter of the model.
        node: a node of the main graph or of a subgraph.
        body: what to use in place of the table's body.

    Returns:
        False where there is no body (the graph is unchanged).
    """
    body = body or BODIES.get(operator_name(node))
    if body is None:
        return False
    with b.before(node):
        found = body(b, node)
        if found is None:
            return False
        results = found if isinstance(found, tuple) else (found,)
        _hand_over(b, node, results)
    return True


def _hand_over(b: Emitter, node: ir.Node, results: tuple[ir.Value | None, ...]) -> None:
    """Make the results the node's outputs and remove the node."""
    outputs = list(node.outputs)
    graph = node.graph
    assert graph is not None
    pairs = []
    for i, old in enumerate(outputs):
        result = results[i] if i < len(results) else None
        if result is not None:
            if old.name or old.uses():
                pairs.append((old, result))
        elif old.uses() or old.is_graph_output():
            raise UnsupportedGradient(
                f"output {i} ({old.name!r}) of operator {operator_name(node)} (node {node.name!r}) cannot be computed "
                "with standard operators; black-box methods work on this model",
                operator=operator_name(node),
                node=node.name or "",
            )
    stand_ins = [(ir.Value(name=f"{old.name}/stand_in"), old) for old in outputs]
    for stand_in, old in stand_ins:
        ir.convenience.replace_all_uses_with(old, stand_in, replace_graph_outputs=True)
    node.resize_outputs(0)
    taken = [r for _, r in pairs]
    for old, result in pairs:
        producer = result.producer()
        sole = len(taken) == len(set(taken)) and producer is not None and result.name in b.made
        if sole and producer is not None and len(producer.outputs) == 1:
            ir.convenience.replace_all_uses_with(result, old)
            fresh = ir.Node(
                producer.domain, producer.op_type, producer.inputs, list(producer.attributes.values()), outputs=[old]
            )
            fresh.name = producer.name
            graph.insert_before(producer, fresh)
            graph.remove(producer, safe=True)
        else:
            fresh = ir.Node("", "Identity", [result], outputs=[old])
            fresh.name = b.fresh("Identity_node")
            graph.insert_before(node, fresh)
        old.type = old.type or result.type
        if result.shape is not None and (old.shape is None or len(old.shape) != len(result.shape)):
            old.shape = result.shape
    for stand_in, old in stand_ins:
        ir.convenience.replace_all_uses_with(stand_in, old, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def lower_fused(model: ir.Model) -> bool:
    """Replace every node that has an ``at_load`` body, in subgraphs too; types are inferred on the way.

    Returns:
        Whether anything was replaced.
    """
    todo = [n for n in model.graph.all_nodes() if operator_name(n) in AT_LOAD]
    if not todo:
        return False
    b = Emitter(model)
    waiting = set(todo)
    read = [v for v in model.graph.initializers.values() if v.uses()]
    for node in list(model.graph.all_nodes()):
        if node in waiting:
            with blamed(node):
                lower(b, node)
        elif any(v.type is None or v.shape is None for v in node.outputs if v.name):
            infer_node(node, model.graph.opset_imports)
    for v in read:  # weights that came out of blocks or bits: the program carries one form
        if not v.uses() and not v.is_graph_output() and v.name:
            del model.graph.initializers[v.name]
    return True
