"""Random convolutions and pools against the definition of their adjoints, written as slow loops over windows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import graph_tools
from tests.graph_tools.harness import run_ort

Index = tuple[int, ...]


@dataclass
class Draw:
    """A random operator: its attributes and float32 operands x (and w)."""

    op: str
    attrs: dict[str, Any]
    x: np.ndarray
    w: np.ndarray | None = None

    @property
    def kernel(self) -> Index:
        return tuple(self.attrs["kernel_shape"])

    def per_axis(self, name: str, default: int) -> Index:
        return tuple(self.attrs.get(name, [default] * len(self.kernel)))


def _draw(op: str, seed: int) -> Draw:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 4))
    kernel = [int(k) for k in rng.integers(1, 4, n)]
    strides = [int(s) for s in rng.integers(1, 4, n)]
    dilations = [int(d) for d in rng.integers(1, 3, n)]
    pads = [int(rng.integers(0, k)) for k in kernel * 2]
    attrs: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = [e + int(rng.integers(0, 4)) for e in extents]
    auto = rng.choice(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])
    if auto != "NOTSET":
        del attrs["pads"]
        attrs["auto_pad"] = str(auto)
        if auto.startswith("SAME"):  # ONNX Runtime refuses dilations, and pools smaller than their stride
            del attrs["dilations"]
            attrs["strides"] = [min(s, k) for s, k in zip(strides, kernel, strict=True)]
    if op.endswith("Pool"):
        if auto == "NOTSET":
            attrs["ceil_mode"] = int(rng.integers(0, 2))
        if op == "AveragePool":
            attrs["count_include_pad"] = int(rng.integers(0, 2))
        x = rng.integers(-3, 4, (2, 2, *size)).astype(np.float32)  # ties on purpose
        return Draw(op, attrs, x)
    group = int(rng.integers(1, 4))
    attrs["group"] = group
    per_group, out = int(rng.choice([1, 2, 16])), int(rng.integers(1, 3))
    if op == "Conv":
        x_channels, w_shape = group * per_group, (group * out, per_group, *kernel)
    else:
        x_channels, w_shape = group * out, (group * out, per_group, *kernel)
        size = [int(s) for s in rng.integers(2, 4, n)]
        if auto == "NOTSET":
            attrs["output_padding"] = [int(rng.integers(0, s)) for s in attrs["strides"]]
    x = rng.normal(size=(2, x_channels, *size)).astype(np.float32)
    return Draw(op, attrs, x, rng.normal(size=w_shape).astype(np.float32))


def _model(draw: Draw, constant: bool, open_dims: bool) -> onnx.ModelProto:
    held = [] if draw.w is None else [("w", draw.w)]
    inputs = [("x", draw.x), *([] if constant else held)]
    infos = [
        helper.make_tensor_value_info(name, 1, [f"{name}{i}" for i in range(a.ndim)] if open_dims else a.shape)
        for name, a in inputs
    ]
    node = helper.make_node(draw.op, ["x", *(name for name, _ in held)], ["y"], **draw.attrs)
    initializers = [numpy_helper.from_array(a, name) for name, a in held] if constant else []
    graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", 1, None)], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def _pads(draw: Draw, image: Index, grid: Index) -> tuple[Index, Index]:
    """Pads in front and behind that make ``grid`` windows of the ``image``; the operator's definition of auto_pad."""
    auto, n = draw.attrs.get("auto_pad", "NOTSET"), len(draw.kernel)
    if not auto.startswith("SAME"):
        pads = draw.attrs.get("pads", [0] * 2 * n)
        return tuple(pads[:n]), tuple(pads[n:])
    totals = [
        max(0, (g - 1) * s + k - i)
        for g, s, k, i in zip(grid, draw.per_axis("strides", 1), draw.kernel, image, strict=True)
    ]
    small = [t // 2 for t in totals]
    large = [t - t // 2 for t in totals]
    return (tuple(small), tuple(large)) if auto == "SAME_UPPER" else (tuple(large), tuple(small))


def _meetings(draw: Draw, image: Index, grid: Index) -> list[tuple[Index, Index, Index]]:
    """(window, tap, image position) wherever a window reads the image."""
    before, _ = _pads(draw, image, grid)
    strides, dilations = draw.per_axis("strides", 1), draw.per_axis("dilations", 1)
    met = []
    for o in itertools.product(*map(range, grid)):
        for t in itertools.product(*map(range, draw.kernel)):
            at = tuple(a * s + b * d - p for a, b, s, d, p in zip(o, t, strides, dilations, before, strict=True))
            if all(0 <= a < size for a, size in zip(at, image, strict=True)):
                met.append((o, t, at))
    return met


def _slow_conv(draw: Draw, ct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    assert draw.w is not None
    transposed = draw.op == "ConvTranspose"
    image, grid = (ct, draw.x) if transposed else (draw.x, ct)
    gx, gw = np.zeros_like(draw.x, np.float64), np.zeros_like(draw.w, np.float64)
    rows, per_group = draw.w.shape[0] // draw.attrs["group"], draw.w.shape[1]
    for o, t, at in _meetings(draw, image.shape[2:], grid.shape[2:]):
        for g in range(draw.attrs["group"]):
            m, c = slice(g * rows, (g + 1) * rows), slice(g * per_group, (g + 1) * per_group)
            w = draw.w[(m, slice(None), *t)].astype(np.float64)
            here, there = (slice(None), m, *o), (slice(None), c, *at)
            if transposed:
                gx[here] += ct[there] @ w.T
            else:
                gx[there] += ct[here] @ w
            gw[(m, slice(None), *t)] += grid[here].T.astype(np.float64) @ image[there]
    return gx, gw


def _slow_pool(draw: Draw, ct: np.ndarray) -> np.ndarray:
    image, grid = draw.x.shape[2:], ct.shape[2:]
    gx = np.zeros_like(draw.x, np.float64)
    before, after = _pads(draw, image, grid)
    windows: dict[Index, list[Index]] = {o: [] for o in itertools.product(*map(range, grid))}
    for o, _, at in _meetings(draw, image, grid):
        windows[o].append(at)
    for o, positions in windows.items():
        for row in itertools.product(range(2), range(2)):
            if draw.op == "MaxPool":
                gx[row + max(positions, key=lambda at: draw.x[row + at])] += ct[row + o]
                continue
            count = len(positions)
            if draw.attrs["count_include_pad"]:
                count = int(np.prod([
                    sum(a * s + t * d - p < size + q for t in range(k))
                    for a, s, d, p, q, k, size in zip(
                        o, draw.per_axis("strides", 1), draw.per_axis("dilations", 1), before, after, draw.kernel,
                        image, strict=True,
                    )
                ]))  # fmt: skip
            for at in positions:
                gx[row + at] += ct[row + o] / count
    return gx


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "MaxPool", "AveragePool"])
def test_adjoint_equals_its_definition(op: str, seed: int) -> None:
    draw = _draw(op, seed)
    constant, open_dims, form = bool(seed % 2), bool(seed % 3 == 0), "cuda" if seed % 5 == 0 else "cpu"
    model = _model(draw, constant, open_dims)
    feeds = {"x": draw.x} if draw.w is None or constant else {"x": draw.x, "w": draw.w}
    y = run_ort(model, feeds)["y"]
    ct = np.random.default_rng(seed).normal(size=y.shape).astype(np.float32)
    wrt = ["x"] if draw.w is None else ["x", "w"]
    program = ir.to_proto(graph_tools.gradient(model, ["y"], wrt, form=form))
    got = run_ort(program, {**feeds, "cotangent_y": ct})
    expected = (_slow_pool(draw, ct),) if draw.w is None else _slow_conv(draw, ct)
    for name, e in zip(wrt, expected, strict=True):
        assert got[f"grad_{name}"].shape == e.shape
        assert np.allclose(got[f"grad_{name}"], e, rtol=1e-4, atol=1e-4), (draw.attrs, name)
