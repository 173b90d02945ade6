"""List and describe the values of a model."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

import graph_tools.vjp  # noqa: F401  fills the table
from graph_tools import model as models
from graph_tools.model import Source
from graph_tools.reverse import FLOATS
from graph_tools.vjp.table import INTEGER_CARRIERS, VJPS, find_rule, operator_name, zero


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
    """Float (or quantised) values that a gradient of some float output reaches."""
    reached = {v for v in model.graph.outputs if v.dtype in FLOATS}
    for node in reversed(list(model.graph)):
        outs = [v for v in node.outputs if v in reached]
        if not outs:
            continue
        for index, x in enumerate(node.inputs):
            if x is None or not _may_carry(x, node):
                continue
            rule = find_rule(VJPS, node, index)
            if rule is not None and rule is not zero:
                reached.add(x)
    return reached


def _may_carry(x: ir.Value, user: ir.Node) -> bool:
    if x.dtype in FLOATS:
        return True
    producer = x.producer()
    integer = x.dtype is not None and x.dtype.is_integer()
    if not integer or operator_name(user) == "Gather":
        return False
    if producer is None:
        return operator_name(user) in INTEGER_CARRIERS | {"DequantizeLinear", "Cast"} and x.is_graph_input()
    return operator_name(producer) in INTEGER_CARRIERS


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
