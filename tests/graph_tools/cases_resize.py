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
    *(
        sized(
            f"{policy}-{mode}-{coordinates}",
            8,
            9,
            x=(1, 2, 5, 7),
            mode=mode,
            coordinate_transformation_mode=coordinates,
            keep_aspect_ratio_policy=policy,
            axes=[2, 3],
            # The reference evaluator takes the exact size of the result for its last position.
            flags={"reference": coordinates not in ("align_corners", "half_pixel_symmetric")},
        )
        for policy in ("not_larger", "not_smaller")
        for mode in ("nearest", "linear", "cubic")
        for coordinates in MODES
    ),
    *(
        sized(
            f"not-larger-nearest-{rounding}",
            4,
            9,
            x=(1, 2, 5, 7),
            nearest_mode=rounding,
            keep_aspect_ratio_policy="not_larger",
            axes=[2, 3],
        )
        for rounding in ROUNDINGS
    ),
    # ONNX Runtime resizes planes, or space alone.
    sized("not-larger-plane", 2, 2, x=(5, 7), mode="linear", keep_aspect_ratio_policy="not_larger"),
    sized(
        "not-larger-every-axis",
        2,
        4,
        2,
        2,
        x=(2, 4, 5, 7),
        mode="linear",
        keep_aspect_ratio_policy="not_larger",
        flags={"ort": False},
    ),
    Case(
        "Resize",
        ((1, 2, 5, 7), None, None, np.array([8, 9])),
        {"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": "not_smaller"},
        id="not-smaller-at-run",
        runtime=(3,),
        open_dims=False,
    ),
    Case(
        "Resize",
        ((1, 2, 5, 7), np.array([0.1, 0.2, 0.8, 1.3]), None, np.array([3, 4])),
        {"mode": "cubic", "axes": [2, 3], "coordinate_transformation_mode": "tf_crop_and_resize"},
        id="crop-at-run",
        wrt=(0,),
    ),
    sized(
        "not-larger-exclude-outside",
        8,
        9,
        x=(1, 2, 5, 7),
        mode="cubic",
        exclude_outside=1,
        cubic_coeff_a=-0.5,
        keep_aspect_ratio_policy="not_larger",
        axes=[2, 3],
    ),
    *(
        sized(
            f"not-larger-antialias-{mode}-{outside}",
            4,
            5,
            x=(1, 2, 9, 8),
            mode=mode,
            antialias=1,
            exclude_outside=outside,
            keep_aspect_ratio_policy="not_larger",
            axes=[2, 3],
        )
        for mode in ("linear", "cubic")
        for outside in (0, 1)
    ),
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
