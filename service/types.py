"""The plain values that travel between transport, core, explainers and pictures. NumPy only: no onnx, no grpc.

Arrays are C-contiguous. ``N`` is the batch of inputs, ``K`` the number of targets of one input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Selector:
    """One class as the caller names it: exactly one of the three is set.

    Attributes:
        index: class index, 0-based.
        name: label of the class, case-insensitive; must be unambiguous.
        rank: 1 = the strongest class of this input, 2 = the second, …
    """

    index: int | None = None
    name: str | None = None
    rank: int | None = None


@dataclass(frozen=True)
class Target:
    """What is explained: the logit of one class, or the difference of two.

    Attributes:
        select: the class.
        minus: where set, the target is logit(select) − logit(minus).
        output: output of the model, ``""`` = the card's or the only one.
    """

    select: Selector = field(default_factory=lambda: Selector(rank=1))
    minus: Selector | None = None
    output: str = ""


@dataclass(frozen=True)
class Score:
    """A class with its scores. ``probability`` is None where the model has none; ``logit`` likewise."""

    index: int
    label: str
    logit: float | None = None
    probability: float | None = None


@dataclass(frozen=True)
class ResolvedTarget:
    """A target after ranks and names became indices. ``value`` is the explained scalar on this input."""

    index: int
    label: str
    minus_index: int | None = None
    minus_label: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Geometry:
    """How the caller's image became the model's input, so that a map can be laid back on the caller's pixels.

    The image (after EXIF rotation) of ``original`` size was resized to ``resized``; of that the box ``crop``
    = (top, left, height, width) was taken; it has the model's input size. All sizes are (height, width).
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    crop: tuple[int, int, int, int]


@dataclass(frozen=True)
class Attribution:
    """One map.

    Attributes:
        values: float32, [H, W] at the model's input size (or the method's own size with ``resize=false``), or the
            shape of a tensor input; not normalised.
        target: the target explained.
        signed: True where negative values mean "against the target".
        layer: value name for layer methods, else "".
    """

    values: Array
    target: ResolvedTarget
    signed: bool = False
    layer: str = ""


@dataclass(frozen=True)
class LayerActivations:
    """Activation of one layer for one input.

    Attributes:
        layer: value name.
        values: float32 [n, H, W]: the n strongest channels, in the order of ``channels``; [n] where the layer has no
            space (n entries), its own shape [n, …] otherwise.
        channels: indices of those channels in the layer, ranked by energy (mean square), strongest first.
        energy: mean square per entry of ``channels``.
        sparsity: share of zeros (|v| <= 1e-6 max|v|) in the whole layer, 0..1.
        total: number of channels the layer has.
    """

    layer: str
    values: Array
    channels: Array
    energy: Array
    sparsity: float
    total: int = 0


@dataclass(frozen=True)
class ItemResult:
    """Everything about one input."""

    attributions: tuple[Attribution, ...] = ()
    activations: tuple[LayerActivations, ...] = ()
    predictions: tuple[Score, ...] = ()
    geometry: Geometry | None = None
    image: Array | None = None  # uint8 [H, W, C] as the model sees it; None for tensor inputs
    original: Array | None = None  # uint8 [H, W, 3], the caller's image after EXIF rotation


@dataclass(frozen=True)
class ExplainRequest:
    """One call: a method on one model over a batch of inputs.

    Attributes:
        model: name in the repository.
        version: "" = the latest that is ready.
        method: registry name, for example ``grad_cam``.
        parameters: the method's own parameters by field name; absent = default.
        images: encoded image bytes, or decoded uint8 arrays [H, W], [H, W, 3] or [H, W, 4].
        tensors: the model's own input with its batch axis, fed as it is; given instead of ``images``.
        targets: the same for every input; () = the strongest class.
        top_k: how many predictions to return with each input.
        seed: for methods that draw; the same seed gives the same result.
        max_seconds, max_rows: budget; None = unlimited.
    """

    model: str
    method: str
    version: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[bytes | Array, ...] = ()
    tensors: Mapping[str, Array] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    top_k: int = 5
    seed: int = 0
    max_seconds: float | None = None
    max_rows: int | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds per stage; ``rows`` = forward rows evaluated, ``built`` = programs compiled by this call."""

    decode: float = 0.0
    build: float = 0.0
    run: float = 0.0
    total: float = 0.0
    rows: int = 0
    built: int = 0


@dataclass(frozen=True)
class ExplainResult:
    """The answer: per-input results, and all that is needed to reproduce them."""

    model: str
    version: str
    digest: str
    method: str
    parameters: Mapping[str, Any]  # every field, defaults filled in
    provider: str
    seed: int
    items: tuple[ItemResult, ...]
    timing: Timing
    notes: tuple[str, ...] = ()  # assumptions and caveats in plain sentences
    truncated: bool = False  # a budget cut the work short


@dataclass(frozen=True)
class Progress:
    """Where a running method is; ``partial`` is the map so far ([H, W] float32) or None."""

    done: int
    total: int
    unit: str = "rows"
    partial: Array | None = None
