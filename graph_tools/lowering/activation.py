"""The activation functions that LSTM, GRU and RNN name in an attribute."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graph_tools.emit import Emitter
from graph_tools.errors import UnsupportedGradient

# The defaults are ONNX Runtime's: 0 for ThresholdedRelu too, whose operator has 1.
_ALPHA = {"affine": 0.0, "leakyrelu": 0.01, "thresholdedrelu": 0.0, "scaledtanh": 0.0, "hardsigmoid": 0.2, "elu": 1.0}
_BETA = {"affine": 0.0, "scaledtanh": 0.0, "hardsigmoid": 0.5}
_PLAIN = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softsign": "Softsign", "softplus": "Softplus"}


@dataclass(frozen=True)
class Activation:
    """One function with its parameters; ``name`` in lower case."""

    name: str
    alpha: float
    beta: float

    def __call__(self, b: Emitter, v: ir.Value) -> ir.Value:
        """The function of ``v``."""
        found: ir.Value
        if self.name in _PLAIN:
            found = getattr(b, _PLAIN[self.name])(v)
        elif self.name == "affine":
            found = b.Add(b.Mul(v, self.alpha), self.beta)
        elif self.name == "scaledtanh":
            found = b.Mul(b.Tanh(b.Mul(v, self.beta)), self.alpha)
        elif self.name == "hardsigmoid":
            found = b.HardSigmoid(v, alpha=self.alpha, beta=self.beta)
        elif self.name == "thresholdedrelu":
            found = b.ThresholdedRelu(v, alpha=self.alpha)
        else:
            found = (b.LeakyRelu if self.name == "leakyrelu" else b.Elu)(v, alpha=self.alpha)
        return found


def activations_of(node: ir.Node, default: tuple[str, ...], directions: int) -> list[list[Activation]]:
    """The functions of each direction. Those that take an alpha or a beta take the next one of the node's list.

    Raises:
        UnsupportedGradient: a function that the standard does not name.
    """
    given = list(node.attributes.get_strings("activations", ())) or list(default) * directions
    if len(given) < len(default) * directions:
        given += list(default) * directions
    alphas = list(node.attributes.get_floats("activation_alpha", ()))
    betas = list(node.attributes.get_floats("activation_beta", ()))
    found = []
    for name in given[: len(default) * directions]:
        key = name.lower()
        if key not in _PLAIN and key not in _ALPHA:
            raise UnsupportedGradient(
                f"operator {node.op_type} (node {node.name!r}) has the activation {name!r}, which is not one of the "
                f"standard's; black-box methods work on this model",
                operator=node.op_type,
                node=node.name or "",
            )
        alpha = alphas.pop(0) if key in _ALPHA and alphas else _ALPHA.get(key, 0.0)
        beta = betas.pop(0) if key in _BETA and betas else _BETA.get(key, 0.0)
        found.append(Activation(key, alpha, beta))
    return [found[i : i + len(default)] for i in range(0, len(found), len(default))]
