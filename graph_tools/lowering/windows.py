"""Bodies of com.microsoft operators that read windows or tables."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import Emitter, dims
from graph_tools.lowering.table import lowering


@lowering("com.microsoft::UnfoldTensor", at_load=True)
def unfold_tensor(b: Emitter, node: ir.Node) -> ir.Value | None:
    """Windows of ``size`` numbers along ``dim``, ``step`` apart, as a new last axis."""
    x = node.inputs[0]
    known = None if x is None else dims(x)
    if known is None:
        return None
    axis = node.attributes.get_int("dim", -1) % len(known)
    size, step = node.attributes["size"].as_int(), node.attributes.get_int("step", 1)
    within = np.arange(size, dtype=np.int64)
    length = known[axis]
    if length is None:
        last = b.Sub(b.Slice(b.Shape(x), [axis], [axis + 1]), size - 1)
        starts = b.Range(0, b.Reshape(last, b.const(np.zeros(0, np.int64))), step)
        places = b.Add(b.Unsqueeze(starts, [1]), b.const(within))
    else:
        places = b.const(np.arange(0, length - size + 1, step, dtype=np.int64)[:, None] + within)
    windows = b.Gather(x, places, axis=axis)
    order = [i for i in range(len(known) + 1) if i != axis + 1] + [axis + 1]
    return b.Transpose(windows, perm=order)  # type: ignore[no-any-return]
