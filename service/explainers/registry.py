"""All methods: import this, and ``EXPLAINERS`` is full."""

from service.explainers import activations, cam, occlusion, predict, saliency  # noqa: F401
from service.explainers.base import EXPLAINERS, Explainer, find

__all__ = ["EXPLAINERS", "Explainer", "find"]
