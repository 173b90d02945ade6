"""Rows for graph_tools/vjp/activations.py."""

from __future__ import annotations

import numpy as np

from tests.graph_tools.harness import Case


def _f(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def _scalar(value: float) -> np.ndarray:
    return np.array(value, np.float64)


WIDE = {"low": -4.0, "high": 4.0}
AROUND = _f(-7.0, -3.1, -2.9, -0.2, 0.3, 2.8, 3.2, 5.9, 6.2)  # away from every kink below

CASES = [
    Case("Relu", ((3, 4),)),
    Case("LeakyRelu", ((3, 4),)),
    Case("LeakyRelu", ((3, 4),), attrs={"alpha": 0.3}, id="alpha"),
    Case("LeakyRelu", ((3, 4),), attrs={"alpha": 0.0}, id="alpha-0"),
    Case("LeakyRelu", ((3, 4),), attrs={"alpha": 1.7}, id="alpha-above-1"),
    Case("LeakyRelu", ((3, 4),), attrs={"alpha": -0.4}, id="alpha-negative"),
    Case("PRelu", ((2, 3, 4), (3, 1))),
    Case("PRelu", ((2, 3), (1,)), id="one-slope"),
    Case("PRelu", ((2, 3), _f(-0.5, 0.2, 1.4)), id="negative-slope"),
    Case("PRelu", ((2, 3, 2, 2), (3, 1, 1)), id="constant-slope", constants=(1,)),
    Case("ThresholdedRelu", (AROUND,)),
    Case("ThresholdedRelu", (AROUND,), attrs={"alpha": -1.0}, id="negative"),
    Case("Shrink", (AROUND,)),
    Case("Shrink", (AROUND,), attrs={"lambd": 2.0, "bias": 1.5}, id="soft"),
    Case("Clip", (AROUND, _scalar(0.0), _scalar(6.0)), id="relu6", constants=(1, 2)),
    Case("Clip", (AROUND, _scalar(-3.0), _scalar(3.0)), id="bounds", constants=(1, 2)),
    Case("Clip", (AROUND, _scalar(0.0)), id="min-only", constants=(1,)),
    Case("Clip", (AROUND, None, _scalar(3.0)), id="max-only", constants=(2,)),
    Case("Clip", (AROUND,), id="unbounded"),
    Case("Clip", (AROUND, _scalar(0.0), _scalar(3.4e38)), id="float-max", constants=(1, 2)),
    Case("Clip", (AROUND, _scalar(-1.0), _scalar(4.0)), id="runtime-bounds"),
    Case("Clip", (AROUND, _scalar(-1.0)), id="runtime-min"),
    Case("Clip", (AROUND, None, _scalar(4.0)), id="runtime-max"),
    Case("Clip", (AROUND, _scalar(4.0), _scalar(-1.0)), id="crossed"),
    Case("Elu", ((3, 4),)),
    Case("Elu", ((3, 4),), attrs={"alpha": 0.4}, id="alpha"),
    Case("Elu", ((3, 4),), attrs={"alpha": -0.4}, id="alpha-negative"),
    Case("Elu", ((3, 4),), opset=22, id="22"),
    Case("Selu", ((3, 4),)),
    Case("Selu", ((3, 4),), attrs={"alpha": 0.7, "gamma": 1.3}, id="own"),
    Case("Selu", ((3, 4),), attrs={"alpha": 0.7, "gamma": -1.3}, id="gamma-negative"),
    Case("Celu", ((3, 4),)),
    Case("Celu", ((3, 4),), attrs={"alpha": 2.0}, id="alpha"),
    Case("Celu", ((3, 4),), attrs={"alpha": -2.0}, id="alpha-negative", ort=False),
    Case("Sigmoid", ((3, 4),), **WIDE),
    Case("HardSigmoid", (AROUND,)),
    Case("HardSigmoid", (AROUND,), attrs={"alpha": 1 / 6, "beta": 0.5}, id="torch"),
    Case("HardSwish", (AROUND,)),
    Case("Softplus", ((3, 4),), **WIDE),
    Case("Softplus", (_f(-90.0, -30.0, 30.0, 90.0),), id="far"),
    Case("Softsign", ((3, 4),), **WIDE),
    Case("Mish", ((3, 4),), **WIDE),
    Case("Mish", (_f(-90.0, -30.0, 30.0, 90.0),), id="far"),
    Case("Gelu", ((3, 4),), opset=20, reference=False, **WIDE),  # Erf: float32 in the reference evaluator
    Case("Gelu", ((3, 4),), attrs={"approximate": "tanh"}, opset=20, id="tanh", **WIDE),
    Case("Swish", ((3, 4),), opset=24, **WIDE),
    Case("Swish", ((3, 4),), attrs={"alpha": 1.702}, opset=24, id="alpha", **WIDE),
    Case("Dropout", ((3, 4),)),
    Case("Dropout", ((3, 4), _scalar(0.3)), id="ratio"),
    Case("Dropout", ((3, 4), _scalar(0.3), np.array(False)), id="inference", outputs=2),
    Case("Dropout", ((3, 4), _scalar(0.3), np.array(True)), id="training", attrs={"seed": 5}, constants=(1,)),
]
