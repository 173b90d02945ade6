"""How far the white-box form of a quantised file is from the session that serves it.

Programs run QuantizeLinear and DequantizeLinear in float (``session.disable_quant_qdq=1``), and the QOperator format
as such pairs; the served session runs ONNX Runtime's integer kernels. Both are roundings of one function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

import graph_tools
from graph_tools.loading import parity
from service.runtime.home import Runtime
from service.runtime.session import Session
from service.types import Array

_OPERATORS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QGemm",
              "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention", "DynamicQuantizeLSTM"}  # fmt: skip


@dataclass(frozen=True)
class Distance:
    """The difference on one seeded random input.

    Attributes:
        relative: the largest difference of any output, relative to that output's largest magnitude.
        output: where it is.
        same: of the rows of that output, the share whose strongest entry is the same in both.
    """

    relative: float
    output: str
    same: float

    def __str__(self) -> str:
        """In words."""
        return (
            f"explanations run its float form: outputs differ from the served session by {self.relative:.2g} of the "
            f"largest (output {self.output!r} of a random input; "
            f"the strongest entry is the same in {self.same:.0%} of rows)"
        )


def is_quantised(proto: onnx.ModelProto) -> bool:
    """Whether integer kernels take part."""
    return any(n.op_type in _OPERATORS or n.op_type.startswith("QLinear") for n in proto.graph.node)


def measure(
    proto: onnx.ModelProto, folder: Path, runtime: Runtime, served: Session, size: int, rows: int | None
) -> Distance | None:
    """Run both forms.

    Args:
        proto: the file as it is served; external tensors as references.
        folder: of the external data.
        runtime: makes the white-box session.
        served: the served session.
        size: assumed for open dimensions other than the batch.
        rows: that each run takes; None = any.

    Returns:
        The largest difference; None where no output can be compared.

    Raises:
        UnsupportedModel: the graph cannot be rewritten.
    """
    feeds = parity.random_feeds(proto, size, rows)
    feeds = {k: v * 25 if v.dtype == np.uint8 else v for k, v in feeds.items()}
    plain = runtime.session(
        ir.to_proto(graph_tools.load(proto, folder=folder)).SerializeToString(), folder, plain=True, low_memory=True
    )
    return compare(served.run(feeds), plain.run(feeds))


def compare(want: Mapping[str, Array], got: Mapping[str, Array]) -> Distance | None:
    """The largest difference over the outputs that both have."""
    found = []
    for name, value in want.items():
        if name not in got or not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or not value.size:
            continue
        a, b = value.astype(np.float64), np.asarray(got[name]).astype(np.float64)
        if a.shape != b.shape:
            continue
        scale = max(float(np.abs(a).max()), 1e-12)
        flat = (v.reshape(v.shape[0] if v.ndim else 1, -1) for v in (a, b))
        strongest = [v.argmax(axis=1) for v in flat]
        found.append(Distance(float(np.abs(a - b).max()) / scale, name, float((strongest[0] == strongest[1]).mean())))
    return max(found, key=lambda d: d.relative, default=None)
