"""From raw outputs to class scores and probabilities, in NumPy: the same reductions the white-box tail makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graph_tools.errors import UnsupportedModel
from service.types import Array


@dataclass(frozen=True)
class Tail:
    """How outputs become ``[N, classes]``.

    Attributes:
        output: name of the output that is explained.
        logits: name of the logits; "" = unknown, the output is the score.
        kind: ``softmax``, ``multi-label``, ``binary``, ``logits``, ``probabilities`` or ``regression``.
        class_axis: axis of the logits over classes; None = one number per row.
        single: a binary model with one logit z, scored as (−z, z).
        averaged: scores are means over positions (segmentation maps, anchors): they are no probabilities.
        keys: the classes in the file's order, where a ZipMap's output is read; () = as sorted.
    """

    output: str
    logits: str
    kind: str
    class_axis: int | None
    single: bool
    keys: tuple[str | int, ...] = ()
    averaged: bool = False

    def rows(self, value: Array) -> Array:
        """float32 [N, classes]: space averaged, one logit z made (−z, z)."""
        try:
            value = np.asarray(value, dtype=np.float32)
        except (ValueError, TypeError):
            raise UnsupportedModel(
                f"output {self.output!r} holds no numbers, so there is no score to explain"
            ) from None
        if value.ndim == 0:
            raise UnsupportedModel(f"output {self.output!r} is one number for the whole batch: rows have no score")
        if value.ndim == 1:
            value = value[:, None]
        elif value.ndim > 2 or self.class_axis is None:
            axis = self.class_axis
            if axis is None:
                value = value.reshape(len(value), -1).mean(axis=1, keepdims=True)
            else:
                value = np.moveaxis(value, axis, 1).reshape(len(value), value.shape[axis], -1).mean(axis=2)
        return np.concatenate([-value, value], axis=1) if self.single else value

    def table(self, value: Any) -> Array:
        """A list of {class: probability} (ZipMap) as an array [N, classes] in the order of ``keys``."""
        if isinstance(value, list) and value and isinstance(value[0], dict):
            keys = self.keys if set(self.keys) == set(value[0]) else sorted(value[0])
            return np.array([[row[k] for k in keys] for row in value], dtype=np.float32)
        return np.asarray(value)

    def probabilities(self, logits: Array | None, own: Array | None) -> Array | None:
        """float32 [N, classes]: from the logits where they are known, else the output where it holds them.

        ``logits`` models get their softmax; regressions have none.
        """
        if self.kind == "probabilities":
            return own if own is not None else logits
        if self.kind == "regression" or self.averaged:
            return None
        if self.kind == "logits" and logits is None:
            logits = own
        if logits is None:
            if own is None:
                return None
            if self.single and own.shape[1] == 1:
                return np.concatenate([1 - own, own], axis=1)
            return own
        if self.kind in ("softmax", "logits"):
            with np.errstate(invalid="ignore"):  # infinite logits have no softmax: NaN, which the core tells
                top = np.exp(logits - logits.max(axis=1, keepdims=True))
                return np.asarray(top / top.sum(axis=1, keepdims=True))
        return np.asarray(np.exp(-np.logaddexp(0, -logits)))  # 1 / (1 + exp(−z)) without overflow
