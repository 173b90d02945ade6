"""ONNX's own backend node suite as gradient tests: what a case is, in float64 and float32, and how it is judged."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
KINDS = (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)
CASTS = {"Cast": "to", "BitCast": "to", "EyeLike": "dtype", "RandomUniformLike": "dtype", "Bernoulli": "dtype",
         "SequenceEmpty": "dtype",
         "DequantizeLinear": "output_dtype",
         "LayerNormalization": "stash_type", "RMSNormalization": "stash_type", "GroupNormalization": "stash_type",
         "Attention": "softmax_precision", "FlexAttention": "softmax_precision"}  # fmt: skip

# Float operands that say how, not what: shapes, scales, ratios, bounds of a range. They stay as they are and no
# gradient is asked for: (operator, input).
STEERING = {
    ("Resize", 1), ("Resize", 2), ("Upsample", 1), ("Dropout", 1), ("Range", 1),
    ("NonMaxSuppression", 3), ("NonMaxSuppression", 4),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class SuiteCase:
    """One case: its name, the model as it came, its feeds and what it should return."""

    name: str
    model: onnx.ModelProto
    feeds: dict[str, Any]
    expected: dict[str, Any]

    @property
    def operators(self) -> list[str]:
        return sorted({n.op_type for n in self.model.graph.node})


def is_float(v: onnx.ValueInfoProto) -> bool:
    """Whether ``v`` is a tensor of floats."""
    return v.type.HasField("tensor_type") and v.type.tensor_type.elem_type in FLOATS


@functools.cache
def suite() -> tuple[SuiteCase, ...]:
    """Every case with a float input and a float output, in the suite's order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    found = []
    for c in collected:
        graph = c.model.graph
        if not (any(map(is_float, graph.input)) and any(map(is_float, graph.output))):
            continue
        given, wanted = c.data_sets[0]
        feeds = {v.name: _array(a) for v, a in zip(graph.input, given, strict=False)}
        expected = {v.name: _array(a) for v, a in zip(graph.output, wanted, strict=False)}
        found.append(SuiteCase(c.name, c.model, feeds, expected))
    return tuple(found)


def _array(a: Any) -> Any:
    return numpy_helper.to_array(a) if isinstance(a, TensorProto) else a


def in_type(case: SuiteCase, elem: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The case with every float of it as ``elem`` (DOUBLE or FLOAT), feeds included."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    kept = {v.name: v.type.tensor_type.elem_type for v in model.graph.input if v.name in fixed_operands(model)}
    _retype_graph(model.graph, elem)
    for function in model.functions:
        _retype_nodes(function.node, elem)
    for v in model.graph.input:
        if v.name in kept and any(n.op_type in ("Resize", "Upsample") for n in model.graph.node):
            v.type.tensor_type.elem_type = kept[v.name]  # scales are float32 whatever is resized
        elif v.name in kept:
            del kept[v.name]
    kind = helper.tensor_dtype_to_np_dtype(elem)
    return model, {name: a if name in kept else _retype_feed(a, kind) for name, a in case.feeds.items()}


def _retype_feed(a: Any, kind: np.dtype) -> Any:
    if isinstance(a, list):
        return [_retype_feed(x, kind) for x in a]
    if a is None:
        return None
    a = np.asarray(a)
    return a.astype(kind) if a.dtype in KINDS else a


def _retype_graph(graph: onnx.GraphProto, elem: int) -> None:
    for v in (*graph.input, *graph.output, *graph.value_info):
        _retype_type(v.type, elem)
    for t in graph.initializer:
        _retype_tensor(t, elem)
    _retype_nodes(graph.node, elem)


def _retype_nodes(nodes: Sequence[onnx.NodeProto], elem: int) -> None:
    for node in nodes:
        if node.op_type == "ConstantOfShape" and not node.attribute:  # float zero where nothing is said
            zero = numpy_helper.from_array(np.zeros(1, np.float32))
            node.attribute.append(helper.make_attribute("value", zero))
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _retype_graph(attribute.g, elem)
            elif attribute.type == onnx.AttributeProto.TENSOR:
                _retype_tensor(attribute.t, elem)
            elif attribute.name == CASTS.get(node.op_type) and attribute.i in FLOATS:
                attribute.i = elem
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                array = np.array(attribute.f if attribute.name == "value_float" else list(attribute.floats))
                tensor = numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(elem)))
                attribute.CopyFrom(helper.make_attribute("value", tensor))


def _retype_type(kind: onnx.TypeProto, elem: int) -> None:
    if kind.HasField("tensor_type") and kind.tensor_type.elem_type in FLOATS:
        kind.tensor_type.elem_type = elem
    elif kind.HasField("sequence_type"):
        _retype_type(kind.sequence_type.elem_type, elem)
    elif kind.HasField("optional_type"):
        _retype_type(kind.optional_type.elem_type, elem)


def _retype_tensor(t: onnx.TensorProto, elem: int) -> None:
    if t.data_type in FLOATS and t.data_type != elem:
        array = numpy_helper.to_array(t).astype(helper.tensor_dtype_to_np_dtype(elem))
        name = t.name
        t.CopyFrom(numpy_helper.from_array(array, name))


def fixed_operands(model: onnx.ModelProto) -> set[str]:
    """Float graph inputs that only steer an operator."""
    users: dict[str, list[bool]] = {}
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            users.setdefault(name, []).append((node.op_type, i) in STEERING)
    return {v.name for v in model.graph.input if users.get(v.name) and all(users[v.name])}


def with_constants(model: onnx.ModelProto, feeds: Mapping[str, Any], keep: str) -> tuple[onnx.ModelProto, dict]:
    """The model with every input but ``keep`` an initializer (tensors; others stay inputs)."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    left = {}
    for v in list(out.graph.input):
        if v.name == keep or not v.type.HasField("tensor_type") or feeds.get(v.name) is None:
            left[v.name] = feeds.get(v.name)
            continue
        tensor = numpy_helper.from_array(np.asarray(feeds[v.name]), v.name)
        if v.type.tensor_type.elem_type != tensor.data_type:
            tensor = helper.make_tensor(v.name, v.type.tensor_type.elem_type, np.shape(feeds[v.name]),
                                        np.asarray(feeds[v.name]).tobytes(), raw=True)  # fmt: skip
        out.graph.initializer.append(tensor)
        out.graph.input.remove(v)
    return out, left
