"""The card's scale, mean, channel order and layout as a graph: float image → the model's own input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from graph_tools.errors import InvalidRequest
from service.models.card import InputCard, Layout
from service.types import Array

IMAGE = "image"
READY = "preprocessed"

OPSET = 18
_DTYPES = {
    "float32": ir.DataType.FLOAT,
    "float16": ir.DataType.FLOAT16,
    "float64": ir.DataType.DOUBLE,
    "uint8": ir.DataType.UINT8,
    "int8": ir.DataType.INT8,
}
_TO_NCHW = (0, 3, 1, 2)

Dim = int | str | None


def graph(
    card: InputCard, *, dtype: str, layout: Layout, channels: int, size: tuple[Dim, Dim] = (None, None)
) -> ir.Model:
    """From ``image`` to what the model takes: y = (x · scale − mean) / std, folded to one Mul and one Add.

    Input ``image``: float32 [N, H, W, C], grey levels 0-255 (fractions allowed), RGB or one grey channel.
    Output ``preprocessed``: the model's input in its dtype and layout. Integer inputs are entered by
    rounding (half to even) with saturation: QuantizeLinear with scale 1 and zero point 0, whose gradient is
    passed straight through.

    Args:
        card: with its numbers known (``InputCard.assuming``); an unknown channel order is RGB.
        dtype: numpy name of the model's input: float32, float16, float64, uint8 or int8.
        layout: of the model's input.
        channels: 1 or 3, of the model's input.
        size: (H, W) of the model's input; texts are kept as symbols, None becomes the symbol ``H`` or ``W``.

    Returns:
        An opset-18 model of standard operators with symbolic batch ``N``.

    Raises:
        InvalidRequest: the card's channels, mean or std do not fit the number of channels.
    """
    check_channels(card, channels)
    multiply, add = affine(card)
    x = ir.Value(name=IMAGE, type=ir.TensorType(ir.DataType.FLOAT), shape=_shape(size, channels, "nhwc"))
    chain = _Chain(x)
    if card.channels == "bgr":
        chain.append("Gather", _constant("order", np.array([2, 1, 0], np.int64)), axis=3)
    if np.any(multiply != 1):
        chain.append("Mul", _constant("factor", multiply))
    if np.any(add != 0):
        chain.append("Add", _constant("offset", add))
    if layout == "nchw":
        chain.append("Transpose", shape=_shape(size, channels, "nchw"), perm=_TO_NCHW)
    if dtype in ("uint8", "int8"):
        zero = np.zeros((), np.dtype(dtype))
        one = _constant("one", np.ones((), np.float32))
        chain.append("QuantizeLinear", one, _constant("zero", zero), dtype=_DTYPES[dtype])
    elif dtype != "float32":
        chain.append("Cast", dtype=_DTYPES[dtype], to=_DTYPES[dtype].value)
    return chain.model()


def affine(card: InputCard) -> tuple[Array, Array]:
    """(m, a), float32 [1] or [C], with (x · scale − mean) / std = x · m + a; computed in float64."""
    if card.scale is None or card.mean is None or card.std is None:
        raise ValueError("the card says nothing about scale, mean and std: see InputCard.assuming")
    mean, std = np.asarray(card.mean, np.float64), np.asarray(card.std, np.float64)
    add = np.where(mean == 0, 0.0, -mean / std)  # no negative zeros
    return (card.scale / std).astype(np.float32), add.astype(np.float32)


def check_channels(card: InputCard, channels: int) -> None:
    """Whether the card fits a model with this many channels.

    Raises:
        InvalidRequest: field ``input.channels``, ``input.mean`` or ``input.std``.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, not {channels}")
    if card.channels is not None and (card.channels == "grey") != (channels == 1):
        raise InvalidRequest(
            "input.channels", f"{card.channels} does not fit the model: its input has {channels} channel(s)"
        )
    for key, values in (("mean", card.mean), ("std", card.std)):
        if values is not None and len(values) not in (1, channels):
            raise InvalidRequest(
                f"input.{key}",
                f"{len(values)} values do not fit the model: its input has {channels} channel(s)",
            )


def sentence(card: InputCard, channels: int) -> str:
    """What :func:`graph` computes, in one line for a reader."""
    order = "grey" if channels == 1 else (card.channels or "rgb").upper()
    multiply, add = affine(card)
    formula = "x" if np.all(multiply == 1) else f"x · {_numbers(multiply)}"
    if np.any(add != 0):
        formula += f" - {_numbers(-add)}" if np.all(add <= 0) else f" + {_numbers(add)}"
    return f"{order}, {'grey levels 0-255 as they are' if formula == 'x' else formula + ' of grey levels 0-255'}"


def _numbers(values: Array) -> str:
    if len(set(values.tolist())) == 1:
        return f"{values[0]:.6g}"
    return "(" + ", ".join(f"{v:.6g}" for v in values) + ")"


def _shape(size: tuple[Dim, Dim], channels: int, layout: Layout) -> ir.Shape:
    h, w = ("H" if size[0] is None else size[0]), ("W" if size[1] is None else size[1])
    return ir.Shape(("N", channels, h, w) if layout == "nchw" else ("N", h, w, channels))


def _constant(name: str, array: Array) -> ir.Value:
    name = f"{READY}.{name}"
    tensor = ir.tensor(array, name=name)
    return ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)


class _Chain:
    """One node after the other, each with its type and shape."""

    def __init__(self, start: ir.Value) -> None:
        self.start = self.last = start
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []

    def append(
        self,
        operator: str,
        *constants: ir.Value,
        dtype: ir.DataType | None = None,
        shape: ir.Shape | None = None,
        **attributes: int | Sequence[int],
    ) -> None:
        """``last`` = operator(``last``, constants); dtype and shape stay unless given."""
        node = ir.node(operator, [self.last, *constants], attributes)
        value = node.outputs[0]
        value.name = node.name = f"{READY}.{operator.lower()}"
        value.type = ir.TensorType(dtype or self.last.dtype or ir.DataType.FLOAT)
        value.shape = shape or (self.last.shape and self.last.shape.copy())
        self.nodes.append(node)
        self.constants.extend(constants)
        self.last = value

    def model(self) -> ir.Model:
        """The chain as a model; an empty one is an Identity."""
        if not self.nodes:
            self.append("Identity")
        self.last.name = READY
        body = ir.Graph(
            [self.start],
            [self.last],
            nodes=self.nodes,
            initializers=self.constants,
            opset_imports={"": OPSET},
            name="preprocessing",
        )
        return ir.Model(body, ir_version=10)
