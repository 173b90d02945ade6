"""Rows for graph_tools/vjp/layer_normalization.py and normalization.py."""

from __future__ import annotations

import numpy as np

from tests.graph_tools.harness import Case


def _f(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def _random(*shape: int, low: float = 0.5, high: float = 1.5) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(low, high, shape)


IMAGE = (2, 4, 3, 2)
SCALE, BIAS, MEAN, VARIANCE = (
    _f(0.5, 1.5, -0.7, 1.1),
    _f(0.1, -0.2, 0.3, 0.4),
    _f(0.3, -0.1, 0.2, 0.0),
    _f(0.4, 1.2, 0.9, 2.0),
)
BATCH = (SCALE, BIAS, MEAN, VARIANCE)
STATISTICS = (1, 2, 3, 4)
ONES = np.ones(4)

CASES = [
    Case("Softmax", ((2, 3, 4),)),
    Case("Softmax", ((2, 3, 4),), {"axis": 1}, id="middle"),
    Case("Softmax", ((2, 3, 4),), {"axis": -3}, id="first"),
    Case("LogSoftmax", ((2, 3, 4),)),
    Case("LogSoftmax", ((2, 3, 4),), {"axis": 1}, id="middle"),
    Case("LogSoftmax", ((2, 3, 4),), {"axis": -2}, id="negative"),
    Case("Hardmax", (_f(0.1, 0.9, 0.5).reshape(1, 3),)),
    Case("LpNormalization", ((2, 3, 4),)),
    Case("LpNormalization", ((2, 3, 4),), {"axis": 1, "p": 2}, id="middle"),
    # The reference evaluator leaves out the magnitude in the norm for p = 1.
    Case("LpNormalization", ((2, 3, 4),), {"axis": 1, "p": 1}, id="p1", reference=False),
    Case("LpNormalization", (_random(2, 3, 4),), {"axis": -1, "p": 1}, id="p1-positive"),
    Case("LpNormalization", ((2, 3),), opset=22, id="22"),
    # The reference evaluator sums windows for as many channels as there are rows: right where the two are equal.
    Case("LRN", ((4, 4, 3, 2),), {"size": 3, "alpha": 0.9}),
    Case("LRN", ((6, 6, 1, 2),), {"size": 4, "alpha": 2.0, "beta": 0.5, "bias": 1.7}, id="even-size", ort=False),
    Case("LRN", ((3, 3, 2, 2),), {"size": 5, "alpha": 1.5}, id="wider-than-channels"),
    Case("LRN", ((2, 7, 2, 2),), {"size": 5, "alpha": 1.5}, id="channels", reference=False),
    Case("BatchNormalization", (IMAGE, *BATCH)),
    Case("BatchNormalization", (IMAGE, *BATCH), {"epsilon": 0.1}, id="constants", constants=STATISTICS),
    Case("BatchNormalization", ((3, 4), *BATCH), id="vectors"),
    Case("BatchNormalization", ((2, 4, 3), *BATCH), id="sequence", constants=STATISTICS),
    Case(
        "BatchNormalization", (IMAGE, *BATCH), {"training_mode": 1}, id="training", outputs=3, constants=(3, 4)
    ),
    Case(
        "BatchNormalization", (IMAGE, *BATCH), {"training_mode": 1, "momentum": 0.7}, id="running", outputs=3,
        through=(0, 1, 2),
    ),
    Case(
        "BatchNormalization", (IMAGE, *BATCH), {"training_mode": 1, "momentum": 0.7}, id="running-mean", outputs=3,
        through=(1,),
    ),
    Case("LayerNormalization", ((2, 3, 4), SCALE, BIAS)),
    Case("LayerNormalization", ((2, 3, 4), SCALE), id="no-bias"),
    Case("LayerNormalization", ((2, 3, 4), ONES, BIAS), id="unit-scale", constants=(1, 2)),
    Case("LayerNormalization", (IMAGE, _random(4, 3, 2)), {"axis": 1, "epsilon": 0.01}, id="axis-1"),
    Case("LayerNormalization", (IMAGE, _random(3, 2), _random(2)), {"axis": -2}, id="axis-negative"),
    Case("LayerNormalization", ((3, 4), _random(3, 4)), {"axis": 0}, id="axis-0"),
    Case("LayerNormalization", ((2, 3, 4), SCALE, BIAS), id="three-outputs", outputs=3, through=(0, 1, 2)),
    Case("LayerNormalization", ((2, 3, 4), SCALE, BIAS), id="statistics", outputs=3, through=(1, 2), wrt=(0,)),
    Case("RMSNormalization", ((2, 3, 4), SCALE), opset=23),
    Case("RMSNormalization", ((2, 3, 4), ONES), opset=23, id="unit-scale", constants=(1,)),
    Case("RMSNormalization", (IMAGE, _random(4, 3, 2)), {"axis": 1, "epsilon": 0.01}, opset=23, id="axis-1"),
    Case("RMSNormalization", (IMAGE, _random(2)), {"axis": -2}, opset=23, id="axis-negative"),
    Case("InstanceNormalization", (IMAGE, SCALE, BIAS)),
    Case("InstanceNormalization", ((2, 4, 5), SCALE, BIAS), {"epsilon": 0.01}, id="sequence"),
    Case("InstanceNormalization", (IMAGE, SCALE, BIAS), id="constants", constants=(1, 2)),
    Case("InstanceNormalization", (IMAGE, SCALE, BIAS), opset=22, id="22"),
    Case("GroupNormalization", (IMAGE, _f(0.5, 1.5), _f(0.1, -0.2)), {"num_groups": 2}, id="per-group"),
    Case("GroupNormalization", (IMAGE, SCALE, BIAS), {"num_groups": 2}, opset=21, reference=False),
    Case("GroupNormalization", ((2, 4, 5), SCALE, BIAS), {"num_groups": 4, "epsilon": 0.01}, opset=21,
         id="sequence", reference=False),
    Case("GroupNormalization", (IMAGE, ONES, BIAS), {"num_groups": 1}, opset=21, id="one-group",
         constants=(1, 2), reference=False),
    # The function body of the standard holds a float32 constant: no float64 in the reference evaluator.
    Case("MeanVarianceNormalization", (IMAGE,), reference=False),
    Case("MeanVarianceNormalization", (IMAGE,), {"axes": [2, 3]}, id="axes", reference=False),
]  # fmt: skip
