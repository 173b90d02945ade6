"""ONNX in, ONNX out: load, describe, expose, cut, splice and differentiate exported models. Never runs a model."""

from graph_tools.gradient import gradient
from graph_tools.model import load

__all__ = ["gradient", "load"]
