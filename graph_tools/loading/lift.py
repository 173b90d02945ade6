"""Lift a model to a newer opset, node by node, in place: subgraphs and functions included, every value name kept.

Only operators whose *form or meaning* changed are touched (attributes that became inputs, flattening Softmax,
asymmetric Upsample…); the others read the same under both versions. The adapters stand in
:mod:`graph_tools.loading.adapters`, one per operator and change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from graph_tools.errors import UnsupportedModel

Adapter = Callable[["Lifter", ir.Node], None]
ADAPTERS: dict[str, list[tuple[int, Adapter]]] = {}


def lifts(*operators: str, to: int) -> Callable[[Adapter], Adapter]:
    """Register the decorated adapter: it brings a node from below opset ``to`` to its form at ``to``."""

    def register(adapter: Adapter) -> Adapter:
        for operator in operators:
            ADAPTERS.setdefault(operator, []).append((to, adapter))
            ADAPTERS[operator].sort(key=lambda pair: pair[0])
        return adapter

    return register


def lift(model: ir.Model, opset: int) -> None:
    """Bring the graph, and every function at an older opset, to ``opset``; in place.

    Raises:
        UnsupportedModel: an operator's old form has no counterpart; names operator and node.
    """
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        imports = graph.opset_imports
        old = imports.get("")
        if old is None or old >= opset:
            continue
        lifter = Lifter(model, old)
        for node in list(graph.all_nodes()):
            if node.domain == "":
                lifter.adapt(node, opset)
        imports[""] = opset


class Lifter:
    """What adapters write with: new nodes go in front of the node that is adapted.

    Attributes:
        old: the opset that is left behind.
    """

    def __init__(self, model: ir.Model, old: int) -> None:
        """Collect the names in use."""
        self.old = old
        graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
        self._names: set[str | None] = {v.name for g in graphs for v in g.inputs} | set(model.graph.initializers)
        for graph in graphs:
            for node in graph.all_nodes():
                self._names.add(node.name)
                self._names.update(v.name for v in node.outputs)

    def adapt(self, node: ir.Node, opset: int) -> None:
        """Apply the adapters between the old opset and ``opset``, oldest first."""
        for to, adapter in ADAPTERS.get(node.op_type, ()):
            if self.old < to <= opset:
                operator = node.op_type
                adapter(self, node)
                if node.op_type != operator:  # it became another operator, already at that one's newest form
                    return

    def emit(self, at: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """A new one-output node in front of ``at``; its type is not inferred."""
        node = ir.Node("", op_type, inputs, ir.convenience.convert_attributes(attributes))
        node.name = self._fresh(f"{at.name}/{op_type}")
        node.outputs[0].name = self._fresh(f"{node.name}_out")
        assert at.graph is not None
        at.graph.insert_before(at, node)
        return node.outputs[0]

    def const(self, at: ir.Node, value: Any, like: ir.Value | None = None) -> ir.Value:
        """A Constant in front of ``at``, int64 unless an array says otherwise; in the type of ``like``."""
        array = np.asarray(value) if isinstance(value, np.ndarray | np.generic) else np.asarray(value, np.int64)
        if like is not None and like.dtype is not None:
            array = array.astype(like.dtype.numpy())
            return self._constant(at, ir.Tensor(array, dtype=like.dtype))
        made = self._constant(at, ir.tensor(array))
        return made if like is None else self.emit(at, "CastLike", [made, like])

    def become(self, node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> None:
        """Turn ``node`` into ``op_type`` of ``inputs``; its outputs stay, its attributes are replaced."""
        node.op_type = op_type
        self.feed(node, inputs)
        node.attributes.clear()
        for attribute in ir.convenience.convert_attributes(attributes):
            node.attributes[attribute.name] = attribute

    def feed(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> None:
        """Replace the inputs of ``node``."""
        values = list(inputs)
        while values and values[-1] is None:
            values.pop()
        node.resize_inputs(len(values))
        for i, v in enumerate(values):
            node.replace_input_with(i, v)

    def refuse(self, node: ir.Node, why: str) -> UnsupportedModel:
        """The error to raise where an old form has no counterpart."""
        return UnsupportedModel(
            f"{node.op_type} (node {node.name!r}) cannot be lifted from opset {self.old}: {why}. "
            "Black-box methods work on this model"
        )

    def _constant(self, at: ir.Node, tensor: ir.TensorProtocol) -> ir.Value:
        made = self.emit(at, "Constant", [], value=tensor)
        made.type, made.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
        return made

    def _fresh(self, hint: str) -> str:
        name, i = hint, 0
        while name in self._names:
            i += 1
            name = f"{hint}_{i}"
        self._names.add(name)
        return name


def popped(node: ir.Node, name: str, default: Any = None) -> Any:
    """Take an attribute off ``node`` and return its value."""
    attribute = node.attributes.pop(name, None)
    if attribute is None:
        return default
    if attribute.is_ref():
        raise UnsupportedModel(
            f"attribute {name!r} of {node.op_type} (node {node.name!r}) is a parameter of a function written "
            "for another opset than the model; black-box methods work on it"
        )
    value = attribute.value
    return (
        list(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes, ir.TensorProtocol)) else value
    )
