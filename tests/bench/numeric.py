"""Central differences in float64 of the ``light_*`` networks: what their gradients are checked against.

Forward passes run in onnx's reference evaluator, its operators with windows replaced by the ones here: the same sums as
matrix products of NumPy, fast enough for VGG-19 at 224 x 224.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

STEPS = (1e-7, 1e-8, 1e-9)
"""Tried in turn until two neighbours agree. At 1e-6 a random direction still crosses kinks of a few among millions of
ReLUs, and their sum shows."""
STABLE = 1e-3
_DELTA = "delta_of_interior"


class Unstable(Exception):
    """No two steps gave the same difference."""


def windows(x: np.ndarray, kernel: Sequence[int], pads: Sequence[int] | None, strides: Sequence[int] | None,
            fill: float = 0.0) -> np.ndarray:  # fmt: skip
    """[N, C, H, W] → [N, C, H', W', *kernel]."""
    top, left, bottom, right = pads or (0, 0, 0, 0)
    down, along = strides or (1, 1)
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    return sliding_window_view(padded, tuple(kernel), axis=(2, 3))[:, :, ::down, ::along]


class Conv(OpRun):
    """Convolution without dilation."""

    op_domain = ""

    def _run(self, x: Any, w: Any, b: Any = None, auto_pad: Any = None, dilations: Any = None, group: Any = None,
             kernel_shape: Any = None, pads: Any = None, strides: Any = None):  # fmt: skip
        assert set(dilations or (1,)) == {1}
        groups = group or 1
        if w.shape[2:] == (1, 1) and groups == 1 and not any(pads or ()):
            down, along = strides or (1, 1)
            y = np.tensordot(w[:, :, 0, 0], x[:, :, ::down, ::along], (1, 1)).swapaxes(0, 1)
            return (y if b is None else y + b[:, None, None],)
        seen = windows(x, w.shape[2:], pads, strides).transpose(1, 4, 5, 0, 2, 3)  # C k k N H W
        out = []
        for part, weights in zip(np.split(seen, groups), np.split(w, groups), strict=True):
            flat = weights.reshape(len(weights), -1) @ part.reshape(weights[0].size, -1)
            out.append(flat.reshape(len(weights), *seen.shape[3:]).swapaxes(0, 1))
        y = np.concatenate(out, axis=1)
        return (y if b is None else y + b[:, None, None],)


class MaxPool(OpRun):
    """The largest of each window."""

    op_domain = ""

    def _run(self, x: Any, auto_pad: Any = None, ceil_mode: Any = None, dilations: Any = None, kernel_shape: Any = None,
             pads: Any = None, storage_order: Any = None, strides: Any = None):  # fmt: skip
        assert not ceil_mode
        return (windows(x, kernel_shape, pads, strides, -np.inf).max((-2, -1)),)


class AveragePool(OpRun):
    """The mean of each window, of what is no padding unless that counts."""

    op_domain = ""

    def _run(self, x: Any, auto_pad: Any = None, ceil_mode: Any = None, count_include_pad: Any = None,
             dilations: Any = None, kernel_shape: Any = None, pads: Any = None, strides: Any = None):  # fmt: skip
        assert not ceil_mode
        total = windows(x, kernel_shape, pads, strides).sum((-2, -1))
        if count_include_pad:
            return (total / np.prod(kernel_shape),)
        return (total / windows(np.ones_like(x[:1, :1]), kernel_shape, pads, strides).sum((-2, -1)),)


class LRN(OpRun):
    """x / (bias + alpha / size · Σ x² over ``size`` channels around)^beta."""

    op_domain = ""

    def _run(self, x: Any, alpha: Any = None, beta: Any = None, bias: Any = None, size: Any = None):
        before = (size - 1) // 2
        squares = np.pad(x**2, ((0, 0), (before, size - 1 - before), (0, 0), (0, 0)))
        total = sliding_window_view(squares, size, axis=1).sum(-1)
        return (x / (bias + alpha / size * total) ** beta,)


def scalar(model: onnx.ModelProto, interior: str, image: np.ndarray, ct: np.ndarray) -> Callable[..., float]:
    """<ct, output> in float64, as a function of what is added to the image and to ``interior``."""
    double = onnx.ModelProto()
    double.CopyFrom(model)
    graph = double.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    at = next(i for i, n in enumerate(graph.node) if interior in n.output)
    node = graph.node[at]
    node.output[list(node.output).index(interior)] = f"{interior}_before"
    graph.node.insert(at + 1, helper.make_node("Add", [f"{interior}_before", _DELTA], [interior]))
    graph.input.append(helper.make_tensor_value_info(_DELTA, TensorProto.DOUBLE, None))
    name, output = graph.input[0].name, graph.output[0].name
    session = ReferenceEvaluator(double, new_ops=[Conv, MaxPool, AveragePool, LRN])

    def value(image_step: Any = 0.0, interior_step: Any = 0.0) -> float:
        feeds = {name: image.astype(np.float64) + image_step, _DELTA: np.asarray(interior_step, np.float64)}
        return float((session.run([output], feeds)[0] * ct).sum())

    return value


def derivative(value: Callable[[Any], float], direction: np.ndarray, scale: float) -> float:
    """Central difference of ``value`` at 0 along ``direction``, with a step at which it is stable.

    Raises:
        Unstable: no two neighbouring steps agree within ``STABLE`` of ``scale``.
    """
    last = None
    for step in STEPS:
        now = (value(step * direction) - value(-step * direction)) / (2 * step)
        if last is not None and abs(now - last) <= STABLE * scale:
            return now
        last = now
    raise Unstable(f"the central difference still changes at a step of {STEPS[-1]}")


def error(value: Callable[[Any], float], gradient: np.ndarray, directions: int = 2) -> float:
    """The largest |analytic − numeric| by the gradient's norm, along the gradient and ``directions`` random ones.

    Those are normal with variance 1: along one, the derivative is normal with the gradient's norm as its deviation.
    """
    g = gradient.astype(np.float64)
    norm = float(np.linalg.norm(g))
    rng = np.random.default_rng(2)
    along = [g / norm, *(rng.standard_normal(g.shape) for _ in range(directions))]
    return max(abs(derivative(value, d, norm) - float((g * d).sum())) / norm for d in along)
