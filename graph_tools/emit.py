"""Emitter: append nodes to a graph by operator name, ``b.Relu(x)``, with typed constants and inferred shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir

from graph_tools import scopes
from graph_tools.errors import UnsupportedModel
from graph_tools.scopes import operator_name as operator_name
from graph_tools.shapes.node_types import node_types
from graph_tools.shapes.ranks import drop_false_zeros, fill_ranks
from graph_tools.shapes.window_shapes import correct_windows

Operand = ir.Value | np.ndarray | float | int | bool | Sequence[int] | None


class Emitter:
    """Appends nodes to the end of ``model``'s graph; every value it makes has a fresh name.

    ``b.Op(x, y, attribute=…)`` appends one node and returns its output (a tuple with ``_outputs=n > 1``). Operands are
    values, ``None`` (absent optional input), NumPy arrays, or Python numbers: a float becomes a scalar of the first
    value operand's dtype, an int or a list of ints an int64 constant. ``_domain`` names another operator domain.
    Types and shapes are inferred node by node; equal constants are stored once, in the main graph.
    """

    def __init__(self, model: ir.Model, prefix: str = "_") -> None:
        """Emit into ``model``; fresh names start with ``prefix``."""
        self.model, self.graph = model, model.graph
        self._prefix = prefix
        self._used = scopes.names_of(self.graph)
        self._scope = self.graph
        self._count = 0
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._shapes: dict[ir.Value, ir.Value] = {}
        self._before: ir.Node | None = None
        self.made: set[str | None] = set()

    @contextmanager
    def before(self, node: ir.Node) -> Iterator[None]:
        """Emit in front of ``node``, in its own (sub)graph, under its name; ``made`` holds what was emitted."""
        was = self._before, self._prefix, self._shapes, self.made
        self._before, self._prefix, self._shapes, self.made = node, f"{node.name}/", {}, set()
        try:
            yield
        finally:
            self._before, self._prefix, self._shapes, self.made = was

    @contextmanager
    def inside(self, graph: ir.Graph) -> Iterator[None]:
        """Emit at the end of ``graph``, a subgraph whose node stands (or will stand) where emission was before.

        Values of the outer graphs are captured by name; constants stay initializers of the main graph.
        """
        was = self._scope, self._before, self._shapes
        self._scope, self._before, self._shapes = graph, None, dict(self._shapes)
        try:
            yield
        finally:
            self._scope, self._before, self._shapes = was

    @property
    def scope(self) -> ir.Graph:
        """The graph that is emitted into."""
        return self._scope

    def adopt(self, node: ir.Node) -> None:
        """Put a finished node, which is in no graph, where the next one would be emitted."""
        if self._before is None:
            self._scope.append(node)
        else:
            (self._before.graph or self.graph).insert_before(self._before, node)
        self.made.update(out.name for out in node.outputs)

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        """``b.Relu`` is the function that appends a Relu node."""
        if op_type.startswith("_") or not op_type[0].isupper():
            raise AttributeError(op_type)

        def emit(*operands: Operand, _outputs: int = 1, _domain: str = "", **attributes: Any) -> Any:
            return self._node(op_type, operands, attributes, _outputs, _domain)

        return emit

    def fresh(self, hint: str) -> str:
        """A name that the graph does not use yet."""
        name = f"{self._prefix}{hint}"
        while name in self._used:
            self._count += 1
            name = f"{self._prefix}{hint}_{self._count}"
        self._used.add(name)
        return name

    def const(self, value: Any, like: ir.Value | None = None, dtype: ir.DataType | None = None) -> ir.Value:
        """An initializer; ``like`` gives the dtype, else NumPy's (Python ints are int64, floats float32)."""
        if dtype is None and like is not None:
            dtype = like.dtype
        array = np.asarray(value)
        if dtype is None and array.dtype == np.float64 and not isinstance(value, np.ndarray):
            dtype = ir.DataType.FLOAT
        if dtype is not None:
            array = array.astype(dtype.numpy())
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.initializer(self.fresh("const"), array, dtype)
        return self._constants[key]

    def initializer(self, name: str, array: np.ndarray, dtype: ir.DataType | None = None) -> ir.Value:
        """A new initializer under ``name``."""
        tensor = ir.Tensor(array, dtype=dtype, name=name)
        v = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(v)
        self._used.add(name)
        return v

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[int | str | None] | ir.Shape | None) -> ir.Value:
        """A new graph input.

        Raises:
            UnsupportedModel: the graph uses the name already.
        """
        self._claim(name)
        v = ir.Value(name=name, type=ir.TensorType(dtype), shape=None if shape is None else ir.Shape(list(shape)))
        self.graph.inputs.append(v)
        self._used.add(name)
        return v

    def output(self, v: ir.Value, name: str) -> ir.Value:
        """Make ``v`` a graph output under ``name`` (through an Identity: the value keeps its own name).

        Raises:
            UnsupportedModel: the graph uses the name already.
        """
        self._claim(name)
        out = self.Identity(v)
        self._used.discard(out.name)
        out.name = name
        self._used.add(name)
        self.graph.outputs.append(out)
        return out  # type: ignore[no-any-return]

    def _claim(self, name: str) -> None:
        if name in self._used:
            raise UnsupportedModel(
                f"the model already has a value called {name!r}, a name that is added here; rename it"
            )

    def shape_of(self, v: ir.Value) -> ir.Value:
        """int64 [rank], a constant where the shape is known, else ``Shape(v)``."""
        dims = static_shape(v)
        if dims is not None:
            return self.const(np.array(dims, np.int64))
        if v not in self._shapes:
            self._shapes[v] = self.Shape(v)
        return self._shapes[v]

    def _operand(self, operand: Operand, like: ir.Value | None) -> ir.Value | None:
        if operand is None or isinstance(operand, ir.Value):
            return operand
        if isinstance(operand, float):
            return self.const(np.asarray(operand), like)
        if isinstance(operand, np.ndarray):
            return self.const(operand)
        return self.const(np.asarray(operand, np.bool_ if isinstance(operand, bool) else np.int64))

    def _in_single(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any], outputs: int, domain: str
    ) -> Any:
        """The operator on float32 copies of bfloat16 operands, its float32 results as bfloat16 again."""
        single, half = ir.DataType.FLOAT, ir.DataType.BFLOAT16
        wide: list[Operand] = []
        for v in inputs:
            known = array_of(v)
            if v is None or v.dtype != half:
                wide.append(v)
            else:
                wide.append(self.Cast(v, to=single.value) if known is None else self.const(known, dtype=single))
        made = self._node(op_type, wide, attributes, outputs, domain)
        results = made if isinstance(made, tuple) else (made,)
        back = tuple(self.Cast(v, to=half.value) if v.dtype == single else v for v in results)
        return back if isinstance(made, tuple) else back[0]

    def _node(
        self, op_type: str, operands: Sequence[Operand], attributes: dict[str, Any], outputs: int, domain: str
    ) -> Any:
        like = next((o for o in operands if isinstance(o, ir.Value)), None)
        inputs = [self._operand(o, like) for o in operands]
        while inputs and inputs[-1] is None:  # ONNX Runtime's fusions crash on a named absence at the end
            inputs.pop()
        if _lacks_bfloat16(op_type, domain, inputs, self.graph.opset_imports):
            return self._in_single(op_type, inputs, attributes, outputs, domain)
        attrs = ir.convenience.convert_attributes({k: v for k, v in attributes.items() if v is not None})
        node = ir.Node(domain, op_type, inputs, attrs, num_outputs=outputs)
        node.name = self.fresh(f"{op_type}_node")
        for out in node.outputs:
            out.name = self.fresh(op_type)
        self.adopt(node)
        infer_node(node, self.graph.opset_imports)
        return node.outputs[0] if outputs == 1 else tuple(node.outputs)


def _lacks_bfloat16(op_type: str, domain: str, inputs: Sequence[ir.Value | None], opsets: dict[str, int]) -> bool:
    """Whether an operand is bfloat16 where the operator, or its CUDA kernel, takes no such type."""
    places = [i for i, v in enumerate(inputs) if v is not None and v.dtype == ir.DataType.BFLOAT16]
    if not places or domain not in ("", "ai.onnx") or op_type in ("If", "Loop", "Scan"):
        return False
    from graph_tools.cuda_kernels import takes  # which imports this module

    return not all(takes(op_type, opsets.get("", 1), i, "bfloat16") for i in places)


def static_shape(v: ir.Value) -> tuple[int, ...] | None:
    """The shape where every dimension is known, else None."""
    if v.shape is None or not all(isinstance(d, int) for d in v.shape):
        return None
    return tuple(int(d) for d in v.shape)  # type: ignore[arg-type]


def dims(v: ir.Value) -> tuple[int | None, ...] | None:
    """The shape with unknown and symbolic dimensions as None; None where even the rank is unknown."""
    return None if v.shape is None else tuple(d if isinstance(d, int) else None for d in v.shape)


def rank(v: ir.Value) -> int | None:
    """Number of dimensions, or None."""
    return None if v.shape is None else len(v.shape)


def array_of(v: ir.Value | None) -> np.ndarray | None:
    """The constant a value holds, or None."""
    if v is None or v.const_value is None:
        return None
    return np.asarray(v.const_value.numpy())


def infer_node(node: ir.Node, opsets: dict[str, int]) -> None:
    """Infer type and shape of the node's outputs from its inputs; leaves them unset where that fails.

    Of If, Loop and Scan the outputs follow from what the bodies' outputs are known to be.
    """
    if (pipes := scopes.pipes_of(node)) is not None:
        scopes.type_outputs(node, pipes)
        return
    try:
        found = node_types(node, opsets)
    except Exception:  # unknown operator, or inference that needs what is not known yet
        return
    for out, known in zip(node.outputs, found, strict=True):
        if known is not None:
            out.type, out.shape = known
    fill_ranks([node])
    drop_false_zeros([node])
    correct_windows(node)
