"""Geometry of sliding windows, shared by convolution and pooling: attributes turned into explicit numbers.

Sizes run over the spatial axes. The *image* is the large side of a window operator (the input of Conv and of the
pools, the output of ConvTranspose), the *grid* the small one: grid position ``o`` and tap ``t`` of the window meet
image position ``o·stride + t·dilation − before``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graph_tools.emit import array_of, dims, rank
from graph_tools.errors import UnsupportedGradient
from graph_tools.reverse import Reverse
from graph_tools.vjp.table import operator_name

Known = tuple[int | None, ...]


@dataclass(frozen=True)
class Window:
    """One entry per spatial axis; None = not known before the run.

    Attributes:
        image: sizes of the large side, taken from the file's shapes.
        kernel: taps.
        strides: grid step in image positions.
        dilations: tap step in image positions.
        before: pads in front.
        after: pads behind.
        upper: an odd pad goes behind (SAME_UPPER) instead of in front, where pads are computed.
        extra: ConvTranspose's output_padding.
        ceil: the pools' ceil_mode.
    """

    image: Known
    kernel: Known
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: Known
    after: Known
    upper: bool
    extra: tuple[int, ...]
    ceil: bool = False

    @property
    def n(self) -> int:
        """Number of spatial axes."""
        return len(self.strides)

    @property
    def axes(self) -> list[int]:
        """The spatial axes of the tensors."""
        return list(range(2, self.n + 2))

    @property
    def extent(self) -> Known:
        """Image positions from the first to the last tap: (k − 1)·dilation + 1."""
        return tuple(None if k is None else (k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def pads(self) -> list[int] | None:
        """ONNX ``pads``, or None where they are known only at run time."""
        both = (*self.before, *self.after)
        return None if None in both else list(both)  # type: ignore[arg-type]

    @property
    def grid(self) -> Known:
        """Number of windows per axis, as ONNX Runtime counts them.

        With ceil_mode a last, partial window counts if it starts inside the image or its leading pad.
        """
        return tuple(self._windows(i) for i in range(self.n))

    def _windows(self, i: int) -> int | None:
        size, extent, before, after = self.image[i], self.extent[i], self.before[i], self.after[i]
        if size is None or extent is None or before is None or after is None:
            return None
        span = size + before + after - extent
        if not self.ceil:
            return span // self.strides[i] + 1
        count = -(-span // self.strides[i]) + 1
        return count - 1 if (count - 1) * self.strides[i] >= size + before else count


def conv_window(node: ir.Node, x: ir.Value, w: ir.Value) -> Window:
    """The window of a Conv: SAME pads to ceil(size / stride) windows of the full extent."""
    n = _spatial_rank(node, x, w)
    image, kernel = _spatial(x, n), _kernel(node, w, n)
    strides, dilations = _ints(node, "strides", n), _ints(node, "dilations", n)
    extents = [None if k is None else (k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto = _auto_pad(node)
    if auto.startswith("SAME"):
        totals = [_same_total(size, s, e, at_least=0) for size, s, e in zip(image, strides, extents, strict=True)]
        before, after = _split(totals, upper=auto == "SAME_UPPER")
    else:
        before, after = _explicit(node, n, auto)
    return Window(image, kernel, strides, dilations, before, after, auto == "SAME_UPPER", (0,) * n)


def transposed_window(node: ir.Node, x: ir.Value, w: ir.Value) -> Window:
    """The window of a ConvTranspose; its image is the output (left open: no rule reads it), x the grid.

    SAME pads to grid·stride, output_shape to what it says, both by at least 0; only SAME_UPPER puts the odd one behind.
    """
    n = _spatial_rank(node, x, w)
    grid, kernel = _spatial(x, n), _kernel(node, w, n)
    strides, dilations, extra = (_ints(node, k, n) for k in ("strides", "dilations", "output_padding"))
    auto = _auto_pad(node)
    wanted = node.attributes["output_shape"].as_ints()[-n:] if "output_shape" in node.attributes else None
    full = [
        None if None in (g, k) else (g - 1) * s + e + (k - 1) * d + 1  # type: ignore[operator]
        for g, k, s, d, e in zip(grid, kernel, strides, dilations, extra, strict=True)
    ]
    upper = auto == "SAME_UPPER"
    if wanted is not None:
        totals = [None if f is None else max(0, f - out) for f, out in zip(full, wanted, strict=True)]
        before, after = _split(totals, upper)
    elif auto.startswith("SAME"):  # full − grid·stride does not depend on the grid
        totals = [
            None if k is None else max(0, (k - 1) * d + 1 + e - s)
            for k, s, d, e in zip(kernel, strides, dilations, extra, strict=True)
        ]
        before, after = _split(totals, upper)
    else:
        before, after = _explicit(node, n, auto)
    return Window((None,) * n, kernel, strides, dilations, before, after, upper, extra)


def pool_window(node: ir.Node, x: ir.Value) -> Window:
    """The window of a pool. As in ONNX Runtime, SAME ignores dilations and may give negative pads."""
    kernel = tuple(node.attributes["kernel_shape"].as_ints())
    n = len(kernel)
    image = _spatial(x, n)
    strides, dilations = _ints(node, "strides", n), _ints(node, "dilations", n)
    auto = _auto_pad(node)
    if auto.startswith("SAME"):
        totals = [_same_total(size, s, k) for size, s, k in zip(image, strides, kernel, strict=True)]
        before, after = _split(totals, upper=auto == "SAME_UPPER")
    else:
        before, after = _explicit(node, n, auto)
    ceil = bool(node.attributes.get_int("ceil_mode", 0)) and not auto.startswith("SAME")
    return Window(image, kernel, strides, dilations, before, after, auto == "SAME_UPPER", (0,) * n, ceil)


def sizes(b: Reverse, v: ir.Value) -> ir.Value:
    """int64 [n]: the spatial sizes of ``v`` (a primal or its cotangent), a constant where they are known."""
    known = dims(v)
    if known is not None and None not in known[2:]:
        return b.const(np.array(known[2:], np.int64))
    return b.Slice(b.shape_of(v), [2], [2**31])


def kernel_sizes(b: Reverse, window: Window, w: ir.Value) -> ir.Value:
    """int64 [n]: the taps per axis."""
    return sizes(b, w) if None in window.kernel else b.const(np.array(window.kernel, np.int64))


def extents(b: Reverse, window: Window, w: ir.Value | None) -> ir.Value:
    """int64 [n]: (k − 1)·dilation + 1."""
    if w is None or None not in window.kernel:
        return b.const(np.array(window.extent, np.int64))
    dilations = np.array(window.dilations, np.int64)
    return b.Add(b.Mul(b.Sub(sizes(b, w), [1]), dilations), [1])


def pads_at_run(b: Reverse, window: Window, image: ir.Value, grid: ir.Value, w: ir.Value) -> tuple[ir.Value, ir.Value]:
    """int64 [n] each: pads in front and behind, where they follow from sizes known only at run time.

    Total = max(0, (grid − 1)·stride + output_padding + extent − image): the same for SAME and output_shape.
    """
    strides, extra = np.array(window.strides, np.int64), np.array(window.extra, np.int64)
    span = b.Add(b.Mul(b.Sub(sizes(b, grid), [1]), strides), b.Add(extents(b, window, w), extra))
    total = b.Max(b.Sub(span, sizes(b, image)), np.zeros(window.n, np.int64))
    before = b.Div(total if window.upper else b.Add(total, [1]), [2])
    return before, b.Sub(total, before)


def join(b: Reverse, *parts: Sequence[int] | ir.Value) -> ir.Value:
    """int64: the parts of a shape one after the other, a constant where all are."""
    values = [p if isinstance(p, ir.Value) else b.const(np.array(p, np.int64)) for p in parts]
    arrays = [array_of(v) for v in values]
    if all(a is not None for a in arrays):
        return b.const(np.concatenate(arrays))  # type: ignore[arg-type]
    return b.Concat(*values, axis=0)


def crop(b: Reverse, window: Window, v: ir.Value, ends: ir.Value, starts: ir.Value | None = None) -> ir.Value:
    """``v[:, :, starts:ends]`` over the spatial axes; int64 [n] each, starts defaulting to 0."""
    begin = b.const(np.zeros(window.n, np.int64)) if starts is None else starts
    return b.Slice(v, begin, ends, window.axes)


def _spatial_rank(node: ir.Node, x: ir.Value, w: ir.Value) -> int:
    """Number of spatial axes from the attributes, the weights or the input."""
    if "kernel_shape" in node.attributes:
        return len(node.attributes["kernel_shape"].as_ints())
    known = rank(w) or rank(x)
    if known is None:
        raise UnsupportedGradient(
            f"operator {operator_name(node)} (node {node.name!r}): neither kernel_shape nor the number of dimensions "
            f"of {x.name!r} and {w.name!r} is known; give the model's inputs shapes (open dimensions may have names)",
            operator=operator_name(node),
            node=node.name or "",
        )
    return known - 2


def _spatial(v: ir.Value, n: int) -> Known:
    known = dims(v)
    return (None,) * n if known is None else known[2:]


def _kernel(node: ir.Node, w: ir.Value, n: int) -> Known:
    known = _spatial(w, n)
    if "kernel_shape" in node.attributes:
        return tuple(node.attributes["kernel_shape"].as_ints())
    return known


def _ints(node: ir.Node, key: str, n: int) -> tuple[int, ...]:
    """A per-axis attribute with ONNX's default (0 for output_padding, else 1)."""
    if key in node.attributes:
        return tuple(node.attributes[key].as_ints())
    return (0 if key == "output_padding" else 1,) * n


def _auto_pad(node: ir.Node) -> str:
    return node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET"


def _explicit(node: ir.Node, n: int, auto: str) -> tuple[Known, Known]:
    pads = node.attributes["pads"].as_ints() if "pads" in node.attributes and auto != "VALID" else [0] * (2 * n)
    return tuple(pads[:n]), tuple(pads[n:])


def _same_total(size: int | None, stride: int, extent: int | None, at_least: int | None = None) -> int | None:
    """Both pads together so that ceil(size / stride) windows fit; at stride 1 no size is needed."""
    if extent is None or (size is None and stride != 1):
        return None
    total = extent - 1 if size is None else (-(-size // stride) - 1) * stride + extent - size
    return total if at_least is None else max(at_least, total)


def _split(totals: Sequence[int | None], upper: bool) -> tuple[Known, Known]:
    """Halves of the totals, rounded towards 0 as in ONNX Runtime."""
    before = tuple(None if t is None else int(t / 2 if upper else (t + 1) / 2) for t in totals)
    return before, tuple(None if t is None or f is None else t - f for t, f in zip(totals, before, strict=True))
