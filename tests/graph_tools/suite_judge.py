"""How a case of the node suite is judged: the analytic gradient against central differences."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

import graph_tools
from tests.graph_tools.harness import run_ort, run_reference
from tests.graph_tools.suite import SuiteCase, fixed_operands, in_type, is_float, with_constants

ORT_OPSET = 26
"""The newest opset of ONNX Runtime 1.31."""
OFF_KINKS = {("DeformConv", 2): 0.13, ("GridSample", 1): 0.02}
"""Operands that the suite puts on a kink of the operator (whole positions): how far to move them."""
FORMS = ("constants", "inputs")
RUNTIMES = ("reference", "onnxruntime")
Runner = Callable[[onnx.ModelProto, Any], dict[str, Any]]
RUNNERS: dict[str, Runner] = {"reference": run_reference, "onnxruntime": run_ort}


@dataclass(frozen=True)
class Verdict:
    """How a case ended.

    ``pass``; ``refused``: UnsupportedGradient or UnsupportedModel; ``no operand``: only steering float inputs;
    ``no kernel``: this runtime cannot run the untouched case; ``fail``.
    """

    outcome: str
    detail: str = ""


@dataclass(frozen=True)
class _Numeric:
    """What the central differences run."""

    model: onnx.ModelProto
    feeds: dict[str, Any]
    runner: Runner
    steps: tuple[float, ...]


def judge(case: SuiteCase, form: str, runtime: str) -> Verdict:
    """The gradient of all float outputs against central differences along three seeded directions.

    Args:
        case: the case.
        form: ``constants``: with respect to the first float input, all other operands initializers; ``inputs``: every
            operand a graph input, with respect to all float ones at once.
        runtime: ``reference``: float64 by onnx's reference evaluator, within 1e-3 max(1, |numeric|);
            ``onnxruntime``: float32, within 1e-2 of a numeric value taken in float64 where the two agree forward.
    """
    elem = TensorProto.DOUBLE if runtime == "reference" else TensorProto.FLOAT
    model, feeds = formed(case, form, elem)
    ys, xs = differentiable(model, feeds)
    if not xs:
        return Verdict("no operand", "its float inputs are shapes, scales, ratios or thresholds")
    try:
        program = ir.to_proto(graph_tools.gradient(model, ys, xs))
    except (graph_tools.UnsupportedGradient, graph_tools.UnsupportedModel) as error:
        newest = max((o.version for o in case.model.opset_import if o.domain == ""), default=0)
        if runtime == "onnxruntime" and newest > ORT_OPSET and judge(case, form, "reference").outcome == "pass":
            return Verdict("no kernel", f"ONNX Runtime has no opset {newest}")
        return Verdict("refused", str(error))
    try:
        numeric, own = _numeric(case, form, runtime, model, feeds)
    except Exception as error:
        return Verdict("no kernel", f"{type(error).__name__}: {str(error)[:200]}")
    rng = np.random.default_rng(3)
    cts = {y: rng.uniform(-1, 1, np.shape(own[y])) * (np.abs(_bounded(own[y])) < 1e30) for y in ys}
    cts = {y: np.asarray(ct) for y, ct in cts.items()}
    kind = helper.tensor_dtype_to_np_dtype(elem)
    try:
        got = RUNNERS[runtime](program, {**feeds, **{f"cotangent_{y}": ct.astype(kind) for y, ct in cts.items()}})
    except Exception as error:
        return Verdict("fail", f"{type(error).__name__}: {str(error)[:400]}")
    for y in ys:
        if not np.allclose(_bounded(got[y]), _bounded(own[y]), rtol=1e-4, atol=1e-5, equal_nan=True):
            return Verdict("fail", f"the model's own output {y} changed")
    return _compare(numeric, got, xs, cts, 1e-3 if runtime == "reference" else 1e-2)


def _bounded(a: Any) -> np.ndarray:
    """Masked scores are −∞ by the standard, the lowest finite number in ONNX Runtime's Attention: the same to us."""
    return np.clip(np.asarray(a, np.float64), -1e30, 1e30)


def differentiable(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Float outputs, and float inputs that a gradient is asked for."""
    fixed = fixed_operands(model)
    ys = [v.name for v in model.graph.output if is_float(v)]
    xs = [v.name for v in model.graph.input if is_float(v) and v.name not in fixed and feeds.get(v.name) is not None]
    return ys, xs


def formed(case: SuiteCase, form: str, elem: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Model and feeds in one float type, moved off kinks and ties; the same numbers in every type."""
    exact, feeds = in_type(case, TensorProto.DOUBLE)
    if "limit" in feeds:  # of a Range, and met exactly: half a step less, so that no difference changes the count
        feeds["limit"] = np.asarray(feeds["limit"] - feeds["delta"] / 4, feeds["limit"].dtype)
    feeds = nudged(exact, feeds)
    model = exact if elem == TensorProto.DOUBLE else in_type(case, elem)[0]
    kind = helper.tensor_dtype_to_np_dtype(elem)
    if elem == TensorProto.FLOAT:
        _within_onnxruntime(model)
    feeds = {n: a.astype(kind) if isinstance(a, np.ndarray) and a.dtype == np.float64 else a for n, a in feeds.items()}
    if form == "constants":
        first = next((x for x in differentiable(model, feeds)[1]), "")
        model, feeds = with_constants(model, feeds, first)
    return model, feeds


def _within_onnxruntime(model: onnx.ModelProto) -> None:
    """Declare the newest opset that ONNX Runtime takes: most operators of newer ones mean the same there."""
    for entry in model.opset_import:
        if entry.domain == "":
            entry.version = min(entry.version, ORT_OPSET)


def nudged(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The feeds moved by up to 1e-3 of their size, so that they lie on no kink and tie with nothing."""
    rng = np.random.default_rng(5)
    fixed = fixed_operands(model)
    divisors = {
        node.input[1] for node in model.graph.node if node.op_type in ("Mod", "Div")
    }  # 0 stays: its result is no number
    away = {n.input[i]: OFF_KINKS[n.op_type, i] for n in model.graph.node for i in range(len(n.input))
            if (n.op_type, i) in OFF_KINKS}  # fmt: skip
    moved = {}
    for v in model.graph.input:
        a = feeds.get(v.name)
        if is_float(v) and a is not None and v.name not in fixed:
            a = np.asarray(a)
            a = a + away.get(v.name, 0.0)
            jitter = rng.uniform(0.2, 1, a.shape) * rng.choice([-1, 1], a.shape) * 1e-3 * np.maximum(np.abs(a), 0.05)
            still = ~np.isfinite(a) | ((a == 0) & (v.name in divisors))
            a = np.asarray(np.where(still, a, a + jitter)).astype(a.dtype)
        moved[v.name] = a
    return moved


def _numeric(case: SuiteCase, form: str, runtime: str, model: onnx.ModelProto, feeds: dict[str, Any]) -> Any:
    """What to difference, and the untouched case's outputs in this runtime's own float type."""
    exact, exact_feeds = formed(case, form, TensorProto.DOUBLE)
    reference = _Numeric(exact, exact_feeds, run_reference, (1e-4, 1e-6, 1e-3, 1e-8))
    if runtime == "reference":
        if not reference_is_right(case):
            raise NotImplementedError("the reference evaluator does not compute this case in float64")
        return reference, run_reference(exact, exact_feeds)
    own = run_ort(model, feeds)
    if reference_is_right(case):
        other = run_reference(exact, exact_feeds)
        if all(np.allclose(own[y], other[y], rtol=1e-3, atol=1e-3, equal_nan=True) for y in own if _is_floats(own[y])):
            return reference, own
    return _Numeric(model, feeds, run_ort, (1e-2, 1e-3)), own


@functools.cache
def reference_is_right(case: SuiteCase) -> bool:
    """Whether the reference evaluator, in float64, returns what the case expects (random outputs never do)."""
    model, feeds = in_type(case, TensorProto.DOUBLE)
    try:
        got = run_reference(model, feeds)
    except Exception:
        return False
    wanted = {name: np.asarray(a, np.float64) for name, a in case.expected.items() if _is_floats(a)}
    return all(np.allclose(got[n], w, rtol=2e-2, atol=2e-2, equal_nan=True) for n, w in wanted.items())


def _is_floats(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def _directional(
    numeric: _Numeric, along: Mapping[str, np.ndarray], cts: Mapping[str, np.ndarray], step: float
) -> float:
    """d<cts, outputs> along the directions, by a central difference."""
    ends = []
    for sign in (1, -1):
        feeds = dict(numeric.feeds)
        for name, direction in along.items():
            feeds[name] = np.asarray(feeds[name] + sign * step * direction).astype(feeds[name].dtype)
        ends.append(numeric.runner(numeric.model, feeds))
    total = 0.0
    for y, ct in cts.items():
        slope = (np.asarray(ends[0][y], np.float64) - np.asarray(ends[1][y], np.float64)) / (2 * step)
        total += float((np.where(ct != 0, slope, 0) * ct).sum())
    return total


def _compare(
    numeric: _Numeric, got: Mapping[str, Any], xs: Sequence[str], cts: Mapping[str, np.ndarray], tolerance: float
) -> Verdict:
    rng = np.random.default_rng(11)
    for x in xs:
        found, asked = np.shape(got[f"grad_{x}"]), np.shape(numeric.feeds[x])
        if found != asked and not (numeric.runner is run_reference and (found, asked) == ((1,), ())):  # its Loop
            return Verdict("fail", f"the gradient of {x} has shape {np.shape(got[f'grad_{x}'])}")
    for _ in range(3):
        along = {x: rng.uniform(-1, 1, np.shape(numeric.feeds[x])) for x in xs}
        analytic = sum(float((np.asarray(got[f"grad_{x}"], np.float64) * along[x]).sum()) for x in xs)
        values = []
        for step in numeric.steps:  # a kink or rounding spoils one step, not all; a wrong gradient fits none
            values.append(_directional(numeric, along, cts, step))
            if abs(analytic - values[-1]) <= tolerance * max(1.0, abs(values[-1])):
                break
        else:
            return Verdict("fail", f"analytic {analytic:.6g}, numeric {values[0]:.6g}")
    return Verdict("pass")
