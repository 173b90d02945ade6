"""Rows for graph_tools/vjp/convolution.py. Constant weights at stride 1 take the flipped form, others ConvTranspose."""

from __future__ import annotations

from typing import Any

from tests.graph_tools.harness import Case

Shape = tuple[int, ...]
X, W, B = (2, 2, 5, 6), (3, 2, 3, 2), (3,)
TX, TW = (1, 2, 3, 4), (2, 2, 3, 3)
GROUPS = {"reference": False}  # the reference evaluator's ConvTranspose fails with several outputs per group
SIZED = {"reference": False}  # it pads nothing for output_shape without auto_pad, and SAME by negative numbers


def conv(
    name: str, x: Shape = X, w: Shape = W, *bias: Shape, flags: dict[str, Any] | None = None, **attrs: Any
) -> Case:
    return Case("Conv", (x, w, *bias), attrs, id=name, **(flags or {}))


def fixed(name: str, x: Shape, w: Shape, flags: dict[str, Any] | None = None, **attrs: Any) -> Case:
    """Weights are an initializer."""
    return Case("Conv", (x, w), attrs, id=name, constants=(1,), **(flags or {}))


def back(
    name: str, x: Shape = TX, w: Shape = TW, *bias: Shape, flags: dict[str, Any] | None = None, **attrs: Any
) -> Case:
    return Case("ConvTranspose", (x, w, *bias), attrs, id=name, **(flags or {}))


CONV = [
    conv("plain", X, W, B),
    conv("strides-pads", strides=[2, 1], pads=[1, 0, 2, 1]),
    conv("strides-leave-a-rest", strides=[2, 3]),
    conv("dilations", dilations=[2, 3], pads=[1, 2, 0, 1]),
    conv("strides-dilations", (1, 2, 7, 7), dilations=[2, 1], strides=[2, 2], pads=[1, 1, 1, 1]),
    conv("groups", (2, 4, 4, 4), (6, 2, 2, 2), (6,), group=2, pads=[1, 0, 0, 1], flags=GROUPS),
    conv("depthwise-stride", (2, 4, 5, 5), (4, 1, 3, 3), group=4, strides=[2, 2]),
    conv("depthwise-multiplier", (2, 2, 4, 4), (6, 1, 3, 3), group=2, flags=GROUPS),
    conv("valid", auto_pad="VALID", strides=[2, 2]),
    conv("same-upper", auto_pad="SAME_UPPER", strides=[2, 2]),
    conv("same-lower", auto_pad="SAME_LOWER", strides=[2, 3]),
    conv("same-stride-1", X, (3, 2, 2, 2), auto_pad="SAME_UPPER"),
    conv("same-gaps", X, (3, 2, 1, 2), auto_pad="SAME_UPPER", strides=[3, 4]),
    conv("same-kernel-shape", auto_pad="SAME_LOWER", strides=[2, 2], kernel_shape=[3, 2]),
    conv("same-dilated", auto_pad="SAME_LOWER", dilations=[2, 2], strides=[2, 2], flags={"ort": False}),  # refused
    conv("kernel-is-image", (1, 2, 4, 4), (3, 2, 4, 4)),
    conv("kernel-shape", kernel_shape=[3, 2], strides=[2, 2]),
    conv("1d", (2, 3, 7), (4, 3, 3), (4,), strides=[2], pads=[1, 2]),
    conv("3d", (1, 2, 4, 3, 4), (2, 2, 2, 2, 3), (2,), strides=[2, 1, 2], pads=[0, 1, 1, 1, 0, 1]),
    conv("opset-22", X, W, B, strides=[2, 2], flags={"opset": 22}),
]

FIXED = [
    fixed("flipped", (1, 17, 4, 3), (2, 17, 3, 2), pads=[1, 0, 2, 1]),
    fixed("flipped-dilated", (1, 16, 5, 5), (2, 16, 2, 2), dilations=[2, 3]),
    fixed("flipped-groups", (2, 4, 4, 4), (6, 2, 2, 3), group=2, pads=[1, 0, 0, 1]),
    fixed("flipped-depthwise", (1, 3, 4, 4), (3, 1, 3, 3), group=3, auto_pad="SAME_UPPER"),
    fixed("thinned-depthwise", (2, 16, 6, 6), (16, 1, 3, 3), group=16, strides=[2, 2], pads=[1, 1, 1, 1]),
    fixed("thinned-rest", (1, 16, 8, 7), (16, 1, 3, 2), group=16, strides=[3, 2], pads=[0, 1, 1, 0]),
    fixed("thinned-dilated", (1, 16, 9, 9), (16, 1, 2, 3), group=16, strides=[2, 3], dilations=[2, 1]),
    fixed("thinned-same", (1, 32, 5, 6), (32, 1, 5, 5), group=32, strides=[2, 2], auto_pad="SAME_UPPER"),
    fixed("flipped-1d", (2, 4, 7), (4, 2, 2), group=2, dilations=[2]),
    fixed("flipped-3d", (1, 2, 3, 3, 4), (2, 1, 2, 1, 3), group=2),
    fixed("fixed-thin", (1, 3, 4, 4), (2, 3, 3, 3)),
    fixed("fixed-wide-pads", (1, 16, 3, 3), (2, 16, 1, 1), pads=[1, 2, 0, 1]),
    fixed("fixed-strides", (1, 16, 6, 5), (2, 16, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1]),
    fixed("fixed-same", (1, 2, 6, 5), (2, 2, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
]

TRANSPOSED = [
    back("plain", (2, 3, 4, 3), (3, 2, 3, 2), (2,)),
    back("strides-pads", (2, 3, 4, 3), (3, 2, 3, 2), strides=[2, 3], pads=[1, 0, 2, 1]),
    back("output-padding", strides=[2, 3], output_padding=[1, 2], pads=[1, 1, 1, 1]),
    back("dilations", TX, (2, 2, 2, 3), dilations=[3, 2], strides=[2, 1]),
    back("groups", (2, 4, 3, 3), (4, 3, 2, 2), (6,), group=2, strides=[2, 2], flags=GROUPS),
    back("depthwise", (2, 3, 3, 3), (3, 1, 3, 3), group=3, strides=[2, 2], pads=[1, 1, 1, 1]),
    back("same-upper", auto_pad="SAME_UPPER", strides=[2, 2]),
    back("same-lower", TX, (2, 2, 4, 3), auto_pad="SAME_LOWER", strides=[1, 2]),
    # Shape inference adds output_padding to SAME's size; the evaluators do not.
    back(
        "same-output-padding",
        auto_pad="SAME_LOWER",
        strides=[2, 2],
        output_padding=[1, 0],
        flags={"ort": False},
    ),
    back("same-gaps", TX, (2, 2, 2, 1), strides=[3, 4], auto_pad="SAME_UPPER", flags=SIZED),
    back("valid", auto_pad="VALID", strides=[2, 2]),
    back("output-shape-upper", auto_pad="SAME_UPPER", strides=[2, 2], output_shape=[6, 8]),
    back("output-shape-lower", auto_pad="SAME_LOWER", strides=[2, 2], output_shape=[6, 8], kernel_shape=[3, 3]),
    back("output-shape", strides=[2, 2], output_shape=[6, 8], flags=SIZED),
    back("output-shape-larger", TX, (2, 2, 2, 1), strides=[2, 2], output_shape=[7, 8], flags=SIZED),
    back("1d", (2, 2, 4), (2, 3, 3), (3,), strides=[2], output_padding=[1]),
    back("3d", (1, 2, 2, 3, 2), (2, 2, 2, 2, 3), (2,), strides=[2, 1, 2], pads=[0, 1, 1, 1, 0, 1]),
    back("opset-22", TX, TW, (2,), strides=[2, 2], flags={"opset": 22}),
    Case("ConvTranspose", (TX, TW), {"strides": [2, 2]}, id="fixed", constants=(1,)),
]

CASES = CONV + FIXED + TRANSPOSED
