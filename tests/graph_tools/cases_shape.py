"""Rows for graph_tools/vjp/shape.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graph_tools.harness import Case


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def number(value: int) -> np.ndarray:
    return np.array(value, np.int64)


def floating(value: float) -> np.ndarray:
    return np.array(value, np.float64)


EMPTY: Any = np.zeros((0, 3))

CASES = [
    Case("Reshape", ((2, 3, 4), ints(4, 6))),
    Case("Reshape", ((2, 3, 4), ints(0, -1)), id="copy-and-infer"),
    Case("Reshape", ((2, 3, 4), ints(3, 8)), id="runtime", runtime=(1,)),
    Case("Reshape", (EMPTY, ints(3, 0)), {"allowzero": 1}, id="allowzero"),
    Case("Reshape", ((4,), ints(1, 2, 2)), {"allowzero": 1}, id="allowzero-no-zero"),
    Case("Reshape", ((1,), ints()), id="to-scalar"),
    Case("Flatten", ((2, 3, 4),)),
    Case("Flatten", ((2, 3, 4),), {"axis": 0}, id="axis0"),
    Case("Flatten", ((2, 3, 4),), {"axis": -1}, id="axis-1"),
    Case("Squeeze", ((1, 3, 1, 2),), id="all"),
    Case("Squeeze", ((1, 3, 1, 2), ints(0, -2))),
    Case("Squeeze", ((1, 3, 1, 2), ints(2)), id="runtime", runtime=(1,)),
    Case("Unsqueeze", ((3, 2), ints(0, -1))),
    Case("Unsqueeze", ((3, 2), ints(1, 3)), id="runtime", runtime=(1,)),
    Case("Unsqueeze", ((), ints(0)), id="scalar"),
    Case("Transpose", ((2, 3, 4),)),
    Case("Transpose", ((2, 3, 4),), {"perm": [1, 2, 0]}, id="perm"),
    Case("Expand", ((3, 1), ints(2, 3, 4))),
    Case("Expand", ((2, 3), ints(1, 1)), id="nothing"),
    Case("Expand", ((3, 1), ints(2, 1, 4)), id="runtime", runtime=(1,)),
    Case("Tile", ((2, 3), ints(2, 3))),
    Case("Tile", ((2, 3, 2), ints(1, 2, 1)), id="one-axis"),
    Case("Tile", ((2, 3), ints(1, 1)), id="nothing"),
    Case("Tile", ((2, 3), ints(3, 2)), id="runtime", runtime=(1,)),
    Case("Concat", ((2, 3), (2, 1), (2, 4)), {"axis": 1}),
    Case("Concat", ((2, 3), (1, 3)), {"axis": -2}, id="negative-axis"),
    Case("Concat", ((2, 3),), {"axis": 0}, id="one"),
    Case("Split", ((6, 2),), {"num_outputs": 3}, outputs=3, through=(0, 1, 2)),
    Case("Split", ((2, 7),), {"num_outputs": 3, "axis": 1}, outputs=3, through=(0, 2), id="uneven-unused"),
    Case("Split", ((2, 7), ints(1, 4, 2)), {"axis": -1}, outputs=3, through=(1,), id="sizes-middle"),
    Case("Split", ((2, 7), ints(1, 4, 2)), {"axis": 1}, outputs=3, through=(0, 1), id="sizes-first-two"),
    Case("Split", ((2, 7), ints(3, 4)), {"axis": 1}, outputs=2, through=(1,), runtime=(1,), id="runtime"),
    Case("DepthToSpace", ((2, 8, 2, 3),), {"blocksize": 2}),
    Case("DepthToSpace", ((2, 18, 2, 1),), {"blocksize": 3, "mode": "CRD"}, id="CRD"),
    Case("SpaceToDepth", ((2, 2, 4, 6),), {"blocksize": 2}),
    Case("Trilu", ((3, 4),)),
    Case("Trilu", ((2, 3, 4), number(-1)), {"upper": 0}, id="lower"),
    Case("Trilu", ((3, 4), number(1)), id="runtime", runtime=(1,)),
    Case("ReverseSequence", ((4, 3, 2), ints(4, 1, 3))),
    Case("ReverseSequence", ((3, 4, 2), ints(2, 4, 1)), {"batch_axis": 0, "time_axis": 1}, id="batch-first"),
    Case("ReverseSequence", ((4, 3), ints(4, 1, 3)), runtime=(1,), id="runtime"),
    Case("Range", (floating(1.0), floating(3.2), floating(0.5)), wrt=(0, 2)),
    Case("EyeLike", ((3, 4),)),
    # Integer or random outputs: test_moves.py shows that no derivative and no error comes of them.
    Case("Shape", ((3, 4),), numeric=False),
    Case("Size", ((3, 4),), numeric=False),
    Case("RandomNormalLike", ((3, 4),), numeric=False),
    Case("RandomUniformLike", ((3, 4),), numeric=False),
    Case("CenterCropPad", ((5, 4), ints(3, 6)), id="by-its-body", reference=False),  # NumPy's pad cannot crop
]
