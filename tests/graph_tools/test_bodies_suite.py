"""The node suite's cases of control flow, sequences and optionals: gradients of tensors and of sequences of tensors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto
from onnx.backend.test.case.node import collect_testcases

import graph_tools
from tests.graph_tools.harness import run_ort
from tests.graph_tools.suite import SuiteCase, in_type

BODIES = {"If", "Loop", "Scan"}
NEWEST = 26  # that ONNX Runtime runs
NO_GRADIENT = {
    "test_range_float_type_positive_delta_expanded": "the number of iterations jumps with the operands",
    "test_range_float16_type_positive_delta_expanded": "the number of iterations jumps with the operands",
    "test_range_bfloat16_type_positive_delta_expanded": "the number of iterations jumps with the operands",
    "test_sequence_map_extract_shapes": "shapes",
    "test_sequence_map_extract_shapes_expanded": "shapes",
    "test_affine_grid_2d_expanded": "squeezes axes that only running tells",
    "test_affine_grid_2d_align_corners_expanded": "squeezes axes that only running tells",
    "test_loop16_seq_none": "its optional sequence is None",
}


def _floats(v: onnx.ValueInfoProto) -> bool:
    """Whether ``v`` holds floats, in a sequence or optional too."""
    kind = v.type
    while not kind.HasField("tensor_type"):
        field = "sequence_type" if kind.HasField("sequence_type") else "optional_type"
        kind = getattr(kind, field).elem_type
    return kind.tensor_type.elem_type in {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}


def _cases() -> list[SuiteCase]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    found = []
    for c in collected:
        graph = c.model.graph
        operators = {n.op_type for n in graph.node}
        ours = operators & BODIES or any(o.startswith(("Sequence", "Optional", "SplitTo")) for o in operators)
        if not ours or not any(map(_floats, graph.input)) or not any(map(_floats, graph.output)):
            continue
        given, wanted = c.data_sets[0]
        feeds = dict(zip((v.name for v in graph.input), given, strict=False))
        found.append(SuiteCase(c.name, c.model, feeds, dict(zip((v.name for v in graph.output), wanted, strict=False))))
    return found


CASES = _cases()


def _each(function: Any, *values: Any) -> Any:
    """``function`` of tensors, element by element of sequences."""
    if isinstance(values[0], list):
        return [_each(function, *items) for items in zip(*values, strict=True)]
    return np.asarray(function(*map(np.asarray, values)))


def _sum(a: Any) -> float:
    return sum(map(_sum, a)) if isinstance(a, list) else float(np.sum(a))


def test_there_are_cases() -> None:
    assert len(CASES) >= 30


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_gradient_of_suite_case(case: SuiteCase) -> None:
    if case.name in NO_GRADIENT:
        pytest.skip(f"no gradient: {NO_GRADIENT[case.name]}")
    model, feeds = in_type(case, TensorProto.FLOAT)
    model.ir_version = min(model.ir_version, 10)
    for entry in model.opset_import:
        entry.version = min(entry.version, NEWEST)
    wrt = [v.name for v in model.graph.input if _floats(v)]
    outputs = [v.name for v in model.graph.output if _floats(v)]
    program = ir.to_proto(graph_tools.gradient(model, outputs, wrt))
    rng = np.random.default_rng(3)
    own = run_ort(model, feeds)
    cts = {y: _each(lambda a: rng.uniform(-1, 1, a.shape).astype(a.dtype), own[y]) for y in outputs}
    got = run_ort(program, {**feeds, **{f"cotangent_{y}": ct for y, ct in cts.items()}})
    for name in wrt:
        direction = _each(lambda a: rng.uniform(-1, 1, a.shape), feeds[name])
        high, low = (
            run_ort(
                model, {**feeds, name: _each(lambda a, d, s=s: (a + s * d).astype(a.dtype), feeds[name], direction)}
            )
            for s in (1e-2, -1e-2)
        )
        slopes = [_each(lambda a, b, c: (a.astype(float) - b) / 2e-2 * c, high[y], low[y], cts[y]) for y in outputs]
        numeric, analytic = _sum(slopes), _sum(_each(lambda g, d: g * d, got[f"grad_{name}"], direction))
        assert abs(analytic - numeric) <= 2e-2 * max(1.0, abs(numeric)), (name, analytic, numeric)
