"""expose, cut, splice, values, find and batching on small nets and on the real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import helper

import graph_tools
from graph_tools import UnknownValue, UnsupportedModel, batching, find
from graph_tools.cut import cut_values
from graph_tools.errors import InvalidRequest
from tests.graph_tools.harness import run_ort
from tests.graph_tools.nets import cnn, model, tensor

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"
X = np.random.default_rng(3).random((3, 3, 16, 16)).astype(np.float32)


def _run(m: ir.Model, feeds):
    return run_ort(ir.to_proto(m), feeds)


def test_expose_adds_outputs_under_their_own_names():
    out = _run(graph_tools.expose(cnn(), ["features", "x", "w3", "probabilities"]), {"x": X})
    assert list(out) == ["probabilities", "features", "x", "w3"]
    np.testing.assert_array_equal(out["x"], X)
    assert out["features"].shape == (3, 8, 8, 8)


def test_expose_names_the_nearest_values():
    with pytest.raises(UnknownValue) as caught:
        graph_tools.expose(cnn(), ["feature"])
    assert caught.value.nearest[0] == "features"


@pytest.mark.parametrize("at", ["x", "c1", "r1", "p1", "c2", "r2", "features", "gap", "logits"])
def test_body_then_head_equals_the_model(at):
    body, head = graph_tools.cut(cnn(), at)
    middle = _run(body, {"x": X})
    assert next(iter(middle)) == at
    feeds = {v.name: middle[v.name] for v in head.graph.inputs}
    np.testing.assert_allclose(_run(head, feeds)["probabilities"], run_ort(cnn(), {"x": X})["probabilities"], rtol=1e-5)


def test_body_hands_over_what_goes_round_the_cut():
    body, head = graph_tools.cut(cnn(), "r2")
    assert [v.name for v in body.graph.outputs] == ["r2", "p1"]
    assert [v.name for v in head.graph.inputs] == ["r2", "p1"]


def test_cut_where_nothing_follows_is_refused():
    with pytest.raises(UnsupportedModel, match="nothing behind"):
        graph_tools.cut(cnn(), "probabilities")
    with pytest.raises(UnknownValue):
        graph_tools.cut(cnn(), "nowhere")


def test_cut_values_are_exactly_the_dominators():
    m = graph_tools.load(cnn())
    target = next(v for n in m.graph for v in n.outputs if v.name == "logits")
    names = [v.name for v in cut_values(m, target)]
    assert names == ["x", "c1", "r1", "p1", "features", "gap", "vector", "logits"]


def test_splice_feeds_the_back_and_renames_clashes():
    nodes = [helper.make_node("Mul", ["image", "c1"], ["r1"]), helper.make_node("Add", ["r1", "two"], ["out"])]
    weights = {"c1": np.float32([0.5]), "two": np.float32([2])}
    front = model(nodes, [tensor("image", ["N", 3, 16, 16])], [tensor("out", ["N", 3, 16, 16])], weights)
    joined = graph_tools.splice(front, cnn(), {"out": "x"})
    assert [v.name for v in joined.graph.inputs] == ["image"]
    got = _run(joined, {"image": X})["probabilities"]
    np.testing.assert_allclose(got, run_ort(cnn(), {"x": X * 0.5 + 2})["probabilities"], rtol=1e-5)
    assert {"c1", "r1", "features"} <= {v.name for v in graph_tools.values(joined)}


def test_splice_lifts_the_older_graph():
    front = model([helper.make_node("Relu", ["a"], ["b"])], [tensor("a", [1, 3, 16, 16])],
                  [tensor("b", [1, 3, 16, 16])], opset=18)  # fmt: skip
    joined = graph_tools.splice(front, cnn(opset=21), {"b": "x"})
    assert joined.graph.opset_imports[""] == 21
    assert _run(joined, {"a": X[:1]})["probabilities"].shape == (1, 5)


def test_splice_refuses_what_does_not_fit():
    front = model([helper.make_node("Relu", ["a"], ["b"])], [tensor("a", [3, 4])], [tensor("b", [3, 4])])
    with pytest.raises(UnsupportedModel, match="2 dimensions"):
        graph_tools.splice(front, cnn(), {"b": "x"})
    with pytest.raises(UnknownValue, match="input 'y'"):
        graph_tools.splice(front, cnn(), {"b": "y"})


def test_values_say_which_a_gradient_reaches():
    nodes = [
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("Sign", ["t"], ["s"]),
        helper.make_node("Add", ["s", "z"], ["y"]),
        helper.make_node("Shape", ["t"], ["n"]),
    ]
    m = model(nodes, [tensor("x", [2]), tensor("z", [2])],
              [tensor("y", [2]), tensor("n", [1], onnx.TensorProto.INT64)])  # fmt: skip
    reached = {v.name: v.gradient for v in graph_tools.values(m)}
    assert reached == {"x": False, "z": True, "t": False, "s": True, "y": True, "n": False}
    assert {v.name for v in graph_tools.values(m) if v.zero_derivative} == {"s"}


def test_default_layer_and_logits_of_the_small_net():
    m = graph_tools.load(cnn())
    end = find.head(m)
    assert (end.logits, end.activation, end.class_axis, end.classes) == ("logits", "softmax", 1, 5)
    assert find.default_layer(m, end) == "features"


@pytest.mark.parametrize("batch", [1, 2])
def test_a_fixed_batch_becomes_any_batch(batch):
    proto = cnn(batch=batch)
    assert batching.fixed_rows(proto) == batch
    relaxed, changed = batching.relax(proto)
    assert changed
    x = np.concatenate([X, X])[: 3 * batch]
    together = run_ort(relaxed, {"x": x})["probabilities"]
    parts = [run_ort(proto, {"x": x[i : i + batch]})["probabilities"] for i in range(0, 3 * batch, batch)]
    single = np.concatenate(parts)
    np.testing.assert_allclose(together, single, atol=1e-6)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == batch, "the source was changed"


def test_an_open_batch_is_left_alone():
    relaxed, changed = batching.relax(cnn())
    assert not changed
    assert batching.fixed_rows(relaxed) is None


def test_batch_values_follow_axis_zero():
    m = graph_tools.load(cnn(layout="nhwc"))
    names = batching.batch_values(m)
    assert {"x", "x_nchw", "features", "gap", "vector", "logits", "probabilities"} <= names
    assert not {"w1", "flat", "b3"} & names


LAYERS = {
    "cifar10_cnn_pytorch_op10": "43", "cifar10_resnet8_keras_op9": "model/activation_6/Relu:0",
    "fer2013_mini_xception_op12": "model_1/add_4/add:0", "mnist01_dianna_pytorch_op11": "14",
    "mnist_cntk_op8": "ReLU114_Output_0", "mnist_keras2onnx_op12": "conv2d_15_1/Identity:0",
    "mobilenet_v1_025_128_fp32_op9": "Relu6__57:0", "mobilenet_v1_050_160_fp32_op11": "Relu6__57:0",
    "mobilenet_v2_100_224_fp32_op10": "Relu6__90:0", "mobilenet_v2_100_224_qdq_uint8io_op13": "Relu6__90:0",
    "ppocr_textdir_cls_paddle_op14": "hardswish_17.tmp_0", "squeezenet11_caffe2_fp16_op7": "fire9/concat_1",
    "squeezenet11_caffe2_fp32_op7": "fire9/concat_1", "vww96_mobilenet_v1_025_op11": "Relu__83:0",
    "deeplabv3_mnv2_dm05_pascal_fp32_op11": "Relu__94:0", "ultraface_rfb320_simplified_op9": "314",
    "magika_standard_v3_3_op15": None, "season_timeseries_dianna_op9": "model_2/activation_5/Relu:0",
}  # fmt: skip


@pytest.mark.parametrize("stem", LAYERS)
def test_default_layer_of_the_real_files(stem):
    path = SHARED / f"{stem}.onnx"
    if not path.exists():
        pytest.skip("the folder of real models is not here")
    relaxed, _ = batching.relax(onnx.load(path))
    m = graph_tools.load(relaxed)
    assert find.default_layer(m, find.head(m)) == LAYERS[stem]


@pytest.mark.parametrize("names", ["y", [], [None], [3]])
def test_names_must_be_a_list_of_names(names: Any) -> None:
    model = onnx.parser.parse_model(
        '<ir_version:8,opset_import:["":18]> g (float[2] x) => (float[2] y) { y = Tanh(x) }'
    )
    for call in (
        lambda: graph_tools.gradient(model, names, ["x"]),
        lambda: graph_tools.gradient(model, ["y"], names),
        lambda: graph_tools.expose(model, names),
    ):
        with pytest.raises(InvalidRequest, match=r"value name|list of names"):
            call()


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="neither 'cpu' nor 'cuda'"):
        graph_tools.gradient(cnn(), ["probabilities"], ["x"], form="gpu")


def test_the_axis_of_a_single_quantised_number_says_nothing() -> None:
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y)
        <uint8 q = {3}, float scale = {0.5}, uint8 zero = {1}>
        { one = DequantizeLinear<axis = 1>(q, scale, zero) y = Mul(x, one) }"""
    program = graph_tools.gradient(onnx.parser.parse_model(text), ["y"], ["x"])
    ones = np.ones(2, np.float32)
    assert _run(program, {"x": ones, "cotangent_y": ones})["grad_x"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git-lfs pull"), (b"\x00garbage", "cut short"),
     (b"", "cut short")],
)  # fmt: skip
def test_what_is_no_model_is_told_apart(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(UnsupportedModel, match=said):
            graph_tools.load(source)


def test_gradients_have_a_type_where_inference_stops() -> None:
    text = """<ir_version: 8, opset_import: ["": 18]> g (float[2,4,3] x) => (float y)
        <float[2] scale = {1, 2}, float[2] bias = {0, 1}>
        { t = Tanh(x) u = GroupNormalization<num_groups = 2>(t, scale, bias) y = Mul(u, u) }"""
    first = graph_tools.gradient(onnx.parser.parse_model(text), ["y"], ["x"])
    assert first.graph.outputs[-1].dtype == ir.DataType.FLOAT
    assert graph_tools.gradient(first, ["grad_x"], ["x"]).graph.outputs[-1].name == "grad_grad_x"
