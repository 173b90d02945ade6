"""What ``explain`` prints: predictions, what was explained, and how."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from service.commands.console import plain, table
from service.pictures.style import number, probability
from service.types import Attribution, ExplainResult, ItemResult, LayerActivations, ResolvedTarget, Score


def predictions(item: ItemResult, title: str) -> Table:
    """The strongest classes; the explained ones marked."""
    explained = {a.target.index for a in item.attributions}
    against = {a.target.minus_index for a in item.attributions} - {None}
    logits = any(s.logit is not None for s in item.predictions)
    shares = any(s.probability is not None for s in item.predictions)
    columns = ["", "class", "label", *(["logit"] if logits else []), *(["probability"] if shares else [])]
    made = table(*columns, right=("class", "logit", "probability"), title=title)
    for s in item.predictions:
        mark = "+" if s.index in explained else "−" if s.index in against else ""
        cells: list[object] = [mark, s.index, s.label]
        cells += [_logit(s)] if logits else []
        cells += [_share(s)] if shares else []
        made.add_row(*(plain(c) for c in cells))
    return made


def summary(name: str, item: ItemResult) -> list[str]:
    """One line, for a call over many inputs: the input, its top class, what was explained."""
    parts = [name]
    if item.predictions:
        top = item.predictions[0]
        share = _share(top) or _logit(top)
        parts.append(f"{top.label} {share}")
    parts += [f"explained {target(a.target)}" for a in item.attributions]
    return parts


def lines(item: ItemResult) -> list[str]:
    """What was found on one input."""
    return [_map(a) for a in item.attributions] + [_layer(a) for a in item.activations]


def footing(result: ExplainResult, seconds: float) -> str:
    """How it was computed."""
    rows = f"{result.timing.rows} row{'s' * (result.timing.rows != 1)} through the model"
    return f"{result.method} on {result.model} ({result.digest[:19]}), {result.provider}, {rows}, {seconds:.2f} s"


def target(value: ResolvedTarget) -> str:
    """``tabby (281) − boxer (242)``."""
    text = _class(value.index, value.label)
    return text if value.minus_index is None else f"{text} − {_class(value.minus_index, value.minus_label)}"


def _class(index: int, label: str) -> str:
    unnamed = f"class {index}"
    return unnamed if label in ("", unnamed) else f"{label} ({index})"


def _map(a: Attribution) -> str:
    score = "" if a.target.value is None else f", score {number(a.target.value)}"
    size = " x ".join(map(str, a.values.shape)) or "one number"
    low, high = float(a.values.min()), float(a.values.max())
    if low == high:
        where = f"flat: {number(high)} everywhere"
    else:
        at = np.unravel_index(int(a.values.argmax()), a.values.shape)
        place = f"row {at[0]}, column {at[1]}" if len(at) == 2 else f"entry {', '.join(str(int(i)) for i in at)}"
        where = f"{number(low)} to {number(high)}, highest at {place}"
    layer = f", layer {a.layer}" if a.layer else ""
    return f"{target(a.target)}{score}: map {size}, {where}{layer}"


def _layer(a: LayerActivations) -> str:
    total = a.total or len(a.channels)
    strongest = ", ".join(str(int(c)) for c in a.channels[:8])
    shape = " x ".join(map(str, a.values.shape[1:]))
    return (
        f"{a.layer}: {total} channels{f' of {shape}' if shape else ''}, {100 * a.sparsity:.1f} % zeros, "
        f"strongest {strongest}{', …' if total > 8 else ''}"
    )


def _logit(s: Score) -> str:
    return "" if s.logit is None else number(s.logit)


def _share(s: Score) -> str:
    return "" if s.probability is None else probability(s.probability)
