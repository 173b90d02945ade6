"""Subgraphs: what flows in and out of the bodies of If, Loop and Scan, what they capture, and copies of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from graph_tools.emit import Emitter

Pair = tuple[ir.Value, ir.Value]


def operator_name(node: ir.Node) -> str:
    """``Conv``, or ``com.microsoft::Gelu`` outside ai.onnx."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


@dataclass(frozen=True)
class Pipes:
    """How values pass between a control-flow node and its bodies.

    Attributes:
        graphs: the bodies.
        enters: (operand, body input); Scan hands over slices.
        leaves: (body output, node output); Loop and Scan stack per-iteration outputs.
        again: (body output, body input of the next iteration).
        skips: (operand, node output): what comes out after zero iterations.
    """

    graphs: list[ir.Graph]
    enters: list[Pair] = field(default_factory=list)
    leaves: list[Pair] = field(default_factory=list)
    again: list[Pair] = field(default_factory=list)
    skips: list[Pair] = field(default_factory=list)


def pipes_of(node: ir.Node) -> Pipes | None:
    """The pipes of If, Loop or Scan; None for every other operator."""
    if node.op_type not in ("If", "Loop", "Scan") or node.domain not in ("", "ai.onnx"):
        return None
    graphs = subgraphs(node)
    if node.op_type == "If":
        return Pipes(graphs, leaves=[p for g in graphs for p in zip(g.outputs, node.outputs, strict=False)])
    body = graphs[0]
    first = 2 if node.op_type == "Loop" else 0  # iteration number and condition stand in front
    states = state_count(node)
    operands, inner = node.inputs[first:], list(body.inputs)[first:]
    results = list(body.outputs)[1 if node.op_type == "Loop" else 0 :]
    return Pipes(
        graphs,
        enters=[(x, v) for x, v in zip(operands, inner, strict=False) if x is not None],
        leaves=list(zip(results, node.outputs, strict=False)),
        again=list(zip(results[:states], inner[:states], strict=False)),
        skips=[(x, y) for x, y in zip(operands[:states], node.outputs, strict=False) if x is not None],
    )


def state_count(node: ir.Node) -> int:
    """Number of values that a Loop or Scan carries from one iteration to the next."""
    if node.op_type == "Loop":
        return max(0, len(node.inputs) - 2)
    return len(node.inputs) - node.attributes["num_scan_inputs"].as_int()


def subgraphs(node: ir.Node) -> list[ir.Graph]:
    """The bodies of a node (``then_branch`` before ``else_branch``)."""
    found: list[ir.Graph] = []
    for name in sorted(node.attributes, reverse=True):
        attribute = node.attributes[name]
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def inner_nodes(node: ir.Node) -> Iterator[ir.Node]:
    """All nodes of the bodies of ``node``, at every depth."""
    for graph in subgraphs(node):
        yield from graph.all_nodes()


def captured(node: ir.Node) -> list[ir.Value]:
    """Outer values that the node's bodies read, each once, in order of first use."""
    graphs = subgraphs(node)
    if not graphs:
        return []
    own: set[ir.Value] = set()
    read: dict[ir.Value, None] = {}
    for graph in _all_graphs(graphs):
        own.update(graph.inputs, graph.initializers.values())
        read.update(dict.fromkeys(graph.outputs))
        for n in graph:
            own.update(n.outputs)
            read.update(dict.fromkeys(v for v in n.inputs if v is not None))
    return [v for v in read if v not in own]


def _all_graphs(graphs: Sequence[ir.Graph]) -> Iterator[ir.Graph]:
    for graph in graphs:
        yield graph
        for node in graph:
            yield from _all_graphs(subgraphs(node))


def names_of(graph: ir.Graph) -> set[str | None]:
    """Every name that ``graph`` and its subgraphs use for values and nodes."""
    used: set[str | None] = set()
    for g in _all_graphs([graph]):
        used.update(v.name for v in (*g.inputs, *g.initializers.values()))
        for node in g:
            used.add(node.name)
            used.update(v.name for v in node.outputs)
    return used


def hoist_constants(b: Emitter) -> None:
    """Move the initializers of all subgraphs to the main graph, so that copies of a body share them."""
    main = b.graph
    for node in list(main.all_nodes()):
        for graph in subgraphs(node):
            for name, v in list(graph.initializers.items()):
                del graph.initializers[name]
                v.name = b.fresh(name)
                main.register_initializer(v)
            outer = [i for i, v in enumerate(graph.outputs) if v.graph is not graph]
            for i in outer:  # a body must produce its outputs
                with b.inside(graph):
                    graph.outputs[i] = b.Identity(graph.outputs[i])


def copy_of(b: Emitter, graph: ir.Graph, operands: Sequence[ir.Value]) -> list[ir.Value]:
    """Put a copy of the nodes of ``graph`` where ``b`` emits, under fresh names, reading ``operands`` as its inputs.

    Returns:
        The copies of its outputs.
    """
    copy = graph.clone(allow_outer_scope_values=True)
    outputs = list(copy.outputs)
    copy.outputs.clear()
    given = dict(zip(copy.inputs, operands, strict=True))
    for old, new in given.items():
        ir.convenience.replace_all_uses_with(old, new)
    for g in _all_graphs([copy]):
        for v in g.inputs if g is not copy else ():
            v.name = b.fresh(v.name or "input")
        for node in g:
            node.name = b.fresh(node.name or node.op_type)
            for v in node.outputs:
                if v.name:
                    v.name = b.fresh(v.name)
    for node in list(copy):
        copy.remove(node)
        b.adopt(node)
    return [given.get(v, v) for v in outputs]


def prune(graph: ir.Graph) -> None:
    """Remove the nodes of a body that none of its outputs needs."""
    for node in reversed(list(graph)):
        if not any(v.uses() or v.is_graph_output() for v in node.outputs):
            for inner in inner_nodes(node):
                for i in range(len(inner.inputs)):
                    inner.replace_input_with(i, None)
            graph.remove(node, safe=True)


def type_outputs(node: ir.Node, pipes: Pipes) -> None:
    """Types and shapes of the node's outputs from those of the bodies' outputs and of what skips the bodies."""
    sources: dict[ir.Value, list[tuple[ir.Value, ir.Shape | None]]] = {}
    for inner, out in pipes.leaves:
        sources.setdefault(out, []).append((inner, inner.shape))
    for x, out in pipes.skips:
        sources.setdefault(out, []).append((x, x.shape))
    states = 0 if node.op_type == "If" else state_count(node)
    for index, out in enumerate(node.outputs):
        found = sources.get(out, [])
        shapes = [shape for _, shape in found]
        shape = shapes[0] if shapes else None
        for other in shapes[1:]:
            shape = meet(shape, other)
        if node.op_type != "If" and index >= states:
            shape = stacked(node, index - states, shape)
        out.type = next((v.type for v, _ in found if v.type is not None), out.type)
        out.shape = sharper(shape, out.shape)


def stacked(node: ir.Node, index: int, shape: ir.Shape | None) -> ir.Shape | None:
    """The shape of per-iteration output ``index`` from the shape of one iteration's."""
    if shape is None:
        return None
    dims = list(shape)
    if node.op_type == "Loop":
        return ir.Shape([None, *dims])
    x = node.inputs[state_count(node)]
    steps = None if x is None or not x.shape else x.shape[_entry(node, "scan_input_axes", 0)]
    axis = _entry(node, "scan_output_axes", index) % (len(dims) + 1)
    return ir.Shape([*dims[:axis], steps, *dims[axis:]])


def slice_shape(node: ir.Node, index: int) -> ir.Shape | None:
    """The shape of one slice of scan input ``index``."""
    x = node.inputs[state_count(node) + index]
    if x is None or not x.shape:
        return None
    axis = _entry(node, "scan_input_axes", index) % len(x.shape)
    return ir.Shape([d for i, d in enumerate(x.shape) if i != axis])


def _entry(node: ir.Node, name: str, index: int) -> int:
    given = node.attributes.get_ints(name) if name in node.attributes else []
    return int(given[index]) if index < len(given or []) else 0


def meet(a: ir.Shape | None, b: ir.Shape | None) -> ir.Shape | None:
    """What two shapes have in common: open dimensions where they differ, None where the ranks do."""
    if a is None or b is None or len(a) != len(b):
        return None
    return ir.Shape([d if same_dim(d, e) else None for d, e in zip(a, b, strict=True)])


def sharper(a: ir.Shape | None, b: ir.Shape | None) -> ir.Shape | None:
    """``a`` with the dimensions filled in that only ``b`` knows."""
    if a is None or b is None or len(a) != len(b):
        return b if a is None else a
    return ir.Shape([e if not isinstance(d, int) and isinstance(e, int) else d for d, e in zip(a, b, strict=True)])


def same_dim(d: int | ir.SymbolicDim, e: int | ir.SymbolicDim) -> bool:
    """Whether two dimensions are certainly equal."""
    if isinstance(d, int) or isinstance(e, int):
        return isinstance(d, int) and isinstance(e, int) and d == e
    return d.value is not None and d.value == e.value
