"""The reverse walk: one pass from the outputs to the inputs that asks the rule table for every cotangent.

The walk owns what rules should not repeat: which edges matter, the order, accumulation over fan-out, summing a
broadcast cotangent back to its operand's shape, dtypes, and expanding operators that have a body but no rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

import graph_tools.vjp  # noqa: F401  fills the table
from graph_tools import batching, scopes
from graph_tools import model as models
from graph_tools.emit import Emitter
from graph_tools.errors import UnsupportedGradient
from graph_tools.lowering.table import lower
from graph_tools.reverse import FLOATS as FLOATS
from graph_tools.reverse import Reverse
from graph_tools.shapes.folding import known_array
from graph_tools.shapes.refine import refine
from graph_tools.vjp.table import SAMPLERS, SCOPED, VJPS, Inner, Seed, Table, find_rule, operator_name
from graph_tools.walk import patterns, sequences
from graph_tools.walk.blame import blamed
from graph_tools.walk.expand import expand
from graph_tools.walk.path import BLACK_BOX, Path


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
            axis 0 is the batch are then repeated where a rule reads them. Not through If, Loop and Scan.
        form: ``cpu`` or ``cuda``, where a rule has two forms.

    Returns:
        Cotangents in the order of ``wrt``; None = zero (no path, or only through piecewise-constant operators).

    Raises:
        UnsupportedGradient: a path meets an operator without rule and body, or every path ends in non-float values.
    """
    table: Table = {**VJPS, **overlay} if overlay else VJPS
    prepare(model)
    path = _expand_ruleless(model, model.graph, seeds, wrt, table)
    b = Reverse(model, repeat, batching.batch_values(model) if repeat is not None else frozenset(), form)
    found = _walk(b, path, list(seeds.items()), wrt, table)
    b.prune(found)
    if all(ct is None for ct in found):
        _explain_nothing(path, seeds, wrt)
    return found


def prepare(model: ir.Model, b: Emitter | None = None) -> None:
    """Make control flow and sequences ready for the walk, values of the main graph unchanged.

    Constants of bodies move to the main graph, an If with a constant condition becomes its branch, sequences whose
    elements are known become tensors, and bodies get types and shapes.
    """
    if not any(scopes.subgraphs(node) or "Sequence" in node.op_type for node in model.graph):
        return
    b = b or Emitter(model)
    for node in list(model.graph.all_nodes()):
        if node.op_type == "SequenceMap" and node.graph is not None:
            expand(model, node, b)
    scopes.hoist_constants(b)
    while _choose_branches(model, b):
        models.infer(model)  # a branch may hold the next If
    sequences.resolve(b)
    refine(model, changed=True)


def _choose_branches(model: ir.Model, b: Emitter) -> bool:
    """Put branches in place of the If nodes that always take them; whether there were any."""
    found = False
    for node in [n for n in model.graph.all_nodes() if n.op_type == "If"]:
        if node.graph is not None:
            found |= lower(b, node, _chosen_branch)
    return found


def _chosen_branch(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """An If whose condition follows from constants and known shapes computes its branch."""
    condition = known_array(node.inputs[0])
    if condition is None:
        return None
    branches = scopes.subgraphs(node)
    return tuple(scopes.copy_of(b, branches[0] if condition.item() else branches[1], []))


def _walk(
    b: Reverse, path: Path, seeds: Sequence[Seed], wrt: Sequence[ir.Value], table: Table
) -> list[ir.Value | None]:
    """Emit the cotangents of everything on ``path``; those of ``wrt``."""

    def walk_inside(seeds: Sequence[Seed], wrt: Sequence[ir.Value]) -> list[ir.Value | None]:
        inner = _expand_ruleless(b.model, b.scope, [v for v, _ in seeds], wrt, table, b)
        return _walk(b, inner, seeds, wrt, table)

    written_out = patterns.find(path.nodes, {*(v for v, _ in seeds), *wrt})
    cts: dict[ir.Value, list[ir.Value]] = {}
    for v, seed in seeds:
        cts.setdefault(v, []).append(seed)
    for node in reversed(path.nodes):
        arrived = [_total(b, cts, out) for out in node.outputs]
        if all(ct is None for ct in arrived):
            continue
        scoped = SCOPED.get(operator_name(node))
        if scoped is not None:
            with blamed(node):
                for captured, total in scoped(b, node, Inner(path.live, walk_inside), *arrived):
                    cts.setdefault(captured, []).append(total)
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
            with blamed(node, index):
                ct = None if rule is None else rule(b, node, *arrived)
                if ct is not None:
                    cts.setdefault(x, []).append(b.fit(ct, x))
    return [_total(b, cts, v) for v in wrt]


def _pattern_rule(
    b: Reverse, table: Table, pattern: patterns.Pattern, arrived: Sequence[ir.Value | None]
) -> ir.Value | None:
    """The rule of the operator that was written out, asked with a node that is in no graph."""
    node = ir.Node("", pattern.operator, [pattern.x], outputs=[ir.Value(name=pattern.y.name, type=pattern.y.type)])
    rule = find_rule(table, node, 0)
    ct = None if rule is None else rule(b, node, *arrived)
    node.replace_input_with(0, None)
    return ct


def _expand_ruleless(
    model: ir.Model,
    graph: ir.Graph,
    seeds: Mapping[ir.Value, ir.Value] | Sequence[ir.Value],
    wrt: Sequence[ir.Value],
    table: Table,
    b: Emitter | None = None,
) -> Path:
    """Replace ruleless nodes on the path by their bodies until every node has its rules."""
    while True:
        path = Path(graph, list(seeds), wrt, table)
        if not path.ruleless:
            return path
        b = b or Emitter(model)
        first: dict[ir.Node, int] = {}
        for node, index in path.ruleless:
            first.setdefault(node, index)
        for node, index in first.items():
            with blamed(node, index):
                expanded = expand(model, node, b)
            if not expanded:
                raise UnsupportedGradient(
                    f"operator {operator_name(node)} (node {node.name!r}) has no gradient rule for input {index} "
                    f"({node.inputs[index].name!r}); {BLACK_BOX}",  # type: ignore[union-attr]
                    operator=operator_name(node),
                    node=node.name or "",
                )
        if graph is model.graph:
            prepare(model, b)


def _total(b: Reverse, cts: dict[ir.Value, list[ir.Value]], v: ir.Value) -> ir.Value | None:
    """The sum of the cotangents that arrived at ``v``."""
    arrived = cts.get(v)
    if not arrived:
        return None
    if len(arrived) > 1:
        cts[v] = [b.total(arrived)]
    return cts[v][0]


def _explain_nothing(path: Path, seeds: Mapping[ir.Value, ir.Value], wrt: Sequence[ir.Value]) -> None:
    """Every path ended. Zeros are right unless floats were turned into other types on the way: then say where."""
    blocked = set(path.blocked)
    if path.blocked and all(n in blocked for n, _ in path.dead):
        node = path.blocked[0]
        raise UnsupportedGradient(
            f"no gradient path: operator {operator_name(node)} (node {node.name!r}) turns the values between "
            f"{', '.join(repr(v.name) for v in wrt)} and {', '.join(repr(v.name) for v in seeds)} into "
            f"{'random numbers' if operator_name(node) in SAMPLERS else node.outputs[0].dtype}; {BLACK_BOX}",
            operator=operator_name(node),
            node=node.name or "",
        )


def check_path(model: ir.Model, target: str, wrt: str) -> None:
    """Whether ``backward`` would find a gradient of ``target`` with respect to ``wrt``; ``model`` may be expanded.

    Raises:
        UnsupportedGradient: with the operator and node in the way.
    """
    prepare(model)
    named = models.values_by_name(model)
    y, x = named[target], named[wrt]
    path = _expand_ruleless(model, model.graph, {y: y}, [x], VJPS)
    if y not in path.values:
        _explain_nothing(path, {y: y}, [x])
        raise UnsupportedGradient(
            f"no gradient path: {target!r} depends on {wrt!r} through piecewise-constant operators only, or not at "
            f"all; {BLACK_BOX}"
        )
