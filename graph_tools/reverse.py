"""The emitter that rules write with: an :class:`Emitter` that knows about K cotangents per row."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir

from graph_tools.emit import Emitter, dims, infer_node, rank, static_shape
from graph_tools.errors import UnsupportedGradient
from graph_tools.walk import sequence_ops

FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16}
"""Dtypes that cotangents have; those of quantised values (integers, 8-bit floats) are float32."""


class Reverse(Emitter):
    """``b`` of every rule.

    With ``repeat`` = K (int64 scalar value), cotangents of batched values have K times the rows of their primals,
    the K rows of one input adjacent.
    """

    def __init__(self, model: ir.Model, repeat: ir.Value | None, batched: Collection[str], form: str = "cpu") -> None:
        """Emit into ``model``; ``batched`` names the values whose axis 0 is the batch."""
        super().__init__(model)
        self.repeat, self._batched, self.form = repeat, set(batched), form
        self._repeated: dict[ir.Value, ir.Value] = {}
        self.notes: dict[object, object] = {}
        """What the rules of one node have emitted together, under keys of theirs."""

    @contextmanager
    def inside(self, graph: ir.Graph) -> Iterator[None]:
        """Emit at the end of a subgraph; what was derived outside is known inside, not the other way round."""
        was = self._repeated
        self._repeated = dict(was)
        try:
            with super().inside(graph):
                yield
        finally:
            self._repeated = was

    def total(self, cts: Sequence[ir.Value]) -> ir.Value:
        """The sum of cotangents of one value; what each was reshaped from is summed, and reshaped once."""
        behind = [self.reshaped_from(ct) for ct in cts]
        first = cts[0].producer()
        if first is not None and None not in behind and len({dims(v) for v in behind if v is not None}) == 1:
            shapes = {ct.producer().inputs[1] for ct in cts}  # type: ignore[union-attr]
            if len(shapes) == 1 and None not in (dims(behind[0]) or (None,))[1:]:  # type: ignore[arg-type]
                total = behind[0]
                for v in behind[1:]:
                    total = self.Add(total, v)
                out: ir.Value = self.Reshape(total, *shapes, allowzero=first.attributes.get_int("allowzero", 0) or None)
                out.shape = cts[0].shape
                return out
        total = cts[0]
        for ct in cts[1:]:
            total = sequence_ops.add(self, total, ct) if sequence_ops.is_sequence(total) else self.Add(total, ct)
        return total

    def reshaped_from(self, ct: ir.Value) -> ir.Value | None:
        """What ``ct`` was reshaped from in this walk; None where it was not."""
        node = ct.producer()
        if node is None or node.op_type != "Reshape" or ct.name not in self.made or node.graph is not self.scope:
            return None
        return node.inputs[0]

    def prune(self, kept: Collection[ir.Value | None]) -> None:
        """Remove emitted nodes that nobody reads and that are not ``kept``."""
        for node in reversed(list(self.graph)):
            if node.outputs[0].name in self.made and not any(
                v.uses() or v.is_graph_output() or v in kept for v in node.outputs
            ):
                self.graph.remove(node, safe=True)

    def is_batched(self, v: ir.Value) -> bool:
        """Whether axis 0 of ``v`` is the batch, so that its cotangent has K times the rows."""
        return self.repeat is not None and v.name in self._batched

    def primal(self, v: ir.Value | None) -> ir.Value:
        """``v`` (an operand that is present) in the row count of the cotangents: itself, or each row K times."""
        assert v is not None
        if not self.is_batched(v):
            return v
        if v not in self._repeated:
            wide = self.Unsqueeze(v, [1])
            r = rank(v)
            if r is None:
                raise ValueError(f"the rank of {v.name!r} is unknown")
            ones = np.ones(r - 1, np.int64)
            target = self.Concat(np.array([1], np.int64), self._k(), ones, axis=0)
            self._repeated[v] = self._retyped(
                self.Reshape(self.Expand(wide, target), self.ct_shape(v)), v.shape, batch=True
            )
        return self._repeated[v]

    def widen(self, derived: ir.Value, like: ir.Value) -> ir.Value:
        """``derived``, computed from primals and with the rows of ``like``, in the row count of the cotangents."""
        if self.is_batched(like) and derived.name:
            self._batched.add(derived.name)
        return self.primal(derived)

    def rows_like(self, derived: ir.Value, like: ir.Value) -> ir.Value:
        """``derived``, computed from primals: note that it has the rows of ``like`` (what ``primal`` asks later)."""
        if self.is_batched(like) and derived.name:
            self._batched.add(derived.name)
        return derived

    def times(self, ct: ir.Value, factor: ir.Value, like: ir.Value | None = None) -> ir.Value:
        """``ct`` × ``factor``, which is computed from primals.

        The K cotangents of a row become an axis that ``factor`` is broadcast over: nothing is repeated in memory.

        Args:
            ct: rows of the cotangent of ``like``.
            factor: as many rows as ``like`` has, one row, or no row axis (a lower rank).
            like: a primal; None: ``factor`` itself.
        """
        like = factor if like is None else like
        known, r = dims(factor), rank(ct)
        if not self.is_batched(like) or (known is not None and r is not None and len(known) < r):
            return self.Mul(ct, factor)  # type: ignore[no-any-return]
        if known is None or len(known) != r:
            return self.Mul(ct, self.widen(factor, like))  # type: ignore[no-any-return]
        if known[0] == 1:
            return self.Mul(ct, factor)  # type: ignore[no-any-return]
        minus_one = np.array([-1], np.int64)
        wide = self.Reshape(ct, self.Concat(minus_one, self._k(), self._tail(ct, 1), axis=0))
        if ct.shape is not None:
            wide.shape = ir.Shape([None, None, *ct.shape[1:]])
        product = self.Mul(wide, self.Unsqueeze(factor, [1]))
        out: ir.Value = self.Reshape(product, self.Concat(minus_one, self._tail(product, 2), axis=0))
        if product.shape is not None:
            out.shape = ir.Shape([None, *product.shape[2:]])
        return out

    def extra_output(self, node: ir.Node, index: int) -> ir.Value:
        """Optional output ``index`` of a forward node, asked for where the file leaves it out (rows: output 0's)."""
        if len(node.outputs) <= index:
            node.resize_outputs(index + 1)
        out = node.outputs[index]
        if not out.name:
            out.name = self.fresh(f"{node.outputs[0].name}_{index}")
        if out.type is None or out.shape is None:
            known = node.outputs[0].shape
            infer_node(node, self.graph.opset_imports)
            node.outputs[0].shape = known
        if self.is_batched(node.outputs[0]):
            self._batched.add(out.name)
        return out

    def rank_of(self, v: ir.Value) -> int:
        """The rank of a primal.

        Raises:
            UnsupportedGradient: shape inference could not tell it.
        """
        r = rank(v)
        if r is None:
            raise UnsupportedGradient(
                f"the number of dimensions of {v.name!r} is unknown, and a gradient rule needs it; give the model's "
                "inputs shapes (names for open dimensions will do), or use a black-box method"
            )
        return r

    def shaped_like(self, ct: ir.Value, v: ir.Value) -> ir.Value:
        """Note that ``ct`` has the shape of the cotangent of ``v``, where inference cannot see it."""
        return self._retyped(ct, v.shape, self.is_batched(v))

    def ct_shape(self, v: ir.Value, *, exact: bool = False) -> ir.Value:
        """int64 [rank]: the shape of the cotangent of ``v``; without -1 where ``exact``."""
        if exact:
            return self._ct_shape_exact(v)
        if not self.is_batched(v):
            return self.shape_of(v)
        known = dims(v)
        if known is not None and all(d is not None and d > 0 for d in known[1:]):
            return self.const(np.array([-1, *known[1:]], np.int64))
        shape = self.shape_of(v)
        rows = self.Mul(self.Slice(shape, [0], [1]), self._k())
        return self.Concat(rows, self.Slice(shape, [1], [2**31]), axis=0)  # type: ignore[no-any-return]

    def reshape_like(self, ct: ir.Value, v: ir.Value) -> ir.Value:
        """``ct`` in the shape of the cotangent of ``v``; a constant shape with one −1 where that is enough."""
        known = dims(v)
        if known is not None:
            open_axes = [i for i, d in enumerate(known) if d is None]
            if self.is_batched(v):
                open_axes = sorted({0, *open_axes})
            if len(open_axes) <= 1 and all(d != 0 for d in known):
                target = [-1 if i in open_axes else d for i, d in enumerate(known)]
                return self._retyped(self.Reshape(ct, np.array(target, np.int64)), v.shape, self.is_batched(v))
        return self._retyped(self.Reshape(ct, self.ct_shape(v), allowzero=1), v.shape, self.is_batched(v))

    def expand_like(self, ct: ir.Value, v: ir.Value) -> ir.Value:
        """``ct`` (same rank as ``v``, ones where it is to be repeated) broadcast to the cotangent's shape of ``v``.

        Axes that ``ct`` already has in full length need not be known: Expand broadcasts both ways.
        """
        known, have = dims(v), dims(ct)
        if known is not None and have is not None and len(known) == len(have):
            grow = [i for i, d in enumerate(have) if d == 1 and not (i == 0 and self.is_batched(v))]
            if all(known[i] is not None for i in grow) and all(
                have[i] is not None or i == 0 or have[i] == known[i] for i in range(len(have))
            ):
                target = [known[i] if i in grow else 1 for i in range(len(known))]
                return self._retyped(self.Expand(ct, np.array(target, np.int64)), v.shape, self.is_batched(v))
        shape = self.ct_shape(v)
        if self.is_batched(v):  # ct_shape may hold a −1, which Expand does not take
            full = self.shape_of(v)
            shape = self.Concat(np.array([1], np.int64), self.Slice(full, [1], [2**31]), axis=0)
        return self._retyped(self.Expand(ct, shape), v.shape, self.is_batched(v))

    def zeros_like(self, v: ir.Value) -> ir.Value:
        """Zeros in the shape of the cotangent of ``v``."""
        if sequence_ops.is_sequence(v):
            return sequence_ops.zeros(self, v)
        kind = v.dtype if v.dtype in FLOATS else ir.DataType.FLOAT
        return self.Expand(self.const(0.0, dtype=kind), self._ct_shape_exact(v))  # type: ignore[no-any-return]

    def fit(self, ct: ir.Value, x: ir.Value) -> ir.Value:
        """``ct`` summed down to the shape of ``x``'s cotangent (the adjoint of broadcasting) and in its dtype."""
        if sequence_ops.is_sequence(x):
            return ct
        if x.dtype in FLOATS and ct.dtype not in (None, x.dtype):
            ct = self.Cast(ct, to=x.dtype.value)
        want, have = dims(x), dims(ct)
        if want is None or have is None:
            return self._unbroadcast_at_run(ct, x)
        lead = len(have) - len(want)
        axes = list(range(lead))
        for i, (w, h) in enumerate(zip(want, have[lead:], strict=True)):
            if w == 1 and h != 1 and not (i == 0 and self.is_batched(x)):
                axes.append(i + lead)
            elif (w is None or w != h) and not self._same(ct, x, i, lead):
                return self._unbroadcast_at_run(ct, x)
        if axes:
            keep = self.ReduceSum(ct, np.array(axes, np.int64), keepdims=1)
            ct = self.reshape_like(keep, x) if lead else keep
        return self._retyped(ct, x.shape, self.is_batched(x))

    def _same(self, ct: ir.Value, x: ir.Value, axis: int, lead: int) -> bool:
        """Whether an open dimension of ``ct`` is certainly the one of ``x``: the same symbol, or the batch."""
        assert ct.shape is not None
        assert x.shape is not None
        if axis == 0 and self.is_batched(x):
            return True
        a, b = ct.shape[axis + lead], x.shape[axis]
        return isinstance(a, ir.SymbolicDim) and isinstance(b, ir.SymbolicDim) and a.value is not None and a == b

    def _unbroadcast_at_run(self, ct: ir.Value, x: ir.Value) -> ir.Value:
        """The same where dimensions are known only at run time: sum the axes in which the padded shapes differ."""
        shape = self._ct_shape_exact(x)
        have = self.Shape(ct)
        lead = self.Sub(self.Size(have), self.Size(shape))
        ones = self.ConstantOfShape(self.Reshape(lead, [1]), value=ir.tensor(np.array([1], np.int64)))
        padded = self.Concat(ones, shape, axis=0)
        axes = self.Reshape(self.NonZero(self.Not(self.Equal(padded, have))), [-1])
        total = self.ReduceSum(ct, axes, keepdims=1, noop_with_empty_axes=1)
        return self._retyped(self.Reshape(total, shape), x.shape, self.is_batched(x))

    def _ct_shape_exact(self, v: ir.Value) -> ir.Value:
        """Like :meth:`ct_shape` without −1."""
        if not self.is_batched(v):
            return self.shape_of(v)
        shape = self.shape_of(v)
        rows = self.Mul(self.Slice(shape, [0], [1]), self._k())
        return self.Concat(rows, self.Slice(shape, [1], [2**31]), axis=0)  # type: ignore[no-any-return]

    def _tail(self, v: ir.Value, start: int) -> ir.Value:
        """int64: the dimensions of ``v`` from ``start`` on."""
        known = dims(v)
        if known is not None and all(d is not None for d in known[start:]):
            return self.const(np.array(known[start:], np.int64))
        return self.Slice(self.Shape(v), [start], [2**31])  # type: ignore[no-any-return]

    def _k(self) -> ir.Value:
        """K as int64 [1]."""
        assert self.repeat is not None
        return self.Reshape(self.repeat, [1])  # type: ignore[no-any-return]

    @staticmethod
    def _retyped(v: ir.Value, shape: ir.Shape | None, batch: bool) -> ir.Value:
        """Note the shape that ``v`` is known to have (axis 0 open where the batch was repeated)."""
        if shape is not None and static_shape(v) is None:
            v.shape = ir.Shape([None if i == 0 and batch else d for i, d in enumerate(shape)])
        return v
