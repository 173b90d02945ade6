"""ONNX in, ONNX out: load, describe, expose, cut, splice and differentiate exported models. Never runs a model."""

from graph_tools.cut import cut
from graph_tools.errors import (
    ExplainError,
    InvalidRequest,
    UnknownValue,
    UnsupportedGradient,
    UnsupportedModel,
)
from graph_tools.expose import expose
from graph_tools.gradient import gradient
from graph_tools.model import load
from graph_tools.splice import splice
from graph_tools.values import ValueInfo, values

__all__ = [
    "ExplainError",
    "InvalidRequest",
    "UnknownValue",
    "UnsupportedGradient",
    "UnsupportedModel",
    "ValueInfo",
    "cut",
    "expose",
    "gradient",
    "load",
    "splice",
    "values",
]
