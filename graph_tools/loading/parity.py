"""Does a rewritten graph compute what the original does? One seeded random input, run by a callable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from graph_tools.errors import UnsupportedModel

_SIZES = (64, 32, 224, 8, 1)  # tried in turn for dimensions that the file leaves open


def compare(
    original: onnx.ModelProto,
    rewritten: onnx.ModelProto,
    folder: Path | None,
    run: Callable[[onnx.ModelProto, Path | None, Mapping[str, Any]], Sequence[Any]],
) -> float | None:
    """Largest difference over the outputs, relative to the output's largest magnitude.

    Returns:
        The difference; None where the original runs on none of the inputs tried (nothing can be said).

    Raises:
        UnsupportedModel: the rewritten graph fails, or differs by more than 1e-4 (1e-2 where float16 is involved).
            Where integer operators were brought to float ones each may round a tie to the other quantum, and the next
            layers carry that on: 0.1, or four steps of a quantised output.
    """
    half = any(t.data_type == onnx.TensorProto.FLOAT16 for t in original.graph.initializer)
    integer = _has_integer_kernels(original)
    tolerance = 0.1 if integer else 1e-2 if half else 1e-4
    for size in _SIZES:
        feeds = random_feeds(original, size)
        try:
            want = run(original, folder, feeds)
        except Exception:  # sizes that do not fit this model
            continue
        try:
            got = run(rewritten, folder, feeds)
        except Exception as error:
            raise UnsupportedModel(f"the rewritten graph does not run: {str(error)[:200]}") from error
        pairs = [(a, b) for a, b in zip(want, got, strict=True) if not (integer and _within_steps(a, b))]
        worst = max((_difference(a, b) for a, b in pairs), default=0.0)
        if not worst <= tolerance:
            raise UnsupportedModel(
                f"the rewritten graph differs from the file by {worst:.2g} (at most {tolerance:g} is accepted)"
            )
        return worst
    return None


def _has_integer_kernels(proto: onnx.ModelProto) -> bool:
    """Whether operators of the QOperator format (QLinearConv, QGemm…) are in the graph."""
    return any(n.op_type.startswith(("QLinear", "QGemm", "QAttention", "QEmbed")) for n in proto.graph.node)


def random_feeds(proto: onnx.ModelProto, size: int, rows: int | None = None) -> dict[str, Any]:
    """Seeded inputs: uniform in 0..1 for floats, 0..9 for integers; open dimensions get ``size``, axis 0 gets 2."""
    rng = np.random.default_rng(0)
    initializers = {t.name for t in proto.graph.initializer}
    symbols: dict[str, int] = {}
    feeds = {}
    for v in proto.graph.input:
        if v.name in initializers:
            continue
        tensor = v.type.tensor_type
        shape = []
        for axis, d in enumerate(tensor.shape.dim):
            open_size = (rows or 2) if axis == 0 else size
            n = (
                d.dim_value
                if d.HasField("dim_value")
                else symbols.setdefault(d.dim_param or f"{v.name}:{axis}", open_size)
            )
            shape.append(n)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        feeds[v.name] = (
            rng.random(shape).astype(dtype) if dtype.kind in "fV" else rng.integers(0, 10, shape).astype(dtype)
        )
    return feeds


def _within_steps(a: Any, b: Any, steps: int = 4) -> bool:
    """Whether ``b`` is nowhere farther from ``a`` than ``steps`` of the smallest distances between numbers in ``a``."""
    if not isinstance(a, np.ndarray) or a.dtype.kind not in "fiu" or a.shape != np.shape(b):
        return False
    levels = np.unique(a.astype(np.float64))
    step = float(np.diff(levels).min()) if levels.size > 1 else 0.0
    gap = np.abs(a.astype(np.float64) - np.asarray(b).astype(np.float64))
    return float(gap.max(initial=0.0)) <= 1.001 * steps * step


def _difference(a: Any, b: Any) -> float:
    if not isinstance(a, np.ndarray) or a.dtype.kind not in "fiub":
        return 0.0
    a, b = a.astype(np.float64), np.asarray(b).astype(np.float64)
    if a.shape != b.shape:
        return float("inf")
    scale = max(float(np.abs(a).max(initial=0.0)), 1e-12)
    return float(np.abs(a - b).max(initial=0.0)) / scale
