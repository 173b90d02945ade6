"""Attention beyond the rows: rows without a key, guards of exporters, scores as outputs, second order."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

import graph_tools
from graph_tools.backward import backward
from graph_tools.emit import Emitter
from graph_tools.model import values_by_name
from tests.graph_tools.cases_attention import BOOLS, EDGE, K, Q, V
from tests.graph_tools.harness import Case, build, run_ort, run_reference

RNG = np.random.default_rng(4)


def _model(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, ...]], constants: dict[str, np.ndarray], opset: int
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, None)],
        [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize("mask", [BOOLS, EDGE], ids=["bool", "infinite"])
@pytest.mark.parametrize("softcap", [0.0, 0.4])
def test_a_query_without_keys_gives_zeros(mask: np.ndarray, softcap: float) -> None:
    case = Case("Attention", (Q, K, V, mask), {"softcap": softcap}, opset=24, constants=(3,))
    proto, feeds = build(case, np.float64)
    program = ir.to_proto(graph_tools.gradient(proto, ["y0"], ["x0", "x1", "x2"]))
    got = run_reference(program, {**feeds, "cotangent_y0": np.ones((2, 4, 3, 4))})
    assert all(np.isfinite(a).all() for a in got.values())
    assert not got["y0"][:, :, 2].any()
    assert not got["grad_x0"][:, :, 2].any()
    assert np.abs(got["grad_x0"][:, :, :2]).min() > 0


def _guarded(guard: str) -> onnx.ModelProto:
    """Softmax of scores with a row of −inf, its NaN replaced in one of the ways exporters do that."""
    nodes = [
        helper.make_node("Add", ["x", "mask"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"], axis=-1),
        helper.make_node("IsNaN", ["p"], ["nan"]),
    ]
    if guard == "is-nan":
        nodes.append(helper.make_node("Where", ["nan", "zero", "p"], ["clean"]))
    elif guard == "not-nan":
        nodes.append(helper.make_node("Not", ["nan"], ["number"]))
        nodes.append(helper.make_node("Where", ["number", "p", "zero"], ["clean"]))
    else:
        nodes.append(helper.make_node("Cast", ["p"], ["same"], to=onnx.TensorProto.DOUBLE))
        nodes.append(helper.make_node("Where", ["empty", "zero", "same"], ["clean"]))
    nodes.append(helper.make_node("MatMul", ["clean", "v"], ["y"]))
    mask = np.array([[0.0, -np.inf, 0.2], [-np.inf] * 3, [0.1, 0.0, 0.0]])
    constants = {"mask": mask, "zero": np.array(0.0), "empty": np.isinf(mask).all(-1, keepdims=True)}
    return _model(nodes, {"x": (2, 3, 3), "v": (3, 4)}, constants, 18)


@pytest.mark.parametrize("guard", ["is-nan", "not-nan", "mask"])
def test_guards_around_softmax(guard: str) -> None:
    proto = _guarded(guard)
    feeds = {"x": RNG.normal(size=(2, 3, 3)), "v": RNG.normal(size=(3, 4))}
    program = ir.to_proto(graph_tools.gradient(proto, ["y"], ["x", "v"]))
    ct = RNG.normal(size=(2, 3, 4))
    got = run_reference(program, {**feeds, "cotangent_y": ct})
    assert not got["grad_x"][:, 1].any()
    for name in ("x", "v"):
        along = RNG.normal(size=feeds[name].shape)
        ends = [run_reference(proto, {**feeds, name: feeds[name] + s * 1e-6 * along})["y"] for s in (1, -1)]
        numeric = float(((ends[0] - ends[1]) / 2e-6 * ct).sum())
        assert float((got[f"grad_{name}"] * along).sum()) == pytest.approx(numeric, abs=1e-6)


def test_the_torch_guard_costs_nothing() -> None:
    program = graph_tools.gradient(_guarded("is-nan"), ["y"], ["x"])
    assert [n.op_type for n in program.graph].count("IsNaN") == 1


def test_an_attention_off_the_path_keeps_its_kernel() -> None:
    nodes = [
        helper.make_node("Attention", ["q", "k", "v"], ["y"]),
        helper.make_node("Relu", ["q"], ["z"]),
    ]
    proto = _model(nodes, dict.fromkeys("qkv", (1, 2, 3, 4)), {}, 23)
    proto.graph.output.append(helper.make_tensor_value_info("z", onnx.TensorProto.DOUBLE, None))
    ops = [n.op_type for n in graph_tools.gradient(proto, ["z"], ["q"]).graph]
    assert "Attention" in ops
    assert "Attention" not in [n.op_type for n in graph_tools.gradient(proto, ["y"], ["q"]).graph]


@pytest.mark.parametrize("operator", ["Attention", "RotaryEmbedding"])
def test_second_order(operator: str) -> None:
    operands: tuple[Any, ...] = (Q, K, V) if operator == "Attention" else ((2, 2, 3, 4), (2, 3, 2), (2, 3, 2))
    case = Case(operator, operands, {"is_causal": 1} if operator == "Attention" else {}, opset=23)
    proto, feeds = build(case, np.float64)
    first = ir.to_proto(graph_tools.gradient(proto, ["y0"], ["x1"]))
    ct = RNG.normal(size=(2, 4, 3, 4) if operator == "Attention" else (2, 2, 3, 4))
    feeds = {**feeds, "cotangent_y0": ct}
    second = ir.to_proto(graph_tools.gradient(first, ["grad_x1"], ["x0"]))
    seed = RNG.normal(size=feeds["x1"].shape)
    got = run_reference(second, {**feeds, "cotangent_grad_x1": seed})["grad_x0"]
    along = RNG.normal(size=feeds["x0"].shape)
    ends = [run_reference(first, {**feeds, "x0": feeds["x0"] + s * 1e-6 * along})["grad_x1"] for s in (1, -1)]
    numeric = float(((ends[0] - ends[1]) / 2e-6 * seed).sum())
    assert float((got * along).sum()) == pytest.approx(numeric, rel=1e-5, abs=1e-6)


def test_half_precision() -> None:
    proto, feeds = build(Case("Attention", (Q, K, V, (3, 5)), {"is_causal": 1}, opset=23), np.float32)
    names = ["x0", "x1", "x2", "x3"]
    ct = RNG.normal(size=(2, 4, 3, 4)).astype(np.float32)
    want = run_ort(ir.to_proto(graph_tools.gradient(proto, ["y0"], names)), {**feeds, "cotangent_y0": ct})
    half, _ = build(Case("Attention", (Q, K, V, (3, 5)), {"is_causal": 1}, opset=23), np.float16)
    program = ir.to_proto(graph_tools.gradient(half, ["y0"], names))
    feeds = {n: a.astype(np.float16) for n, a in {**feeds, "cotangent_y0": ct}.items()}
    got = run_ort(program, feeds)
    for name in names:
        assert got[f"grad_{name}"].dtype == np.float16
        np.testing.assert_allclose(got[f"grad_{name}"], want[f"grad_{name}"], rtol=2e-2, atol=2e-2)


def _block() -> onnx.ModelProto:
    """Turned queries and keys of one sequence, grouped heads, a causal mask with a bias: [N, 5, 8] to [N, 5, 8]."""
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"]),
        helper.make_node("MatMul", ["x", "wk"], ["k"]),
        helper.make_node("MatMul", ["x", "wv"], ["v"]),
        helper.make_node("RotaryEmbedding", ["q", "cos", "sin", "ids"], ["qr"], num_heads=4),
        helper.make_node("RotaryEmbedding", ["k", "cos", "sin", "ids"], ["kr"], num_heads=2),
        helper.make_node("Attention", ["qr", "kr", "v", "bias"], ["y"], q_num_heads=4, kv_num_heads=2, is_causal=1),
    ]
    shapes = {"wq": (8, 8), "wk": (8, 4), "wv": (8, 4), "cos": (9, 1), "sin": (9, 1), "bias": (4, 5, 5)}
    constants = {n: RNG.normal(size=s) for n, s in shapes.items()}
    proto = _model(nodes, {"x": (2, 5, 8)}, {**constants, "ids": np.arange(2, 7)[None]}, 23)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    return proto


def test_k_cotangents_per_row() -> None:
    proto, times = _block(), 3
    model = graph_tools.load(proto)
    b, values = Emitter(model), values_by_name(model)
    repeat = b.input("times", ir.DataType.INT64, [])
    seed = b.input("cotangent_y", ir.DataType.DOUBLE, [None, 5, 8])
    (found,) = backward(model, {values["y"]: seed}, [values["x"]], repeat=repeat)
    assert found is not None
    b.output(found, "grad")
    x, ct = RNG.normal(size=(2, 5, 8)), RNG.normal(size=(2 * times, 5, 8))
    got = run_reference(ir.to_proto(model), {"x": x, "times": np.array(times), "cotangent_y": ct})["grad"]
    plain = ir.to_proto(graph_tools.gradient(proto, ["y"], ["x"]))
    single = [run_reference(plain, {"x": x, "cotangent_y": ct[i::times]})["grad_x"] for i in range(times)]
    np.testing.assert_allclose(got, np.stack(single, axis=1).reshape(-1, 5, 8), atol=1e-12)
