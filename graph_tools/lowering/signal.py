"""STFT: frames picked out of the signal, times the window, through a DFT."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import Emitter, array_of, dims
from graph_tools.lowering.table import lowering


@lowering("STFT")
def stft(b: Emitter, node: ir.Node) -> ir.Value:
    """y[row, f] = DFT(x[row, f·step … f·step + n − 1] · window) for every whole frame f of n samples."""
    signal, step, window, length = (*node.inputs, None, None)[:4]
    assert signal is not None
    assert step is not None
    stride = _scalar(b, step)
    total = _size(b, signal, 1)
    n = _scalar(b, length) if length is not None else total if window is None else _size(b, window, 0)
    frames = b.Gather(signal, _positions(b, total, n, stride), axis=1)  # [rows, frames, n, 1 or 2]
    if window is not None:
        frames = b.Mul(frames, b.Unsqueeze(window, [1]))
    onesided = node.attributes.get_int("onesided", 1)
    if b.graph.opset_imports[""] < 20:
        return b.DFT(frames, n, axis=2, onesided=onesided)  # type: ignore[no-any-return]
    return b.DFT(frames, n, b.const(np.array(2, np.int64)), onesided=onesided)  # type: ignore[no-any-return]


def _positions(b: Emitter, total: ir.Value, n: ir.Value, stride: ir.Value) -> ir.Value:
    """int64 [frames, n]: which samples each frame reads; a constant where the sizes are known."""
    known = [array_of(v) for v in (total, n, stride)]
    if all(a is not None for a in known):
        size, taps, by = (int(a.item()) for a in known if a is not None)
        return b.const(np.arange((size - taps) // by + 1)[:, None] * by + np.arange(taps))
    count = b.Add(b.Div(b.Sub(total, n), stride), 1)
    starts = b.Mul(b.Range(0, count, 1), stride)
    return b.Add(b.Unsqueeze(starts, [1]), b.Range(0, n, 1))  # type: ignore[no-any-return]


def _size(b: Emitter, v: ir.Value, axis: int) -> ir.Value:
    """A dimension as an int64 scalar."""
    known = dims(v)
    if known is not None and known[axis] is not None:
        return b.const(np.array(known[axis], np.int64))
    return b.Squeeze(b.Shape(v, start=axis, end=axis + 1), [0])  # type: ignore[no-any-return]


def _scalar(b: Emitter, v: ir.Value) -> ir.Value:
    """An integer operand as an int64 scalar."""
    known = array_of(v)
    if known is not None:
        return b.const(known.astype(np.int64).reshape(()))
    return b.Reshape(b.Cast(v, to=ir.DataType.INT64.value), np.array([], np.int64))  # type: ignore[no-any-return]
