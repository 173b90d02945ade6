"""Which of several equivalent forms a convolution's gradient takes, and what it costs in weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import graph_tools
from graph_tools.errors import UnsupportedGradient
from tests.graph_tools.harness import run_ort


def _two_convs(channels: int, **attributes: Any) -> onnx.ModelProto:
    """Two Convs in a row with the same weights."""
    w = np.random.default_rng(0).normal(size=(channels, channels, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1], **attributes),
        helper.make_node("Conv", ["h", "w"], ["y"], pads=[1, 1, 1, 1], **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, ["n", channels, "h", "w_"])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(w, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _program(model: onnx.ModelProto, form: str = "cpu") -> tuple[onnx.ModelProto, Counter[str], list[str]]:
    """The gradient, how often each operator is used, and the names of four-dimensional initializers."""
    program = ir.to_proto(graph_tools.gradient(model, ["y"], ["x"], form=form))
    weights = [t.name for t in program.graph.initializer if len(t.dims) == 4]
    return program, Counter(n.op_type for n in program.graph.node), weights


def test_stride_1_takes_one_flipped_copy_per_weight() -> None:
    _, used, weights = _program(_two_convs(16))
    assert used["Conv"] == 4
    assert used["ConvTranspose"] == 0
    assert len(weights) == 2
    assert used["Slice"] + used["Shape"] + used["Pad"] == 0, "stride 1 needs no sizes"


@pytest.mark.parametrize(
    ("channels", "form", "attributes"), [(16, "cuda", {}), (8, "cpu", {}), (16, "cpu", {"strides": [2, 2]})]
)
def test_other_convs_share_the_weights(channels: int, form: str, attributes: dict[str, Any]) -> None:
    _, used, weights = _program(_two_convs(channels, **attributes), form)
    assert used["ConvTranspose"] == 2
    assert weights == ["w"]


def test_both_forms_agree() -> None:
    model = _two_convs(16)
    feeds = {
        name: np.random.default_rng(3).normal(size=(2, 16, 5, 4)).astype(np.float32) for name in ("x", "cotangent_y")
    }
    flipped, shared = (run_ort(_program(model, form)[0], feeds)["grad_x"] for form in ("cpu", "cuda"))
    assert np.allclose(flipped, shared, rtol=1e-4, atol=1e-4)


def test_half_precision_weights_are_flipped_in_half_precision() -> None:
    model = _two_convs(16)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    program, used, weights = _program(model)
    assert used["ConvTranspose"] == 0
    assert {t.data_type for t in program.graph.initializer if t.name in weights} == {onnx.TensorProto.FLOAT16}
    x = np.ones((1, 16, 4, 4), np.float16)
    assert run_ort(program, {"x": x, "cotangent_y": x})["grad_x"].dtype == np.float16


def test_unknown_number_of_dimensions_is_refused_by_name() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="the_conv")
    infos = [helper.make_tensor_value_info(n, 1, None) for n in ("x", "w", "y")]
    graph = helper.make_graph([node], "g", infos[:2], infos[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(UnsupportedGradient, match=r"the_conv.*number of dimensions of 'x' and 'w'") as raised:
        graph_tools.gradient(model, ["y"], ["x"])
    assert raised.value.operator == "Conv"


def _residual(channels: int) -> onnx.ModelProto:
    """y = Conv(h, stride 2) + AveragePool(Conv(h)), h read twice: cotangents meet at h."""
    rng = np.random.default_rng(0)
    w, v = (rng.normal(size=(channels, channels, k, k)).astype(np.float32) / 8 for k in (1, 3))
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("Conv", ["h", "w"], ["short"], strides=[2, 2]),
        helper.make_node("Conv", ["h", "v"], ["long"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Add", ["short", "long"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", ["n", channels, 6, 6]), ("y", None))]
    weights = [numpy_helper.from_array(a, n) for a, n in ((w, "w"), (v, "v"))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_cotangents_that_meet_are_led_back_into_blocks() -> None:
    x = np.random.default_rng(1).normal(size=(2, 16, 6, 6)).astype(np.float32)
    ct = np.random.default_rng(2).normal(size=(2, 16, 3, 3)).astype(np.float32)
    found = {}
    for form in ("cpu", "cuda"):
        program, used, _ = _program(_residual(16), form)
        assert used["ConvTranspose"] == 2
        assert used["Conv"] == (4 if form == "cpu" else 2)  # a depthwise 1 x 1 each, on the CPU only
        found[form] = run_ort(program, {"x": x, "cotangent_y": ct})["grad_x"]
    np.testing.assert_allclose(found["cuda"], found["cpu"], rtol=1e-4, atol=1e-5)
    assert _program(_residual(8))[1]["Conv"] == 2, "eight channels fill no block"


def test_depthwise_stride_is_a_conv_over_the_thinned_out_cotangent() -> None:
    w = np.random.default_rng(0).normal(size=(16, 1, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1], group=16)
    values = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", ["n", 16, 8, 8]), ("y", None))]
    graph = helper.make_graph([node], "g", values[:1], values[1:], [numpy_helper.from_array(w, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert _program(model)[1]["ConvTranspose"] == 0
    assert _program(model, "cuda")[1]["ConvTranspose"] == 1
    feeds = {"x": np.ones((1, 16, 8, 8), np.float32),
             "cotangent_y": np.random.default_rng(3).normal(size=(1, 16, 4, 4)).astype(np.float32)}  # fmt: skip
    cpu, cuda = (run_ort(_program(model, form)[0], feeds)["grad_x"] for form in ("cpu", "cuda"))
    np.testing.assert_allclose(cpu, cuda, rtol=1e-4, atol=1e-5)
