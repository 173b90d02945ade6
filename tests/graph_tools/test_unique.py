"""Unique where elements repeat: the cotangent goes to the first occurrence."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import graph_tools
from tests.graph_tools.harness import Case, build, run_ort

REPEATED = np.array([[2.0, 1.0, 1.0], [3.0, 4.0, 3.0], [2.0, 1.0, 1.0]])
CASES = [
    (Case("Unique", (REPEATED,)), [1, 2, 3, 4], [[2, 1, 0], [3, 4, 0], [0, 0, 0]]),
    (Case("Unique", (REPEATED,), {"sorted": 0}, id="unsorted"), [1, 2, 3, 4], [[1, 2, 0], [3, 4, 0], [0, 0, 0]]),
    (Case("Unique", (REPEATED,), {"axis": 0}, id="rows"), [[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5, 6], [0, 0, 0]]),
]


@pytest.mark.parametrize(("case", "ct", "want"), CASES, ids=[c.label for c, _, _ in CASES])
def test_repeated_elements(case: Case, ct: list[float], want: list[list[float]]) -> None:
    model, feeds = build(case, np.float32)
    program = ir.to_proto(graph_tools.gradient(model, ["y0"], ["x0"]))
    found = run_ort(program, {**feeds, "cotangent_y0": np.array(ct, np.float32)})
    np.testing.assert_array_equal(found["grad_x0"], np.array(want, np.float32))
