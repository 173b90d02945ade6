"""Rows for graph_tools/vjp/grid_sample.py, deformable.py, roi.py and patches.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graph_tools.harness import Case

# The reference evaluator rounds positions to float32, so a difference quotient in float64 sees nothing.
FLOAT32: dict[str, Any] = {"reference": False}
IMAGE, SOLID = (2, 3, 4, 5), (2, 2, 3, 4, 2)


def _positions(*shape: int) -> np.ndarray:
    """In [−1.6, 1.6], at least 0.03 pixels away from the pixels' centres and edges, where the gradient jumps."""
    rng = np.random.default_rng(5)
    found: np.ndarray = rng.uniform(-1.6, 1.6, shape)
    lengths = np.array([5, 4] if shape[-1] == 2 else [2, 4, 3], float)
    for _ in range(50):
        pixels = np.concatenate([((found + 1) * lengths - 1) / 2, (found + 1) * (lengths - 1) / 2], axis=-1)
        close = np.abs(2 * pixels - np.round(2 * pixels)) < 0.1
        again = close[..., : shape[-1]] | close[..., shape[-1] :]
        found = np.where(again, rng.uniform(-1.6, 1.6, shape), found)
    return found


GRID, SOLID_GRID = _positions(2, 3, 2, 2), _positions(2, 2, 2, 3, 3)


def sample(name: str, x: Any = IMAGE, grid: Any = GRID, flags: dict[str, Any] | None = None, **attrs: Any) -> Case:
    return Case("GridSample", (x, grid), attrs, id=name, **{"opset": 20, **FLOAT32, **(flags or {})})


PADDINGS = ["zeros", "border", "reflection"]

GRIDS = [
    sample("default"),
    *(
        sample(f"{mode}-{padding}-{corners}", mode=mode, padding_mode=padding, align_corners=corners)
        for mode in ("nearest", "linear", "cubic")
        for padding in PADDINGS
        for corners in (0, 1)
    ),
    *(
        sample(
            f"3d-{mode}-{padding}-{corners}", SOLID, SOLID_GRID, mode=mode, padding_mode=padding, align_corners=corners
        )
        for mode in ("nearest", "linear")
        for padding in PADDINGS
        for corners in (0, 1)
    ),
    sample("bicubic-16", mode="bicubic", flags={"opset": 18}),
    sample("bilinear-16", padding_mode="border", mode="bilinear", flags={"opset": 18}),
    sample("constant-grid", flags={"constants": (1,)}),
    sample("constant-image", flags={"constants": (0,)}),
    sample("one-pixel", (2, 3, 1, 1), padding_mode="reflection"),
    sample("opset-22", flags={"opset": 22}),
    *(
        Case("AffineGrid", (theta, np.array(sizes)), {"align_corners": c}, id=f"{len(sizes)}d-{c}", opset=20, **FLOAT32)
        for theta, sizes in (((2, 2, 3), (2, 3, 4, 5)), ((2, 3, 4), (2, 3, 2, 3, 4)))
        for c in (0, 1)
    ),
    # With the number of sizes open nothing tells the number of dimensions.
    Case(
        "AffineGrid",
        ((1, 2, 3), np.array([1, 1, 2, 3])),
        id="size-at-run",
        runtime=(1,),
        opset=20,
        open_dims=False,
        **FLOAT32,
    ),
]


def _offsets(*shape: int) -> np.ndarray:
    """Away from whole numbers, where the gradient jumps; some samples fall outside the image."""
    rng = np.random.default_rng(9)
    whole: np.ndarray = rng.integers(-2, 2, shape) + rng.uniform(0.1, 0.9, shape)
    return whole


def deform(name: str, x: Any, w: Any, offset: Any, *rest: Any, opset: int = 19, **attrs: Any) -> Case:
    return Case("DeformConv", (x, w, offset, *rest), attrs, id=name, opset=opset, **FLOAT32)


DEFORMED = [
    deform("plain", (2, 2, 4, 4), (3, 2, 2, 2), _offsets(2, 8, 3, 3)),
    deform("bias", (1, 2, 4, 4), (3, 2, 2, 2), _offsets(1, 8, 3, 3), (3,)),
    deform("mask", (2, 2, 4, 4), (3, 2, 2, 2), _offsets(2, 8, 3, 3), (3,), (2, 4, 3, 3)),
    deform("mask-no-bias", (1, 2, 4, 4), (1, 2, 2, 2), _offsets(1, 8, 3, 3), None, (1, 4, 3, 3), opset=22),
    deform(
        "groups", (2, 4, 4, 5), (6, 2, 2, 3), _offsets(2, 12, 3, 3), (6,), (2, 6, 3, 3), group=2, kernel_shape=[2, 3]
    ),
    deform("offset-groups", (2, 4, 4, 4), (2, 4, 2, 2), _offsets(2, 16, 3, 3), (2,), (2, 8, 3, 3), offset_group=2),
    deform(
        "all",
        (2, 4, 6, 7),
        (4, 2, 3, 2),
        _offsets(2, 24, 3, 4),
        (4,),
        (2, 12, 3, 4),
        group=2,
        offset_group=2,
        strides=[2, 2],
        dilations=[1, 2],
        pads=[1, 0, 1, 2],
    ),
]


def unfold(name: str, x: Any, image: list[int], block: list[int], runtime: bool = False, **attrs: Any) -> Case:
    """With shapes at run time, the sizes open too, nothing tells the number of dimensions."""
    flags: dict[str, Any] = {"runtime": (1, 2), "open_dims": False} if runtime else {}
    return Case("Col2Im", (x, np.array(image), np.array(block)), attrs, id=name, **flags)


PATCHES = [
    unfold("plain", (2, 12, 4), [3, 5], [1, 2], strides=[2, 1], dilations=[1, 3]),
    unfold("default", (1, 8, 6), [3, 4], [2, 2]),
    unfold("pads", (1, 4, 16), [3, 4], [2, 2], pads=[1, 0, 1, 1]),
    unfold("dilations", (2, 6, 4), [4, 5], [3, 2], dilations=[1, 3]),
    unfold("1d", (2, 6, 3), [7], [3], strides=[2]),
    unfold("3d", (1, 8, 12), [3, 4, 3], [2, 2, 2], pads=[0, 0, 0, 0, 0, 0]),
    unfold("at-run", (1, 8, 6), [3, 4], [2, 2], runtime=True),
    unfold("at-run-all", (1, 4, 6), [5, 6], [2, 2], runtime=True, pads=[1, 0, 0, 1], strides=[2, 2], dilations=[2, 1]),
    # The reference evaluator's Pad cannot crop.
    Case("CenterCropPad", ((2, 3, 5), np.array([2, 6, 4])), **FLOAT32),
    Case("CenterCropPad", ((2, 3, 5), np.array([6, 2])), {"axes": [1, 2]}, id="axes", **FLOAT32),
    Case("CenterCropPad", ((2, 3, 5), np.array([7, 2])), {"axes": [-1, 0]}, id="negative-axes", **FLOAT32),
    Case("CenterCropPad", ((2, 3, 5), np.array([3, 6])), {"axes": [1, 2]}, id="at-run", runtime=(1,), **FLOAT32),
]


BOXES = np.array([[0.3, 0.63, 4.21, 3.12], [-2.1, -2.53, 8.32, 7.27], [1.1, 1.2, 1.33, 1.47], [2.7, 0.13, 5.9, 5.21]])
OWNERS = np.array([0, 1, 1, 0])
ROI_IMAGE = np.random.default_rng(4).permutation(168).reshape(2, 2, 6, 7) / 17.0 - 3.05  # no near-ties


def align(
    name: str, x: Any = ROI_IMAGE, owners: Any = OWNERS, flags: dict[str, Any] | None = None, **attrs: Any
) -> Case:
    """In float32 only the image's gradient: with its large step a difference of boxes meets pixels' centres."""
    shape = {"output_height": 2, "output_width": 3, "spatial_scale": 0.9, **attrs}
    return Case("RoiAlign", (x, BOXES, owners), shape, id=name, **{"wrt": (0,), **(flags or {})})


HOW: list[dict[str, Any]] = [
    {"mode": mode, "coordinate_transformation_mode": c, "sampling_ratio": ratio}
    for mode in ("avg", "max")
    for c in ("half_pixel", "output_half_pixel")
    for ratio in (0, 2)
]

ROIS = [
    *(align("-".join(map(str, how.values())), **how) for how in HOW),
    *(align("boxes-" + "-".join(map(str, how.values())), flags={"wrt": (1,), "ort": False}, **how) for how in HOW),
    align("one-image", ROI_IMAGE[:1], OWNERS * 0, sampling_ratio=1),
    align("defaults", output_height=1, output_width=1, spatial_scale=1.0),
    align("owners-at-run", sampling_ratio=2, flags={"runtime": (2,)}),
    Case(
        "MaxRoiPool",
        (
            ROI_IMAGE,
            np.array(
                [[0, 0.4, 0.6, 4.2, 3.7], [1, -2, -2.4, 8.3, 7.2], [1, 1, 1, 1, 1], [0, 3, 3, 1, 1], [0, 9, 0, 9, 5]]
            ),
        ),
        {"pooled_shape": [2, 3], "spatial_scale": 0.9},
        constants=(1,),
        reference=False,  # it has no MaxRoiPool
    ),
]

CASES = [*GRIDS, *DEFORMED, *PATCHES, *ROIS]
