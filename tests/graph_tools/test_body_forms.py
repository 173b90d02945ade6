"""Odd but legal forms of If and Loop: constants as outputs, no states, names that clash, nothing inside."""

from __future__ import annotations

import numpy as np
import pytest

from tests.graph_tools.bodies import agrees, draw, parsed


@pytest.mark.parametrize("condition", [True, False])
def test_branch_that_is_a_constant(condition: bool) -> None:
    proto = parsed(
        "g (double[2] x, bool c) => (double[2] y) { k = If <"
        "then_branch = t () => (a) { a = Constant<value = double[2] {1.0, 2.0}>() },"
        "else_branch = e () => (b) { b = Sin(x) }> (c) y = Mul(k, x) }"
    )
    agrees(proto, "y", ["x"], x=draw(2), c=np.array(condition))


@pytest.mark.parametrize("trips", [2, 3])
def test_loop_that_carries_nothing(trips: int) -> None:
    proto = parsed(
        "g (double[3,2] x, int64 M) => (double[M,2] y) { yes = Constant<value = bool {1}>() y = Loop <"
        "body = b (int64 i, bool go) => (more, o) { more = Identity(go) r = Gather(x, i) o = Sin(r) }> (M, yes) }"
    )
    agrees(proto, "y", ["x"], second=True, x=draw(3, 2), M=np.array(trips))


@pytest.mark.parametrize("condition", [True, False])
def test_names_that_look_like_those_that_are_made(condition: bool) -> None:
    """Both branches use the same names, and the kind of names that the walk makes."""
    proto = parsed(
        "g (double[2] x, bool c) => (double[2] y) { _Mul = Sin(x) y = If <"
        "then_branch = t () => (_const) { _Sin = Mul(_Mul, x) _const = Sin(_Sin) },"
        "else_branch = e () => (_const) { _Sin = Mul(x, x) _const = Cos(_Sin) }> (c) }"
    )
    agrees(proto, "y", ["x"], second=True, x=draw(2), c=np.array(condition))


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_loop_over_rows_whose_number_is_open(rows: int) -> None:
    proto = parsed(
        "g (double[a,2] x, int64 M, double[2] w) => (double[a,2] y) { y = Loop <"
        "body = b (int64 i, bool go, p) => (more, q) { more = Identity(go) s = Sin(p) q = Mul(s, w) }> (M, , x) }"
    )
    agrees(proto, "y", ["x", "w"], x=draw(rows, 2), w=draw(2), M=np.array(3))


def test_float16() -> None:
    """The gradient comes in the type of the graph."""
    proto = parsed(
        "g (float16[2] x, int64 M) => (float16[2] y) { y = Loop <body = b (int64 i, bool go, v) => (more, n) {"
        " more = Identity(go) n = Mul(v, x) }> (M, , x) }"
    )
    feeds = {"x": np.array([0.5, -1.5], np.float16), "M": np.array(2)}
    agrees(proto, "y", ["x"], **feeds)
