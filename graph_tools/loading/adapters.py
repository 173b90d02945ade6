"""How each operator's old form is written at a newer opset (``@lifts(operator, to=opset)``)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of, dims
from graph_tools.loading.lift import Lifter, lifts, popped

_REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
               "ReduceProd", "ReduceSumSquare")  # fmt: skip


# -- attributes that became inputs


@lifts("ReduceSum", "Squeeze", "Unsqueeze", to=13)
@lifts(*_REDUCTIONS, to=18)
def axes_to_input(c: Lifter, node: ir.Node) -> None:
    axes = popped(node, "axes")
    if axes is not None:
        c.feed(node, [node.inputs[0], c.const(node, axes)])


@lifts("Split", to=13)
def split_to_input(c: Lifter, node: ir.Node) -> None:
    sizes = popped(node, "split")
    if sizes is not None:
        c.feed(node, [node.inputs[0], c.const(node, sizes)])


@lifts("Split", to=18)
def split_counts_outputs(c: Lifter, node: ir.Node) -> None:
    if len(node.inputs) < 2 or node.inputs[1] is None:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


@lifts("Slice", to=10)
def slice_to_inputs(c: Lifter, node: ir.Node) -> None:
    starts, ends, axes = (popped(node, k) for k in ("starts", "ends", "axes"))
    given = [c.const(node, starts), c.const(node, ends), None if axes is None else c.const(node, axes)]
    c.feed(node, [node.inputs[0], *given])


@lifts("Pad", to=11)
def pad_to_inputs(c: Lifter, node: ir.Node) -> None:
    pads, value, x = popped(node, "pads"), popped(node, "value", 0.0), node.inputs[0]
    fill = c.const(node, np.float32(value).reshape(()), like=x) if value else None
    c.feed(node, [x, c.const(node, pads), fill])


@lifts("Clip", to=11)
def clip_to_inputs(c: Lifter, node: ir.Node) -> None:
    x = node.inputs[0]
    ends = [popped(node, k) for k in ("min", "max")]
    limits = (-3.4028234663852886e38, 3.4028234663852886e38)  # the old defaults: no limit
    given = [
        None if end is None or end == limit else c.const(node, np.float32(end).reshape(()), like=x)
        for end, limit in zip(ends, limits, strict=True)
    ]
    c.feed(node, [x, *given])


@lifts("TopK", to=10)
def k_to_input(c: Lifter, node: ir.Node) -> None:
    c.feed(node, [node.inputs[0], c.const(node, [popped(node, "k")])])


@lifts("DFT", to=20)
def dft_axis_to_input(c: Lifter, node: ir.Node) -> None:
    length = node.inputs[1] if len(node.inputs) > 1 else None
    c.feed(node, [node.inputs[0], length, c.const(node, np.int64(popped(node, "axis", 1)))])


# -- operators that meant something else


@lifts("Softmax", "LogSoftmax", "Hardmax", to=13)
def no_flattening(c: Lifter, node: ir.Node) -> None:
    """Below 13 the input is flattened to two dimensions at ``axis``.

    Where all dimensions behind ``axis`` are 1, or ``axis`` is the last, one node with that axis means the same.
    """
    x, axis = node.inputs[0], popped(node, "axis", 1)
    known = None if x is None else dims(x)
    if known is not None:
        axis += len(known) if axis < 0 else 0
        if axis == len(known) - 1 or all(d == 1 for d in known[axis + 1 :]):
            node.attributes["axis"] = ir.AttrInt64("axis", axis)
            return
    elif axis == -1:
        node.attributes["axis"] = ir.AttrInt64("axis", -1)
        return
    flat = c.emit(node, "Flatten", [x], axis=axis)
    if known is not None and x is not None and x.dtype is not None:
        flat.type = ir.TensorType(x.dtype)
    made = c.emit(node, node.op_type, [flat], axis=1)
    c.become(node, "Reshape", [made, c.emit(node, "Shape", [x])])


@lifts("Upsample", to=10)
def upsample(c: Lifter, node: ir.Node) -> None:
    """Sampled at ``x / scale`` ("asymmetric"), rounded down."""
    mode, scales = popped(node, "mode", "nearest"), popped(node, "scales")
    given = node.inputs[1] if scales is None else c.const(node, np.asarray(scales, np.float32))
    _asymmetric(c, node, mode, given)


@lifts("Resize", to=11)
def resize_10(c: Lifter, node: ir.Node) -> None:
    _asymmetric(c, node, popped(node, "mode", "nearest"), node.inputs[1])


def _asymmetric(c: Lifter, node: ir.Node, mode: str, scales: ir.Value | None) -> None:
    """Nearest rounds down where it enlarges and up where it shrinks (so ONNX Runtime): one Resize each."""
    x, fixed = node.inputs[0], constant(scales)
    how = {"mode": "linear" if mode == "bilinear" else mode, "coordinate_transformation_mode": "asymmetric"}
    if mode != "nearest" or (fixed is not None and (fixed >= 1).all()):
        c.become(node, "Resize", [x, None, scales], **how, nearest_mode="floor")
        return
    if fixed is not None:
        up, down = (c.const(node, f(fixed, np.float32(1))) for f in (np.maximum, np.minimum))
    else:
        up, down = (c.emit(node, op, [scales, c.const(node, np.float32(1))]) for op in ("Max", "Min"))
    if fixed is None or not (fixed <= 1).all():
        x = c.emit(node, "Resize", [x, None, up], **how, nearest_mode="floor")
    c.become(node, "Resize", [x, None, down], **how, nearest_mode="ceil")


@lifts("Resize", to=13)
def resize_11(c: Lifter, node: ir.Node) -> None:
    """Opset 11 and 12 wanted an empty ``scales`` beside ``sizes``, and a ``roi`` that most modes ignore."""
    x, roi, scales, sizes = [*node.inputs, None, None, None][:4]
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    if mode == "tf_half_pixel_for_nn":  # x = (i + 0.5) / scale; rounded down it is half_pixel rounded to nearest
        if node.attributes.get_string("nearest_mode", "round_prefer_floor") != "floor":
            raise c.refuse(node, "tf_half_pixel_for_nn is read with nearest_mode=floor only")
        node.attributes["coordinate_transformation_mode"] = ir.AttrString(
            "coordinate_transformation_mode", "half_pixel"
        )
        node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "round_prefer_ceil")
    c.feed(node, [x, roi if mode == "tf_crop_and_resize" else None, None if sizes is not None else scales, sizes])


@lifts("Dropout", to=12)
def dropout(c: Lifter, node: ir.Node) -> None:
    """At inference the identity; the mask (opset 7–9: of the data's type) was all False in ONNX Runtime."""
    popped(node, "ratio")
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        raise c.refuse(node, f"its mask {node.outputs[1].name!r} is read")
    node.resize_outputs(1)


@lifts("BatchNormalization", to=9)
def not_spatial(c: Lifter, node: ir.Node) -> None:
    """``spatial=0``: scale, bias, mean and variance per element of a row: (x − mean) / √(var + ε) · scale + bias."""
    if popped(node, "spatial", 1):
        return
    _inference_only(c, node)
    x, scale, bias, mean, variance = node.inputs
    epsilon = c.const(node, np.float32(popped(node, "epsilon", 1e-5)).reshape(()), like=x)
    deviation = c.emit(node, "Sqrt", [c.emit(node, "Add", [variance, epsilon])])
    normal = c.emit(node, "Div", [c.emit(node, "Sub", [x, mean]), deviation])
    c.become(node, "Add", [c.emit(node, "Mul", [normal, scale]), bias])


@lifts("BatchNormalization", to=14)
def batch_normalization(c: Lifter, node: ir.Node) -> None:
    _inference_only(c, node)


def _inference_only(c: Lifter, node: ir.Node) -> None:
    """Further outputs meant training mode; those that nobody reads are dropped."""
    for v in node.outputs[1:]:
        if v.uses() or v.is_graph_output():
            raise c.refuse(node, f"its output {v.name!r} is computed in training only")
    node.resize_outputs(1)


@lifts("Scatter", to=11)
def scatter(c: Lifter, node: ir.Node) -> None:
    node.op_type = "ScatterElements"


@lifts("RoiAlign", to=16)
def roi_align(c: Lifter, node: ir.Node) -> None:
    mode = "coordinate_transformation_mode"
    node.attributes[mode] = ir.AttrString(mode, "output_half_pixel")


@lifts("GridSample", to=20)
def grid_sample(c: Lifter, node: ir.Node) -> None:
    mode = node.attributes.get_string("mode", "bilinear")
    names = {"bilinear": "linear", "bicubic": "cubic"}
    node.attributes["mode"] = ir.AttrString("mode", names.get(mode, mode))


@lifts("GroupNormalization", to=21)
def group_normalization(c: Lifter, node: ir.Node) -> None:
    """Scale and bias per group became scale and bias per channel: each is repeated for the group's channels."""
    x, scale, bias = node.inputs
    groups = node.attributes.get_int("num_groups", 1)
    channels = c.emit(node, "Shape", [x], start=1, end=2)
    wide = c.emit(
        node, "Concat", [c.const(node, [groups]), c.emit(node, "Div", [channels, c.const(node, [groups])])], axis=0
    )
    flat = c.const(node, [-1])
    each = [
        c.emit(
            node, "Reshape", [c.emit(node, "Expand", [c.emit(node, "Unsqueeze", [v, c.const(node, [1])]), wide]), flat]
        )
        for v in (scale, bias)
    ]
    c.feed(node, [x, *each])


# -- ReLU-era experiments that ONNX Runtime still runs below opset 10: see graph_tools.loading.experimental


def constant(v: ir.Value | None) -> np.ndarray | None:
    """The array of an initializer or Constant node, or None."""
    found = array_of(v)
    if found is not None or v is None:
        return found
    producer = v.producer()
    if producer is None or producer.op_type != "Constant" or "value" not in producer.attributes:
        return None
    return np.asarray(producer.attributes["value"].as_tensor().numpy())
