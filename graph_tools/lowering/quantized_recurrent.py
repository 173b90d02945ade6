"""DynamicQuantizeLSTM, ONNX Runtime's LSTM with 8-bit weights, as dequantised weights and an LSTM."""

from __future__ import annotations

import onnx_ir as ir

from graph_tools.emit import Emitter, rank
from graph_tools.lowering.table import lowering


@lowering("com.microsoft::DynamicQuantizeLSTM", at_load=True)
def dynamic_quantize_lstm(b: Emitter, node: ir.Node) -> tuple[ir.Value | None, ...] | None:
    """LSTM with W = (Wq − zero)·scale, transposed, and R alike.

    The kernel rounds x and h to 8 bits too, by scales of their own at every step; here they are not rounded.
    """
    given = [*node.inputs, *[None] * 12][:12]
    x = given[0]
    weights = [_dequantised(b, x, given[i], given[j], given[j + 1]) for i, j in ((1, 8), (2, 10))]
    if x is None or None in weights:
        return None
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    found = b.LSTM(x, *weights, *given[3:8], **attributes, _outputs=len(node.outputs))
    values = (found,) if isinstance(found, ir.Value) else found
    for made, old in zip(values, node.outputs, strict=True):
        if not old.name:
            made.name = ""
    return tuple(made if old.name else None for made, old in zip(values, node.outputs, strict=True))


def _dequantised(
    b: Emitter, x: ir.Value | None, w: ir.Value | None, scale: ir.Value | None, zero: ir.Value | None
) -> ir.Value | None:
    """[D, 4·H, I] in float from [D, I, 4·H] with a scale per direction [D] or per row [D, 4·H]."""
    if x is None or w is None or scale is None or rank(scale) is None:
        return None
    axes = [1, 2] if rank(scale) == 1 else [1]
    kind = (x.dtype or ir.DataType.FLOAT).value
    wide = b.Cast(w, to=kind)
    if zero is not None:
        wide = b.Sub(wide, b.Unsqueeze(b.Cast(zero, to=kind), axes))
    return b.Transpose(b.Mul(wide, b.Unsqueeze(scale, axes)), perm=[0, 2, 1])  # type: ignore[no-any-return]
