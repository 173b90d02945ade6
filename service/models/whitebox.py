"""The white-box graph of a model: loaded, batchable, with its preprocessing in front and its scores behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

import graph_tools
from graph_tools import find
from graph_tools import model as models
from graph_tools.emit import Emitter, dims, rank
from graph_tools.errors import UnsupportedModel
from graph_tools.reverse import FLOATS
from graph_tools.splice import splice
from service.models import preprocess
from service.models.card import Card, InputCard
from service.models.shapes import ImageEntry

BINARY = "binary"
MULTI_LABEL = "multi-label"


@dataclass(frozen=True)
class Ending:
    """The end of a model as scores are read from it.

    Attributes:
        head: where output, logits and class axis are.
        kind: ``softmax``, ``multi-label``, ``binary``, ``logits``, ``probabilities`` or ``regression``.
        classes: number of scores per row (2 for binary); None = unknown until run.
    """

    head: find.Head
    kind: str
    classes: int | None


def ending(model: ir.Model, card: Card) -> Ending:
    """What the card says about the output, the rest inferred.

    Raises:
        UnknownValue: the card names a value that does not exist.
    """
    said = card.output
    named = models.values_by_name(model)
    outputs = [v.name or "" for v in model.graph.outputs]
    if said.name and said.name not in outputs:
        raise graph_tools.UnknownValue("output", said.name, outputs, "The card's output.name must be one of them")
    if said.logits and said.logits not in named:
        raise graph_tools.UnknownValue("value", said.logits, named, "The card's output.logits must be one of them")
    end = find.head(model, said.name, said.logits, said.class_axis)
    kind: str
    if said.kind:
        kind = said.kind
    elif end.activation == "softmax":
        kind = "softmax"
    elif end.activation == "sigmoid":
        kind = BINARY if end.classes == 1 else MULTI_LABEL
    else:
        kind = "regression" if end.classes == 1 else "logits"
    classes = 2 if kind == BINARY and end.classes == 1 else end.classes
    return Ending(end, kind, classes)


def averaged(model: ir.Model, end: Ending) -> bool:
    """Whether the scores are means over positions behind the class axis."""
    v = models.values_by_name(model).get(end.head.logits)
    known = None if v is None else dims(v)
    if known is None or len(known) < 2:
        return False
    return any(d != 1 for i, d in enumerate(known) if i not in (0, end.head.class_axis))


def add_scores(model: ir.Model, end: Ending) -> str:
    """Append what turns the logits into ``[N, classes]``; returns that value's name.

    Space behind the classes (segmentation maps, anchors) is averaged; a binary model's z becomes (−z, z).

    Raises:
        UnsupportedModel: the logits are not float, or their rank is unknown.
    """
    v = models.values_by_name(model)[end.head.logits]
    r = rank(v)
    if v.dtype not in FLOATS or r is None or r == 0:
        raise UnsupportedModel(
            f"the scores {v.name!r} are {v.dtype} of {'unknown' if r is None else r} dimensions; name a float value "
            "as output.logits in the model card, or use occlusion or predict"
        )
    b = Emitter(model, "_scores_")
    axis = end.head.class_axis
    if r == 1:
        v = b.Unsqueeze(v, [1])
    elif axis is None:
        v = b.ReduceMean(b.Flatten(v, axis=1), [1], keepdims=1)
    elif r > 2:
        known = dims(v) or ()
        others = [i for i in range(1, r) if i != axis]
        flat = all(known[i] == 1 for i in others)
        v = b.Squeeze(v, others) if flat else b.ReduceMean(v, np.array(others, np.int64), keepdims=0)
    if end.kind == BINARY and end.head.classes == 1:
        v = b.Concat(b.Neg(v), v, axis=1)
    return v.name or ""


@dataclass(frozen=True)
class Whitebox:
    """A white-box graph ready for programs (clone before changing).

    Attributes:
        model: the graph, preprocessing in front of it where it takes images.
        scores: name of the value [N, classes].
        entry: name of the input that is explained.
        channels: channel axis by value name.
        own: names of the values that the model's own nodes make, in graph order.
    """

    model: ir.Model
    scores: str
    entry: str
    channels: dict[str, int]
    own: tuple[str, ...]


def for_images(model: ir.Model, card: Card, entry: ImageEntry, numbers: InputCard) -> Whitebox:
    """The loaded ``model``, starting at the float image [N, H, W, C] in grey levels."""
    own = made(model)
    front = preprocess.graph(
        numbers, dtype=entry.dtype, layout=entry.layout, channels=entry.channels, size=(entry.height, entry.width)
    )
    joined = splice(front, model, {preprocess.READY: entry.name})
    scores = add_scores(joined, ending(joined, card))
    axes = find.channel_axes(joined, {preprocess.IMAGE: 3})
    return Whitebox(joined, scores, preprocess.IMAGE, axes, own)


def for_tensors(model: ir.Model, card: Card, entry: str, axis: int) -> Whitebox:
    """The loaded ``model`` (changed), starting at its own inputs; ``axis`` is the channel axis of ``entry``."""
    own = made(model)
    scores = add_scores(model, ending(model, card))
    return Whitebox(model, scores, entry, find.channel_axes(model, {entry: axis}), own)


def made(model: ir.Model) -> tuple[str, ...]:
    """Names of the values that nodes make, in graph order."""
    return tuple(v.name for node in model.graph for v in node.outputs if v.name)


def layers(box: Whitebox) -> list[str]:
    """The model's own values with space: what CAM methods can explain."""
    named = models.values_by_name(box.model)
    return [name for name in box.own if find.has_space(named[name])]
