"""Rows for graph_tools/vjp/reduction.py: every operator in every form of its axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graph_tools.harness import Case


def _f(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def _i(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _apart(*shape: int) -> np.ndarray:
    """Multiples of 0.15 in mixed order, none 0: no ties, nothing near a kink; products and logarithms stay tame."""
    n = int(np.prod(shape))
    return np.random.default_rng(5).permutation(n).reshape(shape) * 0.15 + 0.3


ZEROS = np.array([[1.5, 0.0, -2.0, 0.5], [0.7, 0.0, 1.2, 0.0], [0.0, 0.0, 1.1, 0.3], [2.0, 1.5, 0.4, 0.0]])
OPERATORS = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
FORMS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "axis": ((_i(1),), {}),
    "negative-axis": ((_i(-1),), {"keepdims": 0}),
    "two-axes": ((_i(0, -1),), {"keepdims": 0}),
    "two-axes-kept": ((_i(1, 2),), {"keepdims": 1}),
    "unsorted-axes": ((_i(2, 0),), {"keepdims": 0}),
    "all": ((), {"keepdims": 0}),
    "all-kept": ((), {}),
    "empty-axes": ((_i(),), {"keepdims": 0}),
}


def _forms(operator: str) -> list[Case]:
    rows = [Case(operator, (_apart(2, 3, 2), *axes), attrs, id=name) for name, (axes, attrs) in FORMS.items()]
    axes = (_i(-2),)
    rows.append(Case(operator, (_apart(2, 3, 2), *axes), id="runtime-axes", runtime=(1,)))
    rows.append(Case(operator, (_apart(2, 3, 2), *axes), {"keepdims": 0}, id="runtime-axes-dropped", runtime=(1,)))
    rows.append(Case(operator, (_apart(2, 3), _i()), {"keepdims": 0}, id="runtime-empty-axes", runtime=(1,)))
    noop = {"noop_with_empty_axes": 1}
    rows.append(Case(operator, (_apart(2, 3), _i()), noop, id="noop"))
    rows.append(Case(operator, (_apart(2, 3),), {**noop, "keepdims": 0}, id="noop-absent"))
    rows.append(Case(operator, (_apart(2, 3), _i()), {**noop, "keepdims": 0}, id="noop-runtime", runtime=(1,)))
    return rows


CASES = [
    *(row for name in OPERATORS for row in _forms(f"Reduce{name}")),
    Case("ReduceSum", ((),), id="scalar"),
    Case("ReduceProd", (_f(0.0, 2.0, -3.0),), id="one-zero"),
    Case("ReduceProd", (np.array([[0.0, 2.0, 0.0], [1.5, 0.0, -2.0], [0.5, -1.0, 3.0]]), _i(1)), id="zeros"),
    Case("ReduceL1", ((2, 3), _i(1)), id="signed"),
    Case("ReduceL2", ((2, 3), _i(1)), id="signed"),
    Case("ReduceMax", ((2, 3), _i(1)), id="signed"),
    Case("ReduceLogSumExp", (_f(-200.0, 1.0, 0.5),), id="far"),
    Case("ReduceLogSumExp", (_f(100.0, 101.0, 99.0),), id="large"),
    Case("CumSum", ((2, 3, 4), np.array(1, np.int64))),
    Case("CumSum", ((2, 3), np.array(-1, np.int64)), {"exclusive": 1}, id="exclusive"),
    Case("CumSum", ((2, 3), np.array(0, np.int32)), {"reverse": 1}, id="reverse"),
    Case("CumSum", ((2, 3), np.array(1, np.int64)), {"reverse": 1, "exclusive": 1}, id="both"),
    Case("CumSum", ((2, 3), np.array(1, np.int64)), id="runtime-axis", runtime=(1,)),
    *(
        Case("CumProd", (x, np.array(1, np.int64)), {"reverse": r, "exclusive": e}, opset=26, id=f"{name}-{r}{e}")
        for name, x in (("plain", _apart(2, 3)), ("zeros", ZEROS))
        for r in (0, 1)
        for e in (0, 1)
    ),
]
