"""Rows for graph_tools/vjp/elementwise.py."""

from __future__ import annotations

from tests.graph_tools.harness import Case

CASES = [
    Case("Add", ((2, 3), (2, 3))),
    Case("Add", ((2, 3, 4), (3, 1)), id="broadcast"),
    Case("Sub", ((2, 1, 4), (3, 4)), id="both-broadcast"),
    Case("Neg", ((2, 3),)),
    Case("Identity", ((2, 3),)),
    Case("Mul", ((2, 3), (3,)), id="broadcast"),
    Case("Relu", ((3, 4),)),
    Case("Tanh", ((3, 4),)),
    Case("Erf", ((3, 4),), reference=False),  # the reference evaluator computes Erf in float32
    Case("Sign", ((3, 4),)),
]
