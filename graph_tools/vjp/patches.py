"""Col2Im, patches added up into an image; CenterCropPad, an image cut or widened about its middle."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of, dims, rank
from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import operand
from graph_tools.vjp.selection import Size, minus, pad, plus, scalar, size
from graph_tools.vjp.table import nondiff, vjp

_INT64 = ir.DataType.INT64.value


@vjp("Col2Im", 0)
def col2im(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """x̄[n, (c, t), l] = ȳ[n, c, l·s + t·d − p]: the image's cotangent cut into patches, axis by axis."""
    n = _spatial_rank(b, node)
    strides, dilations = (_ints(node, key, n, 1) for key in ("strides", "dilations"))
    pads = _ints(node, "pads", 2 * n, 0)
    image, block = (array_of(operand(node, i)) for i in (1, 2))
    out = pad(b, ct, n + 2, {2 + i: (pads[i], pads[n + i]) for i in range(n)})
    for i in range(n):
        length: Size = size(b, ct, 2 + i) if image is None else int(image[i])
        taps: Size = b.Slice(operand(node, 2), [i], [i + 1]) if block is None else int(block[i])
        padded = plus(b, length, pads[i] + pads[n + i])
        out = b.Gather(out, _positions(b, padded, taps, strides[i], dilations[i]), axis=2 + 2 * i)
    order = [0, 1, *range(2, 2 * n + 2, 2), *range(3, 2 * n + 2, 2)]
    return b.reshape_like(b.Transpose(out, perm=order), operand(node, 0))


nondiff("Col2Im", 1, 2)


@vjp("CenterCropPad", 0)
def center_crop_pad(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """Zeros where it was cropped, cropped where it was padded; the odd position is behind in both."""
    x = operand(node, 0)
    r = b.rank_of(x)
    axes = [a % r for a in node.attributes["axes"].as_ints()] if "axes" in node.attributes else list(range(r))
    wanted = array_of(operand(node, 1))
    amounts: dict[int, tuple[Size, Size]] = {}
    for i, axis in enumerate(axes):
        if axis == 0 and b.is_batched(x) and b.is_batched(node.outputs[0]):
            continue
        kept = int(wanted[i]) if wanted is not None else b.Cast(b.Slice(operand(node, 1), [i], [i + 1]), to=_INT64)
        more = minus(b, size(b, x, axis), kept)
        before = _half(b, more)
        amounts[axis] = (before, minus(b, more, before))
    return b.shaped_like(pad(b, ct, r, amounts), x)


nondiff("CenterCropPad", 1)


def _half(b: Reverse, n: Size) -> Size:
    """n / 2, rounded towards 0."""
    if isinstance(n, int):
        return n // 2 if n >= 0 else -(-n // 2)
    half: ir.Value = b.Sub(b.Div(b.Max(n, [0]), [2]), b.Div(b.Max(b.Neg(n), [0]), [2]))
    return half


def _positions(b: Reverse, padded: Size, taps: Size, stride: int, dilation: int) -> ir.Value:
    """int64 [taps, patches]: t·d + l·s."""
    if isinstance(padded, int) and isinstance(taps, int):
        patches = (padded - (taps - 1) * dilation - 1) // stride + 1
        return b.const(np.arange(taps)[:, None] * dilation + np.arange(patches) * stride)
    reach: Size = b.Mul(minus(b, taps, 1), [dilation]) if not isinstance(taps, int) else (taps - 1) * dilation
    span = minus(b, padded, reach, 1)
    count = plus(b, b.Div(span, [stride]), 1)
    steps, starts = (b.Range(0, scalar(b, n), 1) for n in (taps, count))
    return b.Add(b.Unsqueeze(b.Mul(steps, [dilation]), [1]), b.Mul(starts, [stride]))


def _spatial_rank(b: Reverse, node: ir.Node) -> int:
    """Number of spatial axes, from an attribute, the shape operands or the output."""
    for key, per_axis in (("strides", 1), ("dilations", 1), ("pads", 2)):
        if key in node.attributes:
            return len(node.attributes[key].as_ints()) // per_axis
    for shape in (operand(node, 1), operand(node, 2)):
        known = dims(shape)
        if known is not None and known[0] is not None:
            return known[0]
    return (rank(node.outputs[0]) or b.rank_of(node.outputs[0])) - 2


def _ints(node: ir.Node, key: str, count: int, default: int) -> list[int]:
    return list(node.attributes[key].as_ints()) if key in node.attributes else [default] * count
