"""Every row in bfloat16: types fit node by node, values are float32's within rounding, and a GPU finds its kernels.

ONNX Runtime's CPU provider has hardly any bfloat16 kernel, so values come from onnx's reference evaluator.
"""

from __future__ import annotations

import dataclasses
import functools

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper

import graph_tools
from graph_tools.cuda_kernels import cuda_exceptions
from graph_tools.emit import Emitter
from tests.graph_tools.harness import Case, build, run_reference
from tests.graph_tools.test_cuda_kernels import EXCEPTIONS
from tests.graph_tools.test_vjp import CASES

BF16 = ml_dtypes.bfloat16
NEWEST = 26
TOLERANCE = 5e-2  # of the largest entry; the type has 8 bits

# The reference evaluator's own ways.
ODD = {
    "LayerNormalization": "the evaluator returns Mean and InvStdDev in the input's type, the standard in float32",
}


@functools.cache
def _opset(label: str) -> int | None:
    """The first opset from the row's on at which the standard gives the operator bfloat16."""
    case = next(c for c in CASES if c.label == label)
    for opset in range(max(case.opset, 18), NEWEST + 1):
        model, _ = build(dataclasses.replace(case, opset=opset), BF16)
        for output in model.graph.output:
            output.type.CopyFrom(onnx.TypeProto())  # the harness knows floats only
        del model.graph.output[:]
        try:
            onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        except onnx.shape_inference.InferenceError:
            continue
        return opset
    return None


def _program(case: Case, form: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray], ir.Model, list[str]]:
    opset = _opset(case.label)
    if opset is None:
        pytest.skip("the standard has no bfloat16 here")
    model, feeds = build(dataclasses.replace(case, opset=opset), BF16)
    wrt = [f"x{i}" for i in case.wrt] if case.wrt else [n for n, a in feeds.items() if a.dtype == BF16]
    return model, feeds, graph_tools.gradient(model, [f"y{i}" for i in case.through], wrt, form=form), wrt


# What onnx itself gets wrong: types inside a function body it defines, and one inferred shape.
INLINED = {
    "SoftmaxCrossEntropyLoss": "its body calls NegativeLogLikelihoodLoss, which has no bfloat16",
    "ConvTranspose": "the shape inferred for SAME with output_padding differs from the kernels'",
}
HALF = [c for c in CASES if c.numeric and c.op not in ("Cast", "DequantizeLinear")]


@pytest.mark.parametrize("case", HALF, ids=[c.label for c in HALF])
def test_types_fit_and_a_gpu_has_kernels(case: Case) -> None:
    """Where the forward operator itself runs in bfloat16 on a GPU, so does everything that its gradient adds."""
    _, _, program, wrt = _program(case, "cuda")
    outputs = {v.name: v.dtype for v in program.graph.outputs}
    assert {outputs[f"grad_{name}"] for name in wrt} == {ir.DataType.BFLOAT16}
    if case.op not in INLINED:
        onnx.shape_inference.infer_shapes(ir.to_proto(program), check_type=True, strict_mode=True)
    left = cuda_exceptions(program)
    if not any(e.node.startswith("the_node") for e in left):
        assert [e for e in left if (case.op, e.operator) not in EXCEPTIONS] == []


EVALUATED = [c for c in HALF if c.reference]


@pytest.mark.parametrize("case", EVALUATED, ids=[c.label for c in EVALUATED])
def test_values_are_those_of_float32(case: Case) -> None:
    if case.op in ODD:
        pytest.skip(ODD[case.op])
    model, feeds, program, wrt = _program(case, "cpu")
    ys = [f"y{i}" for i in case.through]
    own = {y: np.asarray(a) for y, a in run_reference(model, feeds).items()}
    if any(own[y].dtype != BF16 for y in ys):
        pytest.skip("the reference evaluator leaves bfloat16 in the forward pass")
    rng = np.random.default_rng(11)
    cts = {f"cotangent_{y}": rng.uniform(-1, 1, own[y].shape).astype(BF16) for y in ys}
    got = run_reference(ir.to_proto(program), {**feeds, **cts})
    single, _ = build(dataclasses.replace(case, opset=_opset(case.label) or 18), np.float32)
    widened = {n: a.astype(np.float32) if a.dtype == BF16 else a for n, a in {**feeds, **cts}.items()}
    want = run_reference(ir.to_proto(graph_tools.gradient(single, ys, wrt)), widened)
    for name in wrt:
        a, b = np.asarray(got[f"grad_{name}"]), want[f"grad_{name}"]
        assert a.dtype == BF16
        assert a.shape == b.shape
        limit = TOLERANCE * max(1.0, float(np.abs(b).max(initial=0.0)))
        np.testing.assert_allclose(a.astype(np.float64), b, rtol=TOLERANCE, atol=limit)


def _net() -> onnx.ModelProto:
    """A block of what GPUs run in bfloat16: products, LayerNormalization, Gelu, Softmax, Relu, Gather, broadcasting."""
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 8), "c": (8,), "v": (8, 5), "scale": (8,), "table": (6, 8)}
    weights = [onnx.numpy_helper.from_array(rng.normal(size=s).astype(BF16), n) for n, s in shapes.items()]
    dtype = onnx.TensorProto.BFLOAT16
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "c"], ["hc"]),
        helper.make_node("LayerNormalization", ["hc", "scale"], ["n"], axis=-1),
        helper.make_node("Gelu", ["n"], ["g"]),
        helper.make_node("Relu", ["g"], ["r"]),
        helper.make_node("Gather", ["table", "i"], ["e"]),
        helper.make_node("Add", ["r", "e"], ["s"]),
        helper.make_node("Gemm", ["s", "v"], ["z"]),
        helper.make_node("Softmax", ["z"], ["y"], axis=-1),
    ]
    inputs = [helper.make_tensor_value_info("x", dtype, ["n", 8]), helper.make_tensor_value_info("i", 7, ["n"])]
    outs = [helper.make_tensor_value_info("y", dtype, ["n", 5])]
    graph = helper.make_graph(nodes, "g", inputs, outs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_bfloat16_net_finds_all_its_kernels_on_a_gpu() -> None:
    program = graph_tools.gradient(_net(), ["y"], ["x", "hc", "r"], form="cuda")
    assert cuda_exceptions(program) == []
    onnx.shape_inference.infer_shapes(ir.to_proto(program), check_type=True, strict_mode=True)


def test_operators_without_the_type_compute_in_float32() -> None:
    """Log has no bfloat16 kernel, Add has; a comparison's result stays what it is."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.BFLOAT16), shape=ir.Shape([2]))
    b = Emitter(ir.Model(ir.Graph([x], [], nodes=[], opset_imports={"": 18}), ir_version=10))
    assert b.Add(x, 1.0).dtype == b.Log(x).dtype == ir.DataType.BFLOAT16
    assert b.Greater(x, 0.0).dtype == ir.DataType.BOOL
    assert [n.op_type for n in b.graph] == ["Add", "Cast", "Log", "Cast", "Cast", "Greater"]
    largest, where = b.TopK(x, np.array([1], np.int64), _outputs=2)
    assert (largest.dtype, where.dtype) == (ir.DataType.BFLOAT16, ir.DataType.INT64)


MOVES = [c for c in HALF if c.op in {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Expand", "Identity", "Flatten"}]


@pytest.mark.parametrize("case", MOVES, ids=[c.label for c in MOVES])
def test_onnxruntime_loads_what_it_has_kernels_for(case: Case) -> None:
    model, _, program, _ = _program(case, "cpu")
    for made in (model, ir.to_proto(program)):
        try:
            onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        except Exception as error:
            if made is model:
                pytest.skip("the CPU has no bfloat16 kernel for the operator itself")
            raise AssertionError(str(error)) from error
