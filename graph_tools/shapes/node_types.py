"""Types and shapes of one node's outputs, by the standard's inference; the same question is asked of C++ once.

Building a gradient asks it for every node, and a deep net repeats its layers: most answers are remembered. (Protos are
written by ``ir.serde.serialize_…_into``: ``ir.to_proto`` spends ten times as long on finding out what it was given.)
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import onnx
import onnx_ir as ir

Found = list[tuple[ir.TypeProtocol, ir.Shape | None] | None]
_SEEN = 64  # elements of a constant operand that inference may look at
_PLAIN = {
    ir.AttributeType.FLOAT, ir.AttributeType.INT, ir.AttributeType.STRING, ir.AttributeType.FLOATS,
    ir.AttributeType.INTS, ir.AttributeType.STRINGS,
}  # fmt: skip
_MOST = 1 << 16
_remembered: dict[Hashable, list[tuple[ir.DataType, ir.Shape | None] | None]] = {}


def node_types(node: ir.Node, opsets: Mapping[str, int]) -> Found:
    """What the standard infers for each output of ``node``; None where nothing.

    Raises:
        onnx.defs.SchemaError: an operator that is not in the standard.
        onnx.shape_inference.InferenceError: operands that do not fit the operator.
    """
    key = _key(node, opsets)
    if key is None:
        return _infer(node, opsets)
    known = _remembered.get(key)
    if known is not None:
        return [None if k is None else (ir.TensorType(k[0]), k[1]) for k in known]
    found = _infer(node, opsets)
    if all(f is None or isinstance(f[0], ir.TensorType) for f in found):
        if len(_remembered) >= _MOST:
            _remembered.clear()
        _remembered[key] = [None if f is None else (f[0].dtype, f[1]) for f in found]
    return found


def _infer(node: ir.Node, opsets: Mapping[str, int]) -> Found:
    schema = onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
    types: dict[str, onnx.TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for v in node.inputs:
        if v is None or not v.name or v.type is None or v.name in types:
            continue
        info = onnx.ValueInfoProto()
        ir.serde.serialize_value_into(info, v)
        types[v.name] = info.type
        if _looked_at(v):
            data[v.name] = tensor = onnx.TensorProto()
            ir.serde.serialize_tensor_into(tensor, v.const_value)  # type: ignore[arg-type]
    proto = onnx.NodeProto()
    ir.serde.serialize_node_into(proto, node)
    ids = [onnx.helper.make_opsetid(d, o) for d, o in opsets.items()]
    found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, None, ids)
    return [read(found[v.name]) if v.name in found else None for v in node.outputs]


def read(found: onnx.TypeProto) -> tuple[ir.TypeProtocol, ir.Shape | None] | None:
    """Type and shape of an inferred ``TypeProto``; None where it says nothing."""
    which = found.WhichOneof("value")
    if which is None or (which == "tensor_type" and not found.tensor_type.elem_type):
        return None
    kind = ir.serde.deserialize_type_proto_for_type(found)
    return None if kind is None else (kind, ir.serde.deserialize_type_proto_for_shape(found))


def _looked_at(v: ir.Value) -> bool:
    data = v.const_value
    return data is not None and data.dtype == ir.DataType.INT64 and data.size <= _SEEN


def _key(node: ir.Node, opsets: Mapping[str, int]) -> Hashable | None:
    """Everything that the answer depends on; None where that is too much to compare."""
    attributes: list[Any] = []
    for name, a in node.attributes.items():
        if a.type not in _PLAIN or a.is_ref():
            return None
        attributes.append((name, tuple(a.value) if isinstance(a.value, list | tuple) else a.value))
    operands: list[Any] = []
    for v in node.inputs:
        if v is None or v.type is None:
            operands.append(v is None)
            continue
        if not isinstance(v.type, ir.TensorType):
            return None
        shape = None if v.shape is None else tuple(d if isinstance(d, int) else d.value or "" for d in v.shape)
        operands.append((v.type.dtype, shape, v.const_value.tobytes() if _looked_at(v) else None))  # type: ignore[union-attr]
    opset = opsets.get(node.domain, 1)
    made = tuple(bool(v.name) for v in node.outputs)
    return node.domain, node.op_type, opset, tuple(attributes), tuple(operands), made
