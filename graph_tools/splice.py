"""Join two graphs: preprocessing or a generator in front, the tail of an explanation behind."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from graph_tools import model as models
from graph_tools.errors import UnknownValue, UnsupportedModel
from graph_tools.loading import lift
from graph_tools.model import Source


def splice(front: Source, back: Source, pairs: Mapping[str, str]) -> ir.Model:
    """One model: ``front``, then ``back`` fed by it.

    Args:
        front: its values are renamed where they clash with ``back``'s; its inputs keep their names (and must not
            clash).
        back: keeps every name.
        pairs: output of ``front`` -> input of ``back``; dtypes must be equal.

    Returns:
        Inputs: ``front``'s, then those of ``back`` that no pair feeds. Outputs: ``back``'s, then those of ``front``
        that feed nothing. Opset: the higher of the two, the other lifted.

    Raises:
        UnknownValue: a name in ``pairs`` is not an output of ``front`` or input of ``back``.
        UnsupportedModel: dtypes or ranks of a pair differ, or input names clash.
    """
    first, second = _same_opset(models.load(front), models.load(back))
    outs = {v.name: v for v in first.graph.outputs}
    ins = {v.name: v for v in second.graph.inputs}
    for made, fed in pairs.items():
        if made not in outs:
            raise UnknownValue("output", made, [n for n in outs if n])
        if fed not in ins:
            raise UnknownValue("input", fed, [n for n in ins if n])
        _check_pair(outs[made], ins[fed])
    _rename_clashes(first, second, {ins[f].name for f in pairs.values()})
    for made, fed in pairs.items():
        ins[fed].replace_all_uses_with(outs[made], replace_graph_outputs=True)
    return _join(first, second, [outs[m] for m in pairs], [ins[f] for f in pairs.values()])


def _join(first: ir.Model, second: ir.Model, made: list[ir.Value], fed: list[ir.Value]) -> ir.Model:
    front, back = first.graph, second.graph
    inputs = [*front.inputs, *(v for v in back.inputs if v not in fed)]
    outputs = [*back.outputs, *(v for v in front.outputs if v not in made)]
    initializers = [*front.initializers.values(), *back.initializers.values()]
    nodes = []
    for graph in (front, back):
        graph.inputs.clear()
        graph.outputs.clear()
        graph.initializers.clear()
        for node in list(graph):
            graph.remove(node)
            nodes.append(node)
    opsets = {**front.opset_imports, **back.opset_imports}
    graph = ir.Graph(inputs, outputs, nodes=nodes, initializers=initializers, opset_imports=opsets, name=back.name)
    joined = ir.Model(graph, ir_version=max(first.ir_version, second.ir_version))
    models.infer(joined)
    return models.mark_loaded(joined)


def _same_opset(first: ir.Model, second: ir.Model) -> tuple[ir.Model, ir.Model]:
    a, b = models.opset(first), models.opset(second)
    if a < b:
        _lift(first, b)
    elif b < a:
        _lift(second, a)
    return first, second


def _lift(model: ir.Model, opset: int) -> None:
    lift.lift(model, opset)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    models.infer(model)


def _check_pair(made: ir.Value, fed: ir.Value) -> None:
    if made.dtype != fed.dtype:
        raise UnsupportedModel(f"{made.name!r} is {made.dtype}, but {fed.name!r} takes {fed.dtype}")
    if made.shape is not None and fed.shape is not None and len(made.shape) != len(fed.shape):
        raise UnsupportedModel(
            f"{made.name!r} has {len(made.shape)} dimensions, but {fed.name!r} takes {len(fed.shape)}"
        )


def _rename_clashes(first: ir.Model, second: ir.Model, freed: set[str | None]) -> None:
    """Give ``first``'s values, nodes and symbolic dimensions names that ``second`` does not use."""
    taken = set(models.values_by_name(second)) - {n for n in freed if n is None}
    inputs = set(first.graph.inputs)
    for name, v in models.values_by_name(first).items():
        if name not in taken:
            continue
        if v in inputs and name not in freed:
            raise UnsupportedModel(f"both graphs have an input or value {name!r}; rename one")
        fresh, i = f"front/{name}", 0
        while fresh in taken:
            i += 1
            fresh = f"front_{i}/{name}"
        if v in inputs:
            continue
        v.name = fresh
        taken.add(fresh)
    nodes = {n.name for n in second.graph}
    for node in first.graph:
        if node.name in nodes:
            node.name = f"front/{node.name}"
