"""Models whose shapes are not [N, …] in, [N, classes] out: refused clearly, or explained with a word about it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import graph_tools
from graph_tools import UnsupportedModel, find
from service.core import Engine
from service.models.card import parse_card
from service.models.repository import Repository
from service.runtime.context import Run
from service.runtime.home import Runtime
from service.types import ExplainRequest, Selector, Target
from tests.graph_tools.nets import model, tensor

RNG = np.random.default_rng(8)


@pytest.fixture
def add(tmp_path):
    engine = Engine(Repository(Runtime("cpu")))

    def put(proto: onnx.ModelProto, card: dict | None = None) -> Engine:
        onnx.save(proto, tmp_path / "m.onnx")
        engine.repository.add("m", tmp_path / "m.onnx", parsed=parse_card(card or {"preset": "none"}, "m"))
        return engine

    return put


def _explain(engine: Engine, method: str, **fields):
    return engine.explain(ExplainRequest("m", method, **fields), Run())


def test_a_model_without_a_batch_dimension_is_refused(add):
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["s"], keepdims=0),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    weights = {"axes": np.array([1, 2]), "w": RNG.normal(size=(3, 5)).astype(np.float32)}
    with pytest.raises(UnsupportedModel, match=r"batch is not the first dimension.*leading batch"):
        add(model(nodes, [tensor("x", [3, 8, 8])], [tensor("y", [5])], weights))


def test_one_number_for_the_whole_batch_is_refused(add):
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    with pytest.raises(UnsupportedModel, match="one number for all rows"):
        add(model([node], [tensor("x", ["N", 4])], [tensor("y", [])]))


@pytest.mark.parametrize("elem", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_saliency_of_other_float_types(add, elem):
    kind = helper.tensor_dtype_to_np_dtype(elem)
    w = RNG.normal(size=(3, 4)).astype(kind)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    engine = add(model([node], [tensor("x", ["N", 4], elem)], [tensor("y", ["N", 3], elem)], {"w": w}))
    targets = tuple(Target(Selector(index=i)) for i in range(3))
    got = _explain(
        engine, "saliency", tensors={"x": np.ones((2, 4), kind)}, targets=targets, parameters={"signed": True}
    )
    for i, attribution in enumerate(got.items[1].attributions):
        np.testing.assert_allclose(attribution.values, w[i], rtol=1e-3)


def test_scores_averaged_over_positions_are_no_probabilities(add):
    nodes = [helper.make_node("Conv", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["p"], axis=1)]
    weights = {"w": RNG.normal(size=(2, 3, 1, 1)).astype(np.float32)}
    engine = add(model(nodes, [tensor("x", ["N", 3, 8, 8])], [tensor("p", ["N", 2, 8, 8])], weights))
    image = RNG.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    result = _explain(engine, "predict", images=(image,))
    assert any("means over the positions" in note for note in result.notes)
    want = image.reshape(-1, 3).astype(np.float64).mean(axis=0) @ weights["w"][:, :, 0, 0].T
    by_class = sorted(result.items[0].predictions, key=lambda p: p.index)
    np.testing.assert_allclose([p.logit for p in by_class], want, rtol=1e-4)
    assert all(p.probability is None for p in by_class)


@pytest.mark.parametrize(("shape", "plane"), [((4, 6, 8), (6, 8)), ((6, 8, 4), (6, 8))])
def test_patches_slide_over_the_plane_of_many_channels(add, shape, plane):
    w = RNG.normal(size=(1, int(np.prod(shape)))).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"], transB=1)]
    engine = add(model(nodes, [tensor("x", ["N", *shape])], [tensor("y", ["N", 1])], {"w": w}))
    x = RNG.normal(size=(1, *shape)).astype(np.float32)
    got = _explain(engine, "occlusion", tensors={"x": x}, parameters={"patch": (1,), "stride": (1,)})
    channel = shape.index(4)
    want = (w.reshape(shape) * x[0]).sum(axis=channel)
    assert got.items[0].attributions[0].values.shape == plane
    np.testing.assert_allclose(got.items[0].attributions[0].values, want, atol=1e-4)


def test_which_of_several_inputs_is_explained_is_said(add):
    node = helper.make_node("Add", ["a", "b"], ["y"])
    engine = add(model([node], [tensor("a", ["N", 2]), tensor("b", ["N", 2])], [tensor("y", ["N", 2])]))
    rows = np.ones((1, 2), np.float32)
    result = _explain(engine, "saliency", tensors={"a": rows, "b": rows})
    assert any("'a' is explained" in note for note in result.notes)


def test_tokens_are_no_map(add):
    """Behind patches a transformer has [N, tokens, features]: not a layer that a CAM may take for [N, C, L]."""
    weights = {
        "k": RNG.normal(size=(8, 3, 4, 4)).astype(np.float32),
        "flat": np.array([0, 8, 16]),
        "w": RNG.normal(size=(8, 8)).astype(np.float32),
        "axes": np.array([1]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["patches"], strides=[4, 4]),
        helper.make_node("Reshape", ["patches", "flat"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["tokens"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["tokens", "w"], ["mixed"]),
        helper.make_node("ReduceMean", ["mixed", "axes"], ["y"], keepdims=0),
    ]
    proto = model(nodes, [tensor("x", ["N", 3, 16, 16])], [tensor("y", ["N", 8])], weights)
    loaded = graph_tools.load(proto)
    assert find.default_layer(loaded, find.head(loaded)) == "patches"


def test_an_open_image_size_is_assumed_aloud(add):
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["g"]), helper.make_node("Flatten", ["g"], ["y"])]
    proto = model(nodes, [tensor("x", ["N", 3, "H", "W"])], [tensor("y", ["N", 3])])
    image = RNG.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    said = _explain(add(proto), "predict", images=(image,)).notes
    assert any("224 x 224 assumed" in note for note in said)


def test_a_text_output_has_no_scores(add):
    node = helper.make_node("Gather", ["words", "i"], ["y"])
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("i", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, ["N"])],
        [helper.make_tensor("words", TensorProto.STRING, [2], [b"no", b"yes"])],
    )  # fmt: skip
    engine = add(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))
    with pytest.raises(UnsupportedModel, match="holds no numbers"):
        _explain(engine, "predict", tensors={"i": np.array([0, 1])})
