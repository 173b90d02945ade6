"""Saliency: the gradient of the target's logit with respect to each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

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
from service.explainers.program import Tail, attribution_program, attributions, per_target, run_program


@dataclass(frozen=True)
class Saliency:
    """Parameters of saliency.

    Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks", 2013, section 3.1:
    M_ij = max_c |∂S/∂x_ijc|, with S the class score before the softmax.
    """

    signed: bool = param(False, "keep the sign: the channel's derivative of largest magnitude, not its absolute value")


@explainer("saliency", Saliency, kind="white-box")
def saliency(model: Explainable, batch: Batch, targets: Targets, params: Saliency, run: RunContext) -> Explanation:
    """Absolute gradient of the target's logit per pixel, the largest over the channels.

    Units: logit per grey level for images, logit per input unit for tensors.
    """
    outputs = run_program(
        model, "saliency", (params.signed,), batch, targets,
        lambda graph, many: attribution_program(graph, graph.entry, many, _tail(params.signed)), run,
    )  # fmt: skip
    return Explanation(
        attributions(outputs, targets, signed=params.signed), scores=outputs["class_scores"], rows=batch.rows
    )


def _tail(signed: bool) -> Tail:
    def tail(b: Reverse, graph: Graph, x: ir.Value, ct: ir.Value, target: ir.Value) -> ir.Value:
        """max_c |ct|, or the signed entry of largest magnitude: max_c if max_c >= −min_c else min_c."""
        if not graph.image:
            return per_target(b, ct if signed else b.Abs(ct), target)
        if not signed:
            return per_target(b, b.ReduceMax(b.Abs(ct), [3], keepdims=0), target)
        high, low = b.ReduceMax(ct, [3], keepdims=0), b.ReduceMin(ct, [3], keepdims=0)
        return per_target(b, b.Where(b.GreaterOrEqual(high, b.Neg(low)), high, low), target)

    return tail
