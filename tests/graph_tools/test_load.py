"""Loading: dialects, lifting and its patches, old files, functions, external data, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import graph_tools
from graph_tools import UnsupportedModel
from graph_tools.loading import lift
from tests.graph_tools.harness import run_ort
from tests.graph_tools.nets import cnn, model, tensor

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"


def _runner(proto, folder, feeds):
    return list(run_ort(proto, dict(feeds)).values())


def _same(a: onnx.ModelProto, b: ir.Model, feeds: dict[str, np.ndarray]) -> float:
    want, got = run_ort(a, feeds), run_ort(ir.to_proto(b), feeds)
    return max(float(np.abs(want[k].astype(np.float64) - got[k]).max()) for k in want)


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 18, 21])
def test_lifted_net_computes_the_same(opset):
    proto = cnn(opset=opset)
    loaded = graph_tools.load(proto, check=_runner)
    assert loaded.graph.opset_imports[""] == max(18, opset)
    x = np.random.default_rng(0).random((2, 3, 16, 16)).astype(np.float32)
    assert _same(proto, loaded, {"x": x}) < 1e-6


def test_names_of_values_survive_lifting():
    names = {v.name for v in graph_tools.values(cnn(opset=9))}
    assert {"x", "c1", "r1", "p1", "c2", "r2", "features", "gap", "vector", "logits", "probabilities"} <= names


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 5, 1, 1), (2, 3, 4, 5)])
def test_old_softmax_keeps_its_meaning(axis, shape):
    """Below opset 13 Softmax flattens at ``axis``; where trailing dimensions are 1 no flattening is emitted."""
    node = helper.make_node("Softmax", ["x"], ["y"], axis=axis)
    proto = model([node], [tensor("x", shape)], [tensor("y", shape)], opset=11)
    loaded = graph_tools.load(proto, check=_runner)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert _same(proto, loaded, {"x": x}) < 1e-6
    plain = [n.op_type for n in loaded.graph] == ["Softmax"]
    assert plain == (axis == 3 or all(d == 1 for d in shape[axis + 1 :]))


@pytest.mark.parametrize(("op", "opset"), [("Upsample", 9), ("Resize", 10)])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_old_resize_samples_asymmetrically(op, opset, mode):
    """The stock converter drops the asymmetric coordinates of Upsample-9 and Resize-10."""
    weights = {"scales": np.array([1, 1, 2, 3], np.float32)}
    node = helper.make_node(op, ["x", "scales"], ["y"], mode=mode)
    proto = model([node], [tensor("x", [1, 2, 4, 5])], [tensor("y", None)], weights, opset)
    loaded = graph_tools.load(proto, check=_runner)
    x = np.random.default_rng(2).random((1, 2, 4, 5)).astype(np.float32)
    assert _same(proto, loaded, {"x": x}) < 1e-6


def test_initializers_listed_as_inputs_are_not_inputs():
    proto = cnn(opset=9)
    proto.ir_version = 3
    for t in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, t.dims))
    assert [v.name for v in graph_tools.load(proto).graph.inputs] == ["x"]


def test_functions_are_inlined():
    body = [helper.make_node("Mul", ["a", "a"], ["b"]), helper.make_node("Neg", ["b"], ["c"])]
    function = helper.make_function("my", "MinusSquare", ["a"], ["c"], body, [helper.make_opsetid("", 18)])
    node = helper.make_node("MinusSquare", ["x"], ["y"], domain="my")
    graph = helper.make_graph([node], "g", [tensor("x", [2])], [tensor("y", [2])])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("my", 1)]
    proto = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=10)
    loaded = graph_tools.load(proto, check=_runner)
    assert [n.op_type for n in loaded.graph] == ["Mul", "Neg"]
    gradient = graph_tools.gradient(proto, ["y"], ["x"])
    out = run_ort(ir.to_proto(gradient), {"x": np.float32([2, 3]), "cotangent_y": np.float32([1, 1])})
    np.testing.assert_allclose(out["grad_x"], [-4, -6])


def test_external_data_stays_outside(tmp_path):
    proto = cnn()
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    loaded = graph_tools.load(tmp_path / "m.onnx")
    kinds = {type(v.const_value).__name__ for n, v in loaded.graph.initializers.items() if n.startswith("w")}
    assert kinds == {"ExternalTensor"}
    np.testing.assert_array_equal(
        loaded.graph.initializers["w3"].const_value.numpy(), onnx.numpy_helper.to_array(cnn().graph.initializer[4])
    )


def test_float16_and_symbolic_dimensions():
    proto = model(
        [helper.make_node("Mul", ["x", "x"], ["y"])],
        [tensor("x", ["N", "T"], TensorProto.FLOAT16)],
        [tensor("y", ["N", "T"], TensorProto.FLOAT16)],
    )
    gradient = graph_tools.gradient(proto, ["y"], ["x"])
    x = np.float16([[1, 2, 3]])
    out = run_ort(ir.to_proto(gradient), {"x": x, "cotangent_y": np.ones_like(x)})
    assert out["grad_x"].dtype == np.float16
    np.testing.assert_array_equal(out["grad_x"], 2 * x)


def _half_pixel(c: lift.Lifter, node: ir.Node) -> None:
    """What the stock converter makes of Upsample."""
    c.become(node, "Resize", [node.inputs[0], None, node.inputs[1]], mode="linear")


def test_check_catches_a_graph_that_differs(monkeypatch):
    monkeypatch.setitem(lift.ADAPTERS, "Upsample", [(10, _half_pixel)])
    node = helper.make_node("Upsample", ["x", "scales"], ["y"], mode="linear")
    weights = {"scales": np.array([1, 1, 2, 2], np.float32)}
    proto = model([node], [tensor("x", [1, 1, 4, 4])], [tensor("y", None)], weights, 9)
    with pytest.raises(UnsupportedModel, match="differs from the file"):
        graph_tools.load(proto, check=_runner)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a readable"),
        (b"\x00garbage\xff" * 50, "not a readable"),
        (cnn().SerializeToString()[:200], "not a readable"),
    ],
    ids=["empty", "garbage", "truncated"],
)
def test_broken_bytes_are_refused(data, words):
    with pytest.raises(UnsupportedModel, match=words):
        graph_tools.load(data)


def test_missing_file_is_refused():
    with pytest.raises(UnsupportedModel, match=r"no file 'nowhere\.onnx'"):
        graph_tools.load("some/folder/nowhere.onnx")


@pytest.mark.parametrize("opset", [5, 99])
def test_opsets_outside_the_range_are_refused(opset):
    with pytest.raises(UnsupportedModel, match=f"opset {opset}; opsets 6 to"):
        graph_tools.load(cnn(opset=opset))


def test_a_model_without_standard_operators_is_refused():
    node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0])
    proto = model([node], [tensor("x", [1, 2])], [tensor("y", [1, 2])],
                  opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)])  # fmt: skip
    with pytest.raises(UnsupportedModel, match=r"no ai\.onnx operators.*black-box"):
        graph_tools.load(proto)


def test_a_cycle_is_refused():
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])]
    with pytest.raises(UnsupportedModel):
        graph_tools.load(model(nodes, [tensor("x", [1])], [tensor("b", [1])]))


def test_loading_a_loaded_model_gives_a_copy():
    loaded = graph_tools.load(cnn())
    again = graph_tools.load(loaded)
    assert again is not loaded
    again.graph.outputs.clear()
    assert len(loaded.graph.outputs) == 1


@pytest.mark.parametrize("path", sorted(SHARED.glob("*.onnx")) or [None], ids=lambda p: p.stem if p else "none")
def test_real_files_load_and_agree(path):
    if path is None:
        pytest.skip("the folder of real models is not here")
    if path.stem.split("_")[0] in ("iris", "iris2", "lightgbm", "pipeline"):
        with pytest.raises(UnsupportedModel):
            graph_tools.load(path)
    else:
        graph_tools.load(path, check=_runner)
