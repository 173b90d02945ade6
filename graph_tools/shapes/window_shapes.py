"""Sizes of windows and of resized images that ONNX's shape inference gets wrong.

Below opset 22 it counts, with ``ceil_mode``, a last window that starts behind the image and its leading pad (LpPool's
at any opset); it gives up on an ``output_shape`` smaller than the input; it adds ``output_padding`` to SAME's size; and
it multiplies Resize's scales in another precision. The operators themselves, in ONNX Runtime, do none of it.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

_POOLS = ("MaxPool", "AveragePool", "LpPool")


def correct_windows(node: ir.Node) -> bool:
    """Set the right shape of a pool's, ConvTranspose's or Resize's outputs; whether it was another."""
    if node.domain not in ("", "ai.onnx") or not node.inputs or node.inputs[0] is None:
        return False
    x = node.inputs[0].shape
    right: list[int | ir.SymbolicDim | None] | None = None
    if x is not None and node.op_type in _POOLS:
        right = _pooled(node, x)
    elif x is not None and node.op_type == "ConvTranspose":
        right = _transposed(node, x)
    elif x is not None and node.op_type == "Resize":
        right = _resized(node, x)
    if right is None:
        return False
    changed = False
    for out in node.outputs:
        if out.name and (out.shape is None or _sizes(list(out.shape)) != _sizes(right)):
            out.shape = ir.Shape(right)
            changed = True
    return changed


def _sizes(shape: list[int | ir.SymbolicDim | None]) -> list[int | None]:
    return [d if isinstance(d, int) else None for d in shape]


def _pooled(node: ir.Node, x: ir.Shape) -> list[int | ir.SymbolicDim | None] | None:
    """With ceil_mode: ceil((size + pads − extent) / stride) + 1, less a window that starts in the trailing pad."""
    auto = node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET"
    if not node.attributes.get_int("ceil_mode", 0) or auto.startswith("SAME") or "kernel_shape" not in node.attributes:
        return None
    kernel = node.attributes["kernel_shape"].as_ints()
    n = len(kernel)
    if len(x) != n + 2:
        return None
    strides, dilations = (_ints(node, key, n, 1) for key in ("strides", "dilations"))
    pads = _ints(node, "pads", 2 * n, 0) if auto == "NOTSET" else [0] * 2 * n
    found: list[int | ir.SymbolicDim | None] = list(x[:2])
    for i, size in enumerate(x[2:]):
        if not isinstance(size, int):
            found.append(None)
            continue
        span = size + pads[i] + pads[n + i] - (kernel[i] - 1) * dilations[i] - 1
        count = -(-span // strides[i]) + 1
        found.append(count - 1 if (count - 1) * strides[i] >= size + pads[i] else count)
    return found


def _transposed(node: ir.Node, x: ir.Shape) -> list[int | ir.SymbolicDim | None] | None:
    """output_shape as it stands, or SAME's size · stride, and less where the windows do not reach that far."""
    n, w = len(x) - 2, node.inputs[1]
    wide = [None] * (n + 2) if w is None or w.shape is None or len(w.shape) != n + 2 else list(w.shape)
    group = node.attributes.get_int("group", 1) or 1
    found = [x[0], wide[1] * group if isinstance(wide[1], int) else None]
    if "output_shape" in node.attributes:
        return [*found, *node.attributes["output_shape"].as_ints()[-n:]]
    if not (node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET").startswith("SAME"):
        return None
    kernel = list(node.attributes["kernel_shape"].as_ints()) if "kernel_shape" in node.attributes else wide[2:]
    strides, dilations = (_ints(node, key, n, 1) for key in ("strides", "dilations"))
    for size, k, s, d, e in zip(x[2:], kernel, strides, dilations, _ints(node, "output_padding", n, 0), strict=True):
        reach = (size - 1) * s + (k - 1) * d + 1 + e if isinstance(size, int) and isinstance(k, int) else None
        found.append(min(size * s, reach) if isinstance(size, int) and reach is not None else None)
    return found


def _resized(node: ir.Node, x: ir.Shape) -> list[int | ir.SymbolicDim | None] | None:
    """What was inferred, open where size · scale is a whole number in float32 and just below it in float64."""
    y = node.outputs[0].shape
    scales = node.inputs[2] if len(node.inputs) > 2 else None
    if y is None or scales is None or scales.const_value is None or len(y) != len(x):
        return None
    factors = scales.const_value.numpy()
    axes = node.attributes["axes"].as_ints() if "axes" in node.attributes else range(len(x))
    if len(factors) != len(axes):
        return None
    found: list[int | ir.SymbolicDim | None] = list(y)
    for axis, factor in zip(axes, factors, strict=True):
        size = x[axis]
        if isinstance(size, int) and int(np.float32(size) * np.float32(factor)) != int(size * float(factor)):
            found[axis] = None
    return found


def _ints(node: ir.Node, key: str, count: int, default: int) -> list[int]:
    given = node.attributes[key].as_ints() if key in node.attributes else ()
    return list(given) if len(given) == count else [default] * count
