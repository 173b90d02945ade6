"""LSTM, GRU and RNN as the standard's equations say, one step and one row at a time; and models with one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}
DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
T, B, H = 4, 3, 3  # steps, rows, hidden; two features


@dataclass(frozen=True)
class Form:
    """A node: which optional operands it has (``BLHCP``: bias, lengths, initial h and c, peepholes), its attributes."""

    op: str
    operands: str = "B"
    attrs: dict[str, Any] = field(default_factory=dict)
    lengths: tuple[int, ...] = (2, 4, 1)
    outputs: tuple[int, ...] = (0, 1, 2)
    scale: float = 1.0
    opset: int = 22

    @property
    def label(self) -> str:
        """Test id."""
        said = [f"{k}={'+'.join(map(str, v)) if isinstance(v, list) else v}" for k, v in self.attrs.items()]
        return "-".join(
            [self.op, self.operands or "bare", *said, *([f"only{self.outputs[0]}"] if len(self.outputs) == 1 else [])]
        )

    @property
    def directions(self) -> int:
        """1 or 2."""
        return 2 if self.attrs.get("direction") == "bidirectional" else 1


def feeds(form: Form, kind: type = np.float32) -> dict[str, np.ndarray]:
    """Seeded operands by name."""
    rng, d, g = np.random.default_rng(5), form.directions, GATES[form.op]
    shapes = {"X": (T, B, 2), "W": (d, g * H, 2), "R": (d, g * H, H)}
    if "B" in form.operands:
        shapes["B"] = (d, 2 * g * H)
    if "H" in form.operands:
        shapes["initial_h"] = (d, B, H)
    if "C" in form.operands:
        shapes["initial_c"] = (d, B, H)
    if "P" in form.operands:
        shapes["P"] = (d, 3 * H)
    drawn: dict[str, np.ndarray] = {k: (form.scale * rng.uniform(-1, 1, s)).astype(kind) for k, s in shapes.items()}
    if form.attrs.get("layout"):
        drawn |= {
            k: np.ascontiguousarray(np.swapaxes(drawn[k], 0, 1)) for k in ("X", "initial_h", "initial_c") if k in drawn
        }
    if "L" in form.operands:
        drawn["sequence_lens"] = np.array(form.lengths, np.int32)
    return drawn


def model(form: Form, given: dict[str, np.ndarray], *, open_dims: bool = False) -> onnx.ModelProto:
    """The one-node model; every operand is a graph input."""
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    names = [n if n in given else "" for n in (names if form.op == "LSTM" else names[:6])]
    while not names[-1]:
        names.pop()
    all_outputs = ["Y", "Y_h", "Y_c"] if form.op == "LSTM" else ["Y", "Y_h"]
    outs = [n if i in form.outputs else "" for i, n in enumerate(all_outputs)]
    while not outs[-1]:
        outs.pop()
    node = onnx.helper.make_node(form.op, names, outs, name="cell", hidden_size=H, **form.attrs)
    info = onnx.helper.make_tensor_value_info
    elem = onnx.helper.np_dtype_to_tensor_dtype
    inputs = [
        info(k, elem(a.dtype), [f"{k}_{i}" for i in range(a.ndim)] if open_dims else list(a.shape))
        for k, a in given.items()
    ]
    results = [info(n, elem(given["X"].dtype), None) for n in outs if n]
    graph = onnx.helper.make_graph([node], "g", inputs, results)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", form.opset)], ir_version=10)


def oracle(form: Form, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Y, Y_h, Y_c by the equations, each row up to its own length, in either direction."""
    layout, d_count = form.attrs.get("layout", 0), form.directions
    x, h0, c0 = (given.get(k) for k in ("X", "initial_h", "initial_c"))
    if layout:
        x, h0, c0 = (None if a is None else np.swapaxes(a, 0, 1) for a in (x, h0, c0))
    assert x is not None
    lengths = given.get("sequence_lens", np.full(x.shape[1], x.shape[0]))
    kind = x.dtype
    y = np.zeros((x.shape[0], d_count, x.shape[1], H), kind)
    y_h, y_c = np.zeros((2, d_count, x.shape[1], H), kind)
    for d, functions in enumerate(_functions(form)):
        for row in range(x.shape[1]):
            h, c = (np.zeros(H, kind) if a is None else a[d, row] for a in (h0, c0))
            steps = range(int(lengths[row]))
            backwards = form.attrs.get("direction") == "reverse" or d == 1
            for t in reversed(steps) if backwards else steps:
                h, c = _step(
                    form, functions, {k: given[k][d] for k in ("W", "R", "B", "P") if k in given}, x[t, row], h, c
                )
                y[t, d, row] = h
            if lengths[row]:  # else zero, as in ONNX Runtime
                y_h[d, row], y_c[d, row] = h, c
    if layout:
        y, y_h, y_c = y.transpose(2, 0, 1, 3), np.swapaxes(y_h, 0, 1), np.swapaxes(y_c, 0, 1)
    return {"Y": y, "Y_h": y_h, "Y_c": y_c}


def _step(
    form: Form, functions: list[Callable], p: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    g = GATES[form.op]
    wb, rb = np.split(p["B"], 2) if "B" in p else np.zeros((2, g * H), x.dtype)
    xs, hs = np.split(p["W"] @ x + wb, g), np.split(p["R"] @ h + rb, g)
    limit = form.attrs.get("clip", 1e9)
    act = [lambda v, f=f: f(np.clip(v, -limit, limit)) for f in functions]
    if form.op == "RNN":
        return act[0](xs[0] + hs[0]), c
    if form.op == "GRU":
        z, r = act[0](xs[0] + hs[0]), act[0](xs[1] + hs[1])
        inner = r * hs[2] if form.attrs.get("linear_before_reset") else np.split(p["R"], 3)[2] @ (r * h) + rb[2 * H :]
        return (1 - z) * act[1](xs[2] + inner) + z * h, c
    pi, po, pf = np.split(p["P"], 3) if "P" in p else np.zeros((3, H), x.dtype)
    i = act[0](xs[0] + hs[0] + pi * c)
    f = 1 - i if form.attrs.get("input_forget") else act[0](xs[2] + hs[2] + pf * c)
    c = f * c + i * act[1](xs[3] + hs[3])
    o = act[0](xs[1] + hs[1] + po * c)
    return o * functions[2](c), c


def _functions(form: Form) -> list[list[Callable]]:
    names = form.attrs.get("activations", DEFAULTS[form.op] * form.directions)
    alphas, betas = list(form.attrs.get("activation_alpha", [])), list(form.attrs.get("activation_beta", []))
    found = []
    for name in names:
        takes = {
            "Affine": "ab",
            "LeakyRelu": "a",
            "ThresholdedRelu": "a",
            "ScaledTanh": "ab",
            "HardSigmoid": "ab",
            "Elu": "a",
        }
        defaults = {"LeakyRelu": (0.01, 0), "HardSigmoid": (0.2, 0.5), "Elu": (1.0, 0.0)}.get(name, (0.0, 0.0))
        a = alphas.pop(0) if "a" in takes.get(name, "") and alphas else defaults[0]
        b = betas.pop(0) if "b" in takes.get(name, "") and betas else defaults[1]
        found.append(_function(name, a, b))
    n = FUNCTIONS[form.op]
    return [found[i : i + n] for i in range(0, len(found), n)]


def _function(name: str, a: float, b: float) -> Callable[[np.ndarray], np.ndarray]:
    table: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "Tanh": np.tanh,
        "Sigmoid": lambda v: 1 / (1 + np.exp(-v)),
        "Relu": lambda v: np.maximum(v, 0),
        "Affine": lambda v: a * v + b,
        "LeakyRelu": lambda v: np.where(v >= 0, v, a * v),
        "ThresholdedRelu": lambda v: np.where(v > a, v, 0),
        "ScaledTanh": lambda v: a * np.tanh(b * v),
        "HardSigmoid": lambda v: np.clip(a * v + b, 0, 1),
        "Elu": lambda v: np.where(v >= 0, v, a * (np.exp(v) - 1)),
        "Softsign": lambda v: v / (1 + np.abs(v)),
        "Softplus": lambda v: np.log1p(np.exp(v)),
    }
    return table[name]
