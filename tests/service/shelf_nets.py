"""One small net of every kind that the service has to understand."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.types import Array
from tests.graph_tools.nets import cnn, model, tensor

RNG = np.random.default_rng(3)


def halved(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in float16, inputs and outputs too."""
    for weight in proto.graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return proto


def quantised() -> onnx.ModelProto:
    """uint8 image [N, 3, 16, 16] – Conv – Relu – pooling – Gemm – float scores, each value through a Q/DQ pair."""
    weights: dict[str, Array] = {
        "w1_q": RNG.integers(-90, 90, (6, 3, 3, 3)).astype(np.int8),
        "w2_q": RNG.integers(-90, 90, (5, 6)).astype(np.int8),
        "flat": np.array([0, 6]),
        "scale_x": np.float32(1 / 255), "zero_x": np.uint8(0), "zero_w": np.int8(0),
        "scale_w1": np.float32(0.004), "scale_w2": np.float32(0.01),
        "scale_c": np.float32(0.01), "zero_c": np.uint8(0), "scale_y": np.float32(0.02), "zero_y": np.uint8(128),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale_x", "zero_x"], ["x_f"], name="enter"),
        helper.make_node("DequantizeLinear", ["w1_q", "scale_w1", "zero_w"], ["w1"], name="w1_dq"),
        helper.make_node("Conv", ["x_f", "w1"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        *_pair_of("r", "r_f", "scale_c", "zero_c"),
        helper.make_node("MaxPool", ["r_f"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2], name="pool"),
        helper.make_node("GlobalAveragePool", ["pooled"], ["gap"], name="gap"),
        helper.make_node("Reshape", ["gap", "flat"], ["v"], name="flatten"),
        helper.make_node("DequantizeLinear", ["w2_q", "scale_w2", "zero_w"], ["w2"], name="w2_dq"),
        helper.make_node("Gemm", ["v", "w2"], ["z"], transB=1, name="classifier"),
        *_pair_of("z", "scores", "scale_y", "zero_y"),
    ]
    return model(nodes, [tensor("x", ["N", 3, 16, 16], TensorProto.UINT8)], [tensor("scores", ["N", 5])], weights)


def _pair_of(x: str, y: str, scale: str, zero: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [x, scale, zero], [f"{x}_q"], name=f"{x}_quantize"),
        helper.make_node("DequantizeLinear", [f"{x}_q", scale, zero], [y], name=f"{x}_dequantize"),
    ]


def one_logit() -> onnx.ModelProto:
    """Conv – Relu – pooling – Gemm(1) – Sigmoid."""
    weights = {"k": _normal(4, 3, 3, 3), "w": _normal(1, 4), "b": _normal(1)}
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["gap"]),
        helper.make_node("Flatten", ["gap"], ["v"]),
        helper.make_node("Gemm", ["v", "w", "b"], ["z"], transB=1),
        helper.make_node("Sigmoid", ["z"], ["p"]),
    ]
    return model(nodes, [tensor("x", ["N", 3, 16, 16])], [tensor("p", ["N", 1])], weights)


def two_outputs() -> onnx.ModelProto:
    """:func:`cnn` with a second output ``age`` [N, 1] in front of its own, which is called ``species``."""
    proto = cnn()
    proto.graph.node[-1].output[0] = proto.graph.output[0].name = "species"
    proto.graph.node.append(helper.make_node("Gemm", ["vector", "w_age"], ["age"], name="age"))
    proto.graph.initializer.append(numpy_helper.from_array(_normal(8, 1), "w_age"))
    proto.graph.output.insert(0, tensor("age", ["N", 1]))
    return proto


def stepped() -> onnx.ModelProto:
    """Conv – Relu – whole numbers – Gemm: no gradient passes the Cast to int64."""
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Mul", ["r", "hundred"], ["large"], name="scale"),
        helper.make_node("Cast", ["large"], ["rounded"], to=TensorProto.INT64, name="to_integers"),
        helper.make_node("Cast", ["rounded"], ["again"], to=TensorProto.FLOAT, name="to_float"),
        helper.make_node("Flatten", ["again"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w"], ["z"], transB=1, name="classifier"),
    ]
    weights = {"k": _normal(2, 3, 3, 3), "hundred": np.float32(100), "w": _normal(3, 512) / 500}
    return model(nodes, [tensor("x", ["N", 3, 16, 16])], [tensor("z", ["N", 3])], weights)


def table() -> onnx.ModelProto:
    """Softmax(W · tanh(V · x)) of a row of four numbers."""
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"]),
    ]
    return model(nodes, [tensor("x", ["N", 4])], [tensor("p", ["N", 3])], {"v": _normal(4, 6), "w": _normal(6, 3)})


def wide() -> onnx.ModelProto:
    """:func:`table` with 3000 hidden units, for weights in a file of their own."""
    proto = table()
    for name, shape in (("v", (4, 3000)), ("w", (3000, 3))):
        weight = next(t for t in proto.graph.initializer if t.name == name)
        weight.CopyFrom(numpy_helper.from_array(_normal(*shape), name))
    proto.graph.node.insert(1, helper.make_node("Add", ["h", "b"], ["hb"]))
    proto.graph.node[2].input[0] = "hb"
    proto.graph.initializer.append(numpy_helper.from_array(_normal(3000), "b"))
    return proto


def pair() -> onnx.ModelProto:
    """scores = (x · W) · weight: two inputs, of which ``x`` is explained."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Mul", ["h", "weight"], ["z"])]
    inputs = [tensor("x", ["N", 4]), tensor("weight", ["N", 1])]
    return model(nodes, inputs, [tensor("z", ["N", 3])], {"w": _normal(4, 3)})


def mixed() -> onnx.ModelProto:
    """An image input and a second one beside it."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["gap"]),
        helper.make_node("Flatten", ["gap"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["h"]),
        helper.make_node("Mul", ["h", "weight"], ["z"]),
    ]
    inputs = [tensor("x", ["N", 3, 8, 8]), tensor("weight", ["N", 1])]
    return model(nodes, inputs, [tensor("z", ["N", 3])], {"w": _normal(3, 3)})


def looped() -> onnx.ModelProto:
    """:func:`cnn` for one row that would mix several: its logits are divided by their mean square over the batch."""
    proto = cnn(batch=1)
    softmax = proto.graph.node.pop()
    proto.graph.node.extend([
        helper.make_node("ReduceSumSquare", ["logits"], ["energy"], keepdims=1, name="energy"),
        helper.make_node("Div", ["logits", "energy"], ["scaled"], name="scale"),
        helper.make_node("Softmax", ["scaled"], list(softmax.output), axis=1, name="softmax"),
    ])  # fmt: skip
    return proto


def whole() -> onnx.ModelProto:
    """Counts, int64 [N, 4]: scores that no gradient can leave from."""
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT64, name="count")]
    return model(nodes, [tensor("x", ["N", 4])], [tensor("y", ["N", 4], TensorProto.INT64)])


def linear_classifier() -> onnx.ModelProto:
    """An ai.onnx.ml classifier as scikit-learn's converter writes it: label int64 [N], probabilities [N, 3]."""
    node = helper.make_node(
        "LinearClassifier", ["x"], ["label", "probabilities"], domain="ai.onnx.ml", classlabels_ints=[0, 1, 2],
        coefficients=_normal(12).tolist(), intercepts=[0.1, -0.2, 0.0], multi_class=1, post_transform="SOFTMAX",
    )  # fmt: skip
    outputs = [tensor("label", ["N"], TensorProto.INT64), tensor("probabilities", ["N", 3])]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return model([node], [tensor("x", ["N", 4])], outputs, opset_imports=opsets)


NAMES = ("owl", "cat", "dog")  # not in alphabetical order


def trees() -> onnx.ModelProto:
    """Pure ai.onnx.ml with text labels and a ZipMap: owl where x[0] <= 0, else cat where x[1] <= 0, else dog."""
    classifier = helper.make_node(
        "TreeEnsembleClassifier", ["x"], ["label", "raw"], domain="ai.onnx.ml", classlabels_strings=list(NAMES),
        post_transform="NONE", nodes_treeids=[0] * 5, nodes_nodeids=[0, 1, 2, 3, 4], nodes_featureids=[0, 0, 1, 0, 0],
        nodes_values=[0.0] * 5, nodes_modes=["BRANCH_LEQ", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 3, 0, 0], nodes_falsenodeids=[2, 0, 4, 0, 0], nodes_hitrates=[1.0] * 5,
        nodes_missing_value_tracks_true=[0] * 5, class_treeids=[0] * 5, class_nodeids=[1, 3, 3, 4, 4],
        class_ids=[0, 1, 2, 2, 1], class_weights=[1.0, 0.9, 0.1, 0.75, 0.25],
    )  # fmt: skip
    zipped = helper.make_node(
        "ZipMap", ["raw"], ["probabilities"], domain="ai.onnx.ml", classlabels_strings=list(NAMES)
    )
    made = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    outputs = [
        tensor("label", ["N"], TensorProto.STRING),
        helper.make_value_info("probabilities", helper.make_sequence_type_proto(made)),
    ]
    return model(
        [classifier, zipped], [tensor("x", ["N", 4])], outputs, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)]
    )


def _normal(*shape: int) -> Array:
    return RNG.normal(0, 0.5, shape).astype(np.float32)
