"""Load a model for rewriting: functions inlined, opset 18 or later, constants as initializers, shapes inferred.

The load order is the one that keeps every name: proto without tensor data → functions inlined → opset lifted by
the ONNX version converter (with its known errors patched) → onnx_ir → constants lifted → shapes inferred → checked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir.passes.common import (
    LiftConstantsToInitializersPass,
    RemoveInitializersFromInputsPass,
    ShapeInferencePass,
)

import graph_tools.lowering  # noqa: F401  fills the table
from graph_tools import lift, parity
from graph_tools.errors import UnsupportedModel
from graph_tools.lowering.table import lower_fused

Source = str | os.PathLike[str] | bytes | onnx.ModelProto | ir.Model
Runner = Callable[[onnx.ModelProto, Path | None, Mapping[str, Any]], Sequence[Any]]
"""Runs a model: (model, folder of its external data, feeds) -> outputs in the model's order."""

FLOOR_OPSET = 18
NEWEST_OPSET = 26  # the newest ai.onnx that ONNX Runtime 1.31 runs
_LOADED = "graph_tools.loaded"

logging.getLogger("onnx_ir").setLevel(logging.WARNING)  # it counts what each pass removed
logging.getLogger("onnx_ir.passes.common.shape_inference").setLevel(logging.ERROR)


def load(source: Source, *, check: Runner | None = None, folder: Path | None = None) -> ir.Model:
    """The model in the dialect that all of graph_tools speaks.

    Args:
        source: path, serialised bytes, ``onnx.ModelProto`` or ``onnx_ir.Model``; not changed in place.
        check: where given, and where loading changed the operators, original and loaded graph are run by it on one
            random input and must agree (1e-4 relative to the largest output, 1e-2 in float16).
        folder: where the external data of a ``ModelProto`` lies; a path brings its own.

    Returns:
        A model at opset ``max(18, its own)`` whose values keep the file's names.

    Raises:
        UnsupportedModel: not an ONNX file, no ai.onnx operators, types onnx_ir cannot hold (maps, sequences of maps),
            an opset outside 7–26, or a lifted graph that does not compute what the original does.
    """
    if isinstance(source, ir.Model) and source.meta.get(_LOADED):
        return _clone(source)
    proto, beside = read(source)
    folder = folder or beside
    opset = opset_of(proto)
    original = proto
    if proto.functions:
        proto = _inline(proto)
    if opset < FLOOR_OPSET:
        proto = lift.lift(proto, FLOOR_OPSET)
    model = _to_ir(proto, folder)
    if check is not None and proto is not original:
        parity.compare(original, ir.to_proto(model), folder, check)
    return model


def read(source: Source) -> tuple[onnx.ModelProto, Path | None]:
    """The proto (external tensors stay references) and the folder its external data lies in.

    Raises:
        UnsupportedModel: the file is missing, empty or not an ONNX model.
    """
    if isinstance(source, onnx.ModelProto):
        return source, None
    if isinstance(source, ir.Model):
        return ir.to_proto(source), None
    try:
        if isinstance(source, bytes):
            return _not_empty(onnx.load_model_from_string(source)), None
        path = Path(source)
        return _not_empty(onnx.load(path, load_external_data=False)), path.parent.resolve()
    except FileNotFoundError:
        raise UnsupportedModel(f"there is no file {Path(str(source)).name!r}") from None
    except (DecodeError, ValueError, OSError) as error:
        raise UnsupportedModel(f"not a readable ONNX file: {type(error).__name__}") from error


def opset_of(proto: onnx.ModelProto) -> int:
    """The ai.onnx opset.

    Raises:
        UnsupportedModel: none imported (a pure ai.onnx.ml model), or outside 7–26.
    """
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), None)
    if opset is None:
        raise UnsupportedModel(
            "the model has no ai.onnx operators, so nothing in it has a gradient; black-box methods "
            "(predict, occlusion) work on it"
        )
    if not 7 <= opset <= NEWEST_OPSET:
        raise UnsupportedModel(
            f"the model uses opset {opset}; opsets 7 to {NEWEST_OPSET} are supported. Re-export it, or convert it "
            "with onnx.version_converter"
        )
    return int(opset)


def infer(model: ir.Model) -> None:
    """Infer types and shapes of all values in place (partial results are kept)."""
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)


def opset(model: ir.Model) -> int:
    """The ai.onnx opset of a loaded model."""
    return model.graph.opset_imports[""]


def value(model: ir.Model, name: str) -> ir.Value | None:
    """The main graph's value of this name, or None."""
    return values_by_name(model).get(name)


def values_by_name(model: ir.Model) -> dict[str, ir.Value]:
    """Every named value of the main graph: inputs, initializers, node outputs."""
    graph = model.graph
    found = {v.name: v for v in (*graph.inputs, *graph.initializers.values()) if v.name}
    for node in graph:
        found.update({v.name: v for v in node.outputs if v.name})
    return found


def _not_empty(proto: onnx.ModelProto) -> onnx.ModelProto:
    if not proto.graph.node and not proto.graph.output:
        raise ValueError("no graph")
    return proto


def _inline(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.inliner.inline_local_functions(proto, convert_version=True)
    except Exception as error:
        raise UnsupportedModel(f"the model's functions cannot be inlined: {_first_line(error)}") from error


def _to_ir(proto: onnx.ModelProto, folder: Path | None) -> ir.Model:
    try:
        model = ir.from_proto(proto)
    except Exception as error:
        raise UnsupportedModel(
            f"the graph cannot be rewritten: {_first_line(error)}. Black-box methods work on it"
        ) from error
    if "ai.onnx" in model.graph.opset_imports:
        model.graph.opset_imports.setdefault("", model.graph.opset_imports.pop("ai.onnx"))
    if folder is not None:
        ir.external_data.set_base_dir(model.graph, folder)
    RemoveInitializersFromInputsPass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    try:
        model.graph.sort()
    except ValueError as error:
        raise UnsupportedModel("the graph has a cycle") from error
    _name_nodes(model)
    infer(model)
    if lower_fused(model):
        infer(model)
    model.ir_version = min(max(model.ir_version, 8), 13)
    model.meta[_LOADED] = True
    return model


def _name_nodes(model: ir.Model) -> None:
    """Errors name nodes: give a name to those without one."""
    for i, node in enumerate(model.graph):
        if not node.name:
            node.name = f"{node.op_type}_{i}"


def _clone(model: ir.Model) -> ir.Model:
    clone = model.clone()
    clone.meta[_LOADED] = True
    return clone


def mark_loaded(model: ir.Model) -> ir.Model:
    """Say that ``model`` is already in the dialect (it was made from a loaded one)."""
    model.meta[_LOADED] = True
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
