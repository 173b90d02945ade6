"""Operators that onnx's reference evaluator lacks at the newest opset or gets wrong, for use as ``new_ops``."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import helper
from onnx.reference.op_run import OpRun


class Cast(OpRun):
    """Casts of plain types (at opset 28 the evaluator hands its own Cast attributes that it does not take)."""

    op_domain = ""

    def _run(self, x: Any, to: int = 1, **_how: Any) -> tuple[Any, ...]:
        return (np.asarray(x).astype(helper.tensor_dtype_to_np_dtype(to)),)


class DequantizeLinear(OpRun):
    """(x − zero point) · scale per tensor, per axis or per block, in the scale's type."""

    op_domain = ""

    def _run(self, x: Any, scale: Any, zero: Any = None, axis: int = 1, block_size: int = 0,
             output_dtype: int = 0) -> tuple[Any, ...]:  # fmt: skip
        def along(p: np.ndarray) -> np.ndarray:
            if p.size == 1 and p.ndim < 2 and not block_size:
                return p.reshape([1] * x.ndim)
            if block_size:
                wide = np.repeat(p, block_size, axis=axis)
                return np.take(wide, range(x.shape[axis]), axis=axis)
            return p.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])

        kind = helper.tensor_dtype_to_np_dtype(output_dtype) if output_dtype else scale.dtype
        units = x.astype(kind)
        if zero is not None:
            units = units - along(zero).astype(kind)
        return ((units * along(scale).astype(kind)).astype(kind),)


class Pad(OpRun):
    """Pad with negative pads too: those crop."""

    op_domain = ""

    def _run(self, data: Any, pads: Any, value: Any = None, axes: Any = None, mode: str | None = "constant"):
        axes = range(data.ndim) if axes is None else [int(a) % data.ndim for a in axes]
        before, after = [0] * data.ndim, [0] * data.ndim
        for i, axis in enumerate(axes):
            before[axis], after[axis] = int(pads[i]), int(pads[len(axes) + i])
        crop = tuple(slice(max(-b, 0), n + min(a, 0)) for b, a, n in zip(before, after, data.shape, strict=True))
        width = [(max(b, 0), max(a, 0)) for b, a in zip(before, after, strict=True)]
        if (mode or "constant") != "constant":
            return (np.pad(data[crop], width, mode=mode),)
        fill = 0 if value is None else np.asarray(value).reshape(-1)[0]
        return (np.pad(data[crop], width, mode="constant", constant_values=fill).astype(data.dtype),)


class MaxPool(OpRun):
    """MaxPool by its definition, with Indices: the first maximum of each window."""

    op_domain = ""

    def _run(self, x: Any, auto_pad: Any = None, ceil_mode: Any = None, dilations: Any = None,
             kernel_shape: Any = None, pads: Any = None, storage_order: Any = None, strides: Any = None):  # fmt: skip
        space = x.shape[2:]
        n = len(space)
        best, where = -np.inf, np.int64(0)
        order = [math.prod(space[i + 1 :]) for i in range(n)]
        if storage_order:
            order = [math.prod(space[:i]) for i in range(n)]
        plane = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * n) * math.prod(space)
        for inside, _, clipped, values in _taps(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode):
            seen = np.where(inside, values, -np.inf)
            index = plane + sum(g * m for g, m in zip(np.ix_(*clipped), order, strict=True))
            better = seen > best
            best, where = np.where(better, seen, best), np.where(better, index, where)
        return (best.astype(x.dtype), where) if self.n_outputs > 1 else (best.astype(x.dtype),)

    @property
    def n_outputs(self) -> int:
        return len(self.onnx_node.output)


class AveragePool(OpRun):
    """AveragePool by its definition (the evaluator takes seconds for a cube)."""

    op_domain = ""

    def _run(self, x: Any, auto_pad: Any = None, ceil_mode: Any = None, count_include_pad: Any = None,
             dilations: Any = None, kernel_shape: Any = None, pads: Any = None, strides: Any = None):  # fmt: skip
        total, count = np.zeros(1, x.dtype), np.zeros(1)
        for inside, padded, _, values in _taps(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode):
            total = total + np.where(inside, values, 0)
            count = count + (padded if count_include_pad else inside)
        return ((total / count).astype(x.dtype),)


class LpPool(OpRun):
    """LpPool by its definition: (Σ |x|^p)^(1/p)."""

    op_domain = ""

    def _run(self, x: Any, auto_pad: Any = None, ceil_mode: Any = None, dilations: Any = None,
             kernel_shape: Any = None, p: Any = None, pads: Any = None, strides: Any = None):  # fmt: skip
        p = 2 if p is None else p
        total = np.zeros(1, x.dtype)
        for inside, _, _, values in _taps(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode):
            total = total + np.where(inside, np.abs(values) ** p, 0)
        return ((total ** (1 / p)).astype(x.dtype),)


def _taps(x: Any, kernel: Any, strides: Any, dilations: Any, pads: Any, auto_pad: Any, ceil: Any) -> Iterator[Any]:
    """For each tap of the kernel, over all windows: is it in the image, in the padded image, where, and its values."""
    space = x.shape[2:]
    n = len(space)
    dilations, strides = list(dilations or [1] * n), list(strides or [1] * n)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    pads, out = _windows(space, reach, strides, pads, auto_pad or "NOTSET", bool(ceil))
    for offset in itertools.product(*(range(k) for k in kernel)):
        at = [np.arange(o) * s - p + f * d for o, s, p, f, d in
              zip(out, strides, pads[:n], offset, dilations, strict=True)]  # fmt: skip
        masks = []
        for before, after in (([0] * n, [0] * n), (pads[:n], pads[n:])):
            within = [((a >= -b) & (a < m + e)).astype(int) for a, m, b, e in
                      zip(at, space, before, after, strict=True)]  # fmt: skip
            masks.append(functools.reduce(np.multiply.outer, within).astype(bool))
        clipped = [np.clip(a, 0, m - 1) for a, m in zip(at, space, strict=True)]
        yield *masks, clipped, x[(slice(None), slice(None), *np.ix_(*clipped))]


def _windows(space: Any, reach: Any, strides: Any, pads: Any, auto_pad: str, ceil: bool) -> tuple[list[int], list[int]]:
    """Explicit pads (begins, ends) and output dimensions; no window starts behind the data and its begin pad."""
    n = len(space)
    if auto_pad.startswith("SAME"):
        out = [-(-m // s) for m, s in zip(space, strides, strict=True)]
        total = [max((o - 1) * s + r - m, 0) for o, s, r, m in zip(out, strides, reach, space, strict=True)]
        begin = [t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in total]
        return [*begin, *(t - b for t, b in zip(total, begin, strict=True))], out
    pads = [0] * (2 * n) if auto_pad == "VALID" or not pads else list(pads)
    out = []
    for i in range(n):
        room = space[i] + pads[i] + pads[n + i] - reach[i]
        o = (-(-room // strides[i]) if ceil else room // strides[i]) + 1
        if ceil and (o - 1) * strides[i] >= space[i] + pads[i]:
            o -= 1
        out.append(o)
    return pads, out


class Scan(OpRun):
    """Scan along any axes, in either direction."""

    op_domain = ""

    def need_context(self) -> bool:
        """Its body reads values of the graph around it."""
        return True

    def _run(self, *args: Any, context: Any = None, bindings: Any = None, **_how: Any) -> tuple[Any, ...]:
        each = self.num_scan_inputs
        states, names = list(args[:-each]), self.body.input_names
        inputs = [
            np.flip(np.moveaxis(v, self._entry("input_axes", i), 0), (0,) * self._entry("input_directions", i))
            for i, v in enumerate(args[-each:])
        ]
        made: list[list[Any]] = [[] for _ in self.body.output_names[len(states) :]]
        for step in range(len(inputs[0])):
            feeds = dict(zip(names, [*states, *(v[step] for v in inputs)], strict=True))
            found = self.body.run(None, {**(context or {}), **feeds})
            states = found[: len(states)]
            for stack, v in zip(made, found[len(states) :], strict=True):
                stack.append(v)
        stacks = [
            np.stack(v[:: -1 if self._entry("output_directions", i) else 1], self._entry("output_axes", i))
            for i, v in enumerate(made)
        ]
        return (*states, *stacks)

    def _entry(self, name: str, i: int) -> int:
        given = getattr(self, f"scan_{name}")
        return int(given[i]) if given else 0


class LpNormalization(OpRun):
    """x / ‖x‖ (the evaluator's p = 1 sums without absolute values)."""

    op_domain = ""

    def _run(self, x: Any, axis: int = -1, p: int = 2) -> tuple[Any, ...]:
        norm = np.linalg.norm(x, p, axis, keepdims=True)
        return (np.divide(x, norm, out=np.zeros_like(x), where=norm != 0).astype(x.dtype),)


REPAIRED = [AveragePool, Cast, DequantizeLinear, LpNormalization, LpPool, MaxPool, Pad, Scan]
