"""The body of ONNX Runtime's CausalConvWithState (com.microsoft): the short convolution of state-space decoders."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graph_tools.emit import Emitter, rank
from graph_tools.lowering.heads import constant_size, number, present, size, sizes
from graph_tools.lowering.table import lowering


@lowering("com.microsoft::CausalConvWithState", at_load=True)
def causal_conv_with_state(b: Emitter, node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """Depthwise Conv of [past state, x], then SiLU where asked for; the state is the end of [past state, x].

    Only along one axis, channels first, with one state.
    """
    x, weight, bias, past = (present(node, i) for i in range(4))
    special = (("ndim", 1), ("channels_last", 0), ("state_window", 0))
    if x is None or weight is None or any(node.attributes.get_int(name, plain) != plain for name, plain in special):
        return None
    taps, channels = constant_size(weight, 2), constant_size(weight, 0)
    if taps is None or channels is None or rank(x) != 3:
        return None
    dilation = node.attributes.get_int("dilation", 1)
    length = (taps - 1) * dilation
    if past is None:
        whole = b.Pad(x, np.array([0, 0, length, 0, 0, 0], np.int64), number(b, 0.0, x))
    else:
        whole = b.Concat(past, x, axis=2)
    y = b.Conv(whole, weight, bias, group=channels, dilations=[dilation])
    if node.attributes.get_string("activation", "none") in ("silu", "swish"):
        y = b.Mul(y, b.Sigmoid(y))
    if not length:
        state = b.Expand(number(b, 0.0, x), sizes(b, size(b, x, 0), channels, 0))
    else:
        state = b.Slice(whole, [-length], [2**31 - 1], [2])
    return y, state
