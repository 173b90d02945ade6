"""Find what a classifier's file does not say: its logits, its class axis, its last layer with space.

No list of architectures: logits are the operand of the last Softmax, LogSoftmax or Sigmoid behind which only
operators follow that rename, reshape or quantise; the default layer is the last value with space through which
every path to the logits goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graph_tools.cut import between, cut_values
from graph_tools.emit import array_of, dims, rank
from graph_tools.reverse import FLOATS

_BEHIND = {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "QuantizeLinear",
           "DequantizeLinear", "Dropout", "Clip", "Log"}  # fmt: skip
_RESHAPES = {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
_PICKS = {"ArgMax": 0, "TopK": -1}
_MOVES = {"MaxPool", "AveragePool", "LpPool", "Dropout", "Identity", "Transpose", "Reshape", "Pad", "Cast",
          "QuantizeLinear", "DequantizeLinear"}  # fmt: skip
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "QLinearConv", "QLinearMatMul"}


@dataclass(frozen=True)
class Head:
    """The end of a model.

    Attributes:
        output: the graph output that is explained.
        logits: the float value with the class scores before the activation; where there is no activation, the
            output itself (or the float value it was quantised or picked from).
        activation: ``softmax``, ``sigmoid`` or ``none``.
        class_axis: axis of ``logits`` that runs over classes; None: no class axis (one number per row).
        classes: its length; None where unknown.
    """

    output: str
    logits: str
    activation: str
    class_axis: int | None
    classes: int | None


def head(model: ir.Model, output: str = "", logits: str = "", class_axis: int | None = None) -> Head:
    """The end of the model at ``output`` ("" = the first output behind an activation, else the first float one).

    ``logits`` and ``class_axis`` override what would be found.
    """
    named = {v.name: v for v in model.graph.outputs}
    candidates = [named[output]] if output else list(model.graph.outputs)
    found = [(out, *_walk_back(out)) for out in candidates]
    activated = next((f for f in found if f[2] != "none"), None)
    best = activated or next((f for f in found if f[0].dtype in FLOATS), found[0])
    out, value, activation, axis = best
    if logits:
        value = next((v for n in model.graph for v in n.outputs if v.name == logits), value)
        axis = None
    elif (unrounded := _before_quantisation(value)) is not None:
        value, axis = unrounded, None
    r = rank(value)
    if class_axis is not None:
        axis = class_axis
    if axis is None and r is not None and r >= 2:
        axis = _guess_axis(dims(value))
    if axis is not None and axis < 0 and r is not None:
        axis += r
    known = dims(value)
    classes = None if axis is None or known is None else known[axis]
    if r is not None and r < 2:
        axis, classes = None, 1
    return Head(out.name or "", value.name or "", activation, axis, classes)


def _walk_back(out: ir.Value) -> tuple[ir.Value, str, int | None]:
    """(logits, activation, class axis in the logits' coordinates or None)."""
    v, axis = out, None
    fallback: tuple[ir.Value, int | None] | None = None
    while (node := v.producer()) is not None:
        if v.dtype in FLOATS and fallback is None:
            fallback = (v, axis)
        if node.op_type in ("Softmax", "LogSoftmax"):
            return _source(node), "softmax", node.attributes.get_int("axis", -1)
        if node.op_type == "Sigmoid":
            return _source(node), "sigmoid", None
        decomposed = _decomposed_softmax(node)
        if decomposed is not None:
            return decomposed[0], "softmax", decomposed[1]
        if node.op_type in _PICKS:
            axis = node.attributes.get_int("axis", _PICKS[node.op_type])
            fallback = None
        elif node.op_type not in _BEHIND:
            break
        before = node.inputs[0]
        if before is None or before.producer() is None:  # what goes in is no score
            break
        v = before
    if fallback is not None:
        return fallback[0], "none", fallback[1]
    return (v if v.dtype in FLOATS else out), "none", axis


def _before_quantisation(v: ir.Value) -> ir.Value | None:
    """The float value in front of the QuantizeLinear/DequantizeLinear pairs that made ``v``, or None.

    A quantised score saturates: behind the pair the strongest class may sit at the end of its range, without
    gradient. Operators that only reshape may stand between the pairs.
    """
    found = None
    between = _RESHAPES | {"QuantizeLinear", "DequantizeLinear", "Transpose"}
    while (node := v.producer()) is not None and node.op_type in between:
        x = node.inputs[0]
        if x is None or x.is_initializer() or (node.op_type == "Transpose" and not _is_flat(v)):
            break
        if node.op_type == "QuantizeLinear" and x.dtype in FLOATS:
            found = x
        v = x
    return found


def _is_flat(v: ir.Value) -> bool:
    """At most one axis behind the batch is longer than 1: wherever a Transpose puts it, it runs over classes."""
    known = dims(v)
    return known is not None and sum(d != 1 for d in known[1:]) <= 1


def _source(node: ir.Node) -> ir.Value:
    """The operand, in front of a Flatten or Reshape that the opset converter put there."""
    x = node.inputs[0]
    assert x is not None
    maker = x.producer()
    if maker is not None and maker.op_type == "Flatten" and (x.name or "").startswith("_v_"):
        before = maker.inputs[0]
        if before is not None and maker.attributes.get_int("axis", 1) in (1, -1) and rank(before) in (2, None):
            return before
    return x


def _decomposed_softmax(node: ir.Node) -> tuple[ir.Value, int] | None:
    """Exp(z [− max z]) / ReduceSum(…) -> (z, axis); Reshape and Expand may stand between."""
    if node.op_type != "Div" or node.inputs[0] is None:
        return None
    top, bottom = node.inputs[0].producer(), _maker_behind(node.inputs[1])
    if top is None or bottom is None or top.op_type != "Exp" or bottom.op_type != "ReduceSum":
        return None
    if bottom.inputs[0] is not node.inputs[0]:
        return None
    axes = array_of(bottom.inputs[1]) if len(bottom.inputs) > 1 else None
    axis = int(axes.ravel()[0]) if axes is not None and axes.size == 1 else -1
    z = top.inputs[0]
    minus = None if z is None else z.producer()
    if minus is not None and minus.op_type == "Sub":
        largest = _maker_behind(minus.inputs[1])
        if largest is not None and largest.op_type == "ReduceMax" and largest.inputs[0] is minus.inputs[0]:
            z = minus.inputs[0]
    return None if z is None else (z, axis)


def _maker_behind(v: ir.Value | None) -> ir.Node | None:
    """The node that made ``v``, seen through Reshape, Expand and Max with a constant (−inf guards)."""
    node = None if v is None else v.producer()
    while node is not None and node.op_type in ("Reshape", "Expand", "Max"):
        data = [x for x in node.inputs if x is not None and not x.is_initializer()]
        node = data[0].producer() if data else None
    return node


def _guess_axis(shape: tuple[int | None, ...] | None) -> int:
    """Class axis where no operator says it: the only axis longer than 1 behind the batch, else axis 1."""
    if shape is None:
        return 1
    long = [i for i, d in enumerate(shape) if i > 0 and d != 1]
    return long[0] if len(long) == 1 else 1


def channel_axes(model: ir.Model, inputs: dict[str, int] | None = None) -> dict[str, int]:
    """Channel axis of the values with space: 1 behind Conv and pooling, moved along by Transpose.

    ``inputs`` gives the axis of graph inputs (3 for NHWC images).
    """
    axes: dict[str, int] = dict(inputs or {})
    for node in model.graph:
        out = node.outputs[0]
        x = node.inputs[0] if node.inputs else None
        known = axes.get(x.name or "") if x is not None else None
        if node.op_type in ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "BatchNormalization", "QLinearConv",
                            "GlobalAveragePool", "InstanceNormalization"):  # fmt: skip
            axes[out.name or ""] = 1
        elif node.op_type == "Transpose" and known is not None and "perm" in node.attributes:
            perm = list(node.attributes.get_ints("perm") or [])
            if known in perm:
                axes[out.name or ""] = perm.index(known)
        elif node.op_type in ("Squeeze", "Unsqueeze") and known is not None:
            shift = _axis_shift(node, known, rank(out))
            if shift is not None:
                axes[out.name or ""] = known + shift
        else:
            same = [
                axes[v.name or ""] for v in node.inputs if v is not None and v.name in axes and rank(v) == rank(out)
            ]
            if same:
                axes[out.name or ""] = same[0]
    return axes


def _axis_shift(node: ir.Node, axis: int, out_rank: int | None) -> int | None:
    """By how much Squeeze or Unsqueeze moves ``axis``; None where that cannot be read or the axis goes away."""
    given = array_of(node.inputs[1]) if len(node.inputs) > 1 else None
    if given is None or out_rank is None:
        return None
    insert = node.op_type == "Unsqueeze"
    of = out_rank if insert else out_rank + given.size
    at = sorted(int(a) + of if a < 0 else int(a) for a in given.ravel())
    if not insert:
        return None if axis in at else -sum(1 for a in at if a < axis)
    moved = axis
    for a in at:
        moved += a <= moved
    return moved - axis


def has_space(v: ir.Value) -> bool:
    """A float value of rank 3 to 5 with some dimension behind axis 0 that is more than 1 or unknown, twice over."""
    known = dims(v)
    if v.dtype not in FLOATS or known is None or not 3 <= len(known) <= 5:
        return False
    return sum(1 for d in known[1:] if d != 1) >= 2


def default_layer(model: ir.Model, end: Head) -> str | None:
    """The layer that CAM methods explain: the last cut with space before the classifier, stepped back over pooling.

    Where the last cut is the class map itself (as many channels as classes, no weights behind it), the data input of
    the convolution that made it. None where no value with space lies on every path.
    """
    named = {v.name: v for n in model.graph for v in n.outputs}
    logits = named.get(end.logits)
    if logits is None:
        return None
    axes = channel_axes(model)
    cuts = [v for v in cut_values(model, logits) if v.producer() is not None and _spatial(v, axes)]
    if not cuts:
        return None
    if cuts[-1] is logits and len(cuts) > 1:
        cuts.pop()
    layer = cuts[-1]
    if _is_class_map(model, layer, logits, end, axes):
        layer = _before_class_map(layer) or layer
    return _step_back(layer, axes).name


def _spatial(v: ir.Value, axes: dict[str, int]) -> bool:
    """A float value with space. Of three dimensions only those whose channel axis is known count: [N, tokens,
    features] is no map.
    """
    return v.dtype in FLOATS and _carries_space(v, axes) and (rank(v) != 3 or v.name in axes)


def _is_class_map(model: ir.Model, layer: ir.Value, logits: ir.Value, end: Head, axes: dict[str, int]) -> bool:
    known = dims(layer)
    if known is None or end.classes is None or known[axes.get(layer.name or "", 1)] != end.classes:
        return False
    return not any(n.op_type in _WEIGHTED for n in between(model, [layer], logits))


def _before_class_map(layer: ir.Value) -> ir.Value | None:
    node = layer.producer()
    while node is not None:
        x = node.inputs[0] if node.inputs else None
        if node.op_type in ("Conv", "ConvTranspose", "QLinearConv", "MatMul", "Gemm"):
            return x
        node = None if x is None else x.producer()
    return None


def _step_back(layer: ir.Value, axes: dict[str, int]) -> ir.Value:
    while (node := layer.producer()) is not None and node.op_type in _MOVES:
        x = node.inputs[0]
        if x is None or not _carries_space(x, axes) or x.producer() is None:
            break
        layer = x
    return layer


def _carries_space(v: ir.Value, axes: dict[str, int]) -> bool:
    """Some dimension besides batch and channels is more than 1 or unknown (of any dtype: quantised values too)."""
    known = dims(v)
    if known is None or not 3 <= len(known) <= 5:
        return False
    channel = axes.get(v.name or "", 1)
    return any(d != 1 for i, d in enumerate(known) if i not in (0, channel))
