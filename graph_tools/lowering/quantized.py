"""Bodies of quantised operators: DequantizeLinear -> the float operator -> QuantizeLinear.

The QOperator format (QLinearConv, QLinearMatMul, com.microsoft QLinear…) says in one integer operator what the QDQ
format says in three. Brought to the latter, a file has float values to explain (layers, logits) and the
straight-through gradient of graph_tools/vjp/quantization.py. Integer kernels and the float operator may round
differently at ties: outputs differ by one quantum at most per operator. Integer products whose scales come later
(MatMulInteger, ConvInteger) stay as they are; the fused forms of theirs are brought to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from graph_tools.emit import Emitter, array_of, rank
from graph_tools.lowering.fused import channels_first, channels_last, given, kept
from graph_tools.lowering.table import BODIES, lowering

F32 = ir.DataType.FLOAT
_SINCE = {ir.DataType.INT8: 10, ir.DataType.UINT8: 10, ir.DataType.INT32: 10}  # other types: opset 21


def dequantised(
    b: Emitter, q: ir.Value | None, scale: ir.Value | None, zero: ir.Value | None = None, axis: int | None = None
) -> ir.Value:
    """(q − zero) · scale; a scale of one dimension and more than one element runs along ``axis``."""
    assert q is not None
    assert scale is not None
    if (rank(scale) or 0) > 1 and _many(scale):
        units = b.Cast(q, to=scale.dtype.value if scale.dtype else F32.value)
        if zero is not None:
            units = b.Sub(units, b.Cast(zero, to=units.dtype.value))
        return b.Mul(units, scale)  # type: ignore[no-any-return]
    attributes = {"axis": axis} if axis is not None and _many(scale) else {}
    rest = [] if zero is None else [_scalar(b, zero)]
    return b.DequantizeLinear(q, _scalar(b, scale), *rest, **attributes)  # type: ignore[no-any-return]


def quantised(
    b: Emitter,
    y: ir.Value,
    scale: ir.Value | None,
    zero: ir.Value | None,
    like: ir.Value | None,
    axis: int | None = None,
) -> ir.Value:
    """round(y / scale) + zero, saturated; ``like`` has the type where there is no zero point."""
    assert scale is not None
    assert like is not None
    if zero is None:
        zero = b.const(0, dtype=like.dtype or ir.DataType.UINT8)
    attributes = {"axis": axis} if axis is not None and _many(scale) else {}
    return b.QuantizeLinear(y, _scalar(b, scale), _scalar(b, zero), **attributes)  # type: ignore[no-any-return]


def _many(v: ir.Value) -> bool:
    """Whether ``v`` has one dimension or more, and not just one element."""
    return v.shape is not None and len(v.shape) > 0 and any(d != 1 for d in v.shape)


def _scalar(b: Emitter, v: ir.Value) -> ir.Value:
    """A constant of one element without dimensions; anything else as it is."""
    known = array_of(v)
    if known is None or known.size != 1 or known.ndim == 0:
        return v
    return b.const(known.reshape(()), dtype=v.dtype)


def _product(b: Emitter, *scales: ir.Value | None) -> ir.Value:
    """The product of scales, folded where all are constants."""
    present = [v for v in scales if v is not None]
    known = [array_of(v) for v in present]
    if all(a is not None for a in known):
        product = np.asarray(known[0])
        for a in known[1:]:
            product = product * np.asarray(a)
        return b.const(product if product.size != 1 else product.reshape(()), dtype=present[0].dtype)
    total = present[0]
    for v in present[1:]:
        total = b.Mul(total, v)
    return total


@lowering("QLinearConv", "com.microsoft::QLinearConv", at_load=True)
def qlinear_conv(b: Emitter, node: ir.Node) -> ir.Value | None:
    """Conv; weights have a scale per output channel or one, the int32 bias has x_scale · w_scale."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = (given(node, i) for i in range(9))
    last = node.attributes.get_int("channels_last", 0)
    r = rank(w) if w is not None else None
    if w is None or (last and r is None):
        return None
    data = dequantised(b, x, x_scale, x_zero)
    if last:
        data = channels_first(b, data, r or 4)
    rest = [] if bias is None else [dequantised(b, bias, _product(b, x_scale, w_scale), axis=0)]
    attributes = kept(node, "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    y = b.Conv(data, dequantised(b, w, w_scale, w_zero, axis=0), *rest, **attributes)
    q = quantised(b, y, y_scale, y_zero, x)  # in NCHW: what is explained has its channels where Conv puts them
    return channels_last(b, q, r or 4) if last else q


@lowering("QLinearMatMul", at_load=True)
def qlinear_matmul(b: Emitter, node: ir.Node) -> ir.Value | None:
    """MatMul; scales per row of A and per column of B, or one each."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (given(node, i) for i in range(8))
    if x is None or w is None or y_scale is None or _many(y_scale):
        return None
    y = b.MatMul(dequantised(b, x, x_scale, x_zero, axis=-2), dequantised(b, w, w_scale, w_zero, axis=-1))
    return quantised(b, y, y_scale, y_zero, x)


@lowering("com.microsoft::QGemm", at_load=True)
def qgemm(b: Emitter, node: ir.Node) -> ir.Value:
    """Gemm; the int32 bias has alpha · a_scale · b_scale; without y_scale the result stays float."""
    x, x_scale, x_zero, w, w_scale, w_zero, c, y_scale, y_zero = (given(node, i) for i in range(9))
    alpha = node.attributes.get_float("alpha", 1.0)
    flip = node.attributes.get_int("transB", 0)
    rest = []
    if c is not None:
        unit = _product(b, x_scale, w_scale)
        unit = unit if alpha == 1.0 else _product(b, unit, b.const(alpha, dtype=F32))
        rest = [dequantised(b, c, unit, axis=-1)]
    weights = dequantised(b, w, w_scale, w_zero, axis=0 if flip else 1)
    y = b.Gemm(dequantised(b, x, x_scale, x_zero), weights, *rest, **kept(node, "alpha", "transA", "transB"))
    return y if y_scale is None else quantised(b, y, y_scale, y_zero, x)


@lowering("com.microsoft::QLinearAdd", "com.microsoft::QLinearMul", at_load=True)
def qlinear_binary(b: Emitter, node: ir.Node) -> ir.Value:
    """A + B, A · B."""
    x, x_scale, x_zero, y, y_scale, y_zero, scale, zero = (given(node, i) for i in range(8))
    operator = getattr(b, node.op_type.removeprefix("QLinear"))
    return quantised(
        b, operator(dequantised(b, x, x_scale, x_zero), dequantised(b, y, y_scale, y_zero)), scale, zero, x
    )


@lowering("com.microsoft::QLinearSigmoid", "com.microsoft::QLinearLeakyRelu", at_load=True)
def qlinear_unary(b: Emitter, node: ir.Node) -> ir.Value:
    """Sigmoid, LeakyRelu."""
    x, x_scale, x_zero, scale, zero = (given(node, i) for i in range(5))
    y = getattr(b, node.op_type.removeprefix("QLinear"))(dequantised(b, x, x_scale, x_zero), **kept(node, "alpha"))
    return quantised(b, y, scale, zero, x)


@lowering("com.microsoft::QLinearSoftmax", at_load=True)
def qlinear_softmax(b: Emitter, node: ir.Node) -> ir.Value:
    """Softmax as the given opset has it: below 13 over all axes from ``axis`` on."""
    x, x_scale, x_zero, scale, zero = (given(node, i) for i in range(5))
    data, axis = dequantised(b, x, x_scale, x_zero), node.attributes.get_int("axis", -1)
    r = rank(data)
    if node.attributes.get_int("opset", 13) < 13 and axis not in (-1, None if r is None else r - 1):
        y = b.Reshape(b.Softmax(b.Flatten(data, axis=axis), axis=-1), b.shape_of(data))
    else:
        y = b.Softmax(data, axis=axis)
    return quantised(b, y, scale, zero, x)


@lowering("com.microsoft::QLinearAveragePool", "com.microsoft::QLinearGlobalAveragePool", at_load=True)
def qlinear_pool(b: Emitter, node: ir.Node) -> ir.Value | None:
    """AveragePool, GlobalAveragePool."""
    x, x_scale, x_zero, scale, zero = (given(node, i) for i in range(5))
    data, last = dequantised(b, x, x_scale, x_zero), node.attributes.get_int("channels_last", 0)
    r = rank(data)
    if last and r is None:
        return None
    names = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
    data = channels_first(b, data, r or 4) if last else data
    y = getattr(b, node.op_type.removeprefix("QLinear"))(data, **kept(node, *names))
    q = quantised(b, y, scale, zero, x)
    return channels_last(b, q, r or 4) if last else q


@lowering("com.microsoft::QLinearReduceMean", at_load=True)
def qlinear_reduce_mean(b: Emitter, node: ir.Node) -> ir.Value:
    """ReduceMean."""
    x, x_scale, x_zero, scale, zero = (given(node, i) for i in range(5))
    axes = np.array(node.attributes.get_ints("axes") or [], np.int64)
    y = b.ReduceMean(dequantised(b, x, x_scale, x_zero), axes, **kept(node, "keepdims"))
    return quantised(b, y, scale, zero, x)


@lowering("com.microsoft::QLinearConcat", at_load=True)
def qlinear_concat(b: Emitter, node: ir.Node) -> ir.Value:
    """Concat of operands with scales of their own."""
    parts = [
        dequantised(b, given(node, i), given(node, i + 1), given(node, i + 2)) for i in range(2, len(node.inputs), 3)
    ]
    y = b.Concat(*parts, axis=node.attributes.get_int("axis", 0))
    return quantised(b, y, node.inputs[0], node.inputs[1], node.inputs[2])


@lowering("com.microsoft::QLinearWhere", at_load=True)
def qlinear_where(b: Emitter, node: ir.Node) -> ir.Value:
    """Where of operands with scales of their own."""
    condition, x, x_scale, x_zero, y, y_scale, y_zero, scale, zero = (given(node, i) for i in range(9))
    z = b.Where(condition, dequantised(b, x, x_scale, x_zero), dequantised(b, y, y_scale, y_zero))
    return quantised(b, z, scale, zero, x)


@lowering("com.microsoft::MatMulIntegerToFloat", at_load=True)
def matmul_integer_to_float(b: Emitter, node: ir.Node) -> ir.Value:
    """MatMulInteger(A, B) · (a_scale · b_scale) + bias."""
    x, w, x_scale, w_scale, x_zero, w_zero, bias = (given(node, i) for i in range(7))
    return _scaled_product(b, (x, w, x_zero, w_zero), _product(b, x_scale, w_scale), bias)


@lowering("com.microsoft::DynamicQuantizeMatMul", at_load=True)
def dynamic_quantize_matmul(b: Emitter, node: ir.Node) -> ir.Value:
    """A quantised to uint8 by its own range, then MatMulInteger · (a_scale · b_scale) + bias."""
    x, w, w_scale, w_zero, bias = (given(node, i) for i in range(5))
    q, x_scale, x_zero = b.DynamicQuantizeLinear(x, _outputs=3)
    return _scaled_product(b, (q, w, x_zero, w_zero), _product(b, x_scale, w_scale), bias)


@lowering("com.microsoft::QEmbedLayerNormalization", at_load=True)
def q_embed_layer_normalization(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """EmbedLayerNormalization of the dequantised tables, weights and biases."""
    ids, segment_ids = given(node, 0), given(node, 1)
    tables = []
    for i in range(5):  # word, position, segment, gamma, beta
        q = given(node, 2 + i)
        tables.append(None if q is None else dequantised(b, q, given(node, 8 + i), given(node, 13 + i)))
    stand_in = ir.Node(
        "com.microsoft", "EmbedLayerNormalization", [ids, segment_ids, *tables, given(node, 7)],
        list(node.attributes.values()), num_outputs=len(node.outputs), name=node.name,
    )  # fmt: skip
    for mine, theirs in zip(stand_in.outputs, node.outputs, strict=True):
        mine.name = theirs.name
    found = BODIES["com.microsoft::EmbedLayerNormalization"](b, stand_in)
    for i in range(len(stand_in.inputs)):
        stand_in.replace_input_with(i, None)
    return found if isinstance(found, tuple) else None


def _scaled_product(
    b: Emitter, operands: Sequence[ir.Value | None], scale: ir.Value, bias: ir.Value | None
) -> ir.Value:
    """The int32 product as float, times ``scale``, plus ``bias``."""
    kind = scale.dtype or F32
    y = b.Mul(b.Cast(b.MatMulInteger(*operands), to=F32.value), scale if kind == F32 else b.Cast(scale, to=F32.value))
    y = y if kind == F32 else b.Cast(y, to=kind.value)
    return y if bias is None else b.Add(y, bias)  # type: ignore[no-any-return]


@lowering("com.microsoft::QuantizeLinear", "com.microsoft::DequantizeLinear", at_load=True)
def plain_quantisation(b: Emitter, node: ir.Node) -> ir.Value | None:
    """The standard operator, where it takes these types at the model's opset; else only the output's type is noted."""
    x, scale, zero = (given(node, i) for i in range(3))
    if x is None or scale is None:
        return None
    out, opset = node.outputs[0], b.graph.opset_imports[""]
    integer = (zero.dtype if zero is not None else ir.DataType.UINT8) if node.op_type == "QuantizeLinear" else x.dtype
    known = integer is not None and opset >= _SINCE.get(integer, 21) and (scale.dtype == F32 or opset >= 19)
    if known:
        rest = [] if zero is None else [zero]
        return getattr(b, node.op_type)(x, scale, *rest, **kept(node, "axis"))  # type: ignore[no-any-return]
    kind = integer if node.op_type == "QuantizeLinear" else scale.dtype
    if kind is not None:
        out.type, out.shape = ir.TensorType(kind), x.shape
    return None
