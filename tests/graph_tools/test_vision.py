"""Closed forms of the gradients of spatial operators, and shapes that ONNX's inference gets wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import graph_tools
from tests.graph_tools.harness import run_ort

RNG = np.random.default_rng(0)


def _model(op: str, inputs: dict[str, np.ndarray], opset: int = 20, **attrs: Any) -> onnx.ModelProto:
    """One node; float operands are inputs, integers initializers."""
    floats = {k: a for k, a in inputs.items() if a.dtype.kind == "f"}
    infos = [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
             for k, a in floats.items()]  # fmt: skip
    held = [numpy_helper.from_array(a, k) for k, a in inputs.items() if k not in floats]
    node = helper.make_node(op, list(inputs), ["y"], **attrs)
    graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", 1, None)], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _gradients(op: str, inputs: dict[str, np.ndarray], opset: int = 20, **attrs: Any) -> tuple[dict, np.ndarray]:
    """grad_<name> by name for a random cotangent, and that cotangent."""
    model = _model(op, inputs, opset, **attrs)
    floats = {k: a for k, a in inputs.items() if a.dtype.kind == "f"}
    ct = np.random.default_rng(1).normal(size=run_ort(model, floats)["y"].shape).astype(np.float32)
    program = ir.to_proto(graph_tools.gradient(model, ["y"], list(floats)))
    return run_ort(program, {**floats, "cotangent_y": ct}), ct


def _identity_grid(h: int, w: int) -> np.ndarray:
    y, x = np.meshgrid((2 * np.arange(h) + 1) / h - 1, (2 * np.arange(w) + 1) / w - 1, indexing="ij")
    return np.stack([x, y], -1)[None].astype(np.float32)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_sampling_every_pixel_where_it_is_copies(mode: str) -> None:
    x = RNG.normal(size=(1, 2, 4, 8)).astype(np.float32)
    got, ct = _gradients("GridSample", {"x": x, "grid": _identity_grid(4, 8)}, mode=mode)
    assert np.allclose(got["grad_x"], ct, atol=1e-5)


def test_sampling_one_pixel_to_the_right_shifts() -> None:
    x, grid = RNG.normal(size=(1, 1, 2, 4)).astype(np.float32), _identity_grid(2, 4)
    grid[..., 0] += 2 / 4
    got, ct = _gradients("GridSample", {"x": x, "grid": grid})
    assert np.allclose(got["grad_x"][..., 1:], ct[..., :-1], atol=1e-5)
    assert np.allclose(got["grad_x"][..., 0], 0, atol=1e-5)


def test_moving_a_sample_of_a_ramp_changes_it_by_the_ramp() -> None:
    """x = 3·column + 5·row: the derivative per unit of the grid is 3·width/2 and 5·height/2."""
    x = (3.0 * np.arange(6) + 5.0 * np.arange(4)[:, None]).astype(np.float32)[None, None]
    grid = RNG.uniform(-0.6, 0.6, (1, 3, 2, 2)).astype(np.float32)
    got, ct = _gradients("GridSample", {"x": x, "grid": grid})
    assert np.allclose(got["grad_grid"], ct[0, 0][None, ..., None] * [3 * 6 / 2, 5 * 4 / 2], rtol=1e-4)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_positions_far_outside_and_not_finite_crash_nothing(padding: str) -> None:
    x = np.ones((1, 1, 3, 3), np.float32)
    grid = np.array([[[[1e30, -1e30], [1e9, 0.0], [-1e9, 1e9]]]], np.float32)
    got, _ = _gradients("GridSample", {"x": x, "grid": grid}, padding_mode=padding)
    assert np.isfinite(got["grad_x"]).all()


def test_deformable_without_offsets_is_a_convolution() -> None:
    x, w = (RNG.normal(size=s).astype(np.float32) for s in ((2, 4, 5, 5), (6, 2, 3, 3)))
    attrs = {"group": 2, "strides": [2, 1], "pads": [1, 1, 1, 0]}
    plain, ct = _gradients("Conv", {"x": x, "w": w}, **attrs)
    offset = np.zeros((2, 18, *ct.shape[2:]), np.float32)
    got, _ = _gradients("DeformConv", {"x": x, "w": w, "o": offset}, **attrs)
    assert np.allclose(got["grad_x"], plain["grad_x"], atol=1e-4)
    assert np.allclose(got["grad_w"], plain["grad_w"], atol=1e-4)


@pytest.mark.parametrize("ratio", [0, 3])
def test_averaged_regions_inside_hand_their_whole_cotangent_to_the_image(ratio: int) -> None:
    x = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    rois = np.array([[1.2, 1.1, 5.3, 6.6], [2.0, 2.5, 6.1, 4.2]], np.float32)
    inputs = {"x": x, "rois": rois, "owner": np.array([1, 0])}
    got, ct = _gradients("RoiAlign", inputs, 16, output_height=2, output_width=3, sampling_ratio=ratio)
    assert np.allclose(got["grad_x"].sum((2, 3)), ct.sum((2, 3))[[1, 0]], atol=1e-4)


def test_a_region_that_moves_over_a_ramp() -> None:
    """x = 2·column: the mean over a region inside changes by half of 2 per unit of either end, and not with rows."""
    x = np.broadcast_to(2 * np.arange(8, dtype=np.float32), (1, 1, 8, 8)).copy()
    rois = np.array([[1.3, 1.4, 5.2, 6.1]], np.float32)
    got, ct = _gradients("RoiAlign", {"x": x, "rois": rois, "owner": np.array([0])}, 16, sampling_ratio=2)
    assert np.allclose(got["grad_rois"], ct.item() * np.array([[1, 0, 1, 0]]), atol=1e-4)


def test_no_region_no_gradient() -> None:
    inputs = {"x": np.ones((1, 2, 4, 4), np.float32), "rois": np.zeros((0, 4), np.float32), "owner": np.zeros(0, int)}
    for mode in ("avg", "max"):
        got, _ = _gradients("RoiAlign", inputs, 16, mode=mode)
        assert got["grad_x"].shape == (1, 2, 4, 4)
        assert not got["grad_x"].any()
        assert got["grad_rois"].shape == (0, 4)


def test_largest_of_a_region_is_the_first_of_equals() -> None:
    inputs = {"x": np.ones((1, 1, 4, 4), np.float32), "rois": np.array([[0, 0, 0, 3, 3]], np.float32)}
    got, ct = _gradients("MaxRoiPool", inputs, 18, pooled_shape=[2, 2])
    expected = np.zeros((1, 1, 4, 4), np.float32)
    expected[0, 0, ::2, ::2] = ct[0, 0]
    assert np.array_equal(got["grad_x"], expected)


@pytest.mark.parametrize(
    ("op", "shapes", "attrs"),
    [
        ("LpPool", {"x": (2, 2, 3, 4, 4)}, {"kernel_shape": [1, 3, 3], "strides": [3, 1, 3],
                                            "pads": [0, 2, 0, 0, 2, 1], "ceil_mode": 1}),
        ("AveragePool", {"x": (1, 1, 4, 5)}, {"kernel_shape": [3, 2], "strides": [3, 3], "pads": [1, 1, 2, 1],
                                              "ceil_mode": 1}),
        ("MaxPool", {"x": (1, 1, 4, 5)}, {"kernel_shape": [3, 2], "strides": [3, 3], "pads": [1, 1, 2, 1],
                                          "ceil_mode": 1}),
        ("ConvTranspose", {"x": (2, 2, 2, 2), "w": (2, 17, 1, 2)}, {"auto_pad": "SAME_UPPER", "group": 2,
                                                                    "output_shape": [1, 3]}),
        ("ConvTranspose", {"x": (1, 2, 3, 4), "w": (2, 2, 3, 3)}, {"auto_pad": "SAME_LOWER", "strides": [2, 2],
                                                                   "output_padding": [1, 0]}),
        ("ConvTranspose", {"x": (1, 2, 3, 4), "w": (2, 2, 2, 1)}, {"auto_pad": "SAME_UPPER", "strides": [3, 4]}),
    ],
)  # fmt: skip
def test_shapes_are_those_that_onnx_runtime_returns(op: str, shapes: dict[str, Any], attrs: dict[str, Any]) -> None:
    inputs = {k: RNG.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    model = _model(op, inputs, 18, **attrs)
    loaded = graph_tools.load(model)
    assert tuple(loaded.graph.outputs[0].shape or ()) == run_ort(model, inputs)["y"].shape
    got, _ = _gradients(op, inputs, 18, **attrs)
    assert all(got[f"grad_{k}"].shape == a.shape for k, a in inputs.items())


def test_a_scale_that_rounds_to_another_size_stays_open() -> None:
    """3 · float32(5/3) is 5 in float32 and just below in float64."""
    scales = numpy_helper.from_array(np.array([1, 1, 1.6666666], np.float32), "s")
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], mode="linear")
    infos = [helper.make_tensor_value_info("x", 1, (1, 1, 3))], [helper.make_tensor_value_info("y", 1, None)]
    graph = helper.make_graph([node], "g", *infos, [scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    x = np.ones((1, 1, 3), np.float32)
    ct = np.ones(run_ort(model, {"x": x})["y"].shape, np.float32)
    got = run_ort(ir.to_proto(graph_tools.gradient(model, ["y"], ["x"])), {"x": x, "cotangent_y": ct})
    assert np.isclose(got["grad_x"].sum(), ct.size)
