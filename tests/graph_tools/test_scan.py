"""Gradients through Scan: against the same network unrolled, axes and directions, second order."""

from __future__ import annotations

import numpy as np
import pytest

from tests.graph_tools.bodies import agrees, draw, gradients, parsed, program

STEPS, ROWS, WIDTH = 3, 2, 4
CELL = "m = MatMul(h, W) s = Add(m, xt) n = Tanh(s) o = Mul(n, n)"
RNN = (
    "g (double[3,2,4] x, double[2,4] h0, double[4,4] W) => (double[3,2,4] y, double[2,4] last) {"
    " last, y = Scan <num_scan_inputs = 1, body = b (h, xt) => (n, o) { " + CELL + " }> (h0, x) }"
)


def unrolled() -> str:
    """The same network without a Scan."""
    split = "x0, x1, x2 = Split<axis = 0, num_outputs = 3>(x) ax = Constant<value = int64[1] {0}>()"
    steps = [split]
    for t in range(STEPS):
        before = "h0" if t == 0 else f"n{t - 1}"
        cell = CELL.replace("xt", f"xt{t}").replace("(h,", f"({before},")
        for name in ("m", "s", "n", "o"):
            cell = cell.replace(f"{name} =", f"{name}{t} =").replace(f"({name},", f"({name}{t},")
            cell = cell.replace(f"({name})", f"({name}{t})").replace(f", {name})", f", {name}{t})")
        steps.append(f"xt{t} = Squeeze(x{t}, ax) {cell} u{t} = Unsqueeze(o{t}, ax)")
    steps.append("y = Concat<axis = 0>(u0, u1, u2) last = Identity(n2)")
    return RNN[: RNN.index("{")] + "{ " + " ".join(steps) + " }"


@pytest.mark.parametrize("output", ["y", "last"])
def test_recurrent_network_equals_itself_unrolled(output: str) -> None:
    feeds = {"x": draw(STEPS, ROWS, WIDTH), "h0": draw(ROWS, WIDTH), "W": draw(WIDTH, WIDTH)}
    ct = draw(STEPS, ROWS, WIDTH) if output == "y" else draw(ROWS, WIDTH)
    ours, theirs = (gradients(parsed(t), output, list(feeds), ct, **feeds) for t in (RNN, unrolled()))
    for name in feeds:
        np.testing.assert_allclose(ours[f"grad_{name}"], theirs[f"grad_{name}"], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("output", ["y", "last"])
def test_recurrent_network_twice(output: str) -> None:
    feeds = {"x": draw(STEPS, ROWS, WIDTH), "h0": draw(ROWS, WIDTH), "W": draw(WIDTH, WIDTH)}
    made = agrees(parsed(RNN), output, list(feeds), second=True, **feeds)
    assert [n.op_type for n in made.graph.node].count("Scan") == 2


@pytest.mark.parametrize("output", ["y", "z"])
def test_axes_and_directions(output: str) -> None:
    proto = parsed(
        "g (double[2,3,4] x, double[2,4,3] w, double[2,4] h0) => (double[2,4,3] y, double[3,2,4] z) {"
        " last, y, z = Scan <"
        "num_scan_inputs = 2, scan_input_axes = [1, -1], scan_input_directions = [1, 0], scan_output_axes = [-1, 0],"
        " scan_output_directions = [1, 0], body = b (h, xt, wt) => (n, o, p) { m = Mul(h, wt) s = Add(m, xt)"
        " n = Tanh(s) o = Mul(n, xt) p = Mul(o, h) }> (h0, x, w) }"
    )
    agrees(proto, output, ["x", "w", "h0"], second=True, x=draw(2, 3, 4), w=draw(2, 4, 3), h0=draw(2, 4))


def test_sum_needs_no_primal() -> None:
    proto = parsed(
        "g (double[T,2] x, double[2] s) => (double[2] y) { y = Scan <num_scan_inputs = 1,"
        " body = b (a, xt) => (n) { n = Add(a, xt) }> (s, x) }"
    )
    ct = draw(2)
    got = gradients(proto, "y", ["x", "s"], ct, x=draw(5, 2), s=draw(2))
    np.testing.assert_allclose(got["grad_x"], np.tile(ct, (5, 1)))
    np.testing.assert_allclose(got["grad_s"], ct)
    kept = [n for n in program(proto, "y", ["x"]).graph.node if n.op_type == "Scan"]
    assert len(kept[0].output) == 1  # the forward keeps nothing


def test_map_without_states() -> None:
    proto = parsed(
        "g (double[3,2] x, double[2] w) => (double[3,2] y) { y = Scan <num_scan_inputs = 1,"
        " body = b (xt) => (o) { m = Mul(xt, w) o = Sin(m) }> (x) }"
    )
    agrees(proto, "y", ["x", "w"], second=True, x=draw(3, 2), w=draw(2))


def test_integer_state() -> None:
    proto = parsed(
        "g (double[3,2] x) => (double[3,2] y) { k0 = Constant<value = int64 {1}>() last, y = Scan <num_scan_inputs = 1,"
        " body = b (k, xt) => (k2, o) { f = Cast<to = 11>(k) q = Mul(xt, f) o = Mul(q, xt) k2 = Add(k, k) }> (k0, x) }"
    )
    x, ct = draw(3, 2), draw(3, 2)
    got = gradients(proto, "y", ["x"], ct, x=x)
    np.testing.assert_allclose(got["grad_x"], 2 * x * ct * np.array([[1], [2], [4]]))
