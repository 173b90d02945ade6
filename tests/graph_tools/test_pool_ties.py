"""Exact values where pools meet ties, integers and half precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

import graph_tools
from graph_tools.reverse import Reverse
from graph_tools.vjp import pooling
from graph_tools.vjp.table import Rule
from tests.graph_tools.harness import run_ort


def _model(
    nodes: list[onnx.NodeProto], shape: tuple[Any, ...], kind: int = onnx.TensorProto.FLOAT, opset: int = 18
) -> onnx.ModelProto:
    last = onnx.TensorProto.FLOAT if len(nodes) > 1 else kind
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", last, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _pool(op: str = "MaxPool", out: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, ["x"], [out], name="the_pool", **attributes)


def _gradient(model: onnx.ModelProto, x: np.ndarray, ct: np.ndarray, form: str = "cpu") -> np.ndarray:
    program = ir.to_proto(graph_tools.gradient(model, ["y"], ["x"], form=form))
    return run_ort(program, {"x": x, "cotangent_y": ct})["grad_x"]


SQUARES = {"kernel_shape": [2, 2], "strides": [2, 2]}


@pytest.fixture(params=[1, pooling.QUARTERED], ids=["quarters", "indices"])
def either_form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form for large images and that for small ones."""
    monkeypatch.setattr(pooling, "QUARTERED", request.param)


@pytest.mark.usefixtures("either_form")
def test_max_pool_forms_agree_with_the_definition() -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 4, (2, 3, 6, 4)).astype(np.float32)  # many ties
    ct = rng.standard_normal((2, 3, 3, 2)).astype(np.float32)
    windows = x.reshape(2, 3, 3, 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(2, 3, 3, 2, 4)
    paid = np.zeros_like(windows)
    np.put_along_axis(paid, windows.argmax(-1)[..., None], ct[..., None], -1)
    expected = paid.reshape(2, 3, 3, 2, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(x.shape)
    assert np.array_equal(_gradient(_model([_pool(**SQUARES)], x.shape), x, ct), expected)


@pytest.mark.usefixtures("either_form")
@pytest.mark.parametrize("shape", [(2, 1, 4, 4), ("n", 1, "h", "w")], ids=["known", "open"])
def test_max_pool_of_a_constant_image_pays_the_first_position(shape: tuple[Any, ...]) -> None:
    x = np.full((2, 1, 4, 4), 3, np.float32)
    ct = np.arange(1, 9, dtype=np.float32).reshape(2, 1, 2, 2)
    expected = np.zeros_like(x)
    expected[:, :, ::2, ::2] = ct
    assert np.array_equal(_gradient(_model([_pool(**SQUARES)], shape), x, ct), expected)


def test_max_pool_with_overlap_pays_the_first_position_of_every_window() -> None:
    x = np.zeros((1, 1, 3, 3), np.float32)
    ct = np.array([[[[1, 2], [3, 4]]]], np.float32)
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    expected = np.array([[[[1, 2, 0], [3, 4, 0], [0, 0, 0]]]], np.float32)
    assert np.array_equal(_gradient(_model([_pool(**attributes)], x.shape), x, ct), expected)


@pytest.mark.usefixtures("either_form")
def test_max_pool_ties_inside_a_window() -> None:
    x = np.array([[[[0, 5, 5, 1], [5, 5, 2, 5]]]], np.float32)
    ct = np.array([[[[10, 20]]]], np.float32)
    expected = np.array([[[[0, 10, 20, 0], [0, 0, 0, 0]]]], np.float32)
    assert np.array_equal(_gradient(_model([_pool(**SQUARES)], x.shape), x, ct), expected)


@pytest.mark.parametrize("shape", [(2, 2, 2, 3), ("n", "c", "h", "w")], ids=["known", "open"])
def test_global_max_pool_of_a_constant_image_pays_the_first_position(shape: tuple[Any, ...]) -> None:
    x = np.ones((2, 2, 2, 3), np.float32)
    ct = np.arange(1, 5, dtype=np.float32).reshape(2, 2, 1, 1)
    expected = np.zeros_like(x)
    expected[:, :, 0, 0] = ct[:, :, 0, 0]
    assert np.array_equal(_gradient(_model([_pool("GlobalMaxPool")], shape), x, ct), expected)


def test_lp_pool_of_zeros_is_zero_not_nan() -> None:
    x = np.zeros((1, 1, 4, 4), np.float32)
    ct = np.ones((1, 1, 2, 2), np.float32)
    for p in (1, 2, 3):
        assert np.array_equal(_gradient(_model([_pool("LpPool", p=p, **SQUARES)], x.shape), x, ct), x)


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_max_pool_of_integers_carries_a_float32_cotangent(kind: type) -> None:
    x = np.array([[[[3, 9, 4, 4], [9, 1, 0, 4]]]], kind)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [_pool(out="m", **SQUARES), helper.make_node("Cast", ["m"], ["y"], to=onnx.TensorProto.FLOAT)]

    def cast(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
        return ct

    rules: dict[tuple[str, int], Rule] = {("Cast", 0): cast}
    program = ir.to_proto(graph_tools.gradient(_model(nodes, x.shape, element), ["y"], ["x"], overlay=rules))
    ct = np.array([[[[0.5, -2]]]], np.float32)
    got = run_ort(program, {"x": x, "cotangent_y": ct})["grad_x"]
    assert got.dtype == np.float32
    assert np.array_equal(got, np.array([[[[0, 0.5, -2, 0], [0, 0, 0, 0]]]], np.float32))


@pytest.mark.parametrize("form", ["cpu", "cuda"])
@pytest.mark.parametrize("shape", [(1, 2, 5, 6), ("n", 2, "h", "w")], ids=["known", "open"])
@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("AveragePool", SQUARES),
        ("LpPool", SQUARES),
        ("GlobalMaxPool", {}),
        ("GlobalAveragePool", {}),
        ("GlobalLpPool", {}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_half_precision_equals_single(op: str, attributes: dict[str, Any], shape: tuple[Any, ...], form: str) -> None:
    rng = np.random.default_rng(5)
    x = (rng.permutation(60).reshape(1, 2, 5, 6) / 8 - 3.8).astype(np.float16)  # all distinct and exact
    results = []
    for kind in (np.float16, np.float32):
        model = _model([_pool(op, **attributes)], shape, helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
        y = run_ort(model, {"x": x.astype(kind)})["y"]
        ct = np.random.default_rng(6).integers(-8, 8, y.shape).astype(kind)
        results.append(_gradient(model, x.astype(kind), ct, form))
    half, single = results
    assert half.dtype == np.float16
    assert np.allclose(half.astype(np.float32), single, rtol=4e-3, atol=4e-3)


def test_max_pool_in_double_precision_runs_in_onnxruntime() -> None:
    x = np.random.default_rng(0).normal(size=(1, 1, 4, 4))
    ct = np.full((1, 1, 2, 2), 1 / 3)
    got = _gradient(_model([_pool(**SQUARES)], x.shape, onnx.TensorProto.DOUBLE), x, ct)
    assert got.dtype == np.float64
    assert np.array_equal(np.sort(got.ravel())[-4:], np.full(4, 1 / 3))
