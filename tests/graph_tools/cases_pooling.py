"""Rows for graph_tools/vjp/pooling.py and average_pooling.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graph_tools.harness import Case

X = (2, 2, 5, 6)
SPREAD = np.random.default_rng(3).permutation(120).reshape(X) / 12.0  # no near-ties: a step changes no maximum
LINE, BLOCK = SPREAD.reshape(2, 6, 10), SPREAD.reshape(1, 2, 4, 3, 5)
ORT_ONLY = {"reference": False}  # the reason stands beside each use


def pool(op: str, name: str, x: Any, *kernel: int, flags: dict[str, Any] | None = None, **attrs: Any) -> Case:
    return Case(op, (x,), {"kernel_shape": list(kernel), **attrs}, id=name, **(flags or {}))


def largest(name: str, *kernel: int, x: Any = SPREAD, flags: dict[str, Any] | None = None, **attrs: Any) -> Case:
    return pool("MaxPool", name, x, *kernel, flags=flags, **attrs)


def mean(name: str, *kernel: int, x: Any = X, flags: dict[str, Any] | None = None, **attrs: Any) -> Case:
    return pool("AveragePool", name, x, *kernel, flags=flags, **attrs)


def norm(name: str, *kernel: int, flags: dict[str, Any] | None = None, **attrs: Any) -> Case:
    return pool("LpPool", name, X, *kernel, flags=flags, **attrs)


MAX = [
    largest("plain", 2, 2, strides=[2, 2]),
    largest("quarters", 2, 2, x=SPREAD.reshape(1, 5, 4, 6), strides=[2, 2]),
    largest("overlap", 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]),
    largest("ceil", 2, 3, strides=[2, 2], ceil_mode=1),
    largest("dilations", 2, 3, dilations=[2, 1], strides=[2, 2]),
    largest("same-upper", 3, 2, strides=[2, 2], auto_pad="SAME_UPPER"),
    largest("same-lower", 3, 2, strides=[2, 2], auto_pad="SAME_LOWER", flags=ORT_ONLY),  # takes it for VALID
    largest("valid", 3, 2, strides=[2, 2], auto_pad="VALID"),
    largest("stride-1", 2, 2, flags=ORT_ONLY),  # its Indices are wrong at stride 1
    largest("with-indices", 2, 2, strides=[2, 2], flags={"outputs": 2}),
    largest("column-major", 2, 2, storage_order=1, strides=[2, 2], flags={"outputs": 2}),
    largest("1d", 3, x=LINE, strides=[2], pads=[1, 1]),
    largest("3d", 2, 2, 2, x=BLOCK, strides=[1, 1, 2], pads=[1, 0, 0, 0, 1, 1]),
    largest("opset-22", 2, 2, strides=[2, 2], flags={"opset": 22}),
    Case("GlobalMaxPool", (SPREAD,)),
    Case("GlobalMaxPool", (LINE,), id="1d", reference=False),  # it takes the last two axes for space
    Case("GlobalMaxPool", (BLOCK,), id="3d", reference=False),
    Case(
        "MaxUnpool",
        (np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), np.array([[[[0, 3], [9, 14]]]])),
        {"kernel_shape": [2, 2], "strides": [2, 2]},
    ),
    Case(
        "MaxUnpool",
        (np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), np.array([[[[0, 3], [9, 14]]]]), np.array([1, 1, 5, 5])),
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        id="output-shape",
        reference=False,  # it reads the indices in the shape without padding
    ),
]

AVERAGE = [
    mean("tiles", 2, 3, x=(1, 2, 4, 6), strides=[2, 3]),
    mean("tiles-with-rest", 2, 4, strides=[2, 4]),
    mean("tiles-ceil", 2, 2, x=(1, 2, 4, 6), strides=[2, 2], ceil_mode=1),
    mean("ceil", 2, 2, strides=[2, 2], ceil_mode=1),
    mean("stride-1", 3, 2),
    mean("stride-1-pads", 3, 3, pads=[1, 2, 0, 1]),
    mean("stride-1-include", 3, 3, pads=[1, 2, 0, 1], count_include_pad=1),
    mean("overlap", 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]),
    mean("overlap-include", 3, 2, strides=[2, 3], pads=[1, 1, 2, 0], count_include_pad=1),
    mean("overlap-ceil", 3, 3, strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
    mean("ceil-include", 3, 3, x=(1, 2, 6, 8), strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1),
    # Shape inference below opset 22 counts a window that starts behind the image; the evaluators do not.
    mean("ceil-outside", 3, 2, x=(1, 1, 4, 5), strides=[3, 3], pads=[1, 1, 2, 1], ceil_mode=1, flags={"opset": 22}),
    mean("same-upper", 3, 2, strides=[2, 2], auto_pad="SAME_UPPER"),
    mean("same-lower-include", 3, 2, strides=[2, 2], auto_pad="SAME_LOWER", count_include_pad=1),
    mean("same-stride-1", 3, 3, auto_pad="SAME_UPPER"),
    mean(  # the reference evaluator cannot pad by a negative number
        "same-gaps", 1, 2, x=(1, 2, 6, 8), strides=[3, 4], auto_pad="SAME_UPPER", flags={**ORT_ONLY, "opset": 19}
    ),
    mean("whole-image", 5, 6),
    mean("valid", 3, 2, strides=[2, 2], auto_pad="VALID"),
    mean("dilations", 2, 2, dilations=[2, 3], pads=[1, 0, 1, 1], flags={"opset": 19}),
    mean(
        "dilations-include",
        3,
        2,
        dilations=[2, 2],
        strides=[2, 1],
        pads=[1, 1, 1, 1],
        count_include_pad=1,
        flags={"opset": 19},
    ),
    mean("1d", 3, x=(2, 2, 7), strides=[2], pads=[1, 1]),
    mean("1d-tiles", 2, x=(2, 2, 6), strides=[2]),
    mean("3d", 2, 3, 2, x=(1, 2, 4, 5, 4), strides=[2, 1, 1], pads=[0, 1, 1, 1, 0, 0]),
    mean("3d-tiles", 2, 2, 2, x=(1, 2, 4, 4, 4), strides=[2, 2, 2]),
    mean("opset-22", 2, 2, strides=[2, 2], flags={"opset": 22}),
    Case("GlobalAveragePool", (X,)),
    Case("GlobalAveragePool", ((2, 3, 4),), id="1d"),
    Case("GlobalAveragePool", ((2, 16, 3, 2),), id="blocks"),
    Case("GlobalAveragePool", ((1, 2, 2, 3, 2),), id="3d"),
]

NORMS = [
    norm("plain", 2, 2, strides=[2, 2]),
    norm("p3-overlap", 3, 2, strides=[2, 2], pads=[1, 1, 1, 0], p=3),
    norm("p1-stride-1", 2, 2, p=1),
    norm("dilations", 2, 2, dilations=[2, 1], strides=[1, 2]),
    norm("same-upper", 3, 3, strides=[2, 2], auto_pad="SAME_UPPER"),
    # The reference evaluator counts a partial window's missing taps.
    norm("ceil", 3, 3, strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, flags=ORT_ONLY),
    # The reference evaluator has no GlobalLpPool.
    Case("GlobalLpPool", (X,), {"p": 3}, reference=False),
    Case("GlobalLpPool", ((2, 3, 4),), id="1d", reference=False),
    Case("GlobalLpPool", (X,), {"p": 1}, id="p1", reference=False),
]

CASES = MAX + AVERAGE + NORMS
