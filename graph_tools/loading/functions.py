"""Model-local functions: replaced by their bodies, names of the graph's own values kept."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from graph_tools.errors import UnsupportedModel


def inline(model: ir.Model) -> None:
    """Replace every call of a function of the model by the function's nodes; the functions are removed.

    Their structure was checked before (:mod:`graph_tools.loading.wellformed`), and all share the model's opsets.

    Raises:
        UnsupportedModel: a call that does not fit its function.
    """
    if not model.functions:
        return
    _check_calls(model)
    for function in model.functions.values():
        _own_outputs(function)
    try:
        InlinePass()(model)
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise UnsupportedModel(f"the model's functions cannot be inlined: {str(cause)[:300]}") from error
    model.functions.clear()


def _check_calls(model: ir.Model) -> None:
    """Counts of operands at every call, and one version per operator domain."""
    for function in model.functions.values():
        for domain, version in function.opset_imports.items():
            have = model.graph.opset_imports.setdefault(domain, version)
            if have != version:
                if domain != "" and not any(n.domain == domain for n in function.all_nodes()):
                    continue
                raise UnsupportedModel(
                    f"function {function.name!r} is written for {domain or 'ai.onnx'} opset {version}, "
                    f"the model for {have}"
                )
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        for node in graph.all_nodes():
            called = model.functions.get(node.op_identifier())
            if called is None:
                continue
            for i, v in enumerate(node.outputs):
                v.name = v.name or f"{node.name}/unread_{i}"
            if len(node.inputs) > len(called.inputs) or len(node.outputs) > len(called.outputs):
                raise UnsupportedModel(
                    f"{node.domain}::{node.op_type} (node {node.name!r}) has {len(node.inputs)} inputs and "
                    f"{len(node.outputs)} outputs; the function has {len(called.inputs)} and {len(called.outputs)}"
                )


def _own_outputs(function: ir.Function) -> None:
    """Outputs that are inputs, or said twice, through an Identity: the inliner renames what a call returns."""
    seen = set(function.inputs)
    for i, v in enumerate(function.outputs):
        if v in seen:
            copy = ir.Node("", "Identity", [v], name=f"return_{i}")
            copy.outputs[0].name = f"{v.name}/return_{i}"
            function.append(copy)
            function.outputs[i] = v = copy.outputs[0]
        seen.add(v)
