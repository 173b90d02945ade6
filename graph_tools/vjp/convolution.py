"""Conv and ConvTranspose in one, two and three dimensions: cotangents of input, weights and bias.

The input's cotangent of one is the other with the same weights; a Conv of stride 1 is faster as a Conv with flipped
weights. Weights' cotangents are a Conv in which the batch plays the channels. Symbols: g groups, m outputs and c inputs
per group, t taps, o grid, p pads in front, s strides, d dilations.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import dims
from graph_tools.reverse import Reverse
from graph_tools.vjp.blocked import can_block, led_back
from graph_tools.vjp.spatial import (
    Window,
    conv_window,
    crop,
    join,
    kernel_sizes,
    pads_at_run,
    sizes,
    transposed_window,
)
from graph_tools.vjp.table import vjp

MIN_FLIP_CHANNELS = 16
"""Below this many input channels a dense Conv with flipped weights is a thin product; ConvTranspose is faster."""


@vjp("Conv", 0)
def conv_input(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """x̄ = ConvTranspose(ȳ, w); at stride 1 and with constant weights the same as Conv(ȳ, flipped w)."""
    x, w = _operands(node)
    window = conv_window(node, x, w)
    if b.form == "cpu" and _can_flip(window, w, _group(node)):
        out = _conv_flipped(b, ct, w, window, _group(node))
    elif _can_thin_out(b, window, w, _group(node), x):
        out = _conv_thinned_out(b, ct, w, window, _group(node))
    else:
        out = led_back(b, _spread(b, ct, w, window, _group(node), x), x)
    return b.shaped_like(out, x)


@vjp("Conv", 1)
def conv_weights(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """w̄[m,c,t] = Σ_{n,o} ȳ[n,m,o] · x[n, c, o·s + t·d − p]."""
    x, w = _operands(node)
    out = _correlate(b, b.primal(x), ct, w, conv_window(node, x, w), _group(node))
    return b.shaped_like(out, w)


@vjp("ConvTranspose", 0)
def conv_transpose_input(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """x̄ = Conv(ȳ, w), with as many windows as x has positions."""
    x, w = _operands(node)
    window = transposed_window(node, x, w)
    return b.shaped_like(_gather(b, ct, w, window, _group(node), x), x)


@vjp("ConvTranspose", 1)
def conv_transpose_weights(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """w̄[c,m,t] = Σ_{n,o} x[n,c,o] · ȳ[n, m, o·s + t·d − p]: Conv's formula with x and ȳ in each other's place."""
    x, w = _operands(node)
    window = transposed_window(node, x, w)
    return b.shaped_like(_correlate(b, ct, b.primal(x), w, window, _group(node)), w)


@vjp("Conv", 2)
@vjp("ConvTranspose", 2)
def bias(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The sum over rows and space."""
    x, w = _operands(node)
    axes = [0, *conv_window(node, x, w).axes]
    return b.ReduceSum(ct, np.array(axes, np.int64), keepdims=0)


def _operands(node: ir.Node) -> tuple[ir.Value, ir.Value]:
    x, w = node.inputs[:2]
    assert x is not None and w is not None
    return x, w


def _group(node: ir.Node) -> int:
    return node.attributes.get_int("group", 1) or 1


def _can_flip(window: Window, w: ir.Value, group: int) -> bool:
    """Whether Conv with flipped weights computes the input's cotangent, and faster than ConvTranspose."""
    if w.const_value is None or w.shape is None or any(s != 1 for s in window.strides):
        return False
    if group == 1 and w.shape[1] < MIN_FLIP_CHANNELS:  # type: ignore[operator]
        return False
    reach = [None if e is None else e - 1 for e in window.extent] * 2
    return all(
        r is not None and p is not None and p <= r for r, p in zip(reach, (*window.before, *window.after), strict=True)
    )


def _conv_flipped(b: Reverse, ct: ir.Value, w: ir.Value, window: Window, group: int) -> ir.Value:
    """Conv(ȳ, w'), w'[c,m,t] = w[m,c,k−1−t] per group, pads d(k−1) − p."""
    reach = [e - 1 for e in window.extent] * 2  # type: ignore[operator]
    pads = [r - p for r, p in zip(reach, (*window.before, *window.after), strict=True)]  # type: ignore[operator]
    return b.Conv(ct, flipped(b, w, group), dilations=list(window.dilations), pads=pads, group=group)


def _can_thin_out(b: Reverse, window: Window, w: ir.Value, group: int, x: ir.Value) -> bool:
    """Whether the Conv is depthwise with stride and known sizes: ConvTranspose computes it channel by channel."""
    if not can_block(b, x) or w.const_value is None or w.shape is None or window.pads is None:
        return False
    if tuple(w.shape[:2]) != (group, 1) or dims(x) is None or dims(x)[1] != group or None in window.image:  # type: ignore[index]
        return False
    return window.n == 2 and all(s > 1 for s in window.strides) and min(_thin_pads(window)) >= 0


def _thin_pads(window: Window) -> list[int]:
    """Pads of the Conv of stride 1 over the thinned-out cotangent: e − 1 − p in front, the rest behind."""
    front, behind = [], []
    for size, e, f, a, s in zip(window.image, window.extent, window.before, window.after, window.strides, strict=True):
        assert size is not None and e is not None and f is not None and a is not None
        grid = (size + f + a - e) // s + 1
        front.append(e - 1 - f)
        behind.append(size - grid * s - (e - 1 - f) + e - 1)
    return front + behind


def _conv_thinned_out(b: Reverse, ct: ir.Value, w: ir.Value, window: Window, group: int) -> ir.Value:
    """Conv(z, flipped w) with z = ȳ at every s-th position and zero between: ȳ repeated, times a constant grid."""
    scales = np.array([1, 1, *window.strides], np.float32)
    repeated = b.Resize(
        ct, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    grid = []
    for size, e, f, a, s in zip(window.image, window.extent, window.before, window.after, window.strides, strict=True):
        on = np.zeros(((size + f + a - e) // s + 1) * s, np.float32)  # type: ignore[operator]
        on[::s] = 1
        grid.append(on)
    thin = b.Mul(repeated, np.outer(*grid)[None, None])
    return b.Conv(thin, flipped(b, w, group), dilations=list(window.dilations), pads=_thin_pads(window), group=group)


def flipped(b: Reverse, w: ir.Value, group: int) -> ir.Value:
    """Constant weights [g·m, c, k…] as [g·c, m, k…] with the taps in reverse order; one copy per weight and graph."""
    key = f"graph_tools.flipped_{group}"
    known = b.graph.initializers.get(w.meta.get(key, ""))
    if known is not None:
        return known
    tensor = w.const_value
    assert tensor is not None and w.dtype is not None
    rows, per_group, *kernel = (int(d) for d in tensor.shape)  # type: ignore[arg-type]
    shape = (group * per_group, rows // group, *kernel)
    name = b.fresh(f"{w.name}_flipped")

    def compute() -> ir.Tensor[np.ndarray]:
        a = tensor.numpy().reshape(group, rows // group, per_group, *kernel).swapaxes(1, 2).reshape(shape)
        return ir.Tensor(np.ascontiguousarray(np.flip(a, tuple(range(2, a.ndim)))), dtype=w.dtype, name=name)

    lazy = ir.LazyTensor(compute, w.dtype, ir.Shape(shape), name=name)
    v = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(w.dtype), const_value=lazy)
    b.graph.register_initializer(v)
    w.meta[key] = name
    return v


def _spread(b: Reverse, ct: ir.Value, w: ir.Value, window: Window, group: int, x: ir.Value) -> ir.Value:
    """ConvTranspose(ȳ, w) at the size of x.

    output_padding = (size + pads − extent) mod stride: what the last window leaves over. Where that is not known,
    stride − 1 covers it and the excess is cut off; unknown pads are cut off likewise.
    """
    pads, left = window.pads, _left_over(window)
    attributes = {"strides": list(window.strides), "dilations": list(window.dilations), "group": group}
    extra = [s - 1 if p is None else p for s, p in zip(window.strides, left, strict=True)]
    low = [min(p, q) for p, q in zip(pads[: window.n], pads[window.n :], strict=True)] if pads is not None else []
    if b.form == "cuda" and low * 2 != (pads or []):  # its ConvTranspose pads both ends alike: the rest is cut off
        out = b.ConvTranspose(ct, w, pads=low * 2, output_padding=extra if any(extra) else None, **attributes)
        before = b.const(np.array(pads[: window.n] if pads else [], np.int64) - low)
        return crop(b, window, out, b.Add(before, sizes(b, x)), before)
    out = b.ConvTranspose(ct, w, pads=pads, output_padding=extra if any(extra) else None, **attributes)
    if pads is not None:
        return out if None not in left else crop(b, window, out, sizes(b, x))
    starts, _ = pads_at_run(b, window, x, ct, w)
    return crop(b, window, out, b.Add(starts, sizes(b, x)), starts)


def _left_over(window: Window) -> list[int | None]:
    """(size + pads − extent) mod stride per axis; 0 at stride 1, None where unknown."""
    left: list[int | None] = []
    for size, e, f, a, s in zip(window.image, window.extent, window.before, window.after, window.strides, strict=True):
        if window.pads is not None and s == 1:
            left.append(0)
        elif window.pads is None or size is None or e is None or f is None or a is None:
            left.append(None)
        else:
            left.append((size + f + a - e) % s)
    return left


def _gather(b: Reverse, ct: ir.Value, w: ir.Value, window: Window, group: int, x: ir.Value) -> ir.Value:
    """Conv(ȳ, w): as many windows as x has positions, since what is left over is less than a stride."""
    pads = window.pads
    if pads is None:
        ct = _padded(b, ct, *pads_at_run(b, window, ct, x, w))
    return b.Conv(ct, w, strides=list(window.strides), dilations=list(window.dilations), pads=pads, group=group)


def _correlate(b: Reverse, image: ir.Value, grid: ir.Value, w: ir.Value, window: Window, group: int) -> ir.Value:
    """[g·m, c, k…]: Σ_{n,o} grid[n, m, o] · image[n, c, o·s + t·d − p].

    A Conv of the image, channels as batch, with the grid as its kernel: taps become output positions (stride d) and
    windows become taps (dilation s). Positions beyond the kernel's are cut off.
    """
    pads = window.pads
    if pads is None:
        image = _padded(b, image, *pads_at_run(b, window, image, grid, w))
    if not all((dims(v) or (None,))[0] for v in (image, grid)):  # a Conv of 0 channels never ends: one row of zeros
        image, grid = (b.Pad(v, [0] * (window.n + 2) + [1] + [0] * (window.n + 1)) for v in (image, grid))
    swap = [1, 0, *window.axes]
    out = b.Conv(
        _batch_as_channels(b, image, w, group, swap),
        b.Transpose(grid, perm=swap),
        strides=list(window.dilations),
        dilations=list(window.strides),
        pads=pads,
        group=group,
    )
    have = dims(out)
    if have is None or have[2:] != window.kernel or None in window.kernel:
        out = crop(b, window, out, kernel_sizes(b, window, w))
    return b.Transpose(out, perm=swap)


def _batch_as_channels(b: Reverse, image: ir.Value, w: ir.Value, group: int, swap: list[int]) -> ir.Value:
    """[n, g·c, …] -> [c, g·n, …]."""
    if group == 1:
        return b.Transpose(image, perm=swap)
    known = dims(w)
    per_group = [known[1]] if known is not None and known[1] is not None else b.Slice(b.shape_of(w), [1], [2])
    space = sizes(b, image)
    split = b.Reshape(image, join(b, [-1, group], per_group, space))
    turned = b.Transpose(split, perm=[2, 1, 0, *(a + 1 for a in swap[2:])])
    return b.Reshape(turned, join(b, per_group, [-1], space))


def _padded(b: Reverse, v: ir.Value, before: ir.Value, after: ir.Value) -> ir.Value:
    return b.Pad(v, b.Concat([0, 0], before, [0, 0], after, axis=0))
