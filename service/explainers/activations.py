"""Activations: what the layers of a model compute for one input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graph_tools import model as models
from graph_tools.emit import Emitter
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
from service.types import Array, LayerActivations


@dataclass(frozen=True)
class Activations:
    """Parameters of activations."""

    layers: tuple[str, ...] = param((), "value names; empty = the default layer")
    channels: int = param(64, "how many channels to return, strongest first; 0 = all", ge=0, le=65536)


@explainer("activations", Activations, kind="white-box", needs_layer=True, needs_target=False)
def activations(
    model: Explainable, batch: Batch, targets: Targets, params: Activations, run: RunContext
) -> Explanation:
    """The values of any layers, channels ranked by energy (mean square), with each layer's sparsity."""
    layers = tuple(dict.fromkeys(model.layer(name) for name in (params.layers or ("",))))
    program = model.program("activations", layers, batch, lambda graph: _program(graph, layers), run)
    feeds = {"image": batch.image} if batch.image is not None else dict(batch.tensors)
    outputs = program.run(feeds, run)
    axes = {name: int(outputs[f"channel_axis_{i}"][0]) for i, name in enumerate(layers)}
    items = tuple(
        tuple(
            describe(name, outputs[f"activation_{i}"][n], axes[name] - 1, params.channels)
            for i, name in enumerate(layers)
        )
        for n in range(batch.rows)
    )
    return Explanation(activations=items, scores=outputs["class_scores"], rows=batch.rows)


def describe(layer: str, values: Array, channel_axis: int, channels: int) -> LayerActivations:
    """Rank one input's activation (no batch axis) by channel energy and keep the ``channels`` strongest."""
    if values.ndim == 0:
        values = values[None]
    moved = np.moveaxis(values, channel_axis if values.ndim > 1 else 0, 0).astype(np.float32)
    flat = moved.reshape(moved.shape[0], -1)
    energy = np.square(flat, dtype=np.float64).mean(axis=1)
    order = np.argsort(-energy, kind="stable")[: channels or None]
    largest = float(np.abs(flat).max(initial=0.0))
    sparsity = float((np.abs(flat) <= 1e-6 * largest).mean()) if flat.size else 0.0
    return LayerActivations(
        layer,
        np.ascontiguousarray(moved[order]),
        order,
        energy[order].astype(np.float32),
        sparsity,
        len(moved),
    )


def _program(graph: Graph, layers: tuple[str, ...]) -> ir.Model:
    """The model with ``activation_<i>`` per layer, its channel axis as a constant, and ``class_scores``."""
    model = graph.model
    named = models.values_by_name(model)
    b = Emitter(model)
    model.graph.outputs.clear()
    for i, name in enumerate(layers):
        b.output(named[name], f"activation_{i}")
        axis = graph.channels.get(name, 1)
        b.output(b.const(np.array([axis], np.int64)), f"channel_axis_{i}")
    b.output(b.Cast(named[graph.scores], to=ir.DataType.FLOAT.value), "class_scores")
    return model
