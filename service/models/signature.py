"""What a file takes and gives, read off its proto: inputs, whether rows come first, a graph that hands inputs on."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from graph_tools import model as models
from graph_tools.errors import UnsupportedModel
from service.models import preprocess


def check_rows(proto: onnx.ModelProto, output: str) -> None:
    """Refuse a file whose explained output does not have the batch in front.

    Raises:
        UnsupportedModel: the output is one number, or its first dimension is not that of the inputs.
    """
    fed = [shape[0] for _, _, shape in own_inputs(proto) if shape]
    declared = next((v.type.tensor_type for v in proto.graph.output if v.name == output), None)
    if declared is None or not fed or not declared.HasField("shape"):
        return
    dims = declared.shape.dim
    first = dims[0].dim_value if len(dims) and dims[0].HasField("dim_value") else None
    if not len(dims) or (first is not None and first not in (1, fed[0]) and first > 0):
        made = "one number for all rows" if not len(dims) else f"{first} first"
        raise UnsupportedModel(
            f"the batch is not the first dimension: the input has {fed[0]} there, output {output!r} {made}; export the "
            "model with a leading batch dimension in inputs and outputs"
        )


def own_inputs(proto: onnx.ModelProto) -> list[tuple[str, str, Any]]:
    """(name, dtype, shape) of the graph's own inputs; what is no tensor has shape None."""
    held = {t.name for t in proto.graph.initializer}
    found = []
    for v in proto.graph.input:
        if v.name in held:
            continue
        tensor = v.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]
        known = v.type.HasField("tensor_type") and tensor.HasField("shape")
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type else ""
        found.append((v.name, kind, dims if known else None))
    return found


def identity(inputs: Any, primary: str) -> ir.Model:
    """A graph that hands the model's own inputs on (the composer of tensor inputs covers ``primary``)."""
    protos = []
    for v in inputs:
        elem = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(v.dtype))
        shape = [f"{v.name}_{i}" for i in range(len(v.shape))]
        protos.append((onnx.helper.make_tensor_value_info(v.name, elem, shape), v.name, elem, shape))
    one = next(p for p in protos if p[1] == primary)
    node = onnx.helper.make_node("Identity", [primary], [preprocess.READY])
    graph = onnx.helper.make_graph(
        [node], "identity", [one[0]], [onnx.helper.make_tensor_value_info(preprocess.READY, one[2], one[3])]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    return models.load(model)
