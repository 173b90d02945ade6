"""Gradients through If and Loop: closed forms, central differences, nesting, captured values."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graph_tools
from graph_tools import model as models
from graph_tools.backward import backward, check_path
from graph_tools.emit import Emitter
from graph_tools.errors import UnsupportedGradient
from tests.graph_tools.bodies import agrees, draw, gradients, parsed, program
from tests.graph_tools.harness import run_ort, run_reference

X = draw(2, 3)
RUNNERS = [run_ort, run_reference]

IF = (
    "g (double[2,3] x, double[2,3] z, bool c) => (double[2,3] y) { h = Tanh(x) y = If <"
    "then_branch = t () => (double[2,3] a) { a = Mul(h, x) },"
    "else_branch = e () => (double[2,3] b) { b = Sin(z) }> (c) }"
)
POWER = (
    "g (double[2,3] x, int64 M, double[2,3] s) => (double[2,3] y) { y = Loop <"
    "body = b (int64 i, bool go, v) => (more, n) { more = Identity(go) n = Mul(v, x) }> (M, , s) }"
)


# --- If


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("condition", [True, False])
def test_branches_give_zeros_to_what_only_the_other_reads(runner: object, condition: bool) -> None:
    ct, z, c = draw(2, 3), draw(2, 3), np.array(condition)
    got = gradients(parsed(IF), "y", ["x", "z"], ct, runner, x=X, z=z, c=c)
    if condition:
        np.testing.assert_allclose(got["grad_x"], ct * (np.tanh(X) + X * (1 - np.tanh(X) ** 2)))
        np.testing.assert_array_equal(got["grad_z"], np.zeros_like(z))
    else:
        np.testing.assert_array_equal(got["grad_x"], np.zeros_like(X))
        np.testing.assert_allclose(got["grad_z"], ct * np.cos(z))


@pytest.mark.parametrize("condition", [True, False])
def test_branches_twice(condition: bool) -> None:
    agrees(parsed(IF), "y", ["x", "z"], second=True, x=X, z=draw(2, 3), c=np.array(condition))


def test_branches_of_different_shapes_and_two_outputs() -> None:
    proto = parsed(
        "g (double[2,3] x, bool c) => (double[N,3] y, double[M] z) { y, z = If <"
        "then_branch = t () => (a, a2) { zero = Constant<value = int64[1] {0}>() one = Constant<value = int64[1] {1}>()"
        " a = Slice(x, zero, one) f = Flatten<axis = 0>(x) m = Constant<value = int64[1] {-1}>() a2 = Reshape(f, m) },"
        "else_branch = e () => (b, b2) { b = Mul(x, x) b2 = ReduceSum<keepdims = 0>(x) }> (c) }".replace(
            "b2 = ReduceSum<keepdims = 0>(x)", "m = Constant<value = int64[1] {-1}>() q = Sin(x) b2 = Reshape(q, m)"
        )
    )
    for condition in (True, False):
        for output in ("y", "z"):
            agrees(proto, output, ["x"], x=X, c=np.array(condition))


def test_constant_condition_becomes_its_branch() -> None:
    text = IF.replace(", bool c)", ")").replace("{ h =", "{ c = Constant<value = bool {1}>() h =")
    made = agrees(parsed(text), "y", ["x", "z"], x=X, z=draw(2, 3))
    assert "If" not in {n.op_type for n in made.graph.node}


def test_condition_on_a_known_rank_becomes_its_branch() -> None:
    """What exporters write for ``squeeze``: is the axis of length 1?"""
    proto = parsed(
        "g (double[2,1,3] x) => (double[N,3] y) { s = Shape(x) one = Constant<value = int64 {1}>()"
        " d = Gather(s, one) c = Equal(d, one) y = If <"
        "then_branch = t () => (a) { ax = Constant<value = int64[1] {1}>() q = Squeeze(x, ax) a = Sin(q) },"
        "else_branch = e () => (b) { b = Identity(x) }> (c) }"
    )
    made = agrees(proto, "y", ["x"], x=draw(2, 1, 3))
    assert "If" not in {n.op_type for n in made.graph.node}


# --- Loop


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("trips", [0, 1, 5])
def test_power_by_multiplication(runner: object, trips: int) -> None:
    """y = s xᴹ: ct s M xᴹ⁻¹ and ct xᴹ; M is an input of the model."""
    if runner is run_reference:
        text = POWER.replace("(M, , s)", "(M, yes, s)").replace(
            "{ y = Loop", "{ yes = Constant<value = bool {1}>() y = Loop"
        )
        if trips == 0:
            pytest.skip("the reference evaluator cannot stack the outputs of no iteration")
    else:
        text = POWER
    ct, s = draw(2, 3), draw(2, 3)
    got = gradients(parsed(text), "y", ["x", "s"], ct, runner, x=X, s=s, M=np.array(trips))
    np.testing.assert_allclose(got["y"], s * X**trips)
    np.testing.assert_allclose(got["grad_s"], ct * X**trips)
    np.testing.assert_allclose(got["grad_x"], ct * s * trips * X ** max(trips - 1, 0))


@pytest.mark.parametrize("trips", [0, 1, 3])
def test_power_twice(trips: int) -> None:
    agrees(parsed(POWER), "y", ["x", "s"], second=True, x=X, s=draw(2, 3), M=np.array(trips))


def test_power_in_float32() -> None:
    text = POWER.replace("double", "float")
    feeds = {"x": X.astype(np.float32), "s": draw(2, 3).astype(np.float32)}
    agrees(parsed(text), "y", ["x", "s"], **feeds, M=np.array(3))


def test_power_with_every_dimension_unknown() -> None:
    text = POWER.replace("double[2,3] x", "double[a,b] x").replace("double[2,3] s", "double[c,d] s")
    agrees(parsed(text.replace("double[2,3]", "double[e,f]")), "y", ["x", "s"], x=X, s=draw(2, 3), M=np.array(3))


def test_scan_outputs_of_a_loop() -> None:
    proto = parsed(
        "g (double[2,3] x, int64 M, double[2,3] s) => (double[2,3] z, double[M,2,3] y) { z, y = Loop <"
        "body = b (int64 i, bool go, v) => (more, n, o) { more = Identity(go) n = Mul(v, x) t = Tanh(v) o = Mul(t, x) }"
        "> (M, , s) }"
    )
    for output in ("y", "z"):
        agrees(proto, output, ["x", "s"], second=True, x=X, s=draw(2, 3), M=np.array(4))


@pytest.mark.parametrize("bound", ["M", ""])
def test_condition_that_ends_early(bound: str) -> None:
    proto = parsed(
        "g (double[2,3] x, double limit) => (double[2,3] y) { M = Constant<value = int64 {100}>()"
        " c = Constant<value = bool {1}>() y = Loop <body = b (int64 i, bool go, v) => (more, n) {"
        f" n = Mul(v, x) s = ReduceSum<keepdims = 0>(n) a = Abs(s) more = Less(a, limit) }}> ({bound}, c, x) }}"
    )
    agrees(proto, "y", ["x"], x=np.abs(X) + 1.5, limit=np.array(100.0))


def test_integer_state_and_iteration_number() -> None:
    """y ← y kᵢ + i with k doubled every time: d y / d x = Π kᵢ."""
    proto = parsed(
        "g (double[2,3] x, int64 M) => (double[2,3] y, int64 last) {"
        " k0 = Constant<value = int64 {3}>() y, last = Loop <"
        "body = b (int64 i, bool go, v, int64 k) => (more, n, k2) { more = Identity(go) f = Cast<to = 11>(k)"
        " d = Cast<to = 11>(i) p = Mul(v, f) n = Add(p, d) k2 = Add(k, k) }> (M, , x, k0) }"
    )
    ct = draw(2, 3)
    got = gradients(proto, "y", ["x"], ct, x=X, M=np.array(3))
    np.testing.assert_allclose(got["grad_x"], ct * 3 * 6 * 12)
    assert got["last"] == 24


def test_state_that_grows() -> None:
    proto = parsed(
        "g (double[2,3] x, int64 M) => (double[N,3] y) { y = Loop <body = b (int64 i, bool go, v) => (more, n) {"
        " more = Identity(go) t = Sin(v) n = Concat<axis = 0>(t, v) }> (M, , x) }"
    )
    agrees(proto, "y", ["x"], second=True, x=X, M=np.array(3))


def test_states_that_pass_through_swap_and_are_forgotten() -> None:
    proto = parsed(
        "g (double[2,3] x, double[2,3] u, double[2,3] w, int64 M) => (double[2,3] y) { p, q, r, y = Loop <"
        "body = b (int64 i, bool go, a, c, d, e) => (more, c, a, d2, e2) { more = Identity(go) d2 = Mul(a, c)"
        " f = Sin(d) e2 = Add(e, f) }> (M, , x, u, w, x) }"
    )
    for trips in (0, 1, 2, 5):
        agrees(proto, "y", ["x", "u", "w"], x=X, u=draw(2, 3), w=draw(2, 3), M=np.array(trips))


# --- nesting


NESTED = (
    "g (double[2,4] x, double[4,4] W, int64 M) => (double[2,4] y) { g = Sin(x) y = Loop <"
    "body = b (int64 i, bool go, v) => (more, n) { more = Identity(go) two = Constant<value = int64 {2}>()"
    " r = Mod(i, two) c = Cast<to = 9>(r) n = If <"
    "then_branch = t () => (a) { m = MatMul(v, W) a = Tanh(m) },"
    "else_branch = e () => (o) { o = Loop <body = inner (int64 k, bool on, u) => (next, w) { next = Identity(on)"
    " q = Mul(u, g) f = Cast<to = 11>(k) w = Add(q, f) }> (two, , v) }> (c) }> (M, , x) }"
)


@pytest.mark.parametrize("trips", [0, 1, 3])
def test_nested_with_captured_weight(trips: int) -> None:
    """The weight, and an interior value, are captured two bodies deep."""
    agrees(parsed(NESTED), "y", ["x", "W"], second=True, x=draw(2, 4), W=draw(4, 4), M=np.array(trips))
    agrees(parsed(NESTED), "y", ["W"], x=draw(2, 4), W=draw(4, 4), M=np.array(trips))


def test_interior_values_around_a_loop() -> None:
    ct, x, w = draw(2, 4), draw(2, 4), draw(4, 4)
    got = gradients(parsed(NESTED), "y", ["g", "x"], ct, x=x, W=w, M=np.array(1))
    g = np.sin(x)
    np.testing.assert_allclose(got["grad_g"], ct * (2 * x * g))  # y = (x g) g + 1
    np.testing.assert_allclose(got["grad_x"], ct * (g * g + 2 * x * g * np.cos(x)))


def test_operator_without_a_rule_is_expanded_inside_a_body() -> None:
    proto = parsed(
        "g (double[2,3] x, int64 M) => (double[2,3] y) { y = Loop <body = b (int64 i, bool go, v) => (more, n) {"
        " more = Identity(go) n = Swish(v) }> (M, , x) }",
        opset=24,
    )
    agrees(proto, "y", ["x"], x=X, M=np.array(2))


def test_names_stay_unique_in_every_scope() -> None:
    made = ir.from_proto(program(parsed(NESTED), "y", ["x", "W"]))
    seen: set[str | None] = set()
    graphs = [made.graph, *{n.graph for n in made.graph.all_nodes() if n.graph is not made.graph}]
    for graph in graphs:
        names = [v.name for v in (*graph.inputs, *graph.initializers.values())]
        names += [v.name for n in graph for v in n.outputs if v.name]
        fresh = [n for n in names if n is not None and n.startswith("_")]
        assert len(set(fresh)) == len(fresh)
        assert not seen.intersection(fresh)
        seen.update(fresh)


# --- zeros and refusals


def test_piecewise_constant_body_gives_zeros() -> None:
    proto = parsed(
        "g (double[2,3] x, int64 M, double[2,3] s) => (double[2,3] y) { y = Loop <"
        "body = b (int64 i, bool go, v) => (more, n) { more = Identity(go) q = Sign(x) n = Add(v, q) }> (M, , s) }"
    )
    got = gradients(proto, "y", ["x"], draw(2, 3), x=X, s=X, M=np.array(2))
    np.testing.assert_array_equal(got["grad_x"], np.zeros_like(X))


def test_ruleless_operator_inside_a_body_is_named() -> None:
    proto = parsed(IF.replace("b = Sin(z)", "b = acme.Mystery(z)"))
    with pytest.raises(UnsupportedGradient, match=r"acme::Mystery.*input 0 \('z'\)") as caught:
        graph_tools.gradient(proto, ["y"], ["z"])
    assert caught.value.operator == "acme::Mystery"
    with pytest.raises(UnsupportedGradient, match="acme::Mystery"):
        check_path(models.load(proto), "y", "z")


def test_path_that_ends_in_integers_inside_a_body_is_an_error() -> None:
    proto = parsed(IF.replace("b = Sin(z)", "i = Cast<to = 7>(z) b = Cast<to = 11>(i)"))
    with pytest.raises(UnsupportedGradient, match="Cast"):
        graph_tools.gradient(proto, ["y"], ["z"])


def test_random_numbers_that_would_be_drawn_again_are_refused() -> None:
    proto = parsed(
        "g (double[2,3] x, int64 M) => (double[2,3] y) { y = Loop <body = b (int64 i, bool go, v) => (more, n) {"
        " more = Identity(go) r = RandomNormalLike(v) n = Mul(v, r) }> (M, , x) }"
    )
    with pytest.raises(UnsupportedGradient, match=r"Loop \(node 'node_0_Loop'\) draws random numbers"):
        graph_tools.gradient(proto, ["y"], ["x"])


def test_several_cotangents_per_row_are_refused() -> None:
    model = models.load(parsed(IF))
    b = Emitter(model)
    k, seed = b.input("k", ir.DataType.INT64, []), b.input("seed", ir.DataType.DOUBLE, ["rows", 3])
    with pytest.raises(UnsupportedGradient, match="one target at a time"):
        backward(model, {model.graph.outputs[0]: seed}, [model.graph.inputs[0]], repeat=k)


def test_values_say_what_a_gradient_reaches_through_bodies() -> None:
    found = {v.name: v.gradient for v in graph_tools.values(parsed(NESTED))}
    assert {n for n in ("x", "W", "g", "M") if found[n]} == {"x", "W", "g"}


def test_many_bodies_grow_linearly_in_nodes() -> None:
    """300 Ifs in a row: each adds the same number of nodes."""

    def nodes(count: int) -> int:
        steps = " ".join(
            f"h{i + 1} = If <then_branch = t () => (double[2,3] a) {{ a = Sin(h{i}) }},"
            f"else_branch = e () => (double[2,3] b) {{ b = Mul(h{i}, h{i}) }}> (c)"
            for i in range(count)
        )
        text = f"g (double[2,3] h0, bool c) => (double[2,3] h{count}) {{ {steps} }}"
        made = program(parsed(text), f"h{count}", ["h0"])
        return sum(1 for _ in ir.from_proto(made).graph.all_nodes())

    few, some, many = nodes(10), nodes(100), nodes(300)
    assert (many - some) * 90 == (some - few) * 200


def test_own_outputs_keep_their_names_and_order() -> None:
    proto = parsed(POWER)
    made = program(proto, "y", ["x"])
    assert [v.name for v in made.graph.output] == ["y", "grad_x"]
    assert isinstance(made, onnx.ModelProto)
