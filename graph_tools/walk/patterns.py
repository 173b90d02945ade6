"""Operators that exporters wrote out in smaller ones, found again so that one rule differentiates them.

The smaller nodes stay in the graph. Their inner values are read by no backward node, so ONNX Runtime still fuses
them into its own kernel.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import onnx_ir as ir

from graph_tools.emit import array_of


@dataclass(frozen=True)
class Pattern:
    """``operator`` (x) = y, written out.

    Attributes:
        operator: the operator whose rule gives the cotangent of x.
        x: its operand.
        y: its result.
        inner: the values in between; nobody else reads them.
    """

    operator: str
    x: ir.Value
    y: ir.Value
    inner: frozenset[ir.Value]


def find(nodes: Iterable[ir.Node], asked: Collection[ir.Value]) -> dict[ir.Node, Pattern]:
    """Every pattern among ``nodes`` by its last node, but those with one of the values ``asked`` for inside."""
    found = {}
    for node in nodes:
        pattern = _gelu(node) if node.op_type == "Erf" else None
        if pattern is None or pattern.inner & set(asked) or any(v.is_graph_output() for v in pattern.inner):
            continue
        last = pattern.y.producer()
        assert last is not None
        found[last] = pattern
    return found


def _gelu(erf: ir.Node) -> Pattern | None:
    """x/2 · (1 + erf(x/√2)): the division and the three factors in any order."""
    scaled = erf.inputs[0]
    x = None if scaled is None else _operand_of_scaling(scaled, math.sqrt(0.5))
    if x is None:
        return None
    inner = {scaled, erf.outputs[0]}
    add = _only_user(erf.outputs[0], "Add")
    if add is None or not _is_scalar(_other(add, erf.outputs[0]), 1.0):
        return None
    value, waiting = add.outputs[0], {"x", "half"}
    while waiting:
        inner.add(value)
        mul = _only_user(value, "Mul")
        other = None if mul is None else _other(mul, value)
        if mul is None or other is None:
            return None
        if other is x and "x" in waiting:
            waiting.remove("x")
        elif _is_scalar(other, 0.5) and "half" in waiting:
            waiting.remove("half")
        elif waiting == {"x", "half"} and _operand_of_scaling(other, 0.5) is x and len(list(other.uses())) == 1:
            inner.add(other)
            waiting.clear()
        else:
            return None
        value = mul.outputs[0]
    if len(list(scaled.uses())) != 1:  # type: ignore[union-attr]
        return None
    return Pattern("Gelu", x, value, frozenset(v for v in inner if v is not None))


def _operand_of_scaling(v: ir.Value, factor: float) -> ir.Value | None:
    """What ``v`` is ``factor`` times of, written as a Mul or a Div by a constant; None where it is not."""
    node = v.producer()
    if node is None or node.op_type not in ("Mul", "Div"):
        return None
    first, second = node.inputs
    if node.op_type == "Div":
        return first if _is_scalar(second, 1 / factor) else None
    return first if _is_scalar(second, factor) else second if _is_scalar(first, factor) else None


def _only_user(v: ir.Value, op_type: str) -> ir.Node | None:
    users = [user for user, _ in v.uses()]
    return users[0] if len(users) == 1 and users[0].op_type == op_type else None


def _other(node: ir.Node, v: ir.Value) -> ir.Value | None:
    first, second = node.inputs
    return second if first is v else first


def _is_scalar(v: ir.Value | None, value: float) -> bool:
    known = array_of(v)
    return known is not None and known.size == 1 and math.isclose(float(known.reshape(())), value, rel_tol=1e-3)
