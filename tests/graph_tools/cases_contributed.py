"""Rows for graph_tools/vjp/contributed.py: com.microsoft operators, which only ONNX Runtime runs."""

from __future__ import annotations

import numpy as np

from tests.graph_tools.harness import Case

EYE = 2 * np.eye(3)
CASES = [
    Case("Inverse", (EYE + 0.3 * np.arange(9).reshape(3, 3) / 9,), domain="com.microsoft", reference=False),
    Case("Inverse", (np.stack([EYE, EYE - 0.5]) + 0.2 * np.arange(9).reshape(3, 3) / 9,), domain="com.microsoft",
         id="batch", reference=False),
]  # fmt: skip
