"""Lift a model below opset 18 to 18 with the ONNX version converter, and repair what the converter gets wrong.

Known errors of the converter, patched here:
- Upsample and Resize below opset 11 sample at ``x / scale`` ("asymmetric"), rounding down; converted nodes lack both.
- Softmax, LogSoftmax and Hardmax below opset 13 flatten to two dimensions at ``axis``. The converter emits
  Shape, Flatten, Softmax, Reshape and hides the logits' name; where all dimensions behind ``axis`` are 1, or ``axis``
  is the last, the node means the same with the new semantics and keeps its operand.
"""

from __future__ import annotations

import onnx
from onnx import version_converter

from graph_tools.errors import UnsupportedModel

_FLATTENING = ("Softmax", "LogSoftmax", "Hardmax")
_SHELTER = "onnx_explain.shelter"  # a domain the converter leaves alone


def lift(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """``proto`` at ``opset``; a copy, tensor data shared by reference where external.

    Raises:
        UnsupportedModel: the converter has no path for an operator.
    """
    work = onnx.ModelProto()
    work.CopyFrom(proto)
    old = next(o.version for o in work.opset_import if o.domain in ("", "ai.onnx"))
    sheltered = _shelter_softmax(work) if old < 13 else {}
    resized = _resize_outputs(work) if old < 11 else set()
    work.ir_version = max(work.ir_version, 4)
    try:
        lifted = version_converter.convert_version(work, opset)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnsupportedModel(
            f"the model cannot be lifted from opset {old} to {opset}: {reason[:300]}. Black-box methods work on it"
        ) from error
    got = next((o.version for o in lifted.opset_import if o.domain in ("", "ai.onnx")), None)
    if got != opset:
        raise UnsupportedModel(f"the model stays at opset {got} where {opset} is needed")
    for node in lifted.graph.node:
        if node.domain == _SHELTER:
            node.domain = ""
            _set(node, "axis", sheltered[node.output[0]])
        elif node.op_type == "Resize" and node.output[0] in resized:
            _set(node, "coordinate_transformation_mode", "asymmetric")
            _set(node, "nearest_mode", "floor")
    for entry in [o for o in lifted.opset_import if o.domain == _SHELTER]:
        lifted.opset_import.remove(entry)
    del lifted.graph.value_info[:]
    return lifted


def _shelter_softmax(proto: onnx.ModelProto) -> dict[str, int]:
    """Move the Softmax nodes that need no flattening out of the converter's sight: output name -> new axis."""
    nodes = [n for n in proto.graph.node if n.op_type in _FLATTENING and n.domain in ("", "ai.onnx")]
    if not nodes:
        return {}
    shapes = _shapes(proto)
    kept = {}
    for node in nodes:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        shape = shapes.get(node.input[0])
        if shape is None:
            continue
        axis += len(shape) if axis < 0 else 0
        if axis == len(shape) - 1 or all(d == 1 for d in shape[axis + 1 :]):
            kept[node.output[0]] = axis
            node.domain = _SHELTER
    if kept:
        proto.opset_import.add(domain=_SHELTER, version=1)
        known = {v.name for v in (*proto.graph.value_info, *proto.graph.output)}
        types = {i.name: i for i in _inferred(proto).graph.value_info}
        for name in kept:
            if name not in known and name in types:
                proto.graph.value_info.append(types[name])
    return kept


def _shapes(proto: onnx.ModelProto) -> dict[str, list[int]]:
    """Shapes by name, unknown dimensions as 0."""
    graph = _inferred(proto).graph
    return {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.value_info, *graph.input, *graph.output)
        if v.type.tensor_type.HasField("shape")
    }


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception:  # a lie in the file: the check against the original decides
        return proto


def _resize_outputs(proto: onnx.ModelProto) -> set[str]:
    return {n.output[0] for n in proto.graph.node if n.op_type in ("Upsample", "Resize")}


def _set(node: onnx.NodeProto, name: str, value: int | str) -> None:
    for attribute in list(node.attribute):
        if attribute.name == name:
            node.attribute.remove(attribute)
    node.attribute.append(onnx.helper.make_attribute(name, value))
