"""Class names that the file itself holds: those of the classifiers and the ZipMap of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

_KEYS = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")


def keys(proto: onnx.ModelProto) -> tuple[str | int, ...]:
    """The classes in the order of the scores, as the last classifier or ZipMap names them; () where there is none."""
    for node in reversed(proto.graph.node):
        if node.domain != "ai.onnx.ml":
            continue
        for attribute in (a for a in node.attribute if a.name in _KEYS):
            texts = [s.decode(errors="replace") for s in attribute.strings]
            if texts or attribute.ints:
                return tuple(texts or attribute.ints)
    return ()


def labels(keys: Sequence[str | int]) -> tuple[str, ...]:
    """Labels for ``keys``; () where they are the indices themselves, 0 to n − 1."""
    return () if list(keys) == list(range(len(keys))) else tuple(str(key) for key in keys)
