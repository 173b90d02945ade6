"""Predict: the model's own answer."""

from __future__ import annotations

from dataclasses import dataclass

from service.explainers.base import Batch, Explainable, Explanation, RunContext, Targets, explainer


@dataclass(frozen=True)
class Predict:
    """Predict has no parameters of its own; ``top_k`` belongs to the request."""


@explainer("predict", Predict, kind="black-box", needs_target=False)
def predict(model: Explainable, batch: Batch, targets: Targets, params: Predict, run: RunContext) -> Explanation:
    """The strongest classes with label, probability and logit."""
    return Explanation(rows=batch.rows)
