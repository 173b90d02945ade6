"""Rows for graph_tools/vjp/slicing.py."""

from __future__ import annotations

import numpy as np

from tests.graph_tools.cases_shape import floating, ints
from tests.graph_tools.harness import Case

FAR = 2**63 - 1
BACK = -(2**63)
SHIFT = np.array(0.3)

CASES = [
    Case("Slice", ((4, 5), ints(1), ints(3), ints(1), ints(1))),
    Case("Slice", ((4, 5), ints(1, 2), ints(3, 4)), id="no-axes"),
    Case("Slice", ((4, 5), ints(-3), ints(-1), ints(-1)), id="negative"),
    Case("Slice", ((4, 5), ints(-100, 3), ints(100, FAR), ints(0, 1)), id="clamped"),
    Case("Slice", ((4, 5), ints(7), ints(9), ints(1)), id="empty"),
    Case("Slice", ((3, 7), ints(1), ints(FAR), ints(1), ints(2)), id="step"),
    Case("Slice", ((3, 7, 2), ints(0, 0), ints(FAR, FAR), ints(1, 0), ints(3, 2)), id="two-steps"),
    Case("Slice", ((3, 7), ints(-1), ints(BACK), ints(1), ints(-1)), id="reversed"),
    Case("Slice", ((3, 7), ints(5), ints(0), ints(1), ints(-2)), id="negative-step"),
    Case("Slice", ((3, 7), ints(100, -2), ints(BACK, BACK), ints(0, 1), ints(-2, -3)), id="negative-steps"),
    Case("Slice", ((3, 7), ints(2), ints(3), ints(1), ints(4)), id="one-by-step"),
    Case("Slice", ((4, 5), ints(1, 2), ints(3, 4)), id="runtime-bounds", runtime=(1, 2)),
    Case("Slice", ((4, 5), ints(-2), ints(FAR), ints(1)), id="runtime-negative", runtime=(1, 2)),
    Case("Slice", ((4, 7), ints(-2), ints(BACK), ints(1), ints(-2)), id="runtime-negative-step", runtime=(1, 2)),
    Case("Slice", ((4, 7), ints(9), ints(-20), ints(1), ints(-3)), id="runtime-clamped", runtime=(1, 2)),
    Case("Slice", ((4, 7), ints(6), ints(0), ints(1), ints(-2)), id="runtime-steps", runtime=(4,)),
    Case("Slice", ((4, 7), ints(1), ints(6), ints(1), ints(2)), id="runtime-all", runtime=(1, 2, 3, 4)),
    Case("Slice", ((4, 7), np.array([1], np.int32), np.array([6], np.int32)), id="int32", runtime=(1, 2)),
    Case("Pad", ((2, 3), ints(0, 1, 2, 3), floating(0.5)), wrt=(0, 2)),
    Case("Pad", ((2, 3), ints(1, 0, 0, 1)), id="no-value"),
    Case("Pad", ((2, 3), ints(0, 0, 0, 0)), id="nothing"),
    Case("Pad", ((2, 5), ints(1, -1, 0, -2), None), id="negative", reference=False),  # NumPy's pad cannot crop
    Case("Pad", ((2, 5), ints(0, -1, 0, -2)), id="cropped", reference=False),  # likewise
    Case("Pad", ((2, 3, 4), ints(1, 2, 0, 1), floating(0.5), ints(-1, 0)), wrt=(0, 2), id="axes"),
    Case("Pad", ((2, 3), ints(0, 1, 2, 3), floating(0.5)), wrt=(0, 2), runtime=(1,), id="runtime", reference=False),
    Case(
        "Pad",
        ((2, 3), ints(1, 2), floating(0.5), ints(1)),
        wrt=(0, 2),
        runtime=(1, 3),
        id="runtime-axes",
        reference=False,
    ),
    Case("Pad", ((2, 5), ints(0, -1, 0, -2)), id="runtime-negative", runtime=(1,), reference=False),
    Case("Pad", ((3, 4), ints(2, 1, 0, 3)), {"mode": "reflect"}, id="reflect"),
    Case("Pad", ((3, 4), ints(2, 1, 0, 3)), {"mode": "edge"}, id="edge"),
    Case("Pad", ((3, 4), ints(2, 1, 1, 3)), {"mode": "wrap"}, id="wrap", opset=19),
    Case("Pad", ((3, 2), ints(0, 40, 0, 1)), {"mode": "edge"}, id="wide-edge"),
    Case("Pad", ((3, 5), ints(0, -1, 0, 2)), {"mode": "reflect"}, id="reflect-cropped", reference=False),
    Case("Pad", ((3, 4), ints(1, 2), None, ints(-1)), {"mode": "reflect"}, id="reflect-axes"),
    Case("Pad", ((3, 4), ints(2, 1, 0, 3)), {"mode": "reflect"}, id="reflect-runtime", runtime=(1,)),
    Case("Pad", ((3, 4), ints(1, 2), None, ints(-1)), {"mode": "edge"}, id="runtime-edge-axes", runtime=(1, 3)),
    Case("Pad", ((3, 4), ints(1, 1, 0, 0), SHIFT), {"mode": "edge"}, id="value-unused"),
]
