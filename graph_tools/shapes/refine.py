"""Shapes inside If, Loop and Scan, which the standard inference leaves open: bodies see what their operands are.

A value carried through iterations gets the dimensions that provably stay: the operand's dimensions are assumed, the
body is inferred, and what comes out different is opened, until nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from graph_tools import scopes
from graph_tools.emit import infer_node

_ROUNDS = 8


def refine(model: ir.Model, *, changed: bool = False) -> None:
    """Infer types and shapes inside the bodies of the main graph's control flow, and behind it.

    Sequences and optionals get their types. ``changed``: also where there is no control flow, or none any more.
    """
    if not changed and not any(scopes.pipes_of(node) or _sequential(node) for node in model.graph):
        return
    opsets = model.graph.opset_imports
    for node in model.graph:
        if scopes.pipes_of(node) is not None:
            refine_node(node, opsets)
        elif _sequential(node) or any(v.name and (v.type is None or v.shape is None) for v in node.outputs):
            _infer(node, opsets)


def _sequential(node: ir.Node) -> bool:
    """Whether sequences or optionals go into the node or may come out."""
    return (
        node.op_type.startswith("Optional")
        or "Sequence" in node.op_type
        or any(v is not None and isinstance(v.type, ir.SequenceType | ir.OptionalType) for v in node.inputs)
    )


def refine_node(node: ir.Node, opsets: dict[str, int]) -> None:
    """Infer the bodies of one If, Loop or Scan, then its outputs."""
    pipes = scopes.pipes_of(node)
    assert pipes is not None
    _enter(node, pipes)
    declared = {v: (v.type, v.shape) for n in scopes.inner_nodes(node) for v in n.outputs}
    for _ in range(_ROUNDS):
        for v, (kind, shape) in declared.items():
            v.type, v.shape = kind, shape
        _infer_graphs(pipes.graphs, opsets)
        if not _widen(pipes):
            break
    else:
        for _, v in pipes.again:
            v.shape = None
        _infer_graphs(pipes.graphs, opsets)
    scopes.type_outputs(node, pipes)


def _infer_graphs(graphs: Iterable[ir.Graph], opsets: dict[str, int]) -> None:
    for graph in graphs:
        for node in graph:
            if scopes.pipes_of(node) is not None:
                refine_node(node, opsets)
            else:
                _infer(node, opsets)


def _infer(node: ir.Node, opsets: dict[str, int]) -> None:
    """Infer one node; what the file says fills the gaps."""
    known = [(v, v.type, v.shape) for v in node.outputs]
    infer_node(node, opsets)
    for v, kind, shape in known:
        v.type, v.shape = v.type or kind, scopes.sharper(v.shape, shape)


def _enter(node: ir.Node, pipes: scopes.Pipes) -> None:
    """Give the body's inputs the types and shapes of the operands; open dimensions get names of their own."""
    states = scopes.state_count(node) if node.op_type != "If" else 0
    for index, (x, v) in enumerate(pipes.enters):
        v.type = x.type or v.type
        if index >= states:
            v.shape = scopes.slice_shape(node, index - states) or v.shape
        elif x.shape is None:
            v.shape = None
        else:
            v.shape = ir.Shape([_named(d, f"{node.name}.{v.name}.{i}") for i, d in enumerate(x.shape)])
    if node.op_type == "Loop":
        body = pipes.graphs[0]
        for v, kind in zip(body.inputs[:2], (ir.DataType.INT64, ir.DataType.BOOL), strict=True):
            v.type = v.type or ir.TensorType(kind)
            v.shape = v.shape if v.shape is not None else ir.Shape([])


def _named(d: int | ir.SymbolicDim, name: str) -> int | str:
    return d if isinstance(d, int) else d.value or name


def _widen(pipes: scopes.Pipes) -> bool:
    """Open the dimensions that one iteration changes; whether there were any."""
    changed = False
    for out, v in pipes.again:
        kept = scopes.meet(v.shape, out.shape)
        if v.shape is not None and (kept is None or list(kept) != list(v.shape)):
            v.shape, changed = kept, True
    return changed
