"""Forms for ONNX Runtime's CPU kernels, which hold images in channel blocks from one Conv to the next.

Conv, pooling, Add, Mul, Relu, HardSigmoid and nearest Resize pass the blocks on; any other operator makes ONNX Runtime
reorder its operands and its results. The residual chain of a backward pass stays unblocked from the first such
operator to its end, with two reorders per block of the net, unless it is led back by a Conv.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import dims
from graph_tools.reverse import Reverse

BLOCK = 16
"""Channels in a block with AVX-512 (8 with AVX2, 4 with NEON)."""


def can_block(b: Reverse, x: ir.Value) -> bool:
    """Whether the cotangent of image batch ``x`` can be held in blocks: float32, whole blocks, on a CPU."""
    known = dims(x)
    return (
        b.form == "cpu"
        and x.dtype == ir.DataType.FLOAT
        and known is not None
        and len(known) == 4
        and known[1] is not None
        and known[1] % BLOCK == 0
    )


def per_channel(b: Reverse, v: ir.Value, factor: float, channels: int) -> ir.Value:
    """``v`` times ``factor`` by a depthwise 1 x 1 Conv, whose result is in blocks."""
    return b.Conv(v, b.const(np.full((channels, 1, 1, 1), factor, np.float32)), group=channels)


def led_back(b: Reverse, ct: ir.Value, x: ir.Value) -> ir.Value:
    """``ct`` in blocks where it meets other cotangents of ``x``: their sum and what follows stay in blocks."""
    known = dims(x)
    readers = sum(user.outputs[0].name not in b.made for user, _ in x.uses())
    if readers < 2 or known is None or not can_block(b, x):
        return ct
    return b.shaped_like(per_channel(b, ct, 1.0, known[1] or 0), x)


def everywhere(b: Reverse, ct: ir.Value, x: ir.Value, factor: float) -> ir.Value | None:
    """``ct`` [N, C, 1, 1] times ``factor`` at every position of ``x``, in blocks; None where that cannot be."""
    known = dims(x)
    if known is None or not can_block(b, x) or None in known[2:]:
        return None
    scales = np.array([1, 1, *known[2:]], np.float32)
    small = per_channel(b, ct, factor, known[1] or 0)
    large = b.Resize(
        small, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    return b.shaped_like(large, x)
