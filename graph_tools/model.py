"""Load a model for rewriting: functions inlined, opset 18 or later, constants as initializers, shapes inferred.

The order: is the file a graph at all (:mod:`wellformed`, :mod:`stored`) → onnx_ir, tensor data by reference → does
every node fit its operator (:mod:`signatures`) → functions inlined → opset lifted (:mod:`lift`) → constants lifted →
types inferred (:mod:`inference`) → fused operators replaced by their bodies (:mod:`lowering`) → checked by running.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveInitializersFromInputsPass

import graph_tools.loading.adapters
import graph_tools.loading.experimental
import graph_tools.lowering  # noqa: F401  fills the tables
from graph_tools import scopes
from graph_tools.errors import ExplainError, InvalidRequest, UnsupportedGradient, UnsupportedModel
from graph_tools.loading import functions, lift, parity, signatures, stored, wellformed
from graph_tools.lowering.table import lower_fused
from graph_tools.shapes import inference

Source = str | os.PathLike[str] | bytes | onnx.ModelProto | ir.Model
Runner = Callable[[onnx.ModelProto, Path | None, Mapping[str, Any]], Sequence[Any]]
"""Runs a model: (model, folder of its external data, feeds) -> outputs in the model's order."""

OLDEST_OPSET = 6  # ONNX Runtime promises 7, and runs much of 6
FLOOR_OPSET = 18
NEWEST_OPSET = 28  # of the onnx package; ONNX Runtime 1.31 runs up to 26
_LOADED = "graph_tools.loaded"
_SMALL = 1024  # bytes

logging.getLogger("onnx_ir").setLevel(logging.WARNING)  # it counts what each pass removed
infer = inference.infer


def load(source: Source, *, check: Runner | None = None, folder: Path | None = None) -> ir.Model:
    """The model in the dialect that all of graph_tools speaks.

    Args:
        source: path, serialised bytes, ``onnx.ModelProto`` or ``onnx_ir.Model``; not changed in place.
        check: where given, and where loading changed the operators, original and loaded graph are run by it on one
            random input and must agree (1e-4 relative to the largest output, 1e-2 in float16).
        folder: where the external data of a ``ModelProto`` or of bytes lies; a path brings its own.

    Returns:
        A model at opset ``max(18, its own)`` whose values keep the file's names. Weights are references: to the
        external file, or to the tensors of the ``ModelProto``.

    Raises:
        UnsupportedModel: not an ONNX file; a graph that is none (cycles, names missing or given twice, nodes that do
            not fit their operator, data that is missing or of another length, functions without end); no ai.onnx
            operators; types onnx_ir cannot hold (maps, sequences of maps); an opset outside 6–28; or a loaded graph
            that does not compute what the original does. Says what and where.
    """
    if isinstance(source, ir.Model) and source.meta.get(_LOADED):
        return _clone(source)
    try:
        if isinstance(source, ir.Model):
            return _to_dialect(source.clone())[0]
        proto, beside = read(source)
        folder = folder or beside
        opset_of(proto)
        wellformed.check(proto)
        stored.check(proto, folder)
        model, changed = _to_dialect(_to_ir(proto, folder))
    except (ExplainError, MemoryError):
        raise
    except Exception as error:  # a defect that none of the checks knows
        raise UnsupportedModel(
            f"the graph cannot be rewritten (unexpected {type(error).__name__}: {_cause(error)}). "
            "Black-box methods work on it"
        ) from error
    if check is not None and changed:
        parity.compare(proto, ir.to_proto(model), folder, check)
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
    except (DecodeError, ValueError, OSError, RecursionError) as error:
        raise UnsupportedModel(_unreadable(source, error)) from error


def opset_of(proto: onnx.ModelProto) -> int:
    """The ai.onnx opset.

    Raises:
        UnsupportedModel: none imported (a pure ai.onnx.ml model), imported twice, or outside 6–28.
    """
    opset = wellformed.opsets(proto).get("")
    if opset is None:
        named = ", ".join(sorted({o.domain for o in proto.opset_import})) or "none"
        raise UnsupportedModel(
            f"the model has no ai.onnx operators (domains imported: {named}), so nothing in it has a gradient; "
            "black-box methods (predict, occlusion) work on it"
        )
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise UnsupportedModel(
            f"the model uses opset {opset}; opsets {OLDEST_OPSET} to {NEWEST_OPSET} are supported. "
            "Re-export it, or convert it with onnx.version_converter"
        )
    return opset


def names_of(field: str, names: Iterable[str]) -> list[str]:
    """``names`` without repetitions.

    Raises:
        InvalidRequest: a bare string, no names at all, or entries that are no strings.
    """
    if isinstance(names, str):
        raise InvalidRequest(field, f"give a list of names: [{names!r}]")
    found = list(dict.fromkeys(names))
    if not found or not all(isinstance(name, str) for name in found):
        raise InvalidRequest(field, "give at least one value name; `graph_tools.values(model)` lists them")
    return found


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


def mark_loaded(model: ir.Model) -> ir.Model:
    """Say that ``model`` is already in the dialect (it was made from a loaded one)."""
    model.meta[_LOADED] = True
    return model


def _not_empty(proto: onnx.ModelProto) -> onnx.ModelProto:
    if not proto.graph.node and not proto.graph.output:
        raise ValueError("no graph")
    return proto


def _unreadable(source: Source, error: Exception) -> str:
    """Why ``source`` is no model, as far as its first bytes tell."""
    told = f"not a readable ONNX file ({type(error).__name__}): "
    if isinstance(error, OSError):
        return told + "give the path of an .onnx file"
    if isinstance(source, bytes):
        head = source[:20]
    else:
        with open(str(source), "rb") as file:
            head = file.read(20)
    if head.startswith(b"version https://git"):
        return told + "it is a pointer of git LFS; fetch the file itself with `git-lfs pull`"
    return told + "it is not an ONNX file, or it is cut short"


def _to_ir(proto: onnx.ModelProto, folder: Path | None) -> ir.Model:
    try:
        model = ir.from_proto(proto)
    except Exception as error:
        reason = f"the graph cannot be rewritten: {_cause(error)}. Black-box methods work on it"
        raise UnsupportedModel(reason) from error
    if folder is not None:
        ir.external_data.set_base_dir(model.graph, folder)
    for v in model.graph.initializers.values():  # shapes, axes, indices: inference wants to see them
        data = v.const_value
        if isinstance(data, ir.ExternalTensor) and data.nbytes <= _SMALL and data.dtype.is_integer():
            v.const_value = ir.Tensor(data.numpy().copy(), dtype=data.dtype, name=data.name)
    return model


def _to_dialect(model: ir.Model) -> tuple[ir.Model, bool]:
    """``model`` (changed in place) in the dialect, and whether its operators changed."""
    _plain_names(model)
    signatures.check(model)
    _check_inputs(model)
    RemoveInitializersFromInputsPass()(model)
    try:
        model.graph.sort()
    except ValueError as error:
        raise UnsupportedModel("the graph has a cycle") from error
    changed = bool(model.functions)
    newest = max([FLOOR_OPSET, opset(model), *(f.opset_imports.get("", 0) for f in model.functions.values())])
    if all(f.opset_imports.get("", opset(model)) == opset(model) for f in model.functions.values()):
        functions.inline(model)  # before lifting: adapters then see values in place of parameters
    if opset(model) < newest or model.functions:
        changed = True
        inference.infer_anew(model)
        lift.lift(model, newest)
        functions.inline(model)
    if changed:
        _plain_names(model)
        signatures.check(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    inference.infer_anew(model)
    try:
        lowered = lower_fused(model)
    except UnsupportedGradient as error:
        raise UnsupportedModel(str(error)) from error
    if lowered:
        changed = True
        infer(model)
    model.ir_version = min(max(model.ir_version, 8), 13)
    return mark_loaded(model), changed


def _plain_names(model: ir.Model) -> None:
    """One spelling of the standard domain; a name for every node (errors name nodes); no name hides an outer one."""
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        imports = graph.opset_imports
        if "ai.onnx" in imports:
            imports.setdefault("", imports.pop("ai.onnx"))
        taken = {node.name for node in graph.all_nodes()}
        for i, node in enumerate(graph.all_nodes()):
            if node.domain == "ai.onnx":
                node.domain = ""
            if not node.name:
                node.name = f"{node.op_type}_{i}"
                while node.name in taken:
                    node.name += "_"
                taken.add(node.name)
    _unhide(model.graph, frozenset())


def _unhide(graph: ir.Graph, outer: frozenset[str | None]) -> None:
    """Rename values of subgraphs that have the name of a value around them."""
    own = [*graph.inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs)]
    nested = [g for node in graph for g in scopes.subgraphs(node)]
    if outer:
        taken = outer | {v.name for v in own}
        for v in own:
            if v.name and v.name in outer:
                fresh = v.name
                while fresh in taken:
                    fresh += "_inner"
                v.name = fresh
                taken |= {fresh}
    if nested:
        names = outer | {v.name for v in own}
        for inner in nested:
            _unhide(inner, names)


def _check_inputs(model: ir.Model) -> None:
    for v in model.graph.inputs:
        if v.type is None or v.dtype == ir.DataType.UNDEFINED:
            raise UnsupportedModel(f"the graph's input {v.name!r} has no type")
        if v.shape is not None and any(isinstance(d, int) and d < 0 for d in v.shape):
            v.shape = ir.Shape([None if isinstance(d, int) and d < 0 else d for d in v.shape])


def _clone(model: ir.Model) -> ir.Model:
    return mark_loaded(model.clone())


def _cause(error: BaseException) -> str:
    """The first line of what went wrong at the bottom."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
