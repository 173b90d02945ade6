"""The reverse walk: one pass from the outputs to the inputs that asks the rule table for every cotangent.

The walk owns what rules should not repeat: which edges matter, the order, accumulation over fan-out, summing a
broadcast cotangent back to its operand's shape, dtypes, and expanding operators that have a body but no rule.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx_ir as ir

import graph_tools.vjp  # noqa: F401  fills the table
from graph_tools import batching, patterns
from graph_tools import model as models
from graph_tools.errors import UnsupportedGradient
from graph_tools.expand import expand
from graph_tools.reverse import FLOATS as FLOATS
from graph_tools.reverse import Reverse
from graph_tools.vjp.table import INTEGER_CARRIERS, VJPS, Table, find_rule, operator_name, zero

BLACK_BOX = "black-box methods (occlusion, predict) work on this model"


def backward(
    model: ir.Model,
    seeds: Mapping[ir.Value, ir.Value],
    wrt: Sequence[ir.Value],
    *,
    overlay: Table | None = None,
    repeat: ir.Value | None = None,
    form: str = "cpu",
) -> list[ir.Value | None]:
    """Append the reverse graph to ``model`` and return the cotangent of each value of ``wrt``.

    Args:
        model: a loaded model; changed in place.
        seeds: cotangent by value: dtype and shape of that value (axis 0 K times as long where ``repeat`` is given).
        wrt: values whose cotangents are wanted; several may lie on one path.
        overlay: rules laid over the table.
        repeat: int64 scalar K: K cotangents per row share one forward pass, rows of one input adjacent. Values whose
            axis 0 is the batch are then repeated where a rule reads them.
        form: ``cpu`` or ``cuda``, where a rule has two forms.

    Returns:
        Cotangents in the order of ``wrt``; None = zero (no path, or only through piecewise-constant operators).

    Raises:
        UnsupportedGradient: a path meets an operator without rule and body, or every path ends in non-float values.
    """
    table: Table = {**VJPS, **overlay} if overlay else VJPS
    path = _expand_ruleless(model, seeds, wrt, table)
    b = Reverse(model, repeat, batching.batch_values(model) if repeat is not None else frozenset(), form)
    written_out = patterns.find(model, {*seeds, *wrt})
    cts: dict[ir.Value, list[ir.Value]] = {}
    for v, seed in seeds.items():
        cts.setdefault(v, []).append(seed)
    for node in reversed(path.nodes):
        arrived = [_total(b, cts, out) for out in node.outputs]
        if all(ct is None for ct in arrived):
            continue
        if node in written_out:
            pattern = written_out[node]
            if pattern.x in path.values and (ct := _pattern_rule(b, table, pattern, arrived)) is not None:
                cts.setdefault(pattern.x, []).append(b.fit(ct, pattern.x))
            continue
        for index, x in enumerate(node.inputs):
            if x is None or x not in path.values or (node, index) in path.dead:
                continue
            rule = find_rule(table, node, index)
            ct = None if rule is None else rule(b, node, *arrived)
            if ct is not None:
                cts.setdefault(x, []).append(b.fit(ct, x))
    found = [_total(b, cts, v) for v in wrt]
    if all(ct is None for ct in found):
        _explain_nothing(path, seeds, wrt)
    return found


def _pattern_rule(
    b: Reverse, table: Table, pattern: patterns.Pattern, arrived: Sequence[ir.Value | None]
) -> ir.Value | None:
    """The rule of the operator that was written out, asked with a node that is in no graph."""
    node = ir.Node("", pattern.operator, [pattern.x], outputs=[ir.Value(name=pattern.y.name, type=pattern.y.type)])
    rule = find_rule(table, node, 0)
    ct = None if rule is None else rule(b, node, *arrived)
    node.replace_input_with(0, None)
    return ct


class _Path:
    """What lies between ``wrt`` and the seeds: nodes in forward order, values that carry a derivative, dead edges."""

    def __init__(self, nodes: list[ir.Node], values: set[ir.Value], dead: set[tuple[ir.Node, int]]) -> None:
        self.nodes, self.values, self.dead = nodes, values, dead
        self.ruleless: list[tuple[ir.Node, int]] = []
        self.blocked: list[ir.Node] = []  # a float path ends here in a non-float value


def _expand_ruleless(
    model: ir.Model, seeds: Mapping[ir.Value, ir.Value], wrt: Sequence[ir.Value], table: Table
) -> _Path:
    """Replace ruleless nodes on the path by their ONNX function bodies until every node has its rules."""
    while True:
        path = _find_path(model, seeds, wrt, table)
        if not path.ruleless:
            return path
        for node in dict.fromkeys(n for n, _ in path.ruleless):
            index = next(i for n, i in path.ruleless if n is node)
            if not expand(model, node):
                raise UnsupportedGradient(
                    f"operator {operator_name(node)} (node {node.name!r}) has no gradient rule for input {index} "
                    f"({node.inputs[index].name!r}); {BLACK_BOX}",  # type: ignore[union-attr]
                    operator=operator_name(node),
                    node=node.name or "",
                )


def _find_path(model: ir.Model, seeds: Mapping[ir.Value, ir.Value], wrt: Sequence[ir.Value], table: Table) -> _Path:
    needed = ancestors(seeds)
    carry: set[ir.Value] = set(wrt)
    nodes, dead, ruleless, blocked, capturing = [], set(), [], [], []
    for node in model.graph:
        if node not in needed:
            continue
        captured = _captured(node) & carry
        live = False
        for index, x in enumerate(node.inputs):
            if x is None or x not in carry:
                continue
            rule = find_rule(table, node, index)
            if rule is zero:
                dead.add((node, index))
                continue
            outputs = [o for o in node.outputs if _carries(node, o)]
            if not outputs:
                blocked.append(node)
                dead.add((node, index))
                continue
            live = True
            carry.update(outputs)
            if rule is None:
                ruleless.append((node, index))
        if captured and (outputs := [o for o in node.outputs if _carries(node, o)]):
            carry.update(outputs)
            capturing.append((node, min(v.name or "" for v in captured)))
        if live:
            nodes.append(node)
    path = _Path(nodes, carry, dead)
    for node, name in capturing:
        if _reaches(node, seeds, path):
            raise UnsupportedGradient(
                f"operator {node.op_type} (node {node.name!r}) reads {name!r} inside its subgraph, through which no "
                f"gradient is built; {BLACK_BOX}",
                operator=node.op_type,
                node=node.name or "",
            )
    path.ruleless = [(n, i) for n, i in ruleless if _reaches(n, seeds, path)]
    path.blocked = blocked
    return path


def ancestors(targets: Collection[ir.Value]) -> set[ir.Node]:
    """All nodes that any of ``targets`` is computed from."""
    seen: set[ir.Node] = set()
    stack = [p for v in targets if (p := v.producer()) is not None]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        read = (*node.inputs, *_captured(node))
        stack.extend(p for v in read if v is not None and (p := v.producer()) is not None and p not in seen)
    return seen


def _reaches(node: ir.Node, seeds: Mapping[ir.Value, ir.Value], path: _Path) -> bool:
    """Whether a live path leads from ``node`` to a seed (a ruleless node on a dead branch does no harm)."""
    seen: set[ir.Node] = set()
    stack = [node]
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        for out in current.outputs:
            if out in seeds:
                return True
            stack.extend(user for user, index in out.uses() if out in path.values and (user, index) not in path.dead)
    return False


def _captured(node: ir.Node) -> set[ir.Value]:
    """Outer values that the node's subgraphs read."""
    found: set[ir.Value] = set()
    for attribute in node.attributes.values():
        graphs = (
            [attribute.as_graph()]
            if attribute.type == ir.AttributeType.GRAPH
            else list(attribute.as_graphs())
            if attribute.type == ir.AttributeType.GRAPHS
            else []
        )
        for graph in graphs:
            inner = {v for n in graph.all_nodes() for v in n.outputs} | set(graph.inputs)
            inner |= set(graph.initializers.values())
            used = {v for n in graph.all_nodes() for v in n.inputs if v is not None} | set(graph.outputs)
            found |= used - inner
    return found


def _carries(node: ir.Node, out: ir.Value) -> bool:
    """Whether a derivative may flow through ``out``: floats, and quantised values."""
    if out.dtype is None or out.dtype in FLOATS:
        return True
    quantised = out.dtype.is_integer() or out.dtype.is_floating_point()  # 8-bit floats too
    return quantised and operator_name(node) in INTEGER_CARRIERS


def _total(b: Reverse, cts: dict[ir.Value, list[ir.Value]], v: ir.Value) -> ir.Value | None:
    """The sum of the cotangents that arrived at ``v``."""
    arrived = cts.get(v)
    if not arrived:
        return None
    if len(arrived) > 1:
        total = arrived[0]
        for ct in arrived[1:]:
            total = b.Add(total, ct)
        cts[v] = [total]
    return cts[v][0]


def _explain_nothing(path: _Path, seeds: Mapping[ir.Value, ir.Value], wrt: Sequence[ir.Value]) -> None:
    """Every path ended. Zeros are right unless floats were turned into other types on the way: then say where."""
    dead_zero = any((n, i) in path.dead and n not in path.blocked for n, i in path.dead)
    if path.blocked and not dead_zero:
        node = path.blocked[0]
        raise UnsupportedGradient(
            f"no gradient path: operator {operator_name(node)} (node {node.name!r}) turns the values between "
            f"{', '.join(repr(v.name) for v in wrt)} and {', '.join(repr(v.name) for v in seeds)} into "
            f"{node.outputs[0].dtype}; {BLACK_BOX}",
            operator=operator_name(node),
            node=node.name or "",
        )


def check_path(model: ir.Model, target: str, wrt: str) -> None:
    """Whether ``backward`` would find a gradient of ``target`` with respect to ``wrt``; ``model`` may be expanded.

    Raises:
        UnsupportedGradient: with the operator and node in the way.
    """
    named = models.values_by_name(model)
    y, x = named[target], named[wrt]
    path = _expand_ruleless(model, {y: y}, [x], VJPS)
    if y not in path.values:
        _explain_nothing(path, {y: y}, [x])
        raise UnsupportedGradient(
            f"no gradient path: {target!r} depends on {wrt!r} through piecewise-constant operators only, or not at "
            f"all; {BLACK_BOX}"
        )
