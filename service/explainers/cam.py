"""Class activation maps by gradients: Grad-CAM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graph_tools.emit import rank
from graph_tools.errors import InvalidRequest
from graph_tools.reverse import Reverse
from service.explainers.base import (
    Batch,
    Explainable,
    Explanation,
    Graph,
    RunContext,
    Targets,
    explainer,
    param,
)
from service.explainers.program import Tail, attribution_program, attributions, run_program


@dataclass(frozen=True)
class GradCam:
    """Parameters of Grad-CAM.

    Selvaraju et al., "Grad-CAM", ICCV 2017, equations 1 and 2: alpha_k = mean_ij ∂S/∂A_kij,
    L = ReLU(sum_k alpha_k A_k), with A the layer's activation and S the class score before the softmax.
    """

    layer: str = param("", "value name of a layer with space; empty = the last one before the classifier")
    relu: bool = param(True, "keep only what speaks for the target (the paper's ReLU)")
    resize: bool = param(True, "enlarge bilinearly to the input's size; false = the layer's own size")


@explainer("grad_cam", GradCam, kind="white-box", needs_layer=True)
def grad_cam(model: Explainable, batch: Batch, targets: Targets, params: GradCam, run: RunContext) -> Explanation:
    """Where a layer's activation speaks for the target: channels weighted by their mean gradient.

    Units: logit per position of the layer.
    """
    layer = model.layer(params.layer)
    outputs = run_program(
        model, "grad_cam", (layer, params.relu, params.resize), batch, targets,
        lambda graph, many: attribution_program(graph, layer, many, _tail(params)), run,
    )  # fmt: skip
    maps = attributions(outputs, targets, signed=not params.relu, layer=layer)
    return Explanation(maps, scores=outputs["class_scores"], rows=batch.rows)


def _tail(params: GradCam) -> Tail:
    def tail(b: Reverse, graph: Graph, layer: ir.Value, ct: ir.Value, target: ir.Value) -> ir.Value:
        """[N, K, C] alpha · A [N, C, space] -> [N, K, space], one product for all targets."""
        axis, space = _space(graph, layer)
        acts, grads = (_channels_first(b, v, axis) for v in (layer, ct))
        alpha = b.ReduceMean(grads, np.array(space, np.int64), keepdims=0)
        rows = b.Shape(target)
        alpha = b.Reshape(alpha, b.Concat(rows, np.array([-1], np.int64), axis=0))
        flat = b.Reshape(acts, np.array([0, 0, -1], np.int64))
        cam = b.MatMul(alpha, flat)
        cam = b.Reshape(cam, b.Concat(rows, b.Shape(acts, start=2), axis=0))
        cam = b.Relu(cam) if params.relu else cam
        if params.resize:
            return _resized(b, graph, cam, len(space))
        return cam  # type: ignore[no-any-return]

    return tail


def _space(graph: Graph, layer: ir.Value) -> tuple[int, list[int]]:
    """(channel axis, axes of space once channels are first).

    Raises:
        InvalidRequest: the layer has no space.
    """
    r = rank(layer)
    if r is None or r < 3 or r > 5:
        shape = "unknown" if layer.shape is None else ", ".join(str(d) for d in layer.shape)
        raise InvalidRequest(
            "grad_cam.layer",
            f"{layer.name!r} has shape [{shape}]: a CAM needs a layer with space (rank 3 to 5)",
        )
    return graph.channels.get(layer.name or "", 1), list(range(2, r))


def _channels_first(b: Reverse, v: ir.Value, axis: int) -> ir.Value:
    if axis == 1:
        return v
    r = rank(v) or 0
    perm = [0, axis, *(i for i in range(1, r) if i != axis)]
    return b.Transpose(v, perm=perm)  # type: ignore[no-any-return]


def _resized(b: Reverse, graph: Graph, cam: ir.Value, dimensions: int) -> ir.Value:
    """[N, K, h, w] -> [N, K, H, W] bilinearly, corners not aligned (as torch's and OpenCV's resize have it).

    Layers with as many dimensions as the input's plane only; others stay at their own size.
    """
    rows, columns = graph.plane
    if dimensions != (1 if columns is None else 2):
        return cam
    entry = next(v for v in graph.model.graph.inputs if v.name == graph.entry)
    axes = [rows] if columns is None else [rows, columns]
    size = b.Gather(b.Shape(entry), np.array(axes, np.int64))
    if columns is None:
        cam, size = b.Unsqueeze(cam, [3]), b.Concat(size, np.array([1], np.int64), axis=0)
    sizes = b.Concat(b.Shape(cam, end=2), size, axis=0)
    cam = b.Resize(cam, None, None, sizes, mode="linear", coordinate_transformation_mode="half_pixel")
    return b.Squeeze(cam, [3]) if columns is None else cam
