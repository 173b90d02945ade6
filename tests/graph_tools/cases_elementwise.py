"""Rows for graph_tools/vjp/elementwise.py."""

from __future__ import annotations

import numpy as np
import onnx

from tests.graph_tools.harness import Case


def _f(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def _apart(*shape: int, offset: float = 0.0) -> np.ndarray:
    """Multiples of 0.2 in mixed order, plus an offset: no two operands with different offsets come near."""
    n = int(np.prod(shape))
    return (np.random.default_rng(int(100 * offset) + 1).permutation(n).reshape(shape) - n // 2) * 0.2 + offset


CONDITION = np.array([[True, False, True], [False, False, True]])
POSITIVE = {"low": 0.3, "high": 2.0}
SIGNED = _f(-2.5, -1.2, 0.7, 1.6, 3.1)

CASES = [
    Case("Add", ((2, 3), (2, 3))),
    Case("Add", ((2, 3, 4), (3, 1)), id="broadcast"),
    Case("Add", ((2, 3), (2, 1, 3)), id="grown-by-the-other"),
    Case("Add", ((2, 3), ()), id="scalar"),
    Case("Sub", ((2, 1, 4), (3, 4)), id="both-broadcast"),
    Case("Neg", ((2, 3),)),
    Case("Identity", ((2, 3),)),
    Case("Mul", ((2, 3), (3,)), id="broadcast"),
    Case("Mul", ((3,), (2, 3)), id="broadcast-first"),
    Case("Div", ((2, 3), _f(-1.5, 0.7, 2.0))),
    Case("Div", ((2, 1, 4), _f(0.8, -1.3, 0.6).reshape(3, 1)), id="both-broadcast"),
    Case("Div", ((2, 3), _f(2.0)), id="constant", constants=(1,)),
    Case("Mod", (SIGNED, _f(1.5, -0.9, 0.4, 0.45, 1.3)), attrs={"fmod": 1}),
    Case("Mod", ((2, 3), _f(0.21)), attrs={"fmod": 1}, id="broadcast", low=0.3, high=0.35),
    Case("Pow", ((2, 3), (2, 3)), **POSITIVE),
    Case("Pow", ((2, 3, 1), (2,)), id="broadcast", **POSITIVE),
    # Exponents that a negative base takes; as constants only the base is differentiated.
    Case("Pow", (SIGNED, _f(2, 3, 0, -1, -2)), id="negative-base", constants=(1,)),
    Case("Pow", (_f(0.0, 0.0, 0.0, 0.5), _f(1, 2, 0, 0)), id="base-zero", constants=(1,)),
    Case("Pow", (_f(0.0, 0.0, -1.5, 0.5), _f(1, 2, 3, 0)), id="base-zero-runtime-exponent", wrt=(0,)),
    # The exponent of a base ≤ 0 gets 0; it is a constant function of the exponent at base 0.
    Case("Pow", (_f(0.0, 0.0, 0.7), _f(1.5, 2.0, 0.6)), id="exponent-of-base-zero", wrt=(1,)),
    Case("Pow", (SIGNED, np.array([2, 3, 0, 4, -2], np.int64)), id="int64-exponent"),
    Case("Pow", ((2, 3), np.array(3, np.int32)), id="int32-scalar"),
    Case("Pow", ((2, 3), _f(2.0).reshape(())), id="square", constants=(1,)),
    Case("Pow", ((2, 3), _f(3.0)), id="cube", constants=(1,)),
    Case("Pow", ((2, 3), _f(1.0)), id="one", constants=(1,)),
    Case("Pow", ((2, 3), _f(0.0)), id="zero", constants=(1,)),
    Case("Pow", ((2, 3), _f(0.5)), id="root", constants=(1,), **POSITIVE),
    Case("Pow", ((3,), _f(-1.0).reshape(1, 1, 1)), id="rank-of-constant", constants=(1,), **POSITIVE),
    Case("Sum", ((2, 3), (3,), (2, 1))),
    Case("Sum", ((2, 3),), id="one"),
    Case("Mean", ((2, 3), (3,), (2, 1))),
    Case("Max", (_apart(2, 3), _apart(2, 3, offset=0.1))),
    Case("Max", (_apart(2, 3), _apart(3, offset=0.05), _apart(4, 1, 1, offset=0.1)), id="three-broadcast"),
    Case("Max", ((2, 3),), id="one"),
    Case("Max", ((2, 3), _f(0.0)), id="with-zero", constants=(1,)),
    Case("Max", (_f(0.1, 0.9, -0.3, 0.4), _f(0.2).reshape(())), id="with-constant", constants=(1,)),
    Case("Max", (_f(0.1, 0.9), _f(-np.inf)), id="with-infinity", constants=(1,)),
    Case("Max", (_f(0.3), _f(0.1, 0.5)), id="broadcast-to-constant", constants=(1,)),
    Case("Min", (_apart(2, 3), _apart(2, 3, offset=0.1))),
    Case("Min", (_apart(2, 3), _apart(3, offset=0.05), _apart(4, 1, 1, offset=0.1)), id="three-broadcast"),
    Case("Min", (_f(5.9, 6.1, -1.0), _f(6.0)), id="with-constant", constants=(1,)),
    Case("Where", (CONDITION, (2, 3), (2, 3))),
    Case("Where", (CONDITION, (3,), (4, 1, 1)), id="broadcast"),
    Case("Cast", ((2, 3),), attrs={"to": onnx.TensorProto.FLOAT}, reference=False, id="to-float32"),
    Case("CastLike", ((2, 3), (1,)), wrt=(0,)),
    Case("CastLike", ((2, 3), (1,)), wrt=(1,), id="target"),
    Case("Abs", ((3, 4),)),
    Case("Reciprocal", ((3, 4),), low=0.5, high=2.0),
    Case("Sqrt", ((3, 4),), **POSITIVE),
    Case("Exp", ((3, 4),)),
    Case("Log", ((3, 4),), **POSITIVE),
    Case("Erf", ((3, 4),), reference=False),  # the reference evaluator computes Erf in float32
    Case("Sin", ((3, 4),)),
    Case("Cos", ((3, 4),)),
    Case("Tan", ((3, 4),)),
    Case("Asin", ((3, 4),), low=-0.9, high=0.9),
    Case("Acos", ((3, 4),), low=-0.9, high=0.9),
    Case("Atan", ((3, 4),), low=-3.0, high=3.0),
    Case("Sinh", ((3, 4),), low=-2.0, high=2.0),
    Case("Cosh", ((3, 4),), low=-2.0, high=2.0),
    Case("Tanh", ((3, 4),)),
    Case("Asinh", ((3, 4),), low=-3.0, high=3.0),
    Case("Acosh", ((3, 4),), low=1.2, high=3.0),
    Case("Atanh", ((3, 4),), low=-0.9, high=0.9),
    Case("Sign", ((3, 4),)),
    Case("Floor", ((3, 4),), low=0.1, high=0.9),
    Case("Ceil", ((3, 4),), low=0.1, high=0.9),
    Case("Round", ((3, 4),), low=-0.4, high=0.4),
]
