"""Bodies of com.microsoft operators that are standard operators under another name or calling convention."""

from __future__ import annotations

import onnx_ir as ir

from graph_tools.emit import Emitter, array_of
from graph_tools.lowering.fused import given, kept
from graph_tools.lowering.table import lowering

I64 = ir.DataType.INT64.value


@lowering("com.microsoft::Pad", at_load=True)
def pad(b: Emitter, node: ir.Node) -> ir.Value:
    """Pad; ``pads`` may be [1, 2r], ``value`` may be [1]."""
    x, pads, value = (given(node, i) for i in range(3))
    fill = [] if value is None else [b.Reshape(value, b.const([], dtype=ir.DataType.INT64))]
    return b.Pad(x, b.Reshape(pads, [-1]), *fill, **kept(node, "mode"))  # type: ignore[no-any-return]


@lowering("com.microsoft::Trilu", at_load=True)
def trilu(b: Emitter, node: ir.Node) -> ir.Value:
    """Trilu."""
    return b.Trilu(*node.inputs, **kept(node, "upper"))  # type: ignore[no-any-return]


@lowering("com.microsoft::ExpandDims", at_load=True)
def expand_dims(b: Emitter, node: ir.Node) -> ir.Value:
    """Unsqueeze at one axis, an int32 scalar."""
    axis = array_of(node.inputs[1])
    at = b.Reshape(b.Cast(node.inputs[1], to=I64), [1]) if axis is None else [int(axis.reshape(-1)[0])]
    return b.Unsqueeze(node.inputs[0], at)  # type: ignore[no-any-return]


@lowering("com.microsoft::GatherND", at_load=True)
def gather_nd(b: Emitter, node: ir.Node) -> ir.Value:
    """GatherND; indices may be int32."""
    x, indices = node.inputs[:2]
    assert indices is not None
    wide = indices if indices.dtype == ir.DataType.INT64 else b.Cast(indices, to=I64)
    return b.GatherND(x, wide)  # type: ignore[no-any-return]


@lowering("com.microsoft::GridSample", at_load=True)
def grid_sample(b: Emitter, node: ir.Node) -> ir.Value:
    """GridSample; opset 20 renamed the modes."""
    mode = node.attributes.get_string("mode", "bilinear") or "bilinear"
    if b.graph.opset_imports[""] >= 20:
        mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    return b.GridSample(*node.inputs, mode=mode, **kept(node, "align_corners", "padding_mode"))  # type: ignore[no-any-return]


@lowering("com.microsoft::Range", at_load=True)
def arange(b: Emitter, node: ir.Node) -> ir.Value | None:
    """Range; the step is 1 where it is left out."""
    start, limit = (b.Reshape(v, b.const([], dtype=ir.DataType.INT64)) for v in node.inputs[:2])
    if start.dtype is None:
        return None
    step = given(node, 2)
    one = b.const(1, like=start) if step is None else b.Reshape(step, b.const([], dtype=ir.DataType.INT64))
    return b.Range(start, limit, one)  # type: ignore[no-any-return]


@lowering("com.microsoft::Unique", at_load=True)
def unique(b: Emitter, node: ir.Node) -> tuple[ir.Value, ...]:
    """Unique values in the order of their first appearance, the position of each element among them, their counts."""
    y, _, positions, counts = b.Unique(node.inputs[0], sorted=0, _outputs=4)
    return y, positions, counts


@lowering("com.microsoft::SampleOp", at_load=True)
def sample_op(b: Emitter, node: ir.Node) -> ir.Value:
    """The identity."""
    return b.Identity(node.inputs[0])  # type: ignore[no-any-return]


@lowering(
    "com.microsoft::BiasDropout", "com.microsoft::BitmaskDropout", "com.microsoft::BitmaskBiasDropout", at_load=True
)
def bias_dropout(b: Emitter, node: ir.Node) -> ir.Value | None:
    """The data + bias + residual: in inference nothing is dropped."""
    biased = node.op_type != "BitmaskDropout"
    mode = given(node, 4 if biased else 2)
    if mode is not None and (array_of(mode) is None or bool(array_of(mode).any())):  # type: ignore[union-attr]
        return None
    y = b.Add(node.inputs[0], node.inputs[1]) if biased else b.Identity(node.inputs[0])
    residual = given(node, 2) if biased else None
    return y if residual is None else b.Add(y, residual)  # type: ignore[no-any-return]


@lowering("com.microsoft::CDist", at_load=True)
def cdist(b: Emitter, node: ir.Node) -> ir.Value:
    """C[i, j] = |A_i − B_j|², or its root (metric ``euclidean``)."""
    apart = b.Sub(b.Unsqueeze(node.inputs[0], [1]), b.Unsqueeze(node.inputs[1], [0]))
    squares = b.ReduceSum(b.Mul(apart, apart), [2], keepdims=0)
    euclidean = node.attributes.get_string("metric", "sqeuclidean") == "euclidean"
    return b.Sqrt(squares) if euclidean else squares  # type: ignore[no-any-return]


@lowering("com.microsoft::Inverse", at_load=True)
def inverse(b: Emitter, node: ir.Node) -> None:
    """No body: the output's type is noted, and a rule differentiates it."""
    x, out = node.inputs[0], node.outputs[0]
    if x is not None:
        out.type, out.shape = x.type, x.shape
