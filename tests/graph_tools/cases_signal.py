"""Rows for graph_tools/vjp/signal.py and the body of STFT in graph_tools/lowering/signal.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graph_tools.harness import Case


def _int(n: int) -> np.ndarray:
    return np.array(n, np.int64)


def _both(shape: tuple[int, ...], axis: int, length: int | None = None, **how: Any) -> list[Case]:
    """A transform along ``axis``, which is an attribute at opset 18 and an operand from 20 on."""
    said = "-".join([f"axis{axis}", *how, *([f"to{length}"] if length else []), "x".join(map(str, shape))])
    old = (shape,) if length is None else (shape, _int(length))
    new = (shape, None if length is None else _int(length), _int(axis))
    return [
        Case("DFT", old, {"axis": axis, **how}, id=f"{said}-18", opset=18),
        Case("DFT", new, how, id=f"{said}-20", opset=20),
    ]


CASES = [
    Case("DFT", ((2, 5, 2),), opset=20, id="defaults-20"),
    Case("DFT", ((2, 5, 1),), opset=18, id="defaults-18"),
    Case("DFT", ((2, 5, 4, 2), None, _int(1)), id="runtime-axis", opset=20, runtime=(2,)),
    Case("DFT", ((2, 5, 4, 2), _int(7), _int(-3)), id="runtime-axis-and-length", opset=20, runtime=(1, 2)),
    *_both((2, 5, 4, 1), 1),
    *_both((2, 5, 4, 2), 2),
    *_both((2, 5, 4, 2), -3),
    *_both((2, 5, 4, 2), 1, 8),
    *_both((2, 5, 4, 2), 1, 3),
    *_both((2, 5, 4, 2), 1, inverse=1),
    *_both((2, 5, 4, 2), 1, 8, inverse=1),
    *_both((2, 5, 4, 2), 1, 3, inverse=1),
    *_both((2, 5, 4, 1), 1, onesided=1),
    *_both((2, 6, 4, 1), 1, onesided=1),
    *_both((2, 6, 4, 1), 1, 9, onesided=1),
    *_both((2, 6, 4, 1), 1, 4, onesided=1),
    *_both((2, 5, 4, 2), 1, onesided=1, inverse=1),
    *_both((2, 5, 4, 2), 1, 9, onesided=1, inverse=1),
    *_both((2, 5, 4, 2), 1, 6, onesided=1, inverse=1),
    *_both((2, 3, 4, 2), 1, 9, onesided=1, inverse=1),
    Case("STFT", ((2, 12, 1), _int(3), (4,)), id="window"),
    Case("STFT", ((2, 12, 1), _int(3), (4,)), id="window-20", opset=20),
    Case("STFT", ((2, 12, 1), _int(3), (4,), _int(4)), id="window-and-length"),
    Case("STFT", ((2, 12, 1), _int(3), None, _int(5)), id="length"),
    Case("STFT", ((2, 12, 1), _int(5), (4,), _int(4)), {"onesided": 0}, id="two-sided"),
    Case("STFT", ((2, 12, 2), _int(3), (4,)), {"onesided": 0}, id="complex"),
    Case("STFT", ((2, 12, 1), _int(3), (4,)), id="runtime-step", runtime=(1,)),
    Case("STFT", ((2, 12, 1), _int(3), np.hanning(6)[1:-1]), id="constant-window", constants=(2,)),
    Case("MelWeightMatrix", (_int(4), _int(16), _int(8000), np.array(310.0), np.array(3000.0)), numeric=False),
]
