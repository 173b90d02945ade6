"""Results as JSON-able values. Arrays are nested lists of the shortest numbers that give the same float32."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from service.types import Array, ExplainResult, ItemResult, ResolvedTarget, Score


def head(result: ExplainResult) -> dict[str, Any]:
    """All of a result but its items."""
    return {
        "model": result.model,
        "version": result.version,
        "digest": result.digest,
        "method": result.method,
        "parameters": {k: list(v) if isinstance(v, tuple) else v for k, v in result.parameters.items()},
        "seed": result.seed,
        "provider": result.provider,
        "timing": dataclasses.asdict(result.timing),
        "truncated": result.truncated,
        "notes": list(result.notes),
    }


def item(name: str, result: ItemResult) -> dict[str, Any]:
    """One input's part; empty parts are left out."""
    parts = {
        "input": name,
        "predictions": [score(s) for s in result.predictions],
        "attributions": [
            {"target": target(a.target), "signed": a.signed, "layer": a.layer, **_array(a.values)}
            for a in result.attributions
        ],
        "activations": [
            {
                "layer": a.layer,
                "channels": [int(c) for c in a.channels],
                "energy": numbers(a.energy),
                "sparsity": a.sparsity,
                "total": a.total,
                **_array(a.values),
            }
            for a in result.activations
        ],
        "geometry": None if result.geometry is None else dataclasses.asdict(result.geometry),
    }
    return {k: v for k, v in parts.items() if v not in ([], None)}


def score(value: Score) -> dict[str, Any]:
    """A prediction."""
    return dataclasses.asdict(value)


def target(value: ResolvedTarget) -> dict[str, Any]:
    """A target; the class subtracted only where there is one."""
    fields = dataclasses.asdict(value)
    return fields if value.minus_index is not None else {k: v for k, v in fields.items() if not k.startswith("minus")}


def numbers(array: Array) -> Any:
    """Nested lists."""
    if array.dtype.kind != "f":
        return array.tolist()
    flat = np.array([float(str(v)) for v in array.ravel()], np.float64)
    return flat.reshape(array.shape).tolist()


def _array(array: Array) -> dict[str, Any]:
    return {"shape": list(array.shape), "values": numbers(array)}
