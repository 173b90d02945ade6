"""The rule table: (operator, input index) -> how the cotangent of that input follows from the outputs' cotangents.

A rule is ``rule(b, node, *cts)``: ``cts`` holds one cotangent per output of the node, ``None`` where none arrives.
It returns the cotangent of its input (before un-broadcasting, which the walk does) or ``None`` for zero. A rule for
any of a variadic operator's inputs (``ANY``) is called ``rule(b, node, index, *cts)``.

A rule reads primals through ``b.primal(v)``, or multiplies by what it computed from them with
``b.times(ct, factor, like)`` (K cotangents per row then repeat nothing in memory), shapes of cotangents through
``b.ct_shape(v)``, and never takes the batch size from a primal: axis 0 of a cotangent may be K times that of the
primal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from graph_tools.emit import operator_name as operator_name

Rule = Callable[..., ir.Value | None]
Key = tuple[str, int]
Table = Mapping[Key, Rule]

Seed = tuple[ir.Value, ir.Value]
"""A value and the cotangent that is put on it."""


@dataclass(frozen=True)
class Inner:
    """What the rule of an operator with bodies knows of the walk that asks it.

    Attributes:
        live: values, those inside its bodies too, on the path that is being walked.
        walk: ``walk(seeds, wrt)`` emits the reverse of what ``b`` has emitted into its present scope and returns the
            cotangents of ``wrt``, None where zero.
    """

    live: set[ir.Value]
    walk: Callable[[Sequence[Seed], Sequence[ir.Value]], list[ir.Value | None]]


ScopedRule = Callable[..., Iterable[Seed]]

ANY = -1
VJPS: dict[Key, Rule] = {}
SCOPED: dict[str, ScopedRule] = {}
INTEGER_CARRIERS: set[str] = set()
FORMS: dict[str, Callable[[ir.Node], bool]] = {}
SAMPLERS = frozenset({"Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike"})
"""Operators that draw: nothing passes through them, and a path that has no other way is refused by their names."""


def vjp(operator: str, *inputs: int, table: dict[Key, Rule] | None = None) -> Callable[[Rule], Rule]:
    """Register the decorated rule for these inputs of ``operator`` (``domain::Name`` outside ai.onnx)."""

    def register(rule: Rule) -> Rule:
        target = VJPS if table is None else table
        for index in inputs:
            if (operator, index) in target:
                raise ValueError(f"{operator} input {index} has two rules")
            target[operator, index] = rule
        return rule

    return register


def scoped(operator: str) -> Callable[[ScopedRule], ScopedRule]:
    """Register the rule of an operator with bodies: ``rule(b, node, inner, *cts)``.

    It returns the cotangents of operands and of captured values at once, as pairs (value, cotangent); a value may come
    twice.
    """

    def register(rule: ScopedRule) -> ScopedRule:
        SCOPED[operator] = rule
        return rule

    return register


def only_where(*operators: str) -> Callable[[Callable[[ir.Node], bool]], Callable[[ir.Node], bool]]:
    """Register the decorated test: the operators' rules hold for nodes that pass it, others go through their bodies."""

    def register(test: Callable[[ir.Node], bool]) -> Callable[[ir.Node], bool]:
        FORMS.update(dict.fromkeys(operators, test))
        return test

    return register


def zero(_b: Any, _node: ir.Node, *_cts: ir.Value | None) -> None:
    """The rule of an input that the output does not depend on smoothly: its derivative is zero."""


def nondiff(operator: str, *inputs: int) -> None:
    """State that these inputs (``ANY``: every one) have derivative zero: indices, shapes, piecewise-constant uses."""
    vjp(operator, *inputs)(zero)


def carries_integers(*operators: str) -> None:
    """State that cotangents pass through these operators on quantised integers too.

    Either the operator makes an integer of a float by rounding (QuantizeLinear: straight-through estimator), or it
    only moves, selects or averages elements.
    """
    INTEGER_CARRIERS.update(operators)


def find_rule(table: Table, node: ir.Node, index: int) -> Callable[..., ir.Value | None] | None:
    """The rule for input ``index`` of ``node`` as a function of (b, node, *cts), or None."""
    name = operator_name(node)
    if name in FORMS and not FORMS[name](node):
        return None
    rule = table.get((name, index))
    if rule is not None:
        return rule
    rule = table.get((name, ANY))
    if rule is None:
        return None
    if rule is zero:
        return zero
    variadic = rule
    return lambda b, n, *cts: variadic(b, n, index, *cts)
