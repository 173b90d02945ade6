"""Loop: the iterations that ran, backwards.

The forward Loop gets outputs that keep the values carried at the start of every iteration, and the number of
iterations T. The reverse is a Loop over i = T - 1 … 0 that reads those values, computes the body anew and walks it
back: it carries the cotangents of what the Loop carries and sums those of what its body captures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graph_tools import scopes
from graph_tools.reverse import Reverse
from graph_tools.vjp.control_flow import add_output, as_cotangent, body_input, finish, refuse, refuse_repeat, typed
from graph_tools.vjp.table import Inner, Seed, scoped


@scoped("Loop")
def loop(b: Reverse, node: ir.Node, inner: Inner, *cts: ir.Value | None) -> Iterator[Seed]:
    """ct_v, ct_captured = Loop over the iterations in reverse order of the reverse of the body."""
    refuse_repeat(b, node)
    site = _Site(node, scopes.state_count(node), inner)
    site.name_outputs(b)
    arrived = dict(enumerate(cts))
    start = [arrived.get(k) or b.zeros_like(node.outputs[k]) for k in site.carried]
    last = b.Sub(_trip_count(b, site), 1)
    body, kept = _reverse_body(b, site, last, arrived)
    if body is None:
        return
    sums = [b.zeros_like(v) for v in kept]
    values = [site.operand(k) for k in site.carried] + kept
    grown = _keep(b, site, body)
    trips, yes = b.Add(last, 1), b.const(np.array(True))
    results = b.Loop(trips, yes, *start, *sums, *grown, body=body, _outputs=len(values) + len(grown))
    yield from typed(list(results)[: len(values)] if isinstance(results, tuple) else results, values)


@dataclass
class _Site:
    """A Loop and what of it is differentiated."""

    node: ir.Node
    states: int
    inner: Inner
    stand_ins: dict[int, ir.Value] = field(default_factory=dict)  # carried values kept for the reverse

    @property
    def body(self) -> ir.Graph:
        return self.node.attributes["body"].as_graph()

    @property
    def carried(self) -> list[int]:
        """Carried values through which a cotangent passes."""
        return [k for k in range(self.states) if self.body.inputs[2 + k] in self.inner.live]

    def operand(self, k: int) -> ir.Value:
        """The first value of what is carried at position ``k``."""
        v = self.node.inputs[2 + k]
        assert v is not None
        return v

    def name_outputs(self, b: Reverse) -> None:
        """The file may leave outputs out that are read here."""
        node, wanted = self.node, len(self.body.outputs) - 1
        if len(node.outputs) < wanted:
            node.resize_outputs(wanted)
        for v in node.outputs:
            v.name = v.name or b.fresh(f"{node.name}_out")
        pipes = scopes.pipes_of(node)
        assert pipes is not None
        for inner, out in pipes.leaves:
            if out.type is None:
                out.type = inner.type
                scopes.type_outputs(node, pipes)

    def stays(self, k: int) -> bool:
        """Whether the shape of what is carried provably never changes."""
        inside = self.body.inputs[2 + k]
        shape = inside.shape if isinstance(inside.type, ir.TensorType) else None
        return shape is not None and all(isinstance(d, int) or d.value is not None for d in shape)


def _trip_count(b: Reverse, site: _Site) -> ir.Value:
    """int64: the iterations that ran, from an output that notes each."""
    with b.inside(site.body):
        site.body.outputs.append(b.Reshape(site.body.inputs[0], [1]))
    return b.Size(_new_output(b, site.node, ir.TensorType(ir.DataType.INT64), ir.Shape([None, 1])))


def _new_output(b: Reverse, node: ir.Node, kind: ir.TypeProtocol | None, shape: ir.Shape | None) -> ir.Value:
    node.resize_outputs(len(node.outputs) + 1)
    out = node.outputs[-1]
    out.name, out.type, out.shape = b.fresh(f"{node.name}_kept"), kind, shape
    return out


def _reverse_body(
    b: Reverse, site: _Site, last: ir.Value, arrived: dict[int, ir.Value | None]
) -> tuple[ir.Graph | None, list[ir.Value]]:
    """The body of the reverse Loop, and the captured values whose cotangents it sums."""
    forward = site.body
    j, go = (body_input(b, hint, v) for hint, v in zip(("j", "go"), forward.inputs[:2], strict=True))
    j.shape, go.shape = ir.Shape([]), ir.Shape([])
    carried = [body_input(b, "ct", forward.inputs[2 + k]) for k in site.carried]
    body = ir.Graph([j, go, *carried], [], nodes=[], name=b.fresh(f"{forward.name}_reverse"))
    shapes = {k: b.shape_of(site.operand(k)) for k in range(site.states) if site.stays(k)}
    captured = [v for v in scopes.captured(site.node) if v in site.inner.live]
    with b.inside(body):
        i = b.Sub(last, j)
        operands = [_like_rank(b, i, forward.inputs[0]), _like_rank(b, b.const(np.array(True)), forward.inputs[1])]
        operands += [_read(b, site, k, i, shapes) for k in range(site.states)]
        results = scopes.copy_of(b, forward, operands)[1:]
        seeds = [(results[k], as_cotangent(b, ct, results[k])) for k, ct in zip(site.carried, carried, strict=True)]
        seeds += [
            (results[k], as_cotangent(b, b.Gather(ct, i, axis=0), results[k]))
            for k in range(site.states, len(results))
            if (ct := arrived.get(k)) is not None
        ]
        starts = [operands[2 + k] for k in site.carried]
        found = site.inner.walk(seeds, [*starts, *captured])
        if all(ct is None for ct in found) and not carried:
            return None, []
        body.outputs.append(b.Identity(go))
        for v, ct in zip(starts, found, strict=False):
            add_output(b, body, ct or b.zeros_like(v), v)
        kept = []
        for v, ct in zip(captured, found[len(starts) :], strict=True):
            if ct is not None:
                kept.append(v)
                body.inputs.append(total := body_input(b, "sum", v))
                add_output(b, body, b.total([total, ct]), v)
    finish(site.node, body)
    return body, kept


def _like_rank(b: Reverse, v: ir.Value, formal: ir.Value) -> ir.Value:
    """A scalar, or a vector of one where the body declares that."""
    return b.Reshape(v, [1]) if formal.shape is not None and len(formal.shape) == 1 else v


def _read(b: Reverse, site: _Site, k: int, i: ir.Value, shapes: dict[int, ir.Value]) -> ir.Value:
    """What was carried at the start of iteration ``i``, read from a stand-in for an output of the forward Loop."""
    inside = site.body.inputs[2 + k]
    stand_in = site.stand_ins[k] = ir.Value(name=b.fresh("kept"), type=inside.type)
    if not isinstance(inside.type, ir.TensorType):
        return stand_in
    if k in shapes:
        stand_in.shape = ir.Shape([None, None])
        v = b.Reshape(b.Gather(stand_in, i, axis=0), shapes[k], allowzero=1)
    else:
        stand_in.type = ir.SequenceType(inside.type)
        v = b.SequenceAt(stand_in, i)
    v.type, v.shape = inside.type, inside.shape
    return v


def _keep(b: Reverse, site: _Site, body: ir.Graph) -> list[ir.Value]:
    """Give the reverse ``body`` what its stand-ins stand for.

    A value of constant shape is stacked by the forward Loop as a vector per iteration, one that changes its shape goes
    into a sequence. A sequence that grows at its end is itself all it was: the reverse takes off what each iteration
    added.

    Returns:
        The finished sequences of the last kind, which the reverse carries after everything else.
    """
    grown = []
    for k, stand_in in site.stand_ins.items():
        if not stand_in.uses():
            continue
        inside = site.body.inputs[2 + k]
        if not isinstance(inside.type, ir.TensorType):
            grown.append(_shrink(b, site, body, k, stand_in))
            continue
        if site.stays(k):
            with b.inside(site.body):
                site.body.outputs.append(b.Reshape(inside, [-1]))
            out = _new_output(b, site.node, inside.type, ir.Shape([None, None]))
        else:
            out = _keep_in_sequence(b, site, inside)
        ir.convenience.replace_all_uses_with(stand_in, out)
    return grown


def _shrink(b: Reverse, site: _Site, body: ir.Graph, k: int, stand_in: ir.Value) -> ir.Value:
    """Put what sequence ``k`` was before each iteration in place of ``stand_in``; the sequence as it ended."""
    added, v = 0, site.body.outputs[1 + k]
    while (node := v.producer()) is not None and node.inputs and node.inputs[0] is not None:
        appends = node.op_type == "SequenceInsert" and (len(node.inputs) < 3 or node.inputs[2] is None)
        if not appends and node.op_type != "Identity":
            break
        added, v = added + appends, node.inputs[0]
    if v is not site.body.inputs[2 + k]:
        refuse(site.node, f"carries the sequence {site.operand(k).name!r}, which its gradient would have to keep")
    after = body_input(b, "after", v)
    body.inputs.append(after)
    with b.before(body[0]):
        before = b.Identity(after)
        for _ in range(added):
            before = b.SequenceErase(before)
        before.type = after.type
    ir.convenience.replace_all_uses_with(stand_in, before)
    with b.inside(body):
        body.outputs.append(b.Identity(before))
    return site.node.outputs[k]


def _keep_in_sequence(b: Reverse, site: _Site, inside: ir.Value) -> ir.Value:
    """Carry a sequence that grows by the value of each iteration: the Loop is rebuilt with one more carried value."""
    node, body, at = site.node, site.body, site.states
    kind = ir.SequenceType(ir.TensorType(inside.dtype or ir.DataType.FLOAT))
    with b.before(node):
        empty = b.SequenceEmpty(dtype=kind.dtype.value)
        empty.type = kind
    grown = ir.Value(name=b.fresh("kept"), type=kind)
    body.inputs.insert(2 + at, grown)
    with b.inside(body):
        longer = b.SequenceInsert(grown, inside)
        longer.type = kind
    body.outputs.insert(1 + at, longer)
    out = ir.Value(name=b.fresh(f"{node.name}_kept"), type=kind)
    outputs = list(node.outputs)
    stand_ins = [ir.Value(name=v.name) for v in outputs]
    for old, new in zip(outputs, stand_ins, strict=True):
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    node.resize_outputs(0)
    attributes = list(node.attributes.values())
    operands = [*node.inputs[: 2 + at], empty, *node.inputs[2 + at :]]
    fresh = ir.Node("", "Loop", operands, attributes, outputs=[*outputs[:at], out, *outputs[at:]], name=node.name)
    graph = node.graph
    assert graph is not None
    graph.insert_before(node, fresh)
    graph.remove(node, safe=True)
    for old, new in zip(outputs, stand_ins, strict=True):
        ir.convenience.replace_all_uses_with(new, old, replace_graph_outputs=True)
    site.node, site.states = fresh, at + 1
    return out
