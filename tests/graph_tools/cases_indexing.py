"""Rows for graph_tools/vjp/indexing.py."""

from __future__ import annotations

import numpy as np

from tests.graph_tools.cases_shape import ints, number
from tests.graph_tools.harness import Case

I64, I32 = np.int64, np.int32
GRID = np.array([[0, 2], [3, -1], [2, 2]], I64)
ELEMENTS = np.array([[1, 0, 2], [-1, 1, 1]], I64)
UNIQUE = np.array([[1, 0, 2], [0, 1, -3]], I64)  # for axis 0: no position twice in a column
PAIRS = np.array([[0, 1], [2, -1], [0, 1]], I64)
ROWS = np.array([[2], [0], [2]], I64)
KEEP = np.array([True, False, True])
SHUFFLED = np.random.default_rng(1).permutation(np.linspace(-1, 1, 12)).reshape(3, 4)
BASE = np.array([[0.5, -0.2, 0.3], [0.1, 0.5, 0.3], [0.4, -0.2, 0.9]])
LEVEL = np.array([[0.5, 0.7, 0.1], [0.6, -0.5, 0.8]])
WITH_ZERO = np.array([[0.0, 0.7, 0.1], [0.6, 0.0, 0.8]])

CASES = [
    Case("Gather", ((4, 3), GRID)),
    Case("Gather", ((2, 4, 3), GRID), {"axis": 1}, id="middle-axis"),
    Case("Gather", ((3, 4), number(-1)), {"axis": 1}, id="scalar"),
    Case("Gather", ((3, 4), ints(2)), {"axis": 1}, id="one"),
    Case("Gather", ((3, 4), ints(1, 2, 3)), {"axis": 1}, id="run"),
    Case("Gather", ((3, 4), ints(2, 0, 3, 1)), {"axis": -1}, id="permutation"),
    Case("Gather", ((3, 4), ints(2, 0)), {"axis": 1}, id="subset"),
    Case("Gather", ((3, 4), ints(3, 0, 3)), {"axis": 1}, id="duplicates"),
    Case("Gather", ((3, 4), ints(0, 0, 1, 1, 2, 2, 3, 3)), {"axis": 1}, id="upsample"),
    Case("Gather", ((40, 2), ints(*[7] * 20, 1)), id="one-very-often"),
    Case("Gather", ((3, 4), ints()), {"axis": 1}, id="none"),
    Case("Gather", ((4, 3), GRID), id="runtime", runtime=(1,)),
    Case("Gather", ((2, 4, 3), GRID.astype(I32)), {"axis": 1}, id="runtime-int32", runtime=(1,)),
    Case("Gather", ((3, 4), number(1)), {"axis": 1}, id="runtime-scalar", runtime=(1,)),
    Case("GatherElements", ((3, 3), ELEMENTS)),
    Case("GatherElements", ((2, 3), ELEMENTS), {"axis": -1}, id="last-axis"),
    Case("GatherElements", ((3, 3), ELEMENTS.astype(I32)), id="runtime", runtime=(1,)),
    Case("GatherND", ((3, 4), PAIRS)),
    Case("GatherND", ((3, 4, 2), PAIRS), id="slices"),
    Case("GatherND", ((3, 4), ROWS), id="rows"),
    Case("GatherND", ((2, 3, 4), np.array([[[1]], [[-1]]], I64)), {"batch_dims": 1}, id="batch-dims"),
    Case("GatherND", ((3, 4), PAIRS), id="runtime", runtime=(1,)),
    Case("ScatterElements", ((3, 3), UNIQUE, (2, 3))),
    Case("ScatterElements", ((2, 3), np.array([[2, 0], [1, -1]], I64), (2, 2)), {"axis": 1}, id="axis"),
    Case("ScatterElements", ((3, 3), ELEMENTS, (2, 3)), {"reduction": "add"}, id="add"),
    Case("ScatterElements", ((3, 3), ELEMENTS, (2, 3)), {"reduction": "add"}, id="add-runtime", runtime=(1,)),
    Case("ScatterElements", ((3, 3), ELEMENTS, (2, 3)), {"reduction": "mul"}, id="mul"),
    Case("ScatterElements", ((3, 3), ELEMENTS, WITH_ZERO), {"reduction": "mul"}, id="mul-zero"),
    Case("ScatterElements", (BASE[:2], ELEMENTS, LEVEL), {"reduction": "max", "axis": -1}, id="max"),
    Case("ScatterElements", (BASE, ELEMENTS, LEVEL), {"reduction": "min"}, id="min", runtime=(1,)),
    Case("ScatterND", ((3, 4), np.array([[0, 1], [2, -1]], I64), (2,))),
    Case("ScatterND", ((3, 4), np.array([[2], [0]], I64), (2, 4)), id="rows"),
    Case("ScatterND", ((3, 4), ROWS, (3, 4)), {"reduction": "add"}, id="add"),
    Case("ScatterND", ((3, 4), ROWS, (3, 4)), {"reduction": "mul"}, id="mul"),
    Case("ScatterND", ((3, 4), PAIRS, (3,)), {"reduction": "max"}, id="max"),
    Case("ScatterND", ((3, 4), PAIRS, (3,)), {"reduction": "min"}, id="min-runtime", runtime=(1,)),
    Case("TopK", (np.linspace(-1, 1, 12).reshape(3, 4), ints(2)), outputs=2),
    Case("TopK", (np.linspace(-1, 1, 12).reshape(4, 3), ints(2)), {"axis": 0, "largest": 0}, id="smallest", outputs=2),
    Case("TopK", (np.linspace(-1, 1, 12).reshape(3, 4), ints(3)), id="runtime", outputs=2, runtime=(1,)),
    Case("Compress", ((3, 4), KEEP), {"axis": 0}),
    Case("Compress", ((3, 4), KEEP), {"axis": -1}, id="short-condition"),
    Case("Compress", ((3, 4), KEEP), id="flat"),
    Case("Compress", ((3, 4), KEEP), {"axis": 1}, id="runtime", runtime=(1,)),
    Case("Unique", (SHUFFLED,)),
    Case("Unique", (SHUFFLED,), {"sorted": 0}, id="unsorted", reference=False),
    Case("Unique", (SHUFFLED,), {"axis": 1}, id="axis", outputs=4),
    Case("OneHot", (ints(1, 0, -1, 9), number(3), (2,))),
    Case("OneHot", (GRID, number(3), (2,)), {"axis": 0}, id="axis0", runtime=(0, 1)),
]
