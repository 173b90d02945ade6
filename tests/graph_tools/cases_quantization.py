"""Rows for graph_tools/vjp/quantization.py.

A staircase has derivative zero almost everywhere, so central differences do not see a straight-through gradient:
test_quantization.py compares with the formula instead.
"""

from __future__ import annotations

import numpy as np

from tests.graph_tools.harness import Case

SCALE = np.array(0.1, np.float32)
ZERO = np.array(128, np.uint8)

CASES = [
    Case("QuantizeLinear", ((3, 4), SCALE, ZERO), numeric=False),
    Case("DequantizeLinear", (np.array([[0, 7], [200, 255]], np.uint8), SCALE, ZERO), numeric=False),
    Case("DynamicQuantizeLinear", ((3, 4),), outputs=3, numeric=False),
]
