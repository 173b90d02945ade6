"""What the rows of the rule table do not reach: half precision, quantised images, refused attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import graph_tools
from tests.graph_tools.harness import run_ort


def _model(kind: type, shape: tuple[Any, ...], sizes: list[int], **attributes: Any) -> onnx.ModelProto:
    """Resize of x, then a Cast to float32 y."""
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [
        helper.make_node("Resize", ["x", "", "", "sizes"], ["r"], name="the_resize", **attributes),
        helper.make_node("Cast", ["r"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(sizes), "sizes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _gradient(model: onnx.ModelProto, x: np.ndarray, ct: np.ndarray) -> np.ndarray:
    rules = {("Cast", 0): lambda b, node, ct: ct}  # straight through, integers too
    program = ir.to_proto(graph_tools.gradient(model, ["y"], ["x"], overlay=rules))
    return run_ort(program, {"x": x, "cotangent_y": ct})["grad_x"]


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), ("n", 1, "h", "w")], ids=["known", "open"])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.uint8])
def test_linear_doubling_by_hand(kind: type, shape: tuple[Any, ...]) -> None:
    """Half-pixel doubling of [a, b] is [a, (3a + b)/4, (a + 3b)/4, b], along both axes."""
    x = np.array([[[[1, 2], [3, 4]]]], kind)
    ct = np.random.default_rng(0).integers(-4, 5, (1, 1, 4, 4)).astype(np.float32)
    rows = np.array([[4, 3, 1, 0], [0, 1, 3, 4]]) / 4
    got = _gradient(_model(kind, shape, [1, 1, 4, 4], mode="linear"), x, ct)
    assert got.dtype == (np.float32 if kind is np.uint8 else kind)
    assert np.array_equal(got[0, 0], rows @ ct[0, 0] @ rows.T)


def test_nearest_of_an_integer_image_sums_over_the_copies() -> None:
    x = np.array([[[[7, 9]]]], np.uint8)
    ct = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4)
    got = _gradient(_model(np.uint8, (1, 1, 1, 2), [1, 1, 2, 4]), x, ct)
    assert np.array_equal(got, np.array([[[[0 + 1 + 4 + 5, 2 + 3 + 6 + 7]]]], np.float32))


def test_nearest_that_keeps_the_aspect_ratio_by_hand() -> None:
    """[2, 2] within [4, 3] is 1.5 times as large: new positions 0, 1, 2 lie at 0, 0.67 and 1.33 and read 0, 0 and 1."""
    model = _model(
        np.float32,
        (1, 1, 2, 2),
        [4, 3],
        axes=[2, 3],
        keep_aspect_ratio_policy="not_larger",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    x, ct = np.ones((1, 1, 2, 2), np.float32), np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)
    assert np.array_equal(_gradient(model, x, ct), [[[[0 + 1 + 3 + 4, 2 + 5], [6 + 7, 8]]]])
