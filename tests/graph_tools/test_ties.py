"""Derivatives where there is none: kinks, ties and zeros, against values computed by hand (cotangent: all ones)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import graph_tools
from tests.graph_tools.harness import Case, build, run_ort, run_reference

INF = float("inf")
TINY = float(np.finfo(np.float32).tiny)


def _f(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def _beside(bound: float) -> np.ndarray:
    """The bound and its neighbours in float32."""
    down, up = (np.nextafter(np.float32(bound), np.float32(side)) for side in (-INF, INF))
    return _f(down, np.float32(bound), up)


def _scalar(value: float) -> np.ndarray:
    return np.array(value, np.float64)


def gradients(case: Case, kind: type = np.float32, runner: Any = run_ort) -> list[np.ndarray]:
    """The gradient of every wanted operand for a cotangent of ones."""
    model, feeds = build(case, kind)
    names = [f"x{i}" for i in case.wrt] if case.wrt else [n for n, a in feeds.items() if a.dtype == kind]
    y = runner(model, feeds)["y0"]
    program = ir.to_proto(graph_tools.gradient(model, ["y0"], names))
    got = runner(program, {**feeds, "cotangent_y0": np.ones_like(y)})
    return [got[f"grad_{name}"] for name in names]


ZEROS = _f(-1.0, 0.0, -0.0, TINY, 1.0)
ROWS: list[tuple[Case, list[Any]]] = [
    (Case("Relu", (ZEROS,)), [[0, 0, 0, 1, 1]]),
    (Case("LeakyRelu", (ZEROS,), {"alpha": 0.25}), [[0.25, 0.25, 0.25, 1, 1]]),
    (Case("PRelu", (ZEROS, _f(0.25)), constants=(1,)), [[0.25, 0.25, 0.25, 1, 1]]),
    (Case("Elu", (_f(0.0, 1.0),), {"alpha": 0.5}), [[0.5, 1]]),
    (Case("Celu", (_f(0.0, 1.0),), {"alpha": 2.0}), [[1, 1]]),
    (Case("Selu", (_f(0.0, 1.0),), {"alpha": 2.0, "gamma": 3.0}), [[6, 3]]),
    (Case("ThresholdedRelu", (_beside(1.5),), {"alpha": 1.5}, id="positive"), [[0, 0, 1]]),
    (Case("ThresholdedRelu", (_beside(-1.5),), {"alpha": -1.5}, id="negative"), [[0, 0, 1]]),
    (Case("Shrink", (_beside(0.5),), id="above"), [[0, 0, 1]]),
    (Case("Shrink", (_beside(-0.5),), id="below"), [[1, 0, 0]]),
    (Case("HardSigmoid", (_f(-2.0, 0.0, 2.0),), {"alpha": 0.25, "beta": 0.5}), [[0, 0.25, 0]]),
    (Case("HardSwish", (_f(-3.0, 0.0, 3.0),)), [[0, 0.5, 1]]),
    (Case("Abs", (_f(-1.0, 0.0, 1.0),)), [[-1, 0, 1]]),
    # Clip: the bounds do not pass (as ReLU6); a bound that is an operand takes what x does not.
    (Case("Clip", (_f(-1.0, 0.0), _scalar(0.0), _scalar(6.0)), id="relu6-low", constants=(1, 2)), [[0, 0]]),
    (Case("Clip", (_f(TINY, 3.0), _scalar(0.0), _scalar(6.0)), id="relu6-in", constants=(1, 2)), [[1, 1]]),
    (Case("Clip", (_beside(6.0), _scalar(0.0), _scalar(6.0)), id="relu6-high", constants=(1, 2)), [[1, 0, 0]]),
    (Case("Clip", (_beside(-0.7), _scalar(np.float32(-0.7))), id="min", constants=(1,)), [[0, 0, 1]]),
    (Case("Clip", (_beside(1e20), None, _scalar(np.float32(1e20))), id="max", constants=(2,)), [[1, 0, 0]]),
    (
        Case("Clip", (_f(-2.0, -1.0, 0.0, 4.0, 5.0), _scalar(-1.0), _scalar(4.0)), id="runtime"),
        [[0, 0, 1, 0, 0], 2, 2],
    ),
    (Case("Clip", (_f(-2.0, 0.0, 5.0), _scalar(4.0), _scalar(-1.0)), id="crossed"), [[0, 0, 0], 0, 3]),
    # Max and Min: shared evenly.
    (Case("Max", (_f(1, 2, 3), _f(1, 3, 2)), id="two"), [[0.5, 0, 1], [0.5, 1, 0]]),
    (Case("Min", (_f(1, 2, 3), _f(1, 3, 2)), id="two"), [[0.5, 1, 0], [0.5, 0, 1]]),
    (Case("Max", (_f(1, 2), _f(1, 2), _f(0, 2)), id="three"), [[0.5, 1 / 3], [0.5, 1 / 3], [0, 1 / 3]]),
    (Case("Max", (_beside(0.3), _f(np.float32(0.3))), id="constant", constants=(1,)), [[0, 0.5, 1]]),
    (Case("Max", (_f(-1.0, 0.0, TINY), _f(0.0)), id="zero", constants=(1,)), [[0, 0.5, 1]]),
    (Case("Min", (_beside(6.0), _f(6.0)), id="constant", constants=(1,)), [[1, 0.5, 0]]),
    (Case("Max", (_f(-INF, 1.0), _f(-INF)), id="infinite", constants=(1,)), [[0.5, 1]]),
    # Reductions.
    (Case("ReduceMax", (_f(1, 1, 0),), id="two"), [[0.5, 0.5, 0]]),
    (Case("ReduceMax", (np.full((2, 2), 3.0),), id="all"), [[[0.25, 0.25], [0.25, 0.25]]]),
    (
        Case("ReduceMax", (np.array([[1.0, 2, 2], [0, 0, 0]]), np.array([1])), {"keepdims": 0}, id="axis"),
        [[[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]]],
    ),
    (Case("ReduceMin", (_f(1, 0, 0, 0),), id="three"), [[0, 1 / 3, 1 / 3, 1 / 3]]),
    (Case("ReduceProd", (_f(0, 2, 3),), id="one-zero"), [[6, 0, 0]]),
    (Case("ReduceProd", (_f(0, 2, 0),), id="two-zeros"), [[0, 0, 0]]),
    (Case("ReduceL1", (_f(-1, 0, 2),)), [[-1, 0, 1]]),
    (Case("ReduceL2", (_f(0, 0),), id="zero"), [[0, 0]]),
    (Case("ReduceL2", (_f(3, 4),), id="five"), [[0.6, 0.8]]),
    # Powers.
    (Case("Pow", (_f(0, 0, 0, 0), _f(0, 1, 2, 3)), id="base-zero", wrt=(0,)), [[0, 1, 0, 0]]),
    (Case("Pow", (_f(0, 0, -2), _f(1, 2, 3)), id="exponent", wrt=(1,)), [[0, 0, 0]]),
    (Case("Pow", (_f(0, 5), _scalar(0.0)), id="constant-zero", constants=(1,)), [[0, 0]]),
    # Piecewise constants.
    (Case("Sign", (_f(0.0, 1.0),)), [[0, 0]]),
    (Case("Floor", (_f(0.0, 1.5),)), [[0, 0]]),
    (Case("Round", (_f(0.5, 1.5),)), [[0, 0]]),
]
IDS = [case.label for case, _ in ROWS]


@pytest.mark.parametrize(("case", "want"), ROWS, ids=IDS)
def test_float32_onnxruntime(case: Case, want: list[Any]) -> None:
    for got, expected in zip(gradients(case), want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("case", "want"), ROWS, ids=IDS)
def test_float64_reference(case: Case, want: list[Any]) -> None:
    with np.errstate(all="ignore"):
        found = gradients(case, np.float64, run_reference)
    for got, expected in zip(found, want, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


def test_the_same_operand_twice_gets_all() -> None:
    """Max(x, x): half and half add up."""
    case = Case("Max", (_f(1.0, -2.0), _f(1.0, -2.0)))
    first, second = gradients(case)
    np.testing.assert_array_equal(first + second, [1, 1])


def test_log_sum_exp_of_nothing_but_minus_infinity() -> None:
    (got,) = gradients(Case("ReduceLogSumExp", (_f(-INF, -INF),)))
    np.testing.assert_array_equal(got, [0, 0])


def test_far_values_of_steep_functions_stay_finite() -> None:
    far = _f(-1e4, -100.0, 100.0, 1e4)
    for case, want in (
        (Case("Softplus", (far,)), [0, 0, 1, 1]),
        (Case("Mish", (far,)), [0, 0, 1, 1]),
        (Case("Gelu", (far,), opset=20), [0, 0, 1, 1]),
        (Case("Gelu", (far,), {"approximate": "tanh"}, opset=20), [0, 0, 1, 1]),
        (Case("Swish", (far,), opset=24), [0, 0, 1, 1]),
        (Case("Tanh", (far,)), [0, 0, 0, 0]),
        (Case("Sigmoid", (far,)), [0, 0, 0, 0]),
    ):
        (got,) = gradients(case)
        np.testing.assert_allclose(got, want, atol=1e-6, err_msg=case.label)


def test_dropout_in_training_mode_uses_the_mask_of_its_own_run() -> None:
    """y = x·mask/(1 − ratio) and dy/dx = mask/(1 − ratio): x·grad = y, element by element."""
    case = Case("Dropout", ((50, 4), _scalar(0.5), np.array(True)), {"seed": 3}, constants=(1,))
    model, feeds = build(case, np.float32)
    program = ir.to_proto(graph_tools.gradient(model, ["y0"], ["x0"]))
    got = run_ort(program, {**feeds, "cotangent_y0": np.ones((50, 4), np.float32)})
    assert set(np.unique(got["grad_x0"])) == {0.0, 2.0}
    np.testing.assert_allclose(got["grad_x0"] * feeds["x0"], got["y0"], rtol=1e-6)
