"""Adapters of what is oldest: opset 6, ai.onnx's experiments (ONNX Runtime runs them below opset 10), Scan 8."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from graph_tools.emit import rank, static_shape
from graph_tools.loading.lift import Lifter, lifts, popped


def _scalar(c: Lifter, node: ir.Node, name: str, default: float, like: ir.Value | None) -> ir.Value:
    return c.const(node, np.float32(popped(node, name, default)).reshape(()), like=like)


@lifts("Affine", to=10)
def affine(c: Lifter, node: ir.Node) -> None:
    """Alpha · x + beta"""
    x = node.inputs[0]
    alpha, beta = _scalar(c, node, "alpha", 1.0, x), _scalar(c, node, "beta", 0.0, x)
    c.become(node, "Add", [c.emit(node, "Mul", [x, alpha]), beta])


@lifts("Scale", to=10)
def scale(c: Lifter, node: ir.Node) -> None:
    """Scale · x"""
    x = node.inputs[0]
    c.become(node, "Mul", [x, _scalar(c, node, "scale", 1.0, x)])


@lifts("ImageScaler", to=10)
def image_scaler(c: Lifter, node: ir.Node) -> None:
    """Scale · x + bias of the channel"""
    x = node.inputs[0]
    bias = np.asarray(popped(node, "bias", [0.0]), np.float32).reshape(1, -1, 1, 1)
    scaled = c.emit(node, "Mul", [x, _scalar(c, node, "scale", 1.0, x)])
    c.become(node, "Add", [scaled, c.const(node, bias, like=x)])


@lifts("ParametricSoftplus", to=10)
def parametric_softplus(c: Lifter, node: ir.Node) -> None:
    """Alpha · log(1 + exp(beta · x))"""
    x = node.inputs[0]
    alpha, beta = _scalar(c, node, "alpha", 1.0, x), _scalar(c, node, "beta", 1.0, x)
    c.become(node, "Mul", [c.emit(node, "Softplus", [c.emit(node, "Mul", [x, beta])]), alpha])


@lifts("ScaledTanh", to=10)
def scaled_tanh(c: Lifter, node: ir.Node) -> None:
    """Alpha · tanh(beta · x)"""
    x = node.inputs[0]
    alpha, beta = _scalar(c, node, "alpha", 1.0, x), _scalar(c, node, "beta", 1.0, x)
    c.become(node, "Mul", [c.emit(node, "Tanh", [c.emit(node, "Mul", [x, beta])]), alpha])


@lifts("Crop", to=10)
def crop(c: Lifter, node: ir.Node) -> None:
    """Of an NCHW image: without ``border`` (left, top, right, bottom), or ``scale`` (height, width) from its corner."""
    border, size = popped(node, "border", []), popped(node, "scale")
    if len(border) != 4:
        raise c.refuse(node, f"its border has {len(border)} numbers, where left, top, right and bottom are needed")
    left, top, right, bottom = border
    ends = [-bottom or 2**31, -right or 2**31] if not size else [top + size[0], left + size[1]]
    given = [c.const(node, [top, left]), c.const(node, ends), c.const(node, [2, 3])]
    c.become(node, "Slice", [node.inputs[0], *given])


@lifts("DynamicSlice", to=10)
def dynamic_slice(c: Lifter, node: ir.Node) -> None:
    c.become(node, "Slice", list(node.inputs))


@lifts("MeanVarianceNormalization", to=9)
def mean_variance_normalization(c: Lifter, node: ir.Node) -> None:
    """(x − mean) / deviation over rows and space of each channel, or of all channels: what ONNX Runtime computes."""
    x = node.inputs[0]
    axes = c.const(node, [0, 1, 2, 3] if popped(node, "across_channels", 0) else [0, 2, 3])
    centred = c.emit(node, "Sub", [x, c.emit(node, "ReduceMean", [x, axes], keepdims=1)])
    if not popped(node, "normalize_variance", 1):
        c.become(node, "Identity", [centred])
        return
    variance = c.emit(node, "ReduceMean", [c.emit(node, "Mul", [centred, centred]), axes], keepdims=1)
    c.become(node, "Div", [centred, c.emit(node, "Sqrt", [variance])])


@lifts("Scan", to=9)
def scan_8(c: Lifter, node: ir.Node) -> None:
    """A batch of scans: one Scan over the rows, whose body scans each row (axes one lower)."""
    if node.inputs[0] is not None:
        raise c.refuse(node, "it has sequence_lens (rows of different lengths)")
    states = list(node.inputs[1:])
    scanned = node.attributes["num_scan_inputs"].as_int()
    directions: list[int] = popped(node, "directions", [0] * scanned)
    body = node.attributes["body"].as_graph()
    rows = [_row(v, i, node) for i, v in enumerate(states)]
    node.attributes.pop("body")
    inner = _scan(rows, len(node.outputs), body, scanned, scan_input_directions=directions)
    for i, v in enumerate(inner.outputs):
        v.name = f"{node.name}/row_out_{i}"
    inner.name = f"{node.name}/row"
    outer_body = ir.Graph(rows, list(inner.outputs), nodes=[inner], name=f"{node.name}/rows")
    c.feed(node, states)
    node.attributes["body"] = ir.AttrGraph("body", outer_body)
    node.attributes["num_scan_inputs"] = ir.AttrInt64("num_scan_inputs", len(states))


def _scan(inputs: list[ir.Value], outputs: int, body: ir.Graph, scanned: int, **attributes: Any) -> ir.Node:
    attrs = [ir.AttrGraph("body", body), ir.AttrInt64("num_scan_inputs", scanned)]
    return ir.Node("", "Scan", inputs, [*attrs, *ir.convenience.convert_attributes(attributes)], num_outputs=outputs)


def _row(v: ir.Value | None, i: int, node: ir.Node) -> ir.Value:
    """One row of ``v`` as an input of the outer body."""
    row = ir.Value(name=f"{node.name}/row_in_{i}")
    if v is not None and v.dtype is not None:
        row.type = ir.TensorType(v.dtype)
        row.shape = None if v.shape is None else ir.Shape(list(v.shape)[1:])
    return row


@lifts("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", to=7)
def broadcast(c: Lifter, node: ir.Node) -> None:
    """``broadcast=1, axis=k``: the second operand is laid along the first one's dimensions from ``k`` on."""
    axis, allowed = popped(node, "axis"), popped(node, "broadcast", 0)
    a, b = node.inputs
    if axis is None or not allowed or a is None or b is None:
        return
    high, low = rank(a), rank(b)
    if high is None or low is None:
        raise c.refuse(node, "its operands are broadcast along an axis, and their ranks are unknown")
    axis += high if axis < 0 else 0
    if behind := high - axis - low:
        c.feed(node, [a, c.emit(node, "Unsqueeze", [b, c.const(node, list(range(low, low + behind)))])])


@lifts("PRelu", to=7)
def prelu(c: Lifter, node: ir.Node) -> None:
    """One slope per channel, or one for all."""
    x, slope = node.inputs
    high, known = (None, None) if x is None or slope is None else (rank(x), static_shape(slope))
    if high is None or known is None:
        raise c.refuse(node, "the shape of its slope is unknown")
    if known and known[0] > 1 and high > 2:
        c.feed(node, [x, c.emit(node, "Unsqueeze", [slope, c.const(node, list(range(1, high - 1)))])])


@lifts("Gemm", "RNN", "LSTM", "GRU", to=7)
def dropped(c: Lifter, node: ir.Node) -> None:
    """Attributes that said what the operands and outputs say themselves."""
    for name in ("broadcast", "output_sequence"):
        popped(node, name)


@lifts("Upsample", to=7)
def upsample_1(c: Lifter, node: ir.Node) -> None:
    scales = [1.0, 1.0, popped(node, "height_scale"), popped(node, "width_scale")]
    node.attributes["scales"] = ir.AttrFloat32s("scales", scales)
