"""Body and head: a model cut in two at a value, and the values at which a clean cut is possible."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from graph_tools import model as models
from graph_tools.errors import UnknownValue, UnsupportedModel
from graph_tools.model import Source
from graph_tools.scopes import captured


def cut(source: Source, at: str) -> tuple[ir.Model, ir.Model]:
    """Body (inputs → ``at``) and head (``at`` → outputs).

    The body hands over, after ``at``, every other value that the head still needs (skip connections around the
    cut, inputs that the head reads itself); these are the head's further inputs, under the same names.

    Raises:
        UnknownValue: no value ``at``.
        UnsupportedModel: no output depends on ``at``, or its type cannot be inferred.
    """
    model = models.load(source)
    named = models.values_by_name(model)
    if at not in named:
        raise UnknownValue("value", at, named)
    behind = descendants(model, [named[at]])
    outputs = [v for v in model.graph.outputs if v.producer() in behind or v is named[at]]
    if not behind or not outputs:
        raise UnsupportedModel(f"no output depends on {at!r}: there is nothing behind this value")
    handed = [v for v in _read_by(model, behind) if v is not named[at]]
    for v in (named[at], *handed):
        if v.type is None:
            raise UnsupportedModel(f"the type of {v.name!r} is unknown, so the model cannot be cut there")
    body = _part(model, list(model.graph.inputs), [named[at], *handed])
    head = _part(model, [named[at], *handed], outputs)
    return body, head


def descendants(model: ir.Model, values: Iterable[ir.Value]) -> set[ir.Node]:
    """Nodes that depend on any of ``values`` (subgraph captures count)."""
    touched = set(values)
    found: set[ir.Node] = set()
    for node in model.graph:
        if touched.intersection(read_by(node)):
            found.add(node)
            touched.update(node.outputs)
    return found


def read_by(node: ir.Node) -> list[ir.Value]:
    """The operands of ``node`` and what its subgraphs capture."""
    return [v for v in (*node.inputs, *captured(node)) if v is not None]


def between(model: ir.Model, sources: Iterable[ir.Value], target: ir.Value) -> list[ir.Node]:
    """Nodes on paths from ``sources`` to ``target``, in graph order."""
    forward = descendants(model, sources)
    needed: set[ir.Node] = set()
    stack = [target.producer()]
    while stack:
        node = stack.pop()
        if node is None or node in needed or node not in forward:
            continue
        needed.add(node)
        stack.extend(v.producer() for v in read_by(node))
    return [n for n in model.graph if n in needed]


def cut_values(model: ir.Model, target: ir.Value) -> list[ir.Value]:
    """Values that lie on every path from the inputs to ``target``, first to last (``target`` included).

    After each node of the path, in graph order, the values still to be read are counted: where exactly one is left,
    everything downstream goes through it.
    """
    inputs = list(model.graph.inputs)
    nodes = between(model, inputs, target)
    path = set(nodes)
    left = {v: sum(1 for user, _ in v.uses() if user in path) for v in inputs}
    live = {v for v, n in left.items() if n}
    cuts = list(live) if len(live) == 1 else []
    for node in nodes:
        for v in node.inputs:
            if v in left:
                left[v] -= 1
                if left[v] == 0 and v is not target:
                    live.discard(v)
        for v in node.outputs:
            left[v] = sum(1 for user, _ in v.uses() if user in path)
            if left[v] or v is target:
                live.add(v)
        if len(live) == 1 and node.outputs and (only := next(iter(live))) not in cuts:
            cuts.append(only)
    return cuts


def _read_by(model: ir.Model, nodes: set[ir.Node]) -> list[ir.Value]:
    """Values that ``nodes`` read from outside, constants excepted, in graph order."""
    constants = set(model.graph.initializers.values())
    made = {v for n in nodes for v in n.outputs}
    read = {}
    for node in model.graph:
        if node in nodes:
            read.update(dict.fromkeys(read_by(node)))
    known = set(models.values_by_name(model).values())
    return [v for v in read if v not in made and v not in constants and v in known]


def _part(model: ir.Model, inputs: list[ir.Value], outputs: list[ir.Value]) -> ir.Model:
    graph = ir.convenience.extract(model.graph, inputs, outputs)
    part = ir.Model(graph, ir_version=model.ir_version)
    return models.mark_loaded(part)
