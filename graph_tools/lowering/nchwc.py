"""ONNX Runtime's blocked layout (com.microsoft.nchwc): bodies that bring a file saved behind it back to NCHW.

A blocked value [N, C, H, W] lies in memory as [N, C/b, H, W, b] with C padded to a multiple of the block b (8 or 16
floats, the width of the vector unit of the machine that saved the file). Only the layout differs, so the same
operators on plain NCHW compute the same: reorders become the identity, weights are brought back to OIHW. The padded
channels stay until ReorderOutput cuts them off; they have zero weights.

The file does not say what b was. Padding tells where a channel count is no multiple of 16; else it is the block that
ONNX Runtime has on this machine, the only one with which the file itself runs right.
"""

from __future__ import annotations

import platform

import numpy as np
import onnx_ir as ir

from graph_tools.emit import Emitter, array_of, dims
from graph_tools.lowering.fused import activate, channels_first, channels_last, given, kept
from graph_tools.lowering.table import lowering

DOMAIN = "com.microsoft.nchwc"
_POOL = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")
_KEEP_BLOCKS = {"Relu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "LeakyRelu", "Clip", "Gelu", "Mul", "Add", "Sum",
                "Concat"}  # fmt: skip
_MARK = "graph_tools.nchwc_block"


@lowering(f"{DOMAIN}::ReorderInput", at_load=True)
def reorder_input(b: Emitter, node: ir.Node) -> ir.Value | None:
    """The identity on NCHW (from NHWC where ``channels_last``), padded with zeros to a multiple of the block."""
    x = node.inputs[0]
    assert x is not None
    x = channels_first(b, x, 4) if node.attributes.get_int("channels_last", 0) else b.Identity(x)
    assert x is not None
    known = dims(x)
    channels = known[1] if known is not None and len(known) == 4 else None
    missing = -channels % block_of(b.model) if channels is not None else 0
    if missing:
        x = b.Pad(x, [0, 0, 0, 0, 0, missing, 0, 0])
    _join_split_channels(node.outputs[0])
    return x


@lowering(f"{DOMAIN}::ReorderOutput", at_load=True)
def reorder_output(b: Emitter, node: ir.Node) -> ir.Value:
    """The first ``channels`` channels; NHWC where ``channels_last``."""
    x = node.inputs[0]
    assert x is not None
    channels = node.attributes.get_int("channels", 0)
    known = dims(x)
    if channels and (known is None or known[1] != channels):
        x = b.Slice(x, [0], [channels], [1])
    if node.attributes.get_int("channels_last", 0):
        return channels_last(b, x, 4)
    return b.Identity(x)  # type: ignore[no-any-return]


@lowering(f"{DOMAIN}::Conv", at_load=True)
def conv(b: Emitter, node: ir.Node) -> ir.Value | None:
    """activation(Conv(X, W, B) + Sum) with the weights in OIHW."""
    x, w, bias, z = (given(node, i) for i in range(4))
    stored = array_of(w)
    if w is None or stored is None or stored.ndim != 4:
        return None
    block = block_of(b.model)
    group = node.attributes.get_int("group", 1)
    plain = b.initializer(b.fresh(f"{w.name}_oihw"), unblock(stored, group, block))
    missing = stored.shape[1] * group - _channels(x, stored.shape[1] * group)
    if missing > 0 and x is not None:
        x = b.Pad(x, [0, 0, 0, 0, 0, missing, 0, 0])
    attributes = kept(node, "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    y = b.Conv(x, plain, *([] if bias is None else [bias]), **attributes)
    y = y if z is None else b.Add(y, z)
    numbers = node.attributes.get_floats("activation_params") or ()
    _join_split_channels(node.outputs[0])
    return activate(b, y, node.attributes.get_string("activation") or "", numbers)


@lowering(
    f"{DOMAIN}::MaxPool",
    f"{DOMAIN}::AveragePool",
    f"{DOMAIN}::GlobalAveragePool",
    f"{DOMAIN}::GlobalMaxPool",
    at_load=True,
)
def pool(b: Emitter, node: ir.Node) -> ir.Value:
    """The same pooling on NCHW."""
    names = () if node.op_type.startswith("Global") else _POOL
    extra = ("count_include_pad",) if node.op_type == "AveragePool" else ()
    _join_split_channels(node.outputs[0])
    return getattr(b, node.op_type)(node.inputs[0], **kept(node, *names, *extra))  # type: ignore[no-any-return]


@lowering(f"{DOMAIN}::Upsample", at_load=True)
def upsample(b: Emitter, node: ir.Node) -> ir.Value:
    """Resize by whole factors: nearest (asymmetric, rounded down) or linear."""
    scales = node.attributes.get_ints("scales") or [1, 1, 1, 1]
    mode = node.attributes.get_string("mode", "nearest") or "nearest"
    where = node.attributes.get_string("coordinate_transformation_mode") or "asymmetric"
    nearest = {"nearest_mode": "floor"} if mode == "nearest" else {}
    factors = b.const(np.asarray(scales, np.float32))
    _join_split_channels(node.outputs[0])
    return b.Resize(node.inputs[0], None, factors, mode=mode, coordinate_transformation_mode=where, **nearest)  # type: ignore[no-any-return]


def unblock(stored: np.ndarray, group: int, block: int) -> np.ndarray:
    """Convolution weights in OIHW from [O/b, I, H, W, b], or [O/b, I/b, H, W, b of I, b of O]; the same dims.

    The first form is that of depthwise convolutions and of those whose input is not blocked (fewer channels than b).
    """
    o, i, h, w = stored.shape
    if i < block:
        return np.ascontiguousarray(stored.reshape(o // block, i, h, w, block).transpose(0, 4, 1, 2, 3)).reshape(
            o, i, h, w
        )
    split = stored.reshape(o // block, i // block, h, w, block, block)
    return np.ascontiguousarray(split.transpose(0, 5, 1, 4, 2, 3)).reshape(o, i, h, w)


def block_of(model: ir.Model) -> int:
    """The block of the machine that saved the file: 8 or 16."""
    if _MARK not in model.meta:
        model.meta[_MARK] = _find_block(model)
    return int(model.meta[_MARK])


def _find_block(model: ir.Model) -> int:
    for node in model.graph.all_nodes():
        if node.domain != DOMAIN:
            continue
        if node.op_type == "Conv":
            stored = array_of(node.inputs[1])
            if stored is not None and stored.shape[0] % 16:
                return 8
            if stored is not None and 8 < stored.shape[1] < 16:  # not blocked: fewer channels than one block
                return 16
        if node.op_type == "ReorderOutput":
            channels = node.attributes.get_int("channels", 0)
            maker = None if node.inputs[0] is None else node.inputs[0].producer()
            stored = array_of(maker.inputs[1]) if maker is not None and maker.op_type == "Conv" else None
            if channels and stored is not None and stored.shape[0] > channels + (-channels % 8):
                return 16
    return _own_block()


def _own_block() -> int:
    """What ONNX Runtime uses here: 16 with AVX-512 and on 64-bit ARM, else 8."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return 16
    features = getattr(getattr(np, "_core", None), "_multiarray_umath", None)
    return 16 if getattr(features, "__cpu_features__", {}).get("AVX512F") else 8


def _channels(x: ir.Value | None, otherwise: int) -> int:
    known = None if x is None else dims(x)
    return otherwise if known is None or known[1] is None else known[1]


def _join_split_channels(v: ir.Value) -> None:
    """Undo the Reshape [0, C/b, 0, 0, b] with which ONNX Runtime adds blocked values whose sizes it could not compare.

    On NCHW it would mix up channels where one operand is broadcast; the Reshape [0, C, 0, 0] behind the sum then
    changes nothing. Followed through the elementwise operators that take blocked values.
    """
    waiting, seen = [v], set()
    while waiting:
        v = waiting.pop()
        for user, index in tuple(v.uses()):
            if user in seen or user.domain or (user.op_type == "Reshape" and index > 0):
                continue
            shape = array_of(user.inputs[1]) if user.op_type == "Reshape" else None
            if shape is not None and shape.size == 5 and not shape[[0, 2, 3]].any() and shape[4] in (8, 16):
                ir.convenience.replace_all_uses_with(user.outputs[0], v)
                if user.graph is not None:
                    user.graph.remove(user, safe=True)
                waiting.append(v)
            elif user.op_type in _KEEP_BLOCKS or (shape is not None and shape.size == 4 and not shape[[0, 2, 3]].any()):
                seen.add(user)
                waiting.extend(user.outputs)
