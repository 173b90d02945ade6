"""Cotangents through changes of type: float to float, from integers, and the end of the path at integers."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, parser

import graph_tools
from graph_tools.errors import UnsupportedGradient
from tests.graph_tools.harness import run_ort


def _model(text: str) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 10, opset_import: ["": 18]> g {text}')


def _gradient(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return run_ort(ir.to_proto(graph_tools.gradient(model, ["y"], ["x"])), feeds)["grad_x"]


@pytest.mark.parametrize("inner", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_through_another_float_type(inner: int) -> None:
    name = {TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "double"}[inner]
    text = f"(float[3] x) => ({name}[3] y) {{ h = Cast<to={inner}>(x) y = Mul(h, h) }}"
    dtype = np.dtype(name if name != "double" else "float64")
    x = np.array([1.0, -2.0, 0.5], np.float32)
    got = _gradient(_model(text), {"x": x, "cotangent_y": np.ones(3, dtype)})
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, 2 * x)


def test_gradient_of_an_integer_value_is_float32() -> None:
    text = "(uint8[3] x) => (double[3] y) { h = Cast<to=11>(x) y = Mul(h, h) }"
    feeds = {"x": np.array([0, 3, 200], np.uint8), "cotangent_y": np.ones(3)}
    got = _gradient(_model(text), feeds)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [0, 6, 400])


def test_a_cast_to_integers_ends_the_path() -> None:
    text = "(float[3] x) => (float[3] y) { h = Cast<to=7>(x) y = Cast<to=1>(h) }"
    with pytest.raises(UnsupportedGradient, match="Cast"):
        graph_tools.gradient(_model(text), ["y"], ["x"])


def test_a_cast_to_integers_beside_a_float_path_adds_nothing() -> None:
    text = "(float[3] x) => (float[3] y) { h = Cast<to=7>(x) k = Cast<to=1>(h) y = Mul(k, x) }"
    feeds = {"x": np.array([1.5, -2.5, 3.0], np.float32), "cotangent_y": np.ones(3, np.float32)}
    np.testing.assert_array_equal(_gradient(_model(text), feeds), [1, -2, 3])
