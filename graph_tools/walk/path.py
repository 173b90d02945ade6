"""What lies between ``wrt`` and the seeds: two passes over a graph and its subgraphs, both linear in the nodes.

Forward, the values that depend on ``wrt`` smoothly; backward from the seeds, those of them that reach a seed. Bodies
of If, Loop and Scan are walked as part of the graph (a Loop's until what it carries no longer grows): a value that a
body captures is on the path like any other operand.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx_ir as ir

from graph_tools import scopes
from graph_tools.errors import UnsupportedGradient
from graph_tools.reverse import FLOATS
from graph_tools.scopes import Pipes
from graph_tools.vjp.table import INTEGER_CARRIERS, SAMPLERS, SCOPED, Table, find_rule, operator_name, zero

BLACK_BOX = "black-box methods (occlusion, predict) work on this model"

Edge = tuple[ir.Node, int]


class Path:
    """The result: nodes of the graph in forward order, and values and edges of all its scopes.

    Attributes:
        nodes: nodes of the graph itself through which a cotangent passes.
        values: values that depend on ``wrt``.
        live: those of them from which a seed is reached.
        dead: edges whose derivative is zero, or that end in a non-float value.
        ruleless: edges on the way that have no rule.
        blocked: nodes in which a float path ends in a non-float or drawn value.
    """

    def __init__(self, graph: ir.Graph, seeds: Collection[ir.Value], wrt: Iterable[ir.Value], table: Table) -> None:
        """Find the path from ``wrt`` to ``seeds`` in ``graph``.

        Raises:
            UnsupportedGradient: it enters the body of an operator whose bodies are unknown to this project.
        """
        self._table = table
        self.values: set[ir.Value] = set(wrt)
        self.dead: set[Edge] = set()
        self.blocked: list[ir.Node] = []
        self._ruleless: dict[Edge, None] = {}
        self._opaque: dict[ir.Node, str] = {}
        needed = ancestors(seeds, graph)
        self._forward(node for node in graph if node in needed)
        self.live: set[ir.Value] = self.values.intersection(seeds)
        backward = [node for node in reversed(graph) if node in needed]
        self._backward(backward)
        self.nodes = [node for node in reversed(backward) if self._passes(node)]
        self.ruleless = [edge for edge in self._ruleless if self._reached(edge[0])]
        for node, name in self._opaque.items():
            if self._reached(node):
                raise UnsupportedGradient(
                    f"operator {operator_name(node)} (node {node.name!r}) reads {name!r} inside its subgraph, through "
                    f"which no gradient is built; {BLACK_BOX}",
                    operator=operator_name(node),
                    node=node.name or "",
                )

    def _reached(self, node: ir.Node) -> bool:
        return any(v in self.live for v in node.outputs)

    def _passes(self, node: ir.Node) -> bool:
        return self._reached(node) and (
            operator_name(node) in SCOPED
            or any(x in self.values and (node, i) not in self.dead for i, x in enumerate(node.inputs))
        )

    # --- forward: what depends on wrt

    def _forward(self, nodes: Iterable[ir.Node]) -> None:
        for node in nodes:
            pipes = scopes.pipes_of(node)
            if pipes is not None:
                self._forward_scoped(pipes)
            else:
                self._forward_node(node)

    def _forward_node(self, node: ir.Node) -> None:
        draws = operator_name(node) in SAMPLERS
        outputs = [] if draws else [o for o in node.outputs if carries(node, o)]
        for index, x in enumerate(node.inputs):
            if x is None or x not in self.values:
                continue
            rule = find_rule(self._table, node, index)
            if rule is zero and not draws:
                self.dead.add((node, index))
            elif not outputs:
                if (node, index) not in self.dead:
                    self.blocked.append(node)
                self.dead.add((node, index))
            else:
                self.values.update(outputs)
                if rule is None:
                    self._ruleless[node, index] = None
        if outputs and (held := [v for v in scopes.captured(node) if v in self.values]):
            self.values.update(outputs)
            self._opaque[node] = min(v.name or "" for v in held)

    def _forward_scoped(self, pipes: Pipes) -> None:
        def enter(pairs: Iterable[scopes.Pair]) -> bool:
            into = [v for x, v in pairs if x in self.values and v not in self.values and _float(v)]
            self.values.update(into)
            return bool(into)

        enter(pipes.enters)
        bodies = [(g, ancestors(g.outputs, g)) for g in pipes.graphs]
        while True:
            for graph, needed in bodies:
                self._forward(node for node in graph if node in needed)
            if not enter(pipes.again):
                break
        enter(pipes.leaves)
        enter(pipes.skips)

    # --- backward: what reaches a seed

    def _backward(self, nodes: Iterable[ir.Node]) -> None:
        for node in nodes:
            if not self._reached(node):
                continue
            pipes = scopes.pipes_of(node)
            if pipes is not None:
                self._backward_scoped(pipes)
                continue
            for i, x in enumerate(node.inputs):
                if x is not None and x in self.values and (node, i) not in self.dead:
                    self.live.add(x)

    def _backward_scoped(self, pipes: Pipes) -> None:
        def leave(pairs: Iterable[scopes.Pair]) -> bool:
            back = [v for v, out in pairs if out in self.live and v in self.values and v not in self.live]
            self.live.update(back)
            return bool(back)

        leave(pipes.leaves)
        while True:
            for graph in pipes.graphs:
                self._backward(reversed(graph))
            if not leave(pipes.again):
                break
        leave(pipes.enters)
        leave(pipes.skips)


def ancestors(targets: Collection[ir.Value], graph: ir.Graph) -> set[ir.Node]:
    """The nodes of ``graph`` itself that any of ``targets`` is computed from."""
    seen: set[ir.Node] = set()
    stack = [p for v in targets if (p := v.producer()) is not None and p.graph is graph]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        for v in (*node.inputs, *scopes.captured(node)):
            producer = None if v is None else v.producer()
            if producer is not None and producer.graph is graph and producer not in seen:
                stack.append(producer)
    return seen


def carries(node: ir.Node, out: ir.Value) -> bool:
    """Whether a derivative may flow through ``out``: floats, and quantised values."""
    if operator_name(node) == "DynamicQuantizeLinear" and out is not node.outputs[0]:
        return out is node.outputs[1] and not node.outputs[0].uses()  # what x does to its scale is not followed
    if _float(out):
        return True
    quantised = out.dtype is not None and (out.dtype.is_integer() or out.dtype.is_floating_point())  # 8-bit floats too
    return quantised and operator_name(node) in INTEGER_CARRIERS


def _float(v: ir.Value) -> bool:
    return v.dtype is None or v.dtype in FLOATS
