"""LSTM and GRU in their usual form: the forward kernel stays, and one short Scan per direction walks back.

The hidden states are the node's output, so the gates of all steps are computed anew by two products, not by a
recurrence, and with them every factor of the step back. Other forms (lengths, peepholes, clipping, other activations,
layout 1) are differentiated through the body in ``graph_tools.lowering.recurrent``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import onnx_ir as ir

from graph_tools.lowering.scan import scan
from graph_tools.reverse import Reverse
from graph_tools.vjp.control_flow import refuse_repeat
from graph_tools.vjp.pointwise import operand, optional
from graph_tools.vjp.table import ANY, only_where, vjp

_USUAL = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"]}


@only_where("LSTM", "GRU")
def usual(node: ir.Node) -> bool:
    """Whether the node is in the form that the rules here know."""
    attributes = node.attributes
    given = [name.lower() for name in attributes.get_strings("activations", ())]
    directions = 2 if attributes.get_string("direction", "forward") == "bidirectional" else 1
    plain = not any(attributes.get_int(key, 0) for key in ("layout", "input_forget")) and "clip" not in attributes
    return plain and given in ([], _USUAL[node.op_type] * directions) and not (optional(node, 4) or optional(node, 7))


@vjp("LSTM", ANY)
def lstm(b: Reverse, node: ir.Node, index: int, *cts: ir.Value | None) -> ir.Value | None:
    """dC += dH·o·(1 − tanh²C); δ = (dC·g·i', dH·tanh C·o', dC·C₋₁·f', dC·i·g'); dH₋₁ = δ·R + ct, dC₋₁ = dC·f.

    dX = δ·W, dW = δᵀ·X, dR = δᵀ·H₋₁, db = Σδ.
    """
    return _operand(b, node, index, _walked(b, node, cts, _back_through_lstm))


@vjp("GRU", ANY)
def gru(b: Reverse, node: ir.Node, index: int, *cts: ir.Value | None) -> ir.Value | None:
    """δz = dH·(H₋₁ − n)·z', δn = dH·(1 − z)·n', δr = (∂/∂r of n's argument)·r'; dH₋₁ = dH·z + what goes through R.

    dX = δ·W, dW = δᵀ·X, dR = δᵀ·H₋₁ (for n: (δn·r)ᵀ·H₋₁, or δnᵀ·(r·H₋₁)), db = Σδ.
    """
    return _operand(b, node, index, _walked(b, node, cts, _back_through_gru))


@dataclass
class Direction:
    """One direction of a node. Sizes: T steps, B rows, I features, H hidden, G gates."""

    b: Reverse
    node: ir.Node
    d: int
    many: int
    backwards: bool

    def __post_init__(self) -> None:
        b = self.b
        self.x, self.w, self.r = operand(self.node, 0), self.weights(1), self.weights(2)
        given = optional(self.node, 3)
        self.biases = None if given is None else b.Split(self.pick(given, 0), num_outputs=2, _outputs=2)
        self.y = self.pick(b.extra_output(self.node, 0), 1)  # [T, B, H]
        self.start = self.initial(5)
        self.h = self.before(self.y, self.start)

    def weights(self, index: int) -> ir.Value:
        """Operand ``index`` of this direction."""
        return self.pick(operand(self.node, index), 0)

    def pick(self, v: ir.Value, axis: int) -> ir.Value:
        """This direction of ``v``."""
        b = self.b
        picked: ir.Value = b.Squeeze(v, [axis]) if self.many == 1 else b.Gather(v, np.array(self.d), axis=axis)
        return picked

    def initial(self, index: int) -> ir.Value:
        """An initial state [B, H]."""
        b, given = self.b, optional(self.node, index)
        if given is not None:
            return self.pick(given, 0)
        size = b.Concat(b.Slice(b.shape_of(self.x), [1], [2]), b.Slice(b.shape_of(self.r), [1], [2]), axis=0)
        return b.Expand(b.const(0.0, like=self.x), size)

    def before(self, v: ir.Value, first: ir.Value) -> ir.Value:
        """[T, B, H]: what ``v`` was a step earlier."""
        b, start = self.b, self.b.Unsqueeze(first, [0])
        if self.backwards:
            return b.Concat(b.Slice(v, [1], [2**63 - 1], [0]), start, axis=0)
        return b.Concat(start, b.Slice(v, [0], [-1], [0]), axis=0)

    def seed(self, ct: ir.Value | None, like: ir.Value) -> ir.Value:
        """The cotangent [B, H] of a final state."""
        return self.b.zeros_like(like) if ct is None else self.pick(ct, 0)

    def sums(self, wide: ir.Value, with_bias: int | None) -> ir.Value:
        """``wide`` with one of the two halves of the bias, or with both (None)."""
        b = self.b
        if self.biases is None:
            return wide
        bias = b.Add(*self.biases) if with_bias is None else self.biases[with_bias]
        return b.Add(wide, bias)


@dataclass
class Deltas:
    """Cotangents of what the input and the state add to the gates, and of the initial states, in one direction."""

    at: Direction
    by_input: ir.Value  # [T, B, G·H]
    by_state: ir.Value  # [T, B, G·H]
    states: Sequence[ir.Value]  # [B, H] each
    reset: ir.Value | None = None  # GRU: [T, B, H], what the last gate's product reads in place of H₋₁


Back = Callable[[Direction, Sequence[ir.Value | None]], Deltas]


def _walked(b: Reverse, node: ir.Node, cts: Sequence[ir.Value | None], back: Back) -> list[Deltas]:
    """The walk back in each direction, emitted once for all operands."""
    refuse_repeat(b, node)
    key = (node, *cts)
    if key not in b.notes:
        direction = node.attributes.get_string("direction", "forward")
        turned = {"forward": [False], "reverse": [True]}.get(direction, [False, True])
        both = [Direction(b, node, d, len(turned), backwards) for d, backwards in enumerate(turned)]
        b.notes[key] = [back(at, [*cts, None, None][:3]) for at in both]
    return cast(list[Deltas], b.notes[key])


def _back_through_lstm(at: Direction, cts: Sequence[ir.Value | None]) -> Deltas:
    b = at.b
    wide = b.Add(b.MatMul(at.x, _turned(b, at.w)), b.MatMul(at.h, _turned(b, at.r)))
    i, o, f, g = b.Split(at.sums(wide, None), axis=2, num_outputs=4, _outputs=4)
    i, o, f, g = b.Sigmoid(i), b.Sigmoid(o), b.Sigmoid(f), b.Tanh(g)
    start = at.initial(6)

    def cell(states: Sequence[ir.Value], each: Sequence[ir.Value]) -> tuple[list[ir.Value], list[ir.Value]]:
        c = b.Add(b.Mul(each[0], states[0]), each[1])
        return [c], [c]

    _, (c,) = scan(b, at.node, cell, [start], [f, b.Mul(i, g)], outputs=1, backwards=at.backwards)
    t = b.Tanh(c)
    factors = b.Concat(
        b.Mul(g, _slope(b, i)), b.Mul(t, _slope(b, o)), b.Mul(at.before(c, start), _slope(b, f)), b.Mul(i, _bend(b, g)),
        axis=2,
    )  # fmt: skip
    each = [factors, f, b.Mul(o, _bend(b, t)), *_picked(at, cts[0])]

    def back(states: Sequence[ir.Value], each: Sequence[ir.Value]) -> tuple[list[ir.Value], list[ir.Value]]:
        dh, dc = states
        if len(each) > 3:
            dh = b.Add(dh, each[3])
        dc = b.Add(dc, b.Mul(dh, each[2]))
        delta = b.Mul(b.Concat(dc, dh, dc, dc, axis=1), each[0])
        return [b.MatMul(delta, at.r), b.Mul(dc, each[1])], [delta]

    initial = [at.seed(cts[1], start), at.seed(cts[2], start)]
    states, (delta,) = scan(b, at.node, back, initial, each, outputs=1, backwards=not at.backwards)
    return Deltas(at, delta, delta, states)


def _back_through_gru(at: Direction, cts: Sequence[ir.Value | None]) -> Deltas:
    b = at.b
    linear = bool(at.node.attributes.get_int("linear_before_reset", 0))
    xz, xr, xn = b.Split(at.sums(b.MatMul(at.x, _turned(b, at.w)), 0), axis=2, num_outputs=3, _outputs=3)
    hz, hr, hn = b.Split(at.sums(b.MatMul(at.h, _turned(b, at.r)), 1), axis=2, num_outputs=3, _outputs=3)
    rz, rr, rn = b.Split(at.r, axis=0, num_outputs=3, _outputs=3)
    z, r = b.Sigmoid(b.Add(xz, hz)), b.Sigmoid(b.Add(xr, hr))
    reset = None if linear else b.Mul(r, at.h)
    if reset is not None:
        hn = b.MatMul(reset, _turned(b, rn))
        if at.biases is not None:
            hn = b.Add(hn, b.Split(at.biases[1], axis=0, num_outputs=3, _outputs=3)[2])
    n = b.Tanh(b.Add(xn, b.Mul(r, hn) if linear else hn))
    by_z = b.Mul(b.Sub(at.h, n), _slope(b, z))
    by_n = b.Mul(b.Sub(1.0, z), _bend(b, n))
    seeds = [at.seed(cts[1], at.start)]
    ys = _picked(at, cts[0])
    if linear:
        by_r = b.Mul(b.Mul(by_n, hn), _slope(b, r))
        factors = b.Concat(by_z, by_r, b.Mul(by_n, r), axis=2)

        def back(states: Sequence[ir.Value], each: Sequence[ir.Value]) -> tuple[list[ir.Value], list[ir.Value]]:
            dh = b.Add(states[0], each[2]) if len(each) > 2 else states[0]
            delta = b.Mul(b.Concat(dh, dh, dh, axis=1), each[0])
            return [b.Add(b.MatMul(delta, at.r), b.Mul(dh, each[1]))], [delta, dh]

        states, (by_state, dh) = scan(b, at.node, back, seeds, [factors, z, *ys], outputs=2, backwards=not at.backwards)
        dz_dr = b.Slice(by_state, [0], b.Mul(b.Slice(b.shape_of(at.r), [1], [2]), 2), [2])
        return Deltas(at, b.Concat(dz_dr, b.Mul(dh, by_n), axis=2), by_state, states)
    rzr, by_r = b.Concat(rz, rr, axis=0), b.Mul(at.h, _slope(b, r))

    def step(states: Sequence[ir.Value], each: Sequence[ir.Value]) -> tuple[list[ir.Value], list[ir.Value]]:
        dh = b.Add(states[0], each[5]) if len(each) > 5 else states[0]
        dn = b.Mul(dh, each[1])
        through = b.MatMul(dn, rn)
        both = b.Concat(b.Mul(dh, each[0]), b.Mul(through, each[2]), axis=1)
        past = b.Add(b.Mul(dh, each[3]), b.Mul(through, each[4]))
        return [b.Add(past, b.MatMul(both, rzr))], [b.Concat(both, dn, axis=1)]

    each = [by_z, by_n, by_r, z, r, *ys]
    states, (delta,) = scan(b, at.node, step, seeds, each, outputs=1, backwards=not at.backwards)
    return Deltas(at, delta, delta, states, reset)


def _picked(at: Direction, ct: ir.Value | None) -> list[ir.Value]:
    return [] if ct is None else [at.pick(ct, 1)]


def _operand(b: Reverse, node: ir.Node, index: int, walked: list[Deltas]) -> ir.Value | None:
    """The cotangent of operand ``index``."""
    x = operand(node, index)
    if index == 0:
        parts = [b.MatMul(found.by_input, found.at.w) for found in walked]
        return b.shaped_like(parts[0] if len(parts) == 1 else b.Add(*parts), x)
    made = [b.Unsqueeze(_of_direction(b, index, found), [0]) for found in walked]
    return b.shaped_like(made[0] if len(made) == 1 else b.Concat(*made, axis=0), x)


def _of_direction(b: Reverse, index: int, found: Deltas) -> ir.Value:
    at = found.at
    if index == 1:
        return _product(b, found.by_input, at.x)
    if index == 2 and found.reset is not None:
        zr, n = (b.Slice(found.by_state, *ends, [2]) for ends in _gate_ends(b, at))
        return b.Concat(_product(b, zr, at.h), _product(b, n, found.reset), axis=0)
    if index == 2:
        return _product(b, found.by_state, at.h)
    if index == 3:
        by = [b.ReduceSum(v, [0, 1], keepdims=0) for v in (found.by_input, found.by_state)]
        return b.Concat(*by, axis=0)
    return found.states[index - 5]


def _gate_ends(b: Reverse, at: Direction) -> list[tuple[ir.Value, ir.Value]]:
    """Where z and r, and where n lie among a GRU's gates."""
    two = b.Mul(b.Slice(b.shape_of(at.r), [1], [2]), 2)
    return [(b.const([0]), two), (two, b.const([2**31]))]


def _product(b: Reverse, delta: ir.Value, v: ir.Value) -> ir.Value:
    """[G·H, n] = Σ over steps and rows of delta [T, B, G·H] times v [T, B, n]."""
    return b.Gemm(b.Flatten(delta, axis=2), b.Flatten(v, axis=2), transA=1)


def _turned(b: Reverse, w: ir.Value) -> ir.Value:
    return b.Transpose(w, perm=[1, 0])


def _slope(b: Reverse, y: ir.Value) -> ir.Value:
    """The derivative of a sigmoid, y(1 − y)."""
    return b.Mul(y, b.Sub(1.0, y))


def _bend(b: Reverse, y: ir.Value) -> ir.Value:
    """The derivative of tanh, 1 − y²."""
    return b.Sub(1.0, b.Mul(y, y))
