"""Rows for the losses, which are differentiated through the bodies that the standard gives them."""

from __future__ import annotations

import numpy as np

from tests.graph_tools.harness import Case

LABELS = np.array([0, 2, 1], np.int64)
PLANE = np.array([[[0, 2], [1, 4]], [[4, 3], [2, 1]]], np.int64)
WEIGHTS = np.array([0.3, 1.2, 0.7, 0.5, 1.1])

CASES = [
    case
    for op in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
    for case in (
        Case(op, ((3, 5), LABELS)),
        Case(op, ((3, 5), LABELS), {"reduction": "sum"}, id="sum"),
        Case(op, ((3, 5), LABELS, WEIGHTS), {"reduction": "none"}, id="weights-none"),
        Case(op, ((3, 5), LABELS, WEIGHTS), {"ignore_index": 2}, id="weights-ignore"),
        Case(op, ((3, 5), LABELS), {"ignore_index": 2}, id="ignore"),
        Case(op, ((3, 5), LABELS), {"ignore_index": -1, "reduction": "sum"}, id="ignore-sum"),
        Case(op, ((2, 5, 2, 2), PLANE), id="plane"),
        Case(op, ((2, 5, 2, 2), PLANE), {"reduction": "none"}, id="plane-none"),
        Case(op, ((2, 5, 2, 2), PLANE, WEIGHTS), {"ignore_index": 4}, id="plane-weights-ignore"),
        Case(op, ((2, 5, 2, 2), PLANE, WEIGHTS), {"reduction": "sum"}, id="plane-weights-sum", runtime=(1,)),
        Case(op, ((3, 5), LABELS, WEIGHTS), id="constant-weights", constants=(2,)),
    )
] + [
    Case("SoftmaxCrossEntropyLoss", ((3, 5), LABELS), id="log-prob", outputs=2, through=(0, 1)),
    Case("SoftmaxCrossEntropyLoss", ((3, 5), LABELS), id="only-log-prob", outputs=2, through=(1,)),
    Case("SoftmaxCrossEntropyLoss", ((2, 5, 2, 2), PLANE, WEIGHTS), {"ignore_index": 4, "reduction": "none"},
         id="plane-log-prob", outputs=2, through=(0, 1)),
]  # fmt: skip
