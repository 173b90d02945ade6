"""Rows for graph_tools/vjp/resize.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graph_tools.harness import Case

X = (1, 2, 3, 4)


def scaled(name: str, *scales: float, x: Any = X, flags: dict[str, Any] | None = None, **attrs: Any) -> Case:
    return Case("Resize", (x, None, np.array(scales, np.float32)), attrs, id=name, constants=(1, 2), **(flags or {}))


def sized(
    name: str, *sizes: int, x: Any = X, roi: Any = None, flags: dict[str, Any] | None = None, **attrs: Any
) -> Case:
    return Case("Resize", (x, roi, None, np.array(sizes)), attrs, id=name, constants=(1, 2), **(flags or {}))


MODES = ["half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric"]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]

CASES = [
    *(scaled(f"linear-{m}", 1, 1, 2, 1.5, mode="linear", coordinate_transformation_mode=m) for m in MODES),
    *(sized(f"linear-down-{m}", 1, 2, 2, 3, mode="linear", coordinate_transformation_mode=m) for m in MODES),
    *(sized(f"cubic-{m}", 1, 2, 5, 3, mode="cubic", coordinate_transformation_mode=m) for m in MODES),
    *(
        scaled(f"nearest-{m}-{r}", 1, 1, 2, 1.6, coordinate_transformation_mode=m, nearest_mode=r)
        for m in (*MODES[:1], *MODES[3:])
        for r in ROUNDINGS
    ),
    *(
        scaled(f"nearest-whole-{m}-{r}", 1, 1, 2, 3, coordinate_transformation_mode=m, nearest_mode=r)
        for m in (*MODES[:1], *MODES[4:])
        for r in ROUNDINGS
    ),
    scaled("nearest-default", 1, 1, 2, 2),
    sized("nearest-sizes", 1, 2, 6, 4),
    scaled("nearest-1d", 1, 1, 3, x=(2, 2, 3)),
    scaled("nearest-3d", 1, 1, 2, 1, 2, x=(1, 2, 2, 3, 2)),
    scaled("cubic-coefficient", 1, 1, 1.7, 2, mode="cubic", cubic_coeff_a=-0.5),
    scaled("cubic-exclude-outside", 1, 1, 1.7, 2, mode="cubic", exclude_outside=1),
    sized("linear-antialias", 1, 2, 2, 2, x=(1, 2, 5, 7), mode="linear", antialias=1),
    sized("cubic-antialias", 1, 2, 3, 2, x=(1, 2, 5, 7), mode="cubic", antialias=1),
    sized(
        "crop",
        1,
        2,
        3,
        3,
        roi=np.array([0, 0, 0.1, 0.2, 1, 1, 0.8, 1.3], np.float32),
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=7.0,
    ),
    sized("axes", 5, 2, mode="linear", axes=[2, 3]),
    scaled("axes-turned", 2, 1.5, mode="linear", axes=[3, 2]),
    scaled("axes-negative", 2.5, mode="linear", axes=[-1], flags={"reference": False}),  # it cannot count backwards
    scaled("channels-last", 1, 2, 1.5, 1, mode="linear"),
    scaled("plane", 2, 1.5, x=(3, 4), mode="linear"),
    scaled("trilinear", 1, 1, 2, 1.5, 2, x=(1, 1, 2, 3, 2), mode="linear"),
    scaled("nothing", 1, 1, 1, 1, mode="linear"),
    # ONNX Runtime does not load it where the number of sizes is open.
    Case(
        "Resize",
        (X, None, None, np.array([1, 2, 5, 3])),
        {"mode": "linear"},
        id="sizes-at-run",
        runtime=(3,),
        open_dims=False,
    ),
    Case("Resize", (X, None, np.array([1, 1, 2, 1.5], np.float32)), {"mode": "linear"}, id="scales-at-run", wrt=(0,)),
]
