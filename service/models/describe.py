"""What a loaded model is, for GetModel and ``inspect``."""

from __future__ import annotations

from dataclasses import dataclass

import graph_tools
from graph_tools.errors import ExplainError, UnsupportedModel
from graph_tools.values import ValueInfo
from service.models import preprocess
from service.models.loaded import LoadedModel


@dataclass(frozen=True)
class TensorDescription:
    """An input or output: name, dtype (NumPy's name), shape (int, symbol or None per axis)."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class ModelInfo:
    """A model in words.

    Attributes:
        rows: ``any``, or the number of rows each run takes.
        image: (height, width, channels) images are brought to; None where the model takes no image.
        score_kind: ``softmax``, ``multi-label``, ``binary``, ``logits``, ``probabilities`` or ``regression``.
        layers: values with space, the default one included.
        values: every value of the graph; empty where it cannot be rewritten.
        preprocessing: one sentence.
        macs: multiply-adds per row.
        whitebox_error: why gradients are not to be had, "" where they are.
    """

    name: str
    version: str
    digest: str
    provider: str
    size: int
    rows: str
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]
    image: tuple[int, int, int] | None
    preprocessing: str
    labels: tuple[str, ...]
    classes: int | None
    output: str
    logits: str
    score_kind: str
    default_layer: str
    layers: tuple[str, ...]
    macs: int
    notes: tuple[str, ...]
    whitebox_error: str


def describe(model: LoadedModel) -> ModelInfo:
    """Collect the description (makes the white-box graph where there is one)."""
    session = model.served.session
    own = {model.tail.logits} if model.tail.logits != model.tail.output else set()
    image = None if model.image is None else (*model.input_size(), model.image.channels)
    sentence = "" if model.image is None else preprocess.sentence(model.numbers, model.image.channels)
    layers = tuple(model.layers())  # first: says whether the graph can be rewritten
    return ModelInfo(
        name=model.name,
        version=model.version,
        digest=model.digest,
        provider=model.provider,
        size=model.size,
        rows="any" if model.rows is None else str(model.rows),
        inputs=tuple(TensorDescription(v.name, v.dtype, v.shape) for v in session.inputs),
        outputs=tuple(TensorDescription(v.name, v.dtype, v.shape) for v in session.outputs if v.name not in own),
        image=image,
        preprocessing=sentence,
        labels=tuple(model.labels),
        classes=model.classes,
        output=model.tail.output,
        logits=model.tail.logits,
        score_kind=model.tail.kind,
        default_layer=model.default_layer or "",
        layers=layers,
        macs=model.macs,
        notes=(*model.notes, *model.image_notes, *filter(None, [model.batch_note, _quantisation(model)])),
        whitebox_error=model.whitebox_error or "",
    )


def _quantisation(model: LoadedModel) -> str:
    """How far the explained form of a quantised file is from the served one, "" where there is nothing to say."""
    try:
        found = model.distance()
    except ExplainError as error:
        return f"the file is quantised; its float form could not be compared with the served session: {error}"
    return "" if found is None else f"the file is quantised, and {found}"


def values(model: LoadedModel) -> list[ValueInfo]:
    """Every value of the model's own graph; [] where it cannot be rewritten."""
    try:
        return graph_tools.values(model.whitebox(False).model)
    except UnsupportedModel:
        return []
