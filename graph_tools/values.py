"""List and describe the values of a model."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir

import graph_tools.vjp  # noqa: F401  fills the table
from graph_tools import model as models
from graph_tools.errors import UnsupportedGradient
from graph_tools.lowering.table import BODIES
from graph_tools.model import Source
from graph_tools.reverse import FLOATS
from graph_tools.vjp.table import ANY, INTEGER_CARRIERS, SCOPED, VJPS, find_rule, operator_name, zero
from graph_tools.walk.path import Path


@dataclass(frozen=True)
class ValueInfo:
    """One value (edge) of the main graph.

    Attributes:
        name: value name.
        operator: operator that computes it; "" for inputs and constants.
        node: name of that node.
        kind: ``input``, ``constant``, ``value`` or ``output``.
        dtype: ONNX name in lower case (``float``, ``int64``…); "" where unknown.
        shape: dimensions: int, symbol, or None where unknown; None where even the rank is unknown.
        gradient: whether a gradient of some output reaches it (every operator between has a rule or a body and no
            piecewise-constant operator is in the way).
        zero_derivative: computed by a piecewise-constant operator (its own inputs get zeros).
    """

    name: str
    operator: str
    node: str
    kind: str
    dtype: str
    shape: tuple[int | str | None, ...] | None
    gradient: bool
    zero_derivative: bool = False


def values(source: Source) -> list[ValueInfo]:
    """Every named value of the main graph: inputs, then constants, then node outputs in graph order.

    Raises:
        UnsupportedModel: the model cannot be loaded.
    """
    model = models.load(source)
    reached = gradient_reaches(model)
    graph = model.graph
    outputs = set(graph.outputs)
    found = [_info(v, "input", reached) for v in graph.inputs]
    found += [_info(v, "constant", reached) for v in graph.initializers.values()]
    for node in graph:
        found += [_info(v, "output" if v in outputs else "value", reached) for v in node.outputs if v.name]
    return found


def gradient_reaches(model: ir.Model) -> set[ir.Value]:
    """Float (or quantised) values of the main graph that a gradient of some float output reaches."""
    seeds = {v for v in model.graph.outputs if v.dtype in FLOATS}
    every = [*model.graph.inputs, *model.graph.initializers.values(), *(v for n in model.graph for v in n.outputs)]
    wrt = [v for v in every if v.dtype in FLOATS or _quantised(v)]
    # An operator with neither rule nor body lets nothing pass here (``gradient`` raises where it is on the way).
    opaque = {(operator_name(n), ANY): zero for n in model.graph.all_nodes() if not _has_answer(n, model)}
    try:
        return Path(model.graph, seeds, wrt, {**VJPS, **opaque}).live
    except UnsupportedGradient:  # bodies of an unknown operator
        return seeds


def _quantised(v: ir.Value) -> bool:
    """Whether cotangents arrive at this integer value."""
    if v.dtype is None or not v.dtype.is_integer():
        return False
    producer = v.producer()
    if producer is not None:
        return operator_name(producer) in INTEGER_CARRIERS
    users = {operator_name(user) for user, index in v.uses() if index == 0}
    return v.is_graph_input() and bool(users & (INTEGER_CARRIERS | {"DequantizeLinear", "Cast"}))


def _has_answer(node: ir.Node, model: ir.Model) -> bool:
    """Whether the operator has rules or a body."""
    name = operator_name(node)
    if name in SCOPED or name in BODIES or (node.domain, node.op_type, node.overload) in model.functions:
        return True
    if any((name, i) in VJPS for i in (ANY, *range(len(node.inputs)))):
        return True
    try:
        schema = onnx.defs.get_schema(node.op_type, model.graph.opset_imports.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


def _info(v: ir.Value, kind: str, reached: set[ir.Value]) -> ValueInfo:
    node = v.producer()
    shape = None if v.shape is None else tuple(d if isinstance(d, int) else d.value for d in v.shape)
    rules = [] if node is None else [find_rule(VJPS, node, i) for i in range(len(node.inputs))]
    return ValueInfo(
        name=v.name or "",
        operator="" if node is None else operator_name(node),
        node="" if node is None else node.name or "",
        kind=kind,
        dtype="" if v.dtype is None else v.dtype.name.lower(),
        shape=shape,
        gradient=v in reached,
        zero_derivative=v.dtype in FLOATS and bool(rules) and all(r is zero for r in rules),
    )
