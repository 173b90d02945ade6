"""Old files: every operator whose form or meaning changed between opsets 7 and 18, and what left the standard.

Each model runs as it is in ONNX Runtime; what ``load`` makes of it must run the same, also inside an If branch and
inside a model-local function. The gradient then follows from the rules.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import graph_tools
from graph_tools import UnsupportedModel
from tests.graph_tools.harness import run_ort
from tests.graph_tools.nets import model, tensor

RNG = np.random.default_rng(5)
IMAGE = RNG.normal(size=(2, 3, 4, 6)).astype(np.float32)
ROW = RNG.normal(size=(2, 6)).astype(np.float32)
POSITIVE = np.abs(IMAGE) + 0.5
SEQ = RNG.normal(size=(4, 2, 3)).astype(np.float32)


def _w(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(0, 0.4, shape).astype(np.float32)


BN = {"s": np.abs(_w(3)) + 0.5, "b": _w(3), "m": _w(3), "v": np.abs(_w(3)) + 0.5}
BN_ROW = {"s": np.abs(_w(3, 4, 6)), "b": _w(3, 4, 6), "m": _w(3, 4, 6) * 2, "v": np.abs(_w(3, 4, 6)) + 0.5}
I64 = np.int64
# id: (operator, opset, x, attributes, further inputs as initializers, outputs)
CASES = {
    "upsample7": ("Upsample", 7, IMAGE, {"scales": [1.0, 1.0, 2.0, 3.0]}, {}, 1),
    "upsample7-linear": ("Upsample", 7, IMAGE, {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "linear"}, {}, 1),
    "upsample9": ("Upsample", 9, IMAGE, {"mode": "linear"}, {"k": np.float32([1, 1, 2, 2])}, 1),
    "resize10": ("Resize", 10, IMAGE, {"mode": "linear"}, {"k": np.float32([1, 1, 0.5, 1.5])}, 1),
    "resize10-nearest": ("Resize", 10, IMAGE, {"mode": "nearest"}, {"k": np.float32([1, 1, 1.7, 0.6])}, 1),
    "resize11": ("Resize", 11, IMAGE, {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
                 {"r": np.float32([]), "k": np.float32([]), "z": I64([2, 3, 7, 5])}, 1),
    "resize11-cubic": ("Resize", 11, IMAGE, {"mode": "cubic"}, {"r": np.float32([]), "k": np.float32([1, 1, 2, 2])}, 1),
    "resize11-tf": ("Resize", 11, IMAGE, {"mode": "nearest", "nearest_mode": "floor",
                    "coordinate_transformation_mode": "tf_half_pixel_for_nn"},
                    {"r": np.float32([]), "k": np.float32([1, 1, 1.5, 0.7])}, 1),
    "resize11-crop": ("Resize", 11, IMAGE, {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
                      {"r": np.float32([0, 0, 0.1, 0.2, 1, 1, 0.8, 0.9]), "k": np.float32([]),
                       "z": I64([2, 3, 3, 4])}, 1),
    "resize13": ("Resize", 13, IMAGE, {"mode": "nearest"}, {"": None, "k": np.float32([1, 1, 2, 2])}, 1),
    "imagescaler": ("ImageScaler", 7, IMAGE, {"scale": 2.0, "bias": [1.0, 2.0, 3.0]}, {}, 1),
    "scale": ("Scale", 8, IMAGE, {"scale": -1.5}, {}, 1),
    "crop": ("Crop", 7, IMAGE, {"border": [1, 0, 2, 1]}, {}, 1),
    "crop-scale": ("Crop", 7, IMAGE, {"border": [1, 1, 0, 0], "scale": [2, 3]}, {}, 1),
    "affine": ("Affine", 9, IMAGE, {"alpha": 2.0, "beta": -1.0}, {}, 1),
    "parametricsoftplus": ("ParametricSoftplus", 7, IMAGE, {"alpha": 2.0, "beta": 0.5}, {}, 1),
    "thresholdedrelu": ("ThresholdedRelu", 7, IMAGE, {"alpha": 0.3}, {}, 1),
    "thresholdedrelu-default": ("ThresholdedRelu", 9, IMAGE, {}, {}, 1),
    "scaledtanh": ("ScaledTanh", 7, IMAGE, {"alpha": 2.0, "beta": 0.5}, {}, 1),
    "mvn1": ("MeanVarianceNormalization", 7, IMAGE, {}, {}, 1),
    "mvn1-channels": ("MeanVarianceNormalization", 8, IMAGE, {"across_channels": 1, "normalize_variance": 0}, {}, 1),
    "mvn9": ("MeanVarianceNormalization", 9, IMAGE, {}, {}, 1),
    "pad2": ("Pad", 7, IMAGE, {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 1.5}, {}, 1),
    "pad2-edge": ("Pad", 10, IMAGE, {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "mode": "edge"}, {}, 1),
    "pad2-reflect": ("Pad", 9, IMAGE, {"pads": [0, 0, 1, 2, 0, 0, 2, 1], "mode": "reflect"}, {}, 1),
    "pad2-crop": ("Pad", 9, IMAGE, {"pads": [0, 0, -1, 2, 0, 0, 0, -1]}, {}, 1),
    "pad11": ("Pad", 11, IMAGE, {}, {"p": I64([0, 0, 1, 0, 0, 1, 0, 2]), "c": np.float32(-2)}, 1),
    "slice1": ("Slice", 7, IMAGE, {"starts": [1, -3], "ends": [9, -1], "axes": [2, 3]}, {}, 1),
    "slice1-noaxes": ("Slice", 9, IMAGE, {"starts": [0, 1], "ends": [1, 1000]}, {}, 1),
    "slice10": ("Slice", 10, IMAGE, {}, {"s": I64([-1]), "e": I64([0]), "a": I64([3]), "t": I64([-2])}, 1),
    "dropout7": ("Dropout", 7, IMAGE, {"ratio": 0.3}, {}, 1),
    "dropout10": ("Dropout", 10, IMAGE, {}, {}, 2),
    "bn7": ("BatchNormalization", 7, IMAGE, {"momentum": 0.8, "epsilon": 1e-3}, BN, 1),
    "bn7-not-spatial": ("BatchNormalization", 7, IMAGE, {"spatial": 0}, BN_ROW, 1),
    "bn9": ("BatchNormalization", 9, IMAGE, {}, BN, 1),
    "gemm7": ("Gemm", 7, ROW, {"transB": 1, "alpha": 0.5}, {"w": _w(4, 6), "c": _w(1, 4)}, 1),
    "gemm9": ("Gemm", 9, ROW, {"beta": 2.0}, {"w": _w(6, 4), "c": _w(4)}, 1),
    "squeeze1": ("Squeeze", 7, IMAGE[:1], {"axes": [0]}, {}, 1),
    "squeeze11": ("Squeeze", 11, IMAGE[:, :1], {"axes": [-3]}, {}, 1),
    "unsqueeze1": ("Unsqueeze", 8, ROW, {"axes": [0, 3]}, {}, 1),
    "unsqueeze11": ("Unsqueeze", 12, ROW, {"axes": [-1]}, {}, 1),
    "clip6": ("Clip", 7, IMAGE, {"min": -0.5, "max": 0.7}, {}, 1),
    "clip6-min": ("Clip", 10, IMAGE, {"min": 0.1}, {}, 1),
    "clip6-none": ("Clip", 7, IMAGE, {}, {}, 1),
    "clip11": ("Clip", 11, IMAGE, {}, {"": None, "h": np.float32(0.2)}, 1),
    "topk1": ("TopK", 7, IMAGE, {"k": 2, "axis": 3}, {}, 2),
    "topk10": ("TopK", 10, IMAGE, {}, {"k": I64([3])}, 2),
    "topk11": ("TopK", 11, IMAGE, {"largest": 0}, {"k": I64([3])}, 2),
    "scatter9": ("Scatter", 9, ROW, {"axis": 1}, {"i": I64([[0, 3], [5, 1]]), "u": _w(2, 2)}, 1),
    "lrn": ("LRN", 7, IMAGE, {"size": 3, "alpha": 0.1, "beta": 0.6, "bias": 1.5}, {}, 1),
    "flatten": ("Flatten", 7, IMAGE, {"axis": 2}, {}, 1),
    "flatten9": ("Flatten", 9, IMAGE, {"axis": 0}, {}, 1),
    "split2": ("Split", 7, IMAGE, {"axis": 3, "split": [1, 2, 3]}, {}, 3),
    "split2-even": ("Split", 11, IMAGE, {"axis": 2}, {}, 2),
    "split13-even": ("Split", 13, IMAGE, {"axis": 3}, {}, 3),
    "expand8": ("Expand", 8, ROW[:, :1], {}, {"s": I64([2, 2, 4])}, 1),
    "tile6": ("Tile", 7, ROW, {}, {"r": I64([2, 3])}, 1),
    "maxpool8": ("MaxPool", 8, IMAGE, {"kernel_shape": [2, 2], "strides": [2, 2], "storage_order": 1}, {}, 2),
    "maxpool7": ("MaxPool", 7, IMAGE, {"kernel_shape": [3, 2], "auto_pad": "SAME_LOWER"}, {}, 1),
    "averagepool7": ("AveragePool", 7, IMAGE, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1],
                     "count_include_pad": 1}, {}, 1),
    "lppool2": ("LpPool", 7, IMAGE, {"kernel_shape": [2, 2], "p": 2}, {}, 1),
    "cast6": ("Cast", 7, IMAGE, {"to": 1}, {}, 1),
    "prelu7": ("PRelu", 7, IMAGE, {}, {"s": _w(3, 1, 1)}, 1),
    "sum6": ("Sum", 7, ROW, {}, {"b": _w(2, 6)}, 1),
    "max8": ("Max", 8, ROW, {}, {"b": _w(6)}, 1),
    "eyelike9": ("EyeLike", 9, ROW, {"k": 1}, {}, 1),
    "instancenorm6": ("InstanceNormalization", 7, IMAGE, {}, {"s": _w(3), "b": _w(3) * 2}, 1),
    "roialign10": ("RoiAlign", 10, IMAGE, {"output_height": 2, "output_width": 2, "sampling_ratio": 2},
                   {"r": np.float32([[0, 0, 3, 3], [1, 0.5, 4, 2]]), "b": I64([0, 1])}, 1),
    "depthtospace": ("DepthToSpace", 11, _w(1, 8, 2, 3), {"blocksize": 2, "mode": "CRD"}, {}, 1),
    "argmax1": ("ArgMax", 7, IMAGE, {"axis": 3, "keepdims": 0}, {}, 1),
    "shape": ("Shape", 7, IMAGE, {}, {}, 1),
    "reducesum7": ("ReduceSum", 7, IMAGE, {"axes": [1, 3], "keepdims": 0}, {}, 1),
    "reducesum-all": ("ReduceSum", 11, IMAGE, {"keepdims": 0}, {}, 1),
    **{f"{op}1": (op, 7, POSITIVE, {"axes": [2]}, {}, 1) for op in ("ReduceMean", "ReduceMax", "ReduceL2",
       "ReduceLogSumExp", "ReduceProd", "ReduceL1", "ReduceMin", "ReduceLogSum", "ReduceSumSquare")},
    **{f"{op.lower()}-axis{axis}": (op, 11, IMAGE, {"axis": axis}, {}, 1)
       for op in ("Softmax", "LogSoftmax", "Hardmax") for axis in (0, 1, 2, 3, -1)},
    "softmax-default": ("Softmax", 7, IMAGE, {}, {}, 1),
    "rnn7": ("RNN", 7, SEQ, {"hidden_size": 2}, {"w": _w(1, 2, 3), "r": _w(1, 2, 2)}, 2),
    "gru7": ("GRU", 7, SEQ, {"hidden_size": 2, "linear_before_reset": 1}, {"w": _w(1, 6, 3), "r": _w(1, 6, 2)}, 2),
    "lstm7": ("LSTM", 7, SEQ, {"hidden_size": 2, "direction": "bidirectional"},
              {"w": _w(2, 8, 3), "r": _w(2, 8, 2), "b": _w(2, 16)}, 3),
}  # fmt: skip


def _node(case: str) -> tuple[onnx.NodeProto, int, np.ndarray, dict[str, np.ndarray]]:
    op, opset, x, attrs, more, outputs = CASES[case]
    weights = {name: a for name, a in more.items() if a is not None}
    node = helper.make_node(op, ["x", *more], [f"y{i}" for i in range(outputs)], name="old", **attrs)
    return node, opset, x, weights


def _elem(case: str, i: int) -> int:
    op = CASES[case][0]
    if op in ("ArgMax", "Shape") or (i and op in ("TopK", "MaxPool")):
        return TensorProto.INT64
    return TensorProto.BOOL if i and op == "Dropout" else TensorProto.FLOAT


def _same(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], tolerance: float = 1e-6) -> ir.Model:
    loaded = graph_tools.load(proto)
    assert loaded.graph.opset_imports[""] >= 18
    want, got = run_ort(proto, feeds), run_ort(ir.to_proto(loaded), feeds)
    for name, a in want.items():
        np.testing.assert_allclose(got[name], a, rtol=tolerance, atol=tolerance, err_msg=name)
        assert got[name].dtype == a.dtype
    return loaded


@pytest.mark.parametrize("case", [c for c in CASES if c != "dropout10"])
def test_operator_means_the_same(case):
    node, opset, x, weights = _node(case)
    outputs = [tensor(name, None, _elem(case, i)) for i, name in enumerate(node.output)]
    tolerance = 1e-4 if "mvn" in case else 1e-5
    _same(model([node], [tensor("x", x.shape)], outputs, weights, opset, ir_version=7), {"x": x}, tolerance)


IN_BRANCH = ["upsample7-linear", "resize10", "clip6", "pad2", "slice1", "topk1", "unsqueeze1", "reducesum7", "split2",
             "softmax-axis1", "scatter9", "imagescaler", "bn7-not-spatial", "dropout7", "ReduceMean1"]  # fmt: skip


@pytest.mark.parametrize("case", IN_BRANCH)
def test_inside_a_branch(case):
    """The stock converter does not look into subgraphs."""
    node, opset, x, weights = _node(case)
    results = [tensor(n, None, _elem(case, i)) for i, n in enumerate(node.output)]
    negated = onnx.NodeProto()
    negated.CopyFrom(node)
    negated.input[0] = "z"
    negated.output[:] = [f"o{i}" for i in range(len(results))]
    other = [helper.make_node("Neg", ["x"], ["z"]), negated]
    returned = [tensor(f"o{i}", None, _elem(case, i)) for i in range(len(results))]
    branches = {
        "then_branch": helper.make_graph([node], "then", [], results),
        "else_branch": helper.make_graph(other, "else", [], returned),
    }
    outs = [f"out{i}" for i in range(len(results))]
    control = helper.make_node("If", ["condition"], outs, **branches)
    outputs = [tensor(n, None, _elem(case, i)) for i, n in enumerate(outs)]
    inputs = [tensor("x", x.shape), tensor("condition", [], TensorProto.BOOL)]
    proto = model([control], inputs, outputs, weights, opset, ir_version=7)
    for condition in (True, False):
        _same(proto, {"x": x, "condition": np.array(condition)})


@pytest.mark.parametrize("case", ["resize11", "clip6", "pad2", "softmax-axis1", "reducesum7", "split2", "unsqueeze1"])
@pytest.mark.parametrize("newer", [False, True], ids=["same-opset", "newer-model"])
def test_inside_a_function(case, newer):
    node, opset, x, weights = _node(case)
    opset = max(opset, 9)
    call = helper.make_node("Old", ["x", *weights], list(node.output), name="call", domain="my")
    function = helper.make_function(
        "my", "Old", ["x", *weights], list(node.output), [node], [helper.make_opsetid("", opset)]
    )
    outputs = [tensor(n, None, _elem(case, i)) for i, n in enumerate(node.output)]
    imports = [helper.make_opsetid("", 20 if newer else opset), helper.make_opsetid("my", 1)]
    proto = model([call], [tensor("x", x.shape)], outputs, weights, functions=[function], opset_imports=imports)
    loaded = graph_tools.load(proto)
    plain = model([node], [tensor("x", x.shape)], outputs, weights, opset, ir_version=7)
    want, got = run_ort(plain, {"x": x}), run_ort(ir.to_proto(loaded), {"x": x})
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-6, atol=1e-6)


def test_softmax_with_an_unknown_rank_keeps_flattening():
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("Softmax", ["r"], ["y"], axis=1)]
    inputs = [tensor("x", [2, 6]), tensor("shape", ["rank"], TensorProto.INT64)]
    proto = model(nodes, inputs, [tensor("y", None)], opset=9, ir_version=7)
    _same(proto, {"x": ROW, "shape": np.int64([2, 2, 3])})


@pytest.mark.parametrize("directions", [[0], [1]])
def test_scan_8_runs_row_by_row(directions):
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "e"], ["s2"]), helper.make_node("Mul", ["s2", "e"], ["o"])], "body",
        [tensor("s", [3]), tensor("e", [3])], [tensor("s2", [3]), tensor("o", [3])],
    )  # fmt: skip
    node = helper.make_node("Scan", ["", "init", "x"], ["last", "all"], body=body, num_scan_inputs=1,
                            directions=directions)  # fmt: skip
    proto = model([node], [tensor("init", [2, 3]), tensor("x", [2, 5, 3])],
                  [tensor("last", [2, 3]), tensor("all", [2, 5, 3])], opset=8, ir_version=7)  # fmt: skip
    feeds = {"init": _w(2, 3), "x": _w(2, 5, 3)}
    _same(proto, feeds)


def test_loop_1_with_old_operators_inside():
    body = helper.make_graph(
        [helper.make_node("Clip", ["s"], ["c"], max=2.0), helper.make_node("Add", ["c", "x"], ["s2"]),
         helper.make_node("Squeeze", ["s2"], ["row"], axes=[0]), helper.make_node("Identity", ["go"], ["go2"])],
        "body", [tensor("i", [], TensorProto.INT64), tensor("go", [], TensorProto.BOOL), tensor("s", [1, 3])],
        [tensor("go2", [], TensorProto.BOOL), tensor("s2", [1, 3]), tensor("row", [3])],
    )  # fmt: skip
    node = helper.make_node("Loop", ["n", "yes", "x"], ["last", "rows"], body=body)
    weights = {"n": np.array(3, I64), "yes": np.array(True)}
    proto = model([node], [tensor("x", [1, 3])], [tensor("last", None), tensor("rows", None)], weights, 8, 7)
    _same(proto, {"x": _w(1, 3)})


@pytest.mark.parametrize(
    ("op", "attrs", "outputs", "words"),
    [
        ("Dropout", {}, 2, "Dropout.*'old'.*mask 'y1' is read"),
        ("BatchNormalization", {}, 5, "BatchNormalization.*'old'.*'y1' is computed in training"),
        ("Crop", {"border": [1]}, 1, "Crop.*'old'.*border has 1"),
    ],
)
def test_old_forms_without_a_counterpart_are_named(op, attrs, outputs, words):
    more = BN if op == "BatchNormalization" else {}
    node = helper.make_node(op, ["x", *more], [f"y{i}" for i in range(outputs)], name="old", **attrs)
    results = [tensor(n, None) for n in node.output]
    with pytest.raises(UnsupportedModel, match=words):
        graph_tools.load(model([node], [tensor("x", IMAGE.shape)], results, more, 7, 7))


def test_meaningless_attributes_of_old_converters_are_ignored():
    node = helper.make_node("Dropout", ["x"], ["y"], is_test=1, ratio=0.5)
    loaded = graph_tools.load(model([node], [tensor("x", [2])], [tensor("y", [2])], opset=7))
    assert [n.op_type for n in loaded.graph] == ["Dropout"]
