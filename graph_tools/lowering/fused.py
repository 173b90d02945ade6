"""Bodies of the fused float operators that ONNX Runtime's optimiser writes (com.microsoft), in standard operators.

Sources: ContribOperators.md of ONNX Runtime, and its kernels. The channels-last operators (Nhwc…) get their
Transposes back; ONNX Runtime fuses what remains again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from graph_tools.emit import Emitter, array_of, rank
from graph_tools.lowering.table import lowering

WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


def kept(node: ir.Node, *names: str) -> dict[str, Any]:
    """The attributes of these names that the node has, as Python values."""
    return {name: node.attributes[name].value for name in names if name in node.attributes}


def given(node: ir.Node, index: int) -> ir.Value | None:
    """Operand ``index``; None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def activate(b: Emitter, x: ir.Value, name: str, numbers: Sequence[float]) -> ir.Value | None:
    """``name``(x) as ONNX Runtime spells fused activations; ``numbers`` in the order of ``activation_params``.

    Returns:
        None for an activation that no fusion writes.
    """
    keys = {
        "": (), "Relu": (), "Sigmoid": (), "Tanh": (), "HardSwish": (), "Softplus": (), "Softsign": (),
        "LeakyRelu": ("alpha",), "Elu": ("alpha",), "ThresholdedRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"),
    }.get(name)  # fmt: skip
    if name == "Clip" and len(numbers) == 2:
        low, high = numbers
        return b.Clip(x, float(low), float(high))  # type: ignore[no-any-return]
    if keys is None:
        return None
    if not name:
        return x
    return getattr(b, name)(x, **dict(zip(keys, map(float, numbers), strict=False)))  # type: ignore[no-any-return]


def _activated(b: Emitter, x: ir.Value, node: ir.Node) -> ir.Value | None:
    """The node's ``activation`` with its ``activation_params`` applied to x."""
    numbers = node.attributes.get_floats("activation_params") or ()
    return activate(b, x, node.attributes.get_string("activation") or "", numbers)


@lowering("com.microsoft::FusedConv", at_load=True)
def fused_conv(b: Emitter, node: ir.Node) -> ir.Value | None:
    """Y = activation(Conv(X, W, B) + Z)."""
    x, w, bias, z = (given(node, i) for i in range(4))
    y = b.Conv(x, w, *([] if bias is None else [bias]), **kept(node, *WINDOW))
    return _activated(b, y if z is None else b.Add(y, z), node)


@lowering("com.microsoft::NhwcFusedConv", "com.microsoft::NhwcConv", at_load=True)
def nhwc_conv(b: Emitter, node: ir.Node) -> ir.Value | None:
    """FusedConv on NHWC images; the weights of NhwcConv are OHWI, those of NhwcFusedConv OIHW."""
    x, w, bias, z = (given(node, i) for i in range(4))
    if x is None or w is None or rank(w) is None:
        return None
    r = rank(w) or 0
    if node.op_type == "NhwcConv":
        w = b.Transpose(w, perm=[0, r - 1, *range(1, r - 1)])
    y = b.Conv(channels_first(b, x, r), w, *([] if bias is None else [bias]), **kept(node, *WINDOW))
    if z is not None:
        y = b.Add(y, channels_first(b, z, r))
    out = _activated(b, y, node)
    return None if out is None else channels_last(b, out, r)


@lowering("com.microsoft::NhwcMaxPool", at_load=True)
def nhwc_max_pool(b: Emitter, node: ir.Node) -> ir.Value:
    """MaxPool on NHWC images (8-bit integers on the CPU)."""
    x = node.inputs[0]
    assert x is not None
    attributes = kept(node, "auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")
    r = len(attributes["kernel_shape"]) + 2
    return channels_last(b, b.MaxPool(channels_first(b, x, r), **attributes), r)


def channels_first(b: Emitter, x: ir.Value, r: int) -> ir.Value:
    """[N, …, C] of ``r`` axes as [N, C, …]."""
    return b.Transpose(x, perm=[0, r - 1, *range(1, r - 1)])  # type: ignore[no-any-return]


def channels_last(b: Emitter, x: ir.Value, r: int) -> ir.Value:
    """[N, C, …] of ``r`` axes as [N, …, C]."""
    return b.Transpose(x, perm=[0, *range(2, r), 1])  # type: ignore[no-any-return]


@lowering("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul", at_load=True)
def fused_matmul(b: Emitter, node: ir.Node) -> ir.Value | None:
    """Y = alpha · op(A) · op(B); op transposes the last two axes (transA), and moves axis 0 behind the batch axes
    (transBatchA).
    """
    return _product(b, node)


def _product(b: Emitter, node: ir.Node) -> ir.Value | None:
    x, w = _turned(b, node, 0, "A"), _turned(b, node, 1, "B")
    if x is None or w is None:
        return None
    alpha = node.attributes.get_float("alpha", 1.0)
    y = b.MatMul(x, w)
    return y if alpha == 1.0 else b.Mul(y, b.const(alpha, like=y))  # type: ignore[no-any-return]


def _turned(b: Emitter, node: ir.Node, index: int, letter: str) -> ir.Value | None:
    """Operand ``index`` of FusedMatMul with its flags applied; None where the rank that this takes is unknown."""
    v = node.inputs[index]
    assert v is not None
    swap = node.attributes.get_int(f"trans{letter}", 0)
    move = node.attributes.get_int(f"transBatch{letter}", 0)
    r = rank(v)
    if not swap and not move:
        return v
    if r is None:
        return None
    order = list(range(r))
    if move and r > 2:
        order = [*range(1, r - 1), 0, r - 1]
    if swap and r > 1:
        order[-2:] = order[:-3:-1]
    return v if order == sorted(order) else b.Transpose(v, perm=order)


@lowering("com.microsoft::FusedMatMulActivation", at_load=True)
def fused_matmul_activation(b: Emitter, node: ir.Node) -> ir.Value | None:
    """Y = activation(FusedMatMul(A, B))."""
    y = _product(b, node)
    name = node.attributes.get_string("activation") or ""
    if y is not None and name == "Softmax":
        return b.Softmax(y, axis=node.attributes.get_int("activation_axis", -1))  # type: ignore[no-any-return]
    return None if y is None else activate(b, y, name, _numbers(node))


@lowering("com.microsoft::FusedGemm", at_load=True)
def fused_gemm(b: Emitter, node: ir.Node) -> ir.Value | None:
    """Y = activation(Gemm(A, B, C))."""
    x, w, c = (given(node, i) for i in range(3))
    y = b.Gemm(x, w, *([] if c is None else [c]), **kept(node, "alpha", "beta", "transA", "transB"))
    return activate(b, y, node.attributes.get_string("activation") or "", _numbers(node))


def _numbers(node: ir.Node) -> list[float]:
    """``activation_alpha``, ``…_beta``, ``…_gamma`` as far as they are given."""
    found = kept(node, "activation_alpha", "activation_beta", "activation_gamma")
    return [float(v) for v in found.values()]


@lowering("com.microsoft::ConvTransposeWithDynamicPads", at_load=True)
def conv_transpose_with_dynamic_pads(b: Emitter, node: ir.Node) -> ir.Value | None:
    """ConvTranspose whose ``pads`` are an operand: without pads, then the ends cut off."""
    x, w, pads, bias = (given(node, i) for i in range(4))
    attributes = kept(node, "dilations", "group", "kernel_shape", "output_padding", "strides")
    if node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    rest = [] if bias is None else [bias]
    if pads is None:
        return b.ConvTranspose(x, w, *rest, **attributes)  # type: ignore[no-any-return]
    known = array_of(pads)
    if known is not None:
        return b.ConvTranspose(x, w, *rest, **attributes, pads=[int(p) for p in known])  # type: ignore[no-any-return]
    y = b.ConvTranspose(x, w, *rest, **attributes)
    r = rank(w) if w is not None else None
    if r is None:
        return None
    begin, end = b.Split(pads, num_outputs=2, axis=0, _outputs=2)
    last = b.Sub(b.Slice(b.Shape(y), [2], [r]), end)
    return b.Slice(y, begin, last, list(range(2, r)))  # type: ignore[no-any-return]


INTERNAL = "com.ms.internal.nhwc"
_CHANNELS_LAST = (
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalLpPool",
    "GlobalMaxPool", "InstanceNormalization", "LRN", "LpPool", "MaxPool", "SpaceToDepth",
)  # fmt: skip


@lowering(*(f"{INTERNAL}::{op}" for op in _CHANNELS_LAST), at_load=True)
def internal_nhwc(b: Emitter, node: ir.Node) -> ir.Value | None:
    """The standard operator of this name on NHWC data (what ONNX Runtime saves for CUDA with ``prefer_nhwc``).

    Only the data is turned; weights and parameters are as the standard operator has them.
    """
    x = node.inputs[0]
    r = None if x is None else rank(x)
    if x is None or r is None or any(v.name for v in node.outputs[1:]):
        return None
    attributes = {k: a.value for k, a in node.attributes.items() if not k.startswith("activation")}
    y = getattr(b, node.op_type)(channels_first(b, x, r), *node.inputs[1:], **attributes)
    out = _activated(b, y, node)
    return None if out is None else channels_last(b, out, r)
