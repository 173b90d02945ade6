"""Gradients through sequences and optionals: resolved when the graph is built, or as sequences at run time."""

from __future__ import annotations

import inspect
import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graph_tools
from graph_tools.errors import UnsupportedGradient
from tests.graph_tools.bodies import agrees, draw, gradients, parsed, program
from tests.graph_tools.harness import run_ort

SEQUENCES = {"SequenceConstruct", "SequenceAt", "SequenceInsert", "SequenceErase", "SplitToSequence",
             "ConcatFromSequence", "SequenceEmpty", "SequenceLength"}  # fmt: skip
OPERATORS = SEQUENCES | {"Optional", "OptionalGetElement", "OptionalHasElement"}
"""Operators whose rules are tested here."""


@pytest.mark.parametrize(
    "body",
    [
        "s = SplitToSequence<axis = 0, keepdims = 0>(x) l = Constant<value = int64 {-1}>() a = SequenceAt(s, l)"
        " t = SequenceInsert(s, a) n = SequenceLength(t) f = Cast<to = 11>(n)"
        " k = ConcatFromSequence<axis = 0, new_axis = 1>(t) m = Mul(k, a) y = Mul(m, f)",
        "two = Constant<value = int64 {2}>() s = SplitToSequence<axis = -1>(x, two) z = Constant<value = int64 {0}>()"
        " a = SequenceAt(s, z) r = SequenceErase(s, z) b = SequenceAt(r, z) q = ReduceSum(b)"
        " w = Mul(a, q) y = Sin(w)",
        "e = SequenceEmpty<dtype = 11>() z = Constant<value = int64 {0}>() h = Sin(x) s = SequenceInsert(e, h)"
        " t = SequenceInsert(s, x, z) y = ConcatFromSequence<axis = 1>(t)",
    ],
)
def test_known_sequences_become_tensors(body: str) -> None:
    made = agrees(parsed(f"g (double[4,4] x) => (double[a,b] y) {{ {body} }}"), "y", ["x"], second=True, x=draw(4, 4))
    assert not SEQUENCES & {n.op_type for n in made.graph.node}


@pytest.mark.parametrize("position", [0, 1, -2])
def test_positions_known_at_run_time(position: int) -> None:
    proto = parsed(
        "g (double[2,3] x, int64 p) => (double[6,3] y) { a = Sin(x) b = Mul(x, x) c = Exp(x)"
        " s = SequenceConstruct(a, b, c) t = SequenceErase(s, p) e = SequenceAt(t, p) u = SequenceInsert(t, e, p)"
        " k = ConcatFromSequence<axis = 0>(u) y = Mul(k, k) }"
    )
    agrees(proto, "y", ["x"], second=True, x=draw(2, 3), p=np.array(position))


def test_split_by_sizes_known_at_run_time() -> None:
    proto = parsed(
        "g (double[5,2] x, int64[n] sizes, int64 p) => (double[a,2] y) { s = SplitToSequence<axis = 0>(x, sizes)"
        " e = SequenceAt(s, p) q = Sin(e) t = SequenceInsert(s, q) k = ConcatFromSequence<axis = 0>(t) y = Mul(k, k) }"
    )
    for p in (0, 2):
        agrees(proto, "y", ["x"], x=draw(5, 2), sizes=np.array([2, 1, 2]), p=np.array(p))


def test_list_that_a_loop_appends_to() -> None:
    """What torch's exporter writes for ``outputs.append(h)`` and ``torch.stack(outputs)``."""
    proto = parsed(
        "g (double[3,4] x, double[4] h0) => (double[3,4] y) { e = SequenceEmpty<dtype = 11>()"
        " s = Shape<start = 0, end = 1>(x) ax = Constant<value = int64[1] {0}>() M = Squeeze(s, ax)"
        " c = Constant<value = bool {1}>() h, list = Loop <"
        "body = b (int64 t, bool go, double[4] v, seq(double[]) l) => (bool more, double[4] n, seq(double[]) l2) {"
        " more = Identity(go) xt = Gather(x, t) p = Mul(v, xt) n = Sin(p) l2 = SequenceInsert(l, n) }> (M, c, h0, e)"
        " y = ConcatFromSequence<axis = 0, new_axis = 1>(list) }"
    )
    agrees(proto, "y", ["x", "h0"], x=draw(3, 4), h0=draw(4))


def test_list_that_a_loop_reads_and_appends_to() -> None:
    proto = parsed(
        "g (double[3,4] x) => (double[a,4] y) { ax = Constant<value = int64 {0}>() x0 = Gather(x, ax)"
        " e = SequenceConstruct(x0) M = Constant<value = int64 {3}>() c = Constant<value = bool {1}>() list = Loop <"
        "body = b (int64 t, bool go, l) => (more, l2) { more = Identity(go) xt = Gather(x, t)"
        " last = Constant<value = int64 {-1}>() v = SequenceAt(l, last) p = Mul(v, xt) n = Sin(p)"
        " l2 = SequenceInsert(l, n) }> (M, c, e) y = ConcatFromSequence<axis = 0, new_axis = 1>(list) }"
    )
    agrees(proto, "y", ["x"], x=draw(3, 4))


def test_list_that_a_loop_rewrites_is_refused_by_name() -> None:
    proto = parsed(
        "g (double[3,4] x) => (double[a,4] y) { ax = Constant<value = int64 {0}>() x0 = Gather(x, ax)"
        " e = SequenceConstruct(x0) M = Constant<value = int64 {3}>() c = Constant<value = bool {1}>() list = Loop <"
        "body = b (int64 t, bool go, l) => (more, l2) { more = Identity(go)"
        " z = Constant<value = int64 {0}>() v = SequenceAt(l, z) n = Mul(v, v) r = SequenceErase(l, z)"
        " l2 = SequenceInsert(r, n) }> (M, c, e) y = ConcatFromSequence<axis = 0, new_axis = 1>(list) }"
    )
    with pytest.raises(UnsupportedGradient, match=r"Loop \(node 'node_5_Loop'\) carries the sequence 'e'.*black-box"):
        graph_tools.gradient(proto, ["y"], ["x"])


def test_sequence_as_input_and_output() -> None:
    """Cotangents and gradients of sequences are sequences."""
    proto = parsed(
        "g (seq(double[2]) s, double[2] x) => (seq(double[2]) t) { t = SequenceMap <"
        "body = b (double[2] e) => (double[2] o) { o = Mul(e, x) }> (s) }"
    )
    s, x, ct = [draw(2), draw(2)], draw(2), [draw(2), draw(2)]
    got = run_ort(program(proto, "t", ["s", "x"]), {"s": s, "x": x, "cotangent_t": ct})
    for i in range(2):
        np.testing.assert_allclose(got["t"][i], s[i] * x)
        np.testing.assert_allclose(got["grad_s"][i], ct[i] * x)
    np.testing.assert_allclose(got["grad_x"], ct[0] * s[0] + ct[1] * s[1])


def test_branch_that_chooses_a_sequence() -> None:
    proto = parsed(
        "g (double[2] x, bool c) => (double[a] y) { q = Sin(x) s = If <"
        "then_branch = t () => (seq(double[]) a) { a = SequenceConstruct(x, q) },"
        "else_branch = e () => (seq(double[]) b) { w = Mul(x, x) b = SequenceConstruct(w) }> (c)"
        " k = ConcatFromSequence<axis = 0>(s) y = Mul(k, k) }"
    )
    for condition in (True, False):
        agrees(proto, "y", ["x"], x=draw(2), c=np.array(condition))


@pytest.mark.parametrize("condition", [True, False])
def test_optional(condition: bool) -> None:
    proto = parsed(
        "g (double[2] x, bool c) => (double[2] y) { q = Sin(x) o = Optional(q) e = OptionalGetElement(o)"
        " h = OptionalHasElement(o) both = And(h, c) y = If <then_branch = t () => (double[2] a) { a = Mul(e, x) },"
        " else_branch = f () => (double[2] b) { b = Mul(e, e) }> (both) }"
    )
    agrees(proto, "y", ["x"], x=draw(2), c=np.array(condition))


def test_optional_input() -> None:
    proto = parsed("g (double[2] x) => (double[2] y) { q = OptionalGetElement(x) y = Mul(q, q) }")
    proto.graph.input[0].type.CopyFrom(onnx.helper.make_optional_type_proto(proto.graph.input[0].type))
    made = ir.to_proto(graph_tools.gradient(proto, ["y"], ["x"]))
    x, ct = draw(2), draw(2)
    np.testing.assert_allclose(run_ort(made, {"x": x, "cotangent_y": ct})["grad_x"], 2 * x * ct)


def test_sequences_beside_the_path_are_left_alone() -> None:
    proto = parsed(
        "g (double[2] x, seq(double[2]) s) => (double[2] y, int64 n, seq(double[2]) s2) { n = SequenceLength(s)"
        " s2 = SequenceInsert(s, x) y = Sin(x) }"
    )
    ct, x = draw(2), draw(2)
    got = gradients(proto, "y", ["x"], ct, x=x, s=[draw(2)])
    np.testing.assert_allclose(got["grad_x"], ct * np.cos(x))
    assert got["n"] == 1
    assert len(got["s2"]) == 2


def test_every_operator_stands_in_a_graph_here() -> None:
    text = inspect.getsource(sys.modules[__name__])
    assert {o for o in OPERATORS if f" {o}(" in text or f" {o}<" in text or f" {o} <" in text} == OPERATORS
