"""Gradient checks: the analytic gradient graph against central differences along seeded random directions."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx.reference import ReferenceEvaluator

import graph_tools
from tests.graph_tools.reference_ops import REPAIRED

onnxruntime.set_default_logger_severity(4)


@dataclass(frozen=True)
class Case:
    """One row of the rule table's tests: an operator with operands.

    ``operands``: arrays (float64 ones become graph inputs), or a tuple = shape, drawn from the seeded generator in
    [-1, 1] away from 0 by 0.05; None = absent input. ``wrt`` defaults to every float64 operand. ``constants`` are
    indices of operands that are initializers instead of graph inputs, ``runtime`` those of integer operands that are
    graph inputs instead of initializers. ``through`` are the outputs that are differentiated.
    """

    op: str
    operands: tuple[Any, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    wrt: tuple[int, ...] = ()
    constants: tuple[int, ...] = ()
    runtime: tuple[int, ...] = ()
    outputs: int = 1
    through: tuple[int, ...] = (0,)
    opset: int = 18
    domain: str = ""
    low: float = -1.0
    high: float = 1.0
    ort: bool = True  # also in ONNX Runtime float32
    reference: bool = True  # float64 by the reference evaluator
    open_dims: bool = True  # also with every dimension unknown
    numeric: bool = True  # False: central differences cannot see this gradient; an exact test beside the row does

    @property
    def label(self) -> str:
        """Test id."""
        return f"{self.op}-{self.id}" if self.id else self.op


def arrays(case: Case) -> list[np.ndarray | None]:
    """The operands as arrays (float64 or integer)."""
    rng = np.random.default_rng(7)
    drawn = []
    for operand in case.operands:
        if operand is None or isinstance(operand, np.ndarray):
            drawn.append(operand)
            continue
        a = rng.uniform(case.low, case.high, operand)
        drawn.append(np.where(np.abs(a) < 0.05, 0.05 + np.abs(a), a))
    return drawn


def build(case: Case, kind: type, open_dims: bool = False) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The one-node model with float operands of dtype ``kind`` and its feeds."""
    inputs, initializers, names, feeds = [], [], [], {}
    for i, a in enumerate(arrays(case)):
        if a is None:
            names.append("")
            continue
        floating = a.dtype.kind == "f"
        if a.dtype == np.float64:
            a = a.astype(kind)
        name = f"x{i}"
        names.append(name)
        if i in case.constants or (not floating and i not in case.runtime):
            initializers.append(onnx.numpy_helper.from_array(a, name))
            continue
        shape = [f"d{i}_{j}" for j in range(a.ndim)] if open_dims else list(a.shape)
        inputs.append(onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), shape))
        feeds[name] = a
    outs = [f"y{i}" for i in range(case.outputs)]
    node = onnx.helper.make_node(case.op, names, outs, name="the_node", domain=case.domain, **case.attrs)
    elem = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    results = [onnx.helper.make_tensor_value_info(f"y{i}", elem, None) for i in case.through]
    graph = onnx.helper.make_graph([node], "g", inputs, results, initializers)
    opsets = [onnx.helper.make_opsetid("", case.opset)]
    if case.domain:
        opsets.append(onnx.helper.make_opsetid(case.domain, 1))
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), feeds


def run_reference(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name, computed by onnx's reference evaluator."""
    names = [o.name for o in model.graph.output]
    return dict(zip(names, ReferenceEvaluator(model, new_ops=REPAIRED).run(None, feeds), strict=True))


def run_ort(model: onnx.ModelProto, feeds: dict[str, np.ndarray], threads: int = 1) -> dict[str, np.ndarray]:
    """Outputs by name, computed by ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def run_plain(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Like :func:`run_ort`, QuantizeLinear and DequantizeLinear in float, as white-box sessions run them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def check_case(case: Case, kind: type, runner: Any, *, step: float, tolerance: float, open_dims: bool = False) -> None:
    """Assert |analytic − numeric| <= tolerance · max(1, |numeric|) on three directions per operand."""
    model, feeds = build(case, kind, open_dims)
    wrt = [f"x{i}" for i in case.wrt] if case.wrt else [n for n, a in feeds.items() if a.dtype == kind]
    ys = [f"y{i}" for i in case.through]
    program = ir.to_proto(graph_tools.gradient(model, ys, wrt))
    if all(v.type.tensor_type.HasField("shape") for v in (*program.graph.input, *program.graph.output)):
        onnx.checker.check_model(program, full_check=False)  # it wants the ranks of inputs and outputs
    rng = np.random.default_rng(11)
    own = {y: np.asarray(a) for y, a in runner(model, feeds).items()}
    cts = {y: rng.uniform(-1, 1, own[y].shape).astype(kind) for y in ys}
    got = runner(program, {**feeds, **{f"cotangent_{y}": ct for y, ct in cts.items()}})
    for y in ys:
        assert np.allclose(got[y], own[y], rtol=1e-6, atol=1e-6), "the model's own output changed"
    for name in wrt:
        gradient = got[f"grad_{name}"]
        assert gradient.shape == feeds[name].shape
        assert gradient.dtype == feeds[name].dtype
        for _ in range(3):
            direction = rng.uniform(-1, 1, feeds[name].shape)
            ends = [np.asarray(feeds[name] + s * step * direction, kind) for s in (1, -1)]
            high, low = (runner(model, {**feeds, name: e}) for e in ends)
            numeric = sum(float(((high[y].astype(np.float64) - low[y]) / (2 * step) * cts[y]).sum()) for y in ys)
            analytic = float((gradient.astype(np.float64) * direction).sum())
            assert abs(analytic - numeric) <= tolerance * max(1.0, abs(numeric)), (name, analytic, numeric)
