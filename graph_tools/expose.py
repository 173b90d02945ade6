"""Make values graph outputs."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from graph_tools import model as models
from graph_tools.errors import UnknownValue
from graph_tools.model import Source


def expose(source: Source, names: Iterable[str]) -> ir.Model:
    """The model with the named values appended to its outputs, under their own names.

    Args:
        source: path, bytes, ``onnx.ModelProto`` or ``onnx_ir.Model``; not changed.
        names: main-graph values: inputs, initializers or node outputs. One that is an output already is left alone.

    Raises:
        UnknownValue: no value of this name in the main graph, with the nearest ones.
    """
    model = models.load(source)
    named = models.values_by_name(model)
    for name in models.names_of("names", names):
        if name not in named:
            raise UnknownValue("value", name, named, "Values inside If, Loop and Scan bodies cannot be exposed.")
        if named[name] not in model.graph.outputs:
            model.graph.outputs.append(named[name])
    return model
