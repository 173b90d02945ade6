"""LSTM, GRU and RNN as a Scan over time: one product for the inputs of all steps, then the recurrence.

A step before whose end a sequence stops leaves the state as it was and puts out zeros. Walked backwards the same mask
starts each sequence at its own end: that is what the reverse direction means, and nothing has to be turned by length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graph_tools.emit import Emitter, array_of, static_shape
from graph_tools.lowering.activation import Activation, activations_of
from graph_tools.lowering.scan import scan
from graph_tools.lowering.table import lowering

_LAST = 2**63 - 1


@lowering("RNN")
def rnn(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...]:
    """H = f(X·Wᵀ + H₋₁·Rᵀ + b)."""
    return _run(b, node, _Rnn, ("Tanh",))


@lowering("GRU")
def gru(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...]:
    """z, r = f(X·Wᵀ + H₋₁·Rᵀ + b); H = (1 − z)·g(X·Whᵀ + (r·H₋₁)·Rhᵀ + bh) + z·H₋₁.

    With ``linear_before_reset`` the argument of g is X·Whᵀ + Wbh + r·(H₋₁·Rhᵀ + Rbh).
    """
    return _run(b, node, _Gru, ("Sigmoid", "Tanh"))


@lowering("LSTM")
def lstm(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...]:
    """i, f = f(X·Wᵀ + H₋₁·Rᵀ + P·C₋₁ + b); C = f·C₋₁ + i·g(…); o = f(… + Po·C); H = o·h(C)."""
    return _run(b, node, _Lstm, ("Sigmoid", "Tanh", "Tanh"))


@dataclass
class _Cell:
    """The weights of one direction, and the step. Sizes: H hidden, G gates."""

    b: Emitter
    node: ir.Node
    functions: Sequence[Activation]
    w: ir.Value  # [G·H, I]
    r: ir.Value  # [G·H, H]
    bias: ir.Value | None  # [2·G·H]
    peepholes: ir.Value | None  # [3·H]
    gates = 1
    states = 1

    def projected(self, x: ir.Value) -> ir.Value:
        """The input x [T, B, I] times Wᵀ plus what the steps share of the biases: [T, B, G·H]."""
        b = self.b
        y = b.MatMul(x, b.Transpose(self.w, perm=[1, 0]))
        if self.bias is not None:
            y = b.Add(y, self.shared_bias(*b.Split(self.bias, num_outputs=2, _outputs=2)))
        return y  # type: ignore[no-any-return]

    def shared_bias(self, wb: ir.Value, rb: ir.Value) -> ir.Value:
        """The bias of all gates, [G·H]."""
        return self.b.Add(wb, rb)  # type: ignore[no-any-return]

    def step(self, x: ir.Value, *states: ir.Value) -> tuple[ir.Value, ...]:
        """The states after a step with the projected input x [B, G·H]; the first is the output."""
        raise NotImplementedError

    def activate(self, index: int, v: ir.Value) -> ir.Value:
        """Activation ``index`` of the clipped ``v``."""
        limit = self.node.attributes.get_float("clip", 0.0)
        if limit > 0:
            v = self.b.Clip(v, -limit, limit)
        return self.functions[index](self.b, v)

    def recurrent(self, h: ir.Value, x: ir.Value) -> ir.Value:
        """h·Rᵀ + x."""
        return self.b.Gemm(h, self.r, x, transB=1)  # type: ignore[no-any-return]

    def split(self, v: ir.Value, parts: int, axis: int = 1) -> tuple[ir.Value, ...]:
        """The gates of ``v``."""
        return self.b.Split(v, axis=axis, num_outputs=parts, _outputs=parts)  # type: ignore[no-any-return]


@dataclass
class _Rnn(_Cell):
    def step(self, x: ir.Value, *states: ir.Value) -> tuple[ir.Value, ...]:
        return (self.activate(0, self.recurrent(states[0], x)),)


@dataclass
class _Gru(_Cell):
    gates = 3

    def __post_init__(self) -> None:
        self.linear = bool(self.node.attributes.get_int("linear_before_reset", 0))
        b, self.hidden_bias = self.b, None
        if self.linear and self.bias is not None:
            self.hidden_bias = self.split(self.bias, 6, axis=0)[5]
        rz, rr, self.rh = self.split(self.r, 3, axis=0)
        self.rzr = None if self.linear else b.Concat(rz, rr, axis=0)

    def shared_bias(self, wb: ir.Value, rb: ir.Value) -> ir.Value:
        if not self.linear:
            return super().shared_bias(wb, rb)
        (wz, wr, wh), (rz, rr, _) = self.split(wb, 3, axis=0), self.split(rb, 3, axis=0)
        return self.b.Concat(self.b.Add(wz, rz), self.b.Add(wr, rr), wh, axis=0)  # type: ignore[no-any-return]

    def step(self, x: ir.Value, *states: ir.Value) -> tuple[ir.Value, ...]:
        b, h = self.b, states[0]
        xz, xr, xh = self.split(x, 3)
        if self.linear:
            hz, hr, hh = self.split(b.Gemm(h, self.r, transB=1), 3)
            z, r = self.activate(0, b.Add(xz, hz)), self.activate(0, b.Add(xr, hr))
            inner = b.Mul(r, hh if self.hidden_bias is None else b.Add(hh, self.hidden_bias))
            new = self.activate(1, b.Add(xh, inner))
        else:
            zr = b.Add(b.Gemm(h, self.rzr, transB=1), b.Concat(xz, xr, axis=1))
            z, r = self.split(self.activate(0, zr), 2)
            new = self.activate(1, b.Gemm(b.Mul(r, h), self.rh, xh, transB=1))
        return (b.Add(new, b.Mul(z, b.Sub(h, new))),)


@dataclass
class _Lstm(_Cell):
    gates = 4
    states = 2

    def __post_init__(self) -> None:
        self.p = None if self.peepholes is None else self.split(self.peepholes, 3, axis=0)  # i, o, f

    def _peep(self, v: ir.Value, gate: int, c: ir.Value) -> ir.Value:
        return v if self.p is None else self.b.Add(v, self.b.Mul(self.p[gate], c))

    def step(self, x: ir.Value, *states: ir.Value) -> tuple[ir.Value, ...]:
        b, (h, c) = self.b, states
        i, o, f, g = self.split(self.recurrent(h, x), 4)
        i = self.activate(0, self._peep(i, 0, c))
        g = self.activate(1, g)
        coupled = self.node.attributes.get_int("input_forget", 0)
        f = b.Sub(1.0, i) if coupled else self.activate(0, self._peep(f, 2, c))
        c = b.Add(b.Mul(f, c), b.Mul(i, g))
        o = self.activate(0, self._peep(o, 1, c))
        return b.Mul(o, self.functions[2](b, c)), c


def _run(b: Emitter, node: ir.Node, kind: type[_Cell], default: tuple[str, ...]) -> tuple[ir.Value | None, ...]:
    """Y, Y_h (and Y_c) of the node."""
    direction = node.attributes.get_string("direction", "forward")
    backwards = {"forward": [False], "reverse": [True]}.get(direction, [False, True])
    functions = activations_of(node, default, len(backwards))
    layout = node.attributes.get_int("layout", 0)
    x = _operand(node, 0)
    assert x is not None
    if layout:
        x = b.Transpose(x, perm=[1, 0, 2])
    mask = _mask(b, x, _operand(node, 4))
    wanted = [bool(v.name) for v in node.outputs]
    finals: list[list[ir.Value]] = []
    outputs: list[ir.Value] = []
    for d, reverse in enumerate(backwards):
        w, r, bias, peepholes = (
            None if v is None else _pick(b, v, d, 0, len(backwards)) for v in (_operand(node, i) for i in (1, 2, 3, 7))
        )
        assert w is not None
        assert r is not None
        cell = kind(b, node, functions[d], w, r, bias, peepholes)
        initial = [_initial(b, node, x, r, i, d, len(backwards)) for i in range(cell.states)]
        final, ys = _walk(b, node, cell, cell.projected(x), mask, initial, reverse)
        finals.append([_unless_empty(b, v, _operand(node, 4), mask) for v in final])
        outputs.extend(ys)
    y = outputs[0] if layout else None
    results: list[ir.Value | None] = [None] * len(wanted)
    if wanted[0]:
        y = _stacked(b, outputs, 1)
        results[0] = b.Transpose(y, perm=[2, 0, 1, 3]) if layout else y
    for state in range(kind.states):
        if wanted[state + 1 :][:1] == [True]:
            results[state + 1] = _stacked(b, [f[state] for f in finals], layout)
    return tuple(results)


def _walk(
    b: Emitter, node: ir.Node, cell: _Cell, x: ir.Value, mask: ir.Value | None, initial: list[ir.Value], reverse: bool
) -> tuple[Sequence[ir.Value], Sequence[ir.Value]]:
    """Final states [B, H] each and all outputs [[T, B, H]] of one direction ([] where Y is not wanted)."""
    all_steps = bool(node.outputs[0].name)
    each = [x] if mask is None else [x, mask]
    if reverse:
        each = [_turned(b, v) for v in each]

    def step(states: Sequence[ir.Value], inputs: Sequence[ir.Value]) -> tuple[list[ir.Value], list[ir.Value]]:
        new = cell.step(inputs[0], *states)
        if mask is None:
            return list(new), [new[0]] * all_steps
        on = inputs[1]
        kept = [b.Where(on, v, old) for v, old in zip(new, states, strict=True)]
        return kept, [b.Where(on, new[0], b.const(0.0, like=new[0]))] if all_steps else []

    final, ys = scan(b, node, step, initial, each, outputs=int(all_steps))
    return final, [_turned(b, v) for v in ys] if reverse else ys


def _turned(b: Emitter, v: ir.Value) -> ir.Value:
    """``v`` with axis 0 reversed."""
    return b.Slice(v, [-1], [-_LAST], [0], [-1])  # type: ignore[no-any-return]


def _mask(b: Emitter, x: ir.Value, lengths: ir.Value | None) -> ir.Value | None:
    """[T, B, 1], bool: the steps before each sequence's end; None where all are full."""
    known, shape = array_of(lengths), static_shape(x)
    if lengths is None or (known is not None and shape is not None and (known >= shape[0]).all()):
        return None
    steps = b.Range(0, b.Squeeze(b.Shape(x, start=0, end=1), [0]), 1)
    ends = lengths if lengths.dtype == ir.DataType.INT64 else b.Cast(lengths, to=ir.DataType.INT64.value)
    return b.Less(b.Unsqueeze(steps, [1, 2]), b.Unsqueeze(ends, [0, 2]))  # type: ignore[no-any-return]


def _unless_empty(b: Emitter, final: ir.Value, lengths: ir.Value | None, mask: ir.Value | None) -> ir.Value:
    """The final state; zero, as in ONNX Runtime, for a sequence without a step."""
    known = array_of(lengths)
    if lengths is None or mask is None or (known is not None and (known > 0).all()):
        return final
    some = b.Greater(b.Cast(lengths, to=ir.DataType.INT64.value), 0)
    return b.Where(b.Unsqueeze(some, [1]), final, b.const(0.0, like=final))  # type: ignore[no-any-return]


def _initial(b: Emitter, node: ir.Node, x: ir.Value, r: ir.Value, state: int, d: int, directions: int) -> ir.Value:
    """The initial state [B, H] of one direction; zeros where the node has none."""
    given = _operand(node, 5 + state)
    if given is not None:
        return _pick(b, given, d, node.attributes.get_int("layout", 0), directions)
    size = b.Concat(b.Shape(x, start=1, end=2), b.Shape(r, start=1, end=2), axis=0)
    known, hidden = static_shape(x), static_shape(r)
    if known is not None and hidden is not None:
        size = b.const(np.array([known[1], hidden[1]], np.int64))
    return b.Expand(b.const(0.0, like=x), size)  # type: ignore[no-any-return]


def _pick(b: Emitter, v: ir.Value, d: int, axis: int, directions: int) -> ir.Value:
    """Direction ``d`` of ``v``."""
    picked: ir.Value = b.Squeeze(v, [axis]) if directions == 1 else b.Gather(v, np.array(d, np.int64), axis=axis)
    return picked


def _stacked(b: Emitter, parts: Sequence[ir.Value], axis: int) -> ir.Value:
    wide: list[ir.Value] = [b.Unsqueeze(v, [axis]) for v in parts]
    return wide[0] if len(wide) == 1 else b.Concat(*wide, axis=axis)


def _operand(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if len(node.inputs) > index else None
