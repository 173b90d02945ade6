"""Rows for graph_tools/vjp/quantization.py.

A staircase has derivative zero almost everywhere, so central differences do not see a straight-through gradient:
test_quantization.py and test_integer_products.py compare with the formula instead.
"""

from __future__ import annotations

import numpy as np

from tests.graph_tools.harness import Case

SCALE = np.array(0.1, np.float32)
ZERO = np.array(128, np.uint8)
A = np.array([[0, 7], [200, 255]], np.uint8)
MS = "com.microsoft"

CASES = [
    Case("QuantizeLinear", ((3, 4), SCALE, ZERO), numeric=False),
    Case("DequantizeLinear", (np.array([[0, 7], [200, 255]], np.uint8), SCALE, ZERO), numeric=False),
    Case(
        "DequantizeLinear", (np.array([[0, 7], [200, 255]], np.uint8), np.array(0.1), ZERO), id="scale", reference=False
    ),
    Case(
        "DequantizeLinear",
        (np.array([[0, 7, 9], [200, 255, 1]], np.uint8), np.array([0.1, 0.2, 0.3]), np.array([3, 0, 128], np.uint8)),
        {"axis": -1},
        id="scales",
        reference=False,
    ),
    Case(
        "DequantizeLinear",
        (np.arange(30).reshape(2, 5, 3).astype(np.int8), (2, 3, 3)),
        {"axis": 1, "block_size": 2},
        opset=21,
        id="blocks",
    ),
    Case("QuantizeLinear", ((3, 4), SCALE, ZERO), domain=MS, numeric=False, id="contrib"),
    Case(
        "DequantizeLinear",
        (np.array([[0, 7], [200, 255]], np.uint8), SCALE, ZERO),
        domain=MS,
        numeric=False,
        id="contrib",
    ),
    Case("MatMulInteger", (A, A.T, ZERO, ZERO), numeric=False),
    Case(
        "ConvInteger", (np.zeros((1, 2, 4, 4), np.uint8), np.zeros((3, 2, 2, 2), np.uint8), ZERO, ZERO), numeric=False
    ),
    Case("DynamicQuantizeLinear", ((3, 4),), outputs=3, numeric=False),
]
