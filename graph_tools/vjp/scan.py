"""Scan: a Scan over the same steps in the opposite direction.

The forward Scan gets outputs that stack its states at the start of every step. The reverse reads them, the slices and
the cotangents of the per-step outputs backwards, computes the body anew and walks it back: its states are the
cotangents of the states and the sums for what the body captures, its per-step outputs the cotangents of the slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from graph_tools import scopes
from graph_tools.reverse import Reverse
from graph_tools.vjp.control_flow import add_output, as_cotangent, body_input, finish, refuse_repeat, typed
from graph_tools.vjp.table import Inner, Seed, scoped

Way = tuple[int, int]
"""Axis and direction (1: backwards) of slicing or stacking."""


@scoped("Scan")
def scan(b: Reverse, node: ir.Node, inner: Inner, *cts: ir.Value | None) -> Iterator[Seed]:
    """ct_state, ct_x, ct_captured = Scan over the reversed steps of the reverse of the body."""
    refuse_repeat(b, node)
    _name_outputs(b, node)
    site = _Site(node, inner, dict(enumerate(cts)))
    start = [site.arrived.get(k) or b.zeros_like(node.outputs[k]) for k in site.carried]
    states = [body_input(b, "ct", site.forward.inputs[k]) for k in site.carried]
    operands = [body_input(b, "slice", v) for v in site.forward.inputs]
    body = ir.Graph([], [], nodes=[], name=b.fresh(f"{site.forward.name}_reverse"))
    plan = _Plan()
    with b.inside(body):
        slices, found = _walk_body(b, site, operands, states)
        values = _outputs(b, site, body, operands, states, found, plan)
    if not values:
        return
    finish(node, body)
    body.inputs.extend(states)
    sums = [b.zeros_like(v) for v in values[len(start) : len(states)]]
    for v, outer, way in _sliced(b, site, operands, slices):
        plan.enters(outer, way)
        body.inputs.append(v)
    results = b.Scan(*start, *sums, *plan.operands, body=body, _outputs=len(values), **plan.attributes())
    yield from typed(results, values)


@dataclass
class _Site:
    """A Scan and what of it is differentiated."""

    node: ir.Node
    inner: Inner
    arrived: dict[int, ir.Value | None]

    @property
    def forward(self) -> ir.Graph:
        return self.node.attributes["body"].as_graph()

    @property
    def states(self) -> int:
        return scopes.state_count(self.node)

    @property
    def carried(self) -> list[int]:
        """States through which a cotangent passes."""
        return [k for k in range(self.states) if self.forward.inputs[k] in self.inner.live]

    @property
    def scanned(self) -> list[int]:
        """Sliced operands through which a cotangent passes."""
        return [k for k in range(self.states, len(self.node.inputs)) if self.forward.inputs[k] in self.inner.live]

    @property
    def captured(self) -> list[ir.Value]:
        """Captured values through which a cotangent passes."""
        return [v for v in scopes.captured(self.node) if v in self.inner.live]

    def operand(self, k: int) -> ir.Value:
        """Operand ``k``, which the standard requires."""
        v = self.node.inputs[k]
        assert v is not None
        return v

    def reversed(self, side: str, k: int) -> Way:
        """The way of sliced operand (``input``) or stacked output (``output``) ``k``, in the opposite direction."""
        axis, direction = (_entry(self.node, f"scan_{side}_{what}", k - self.states) for what in ("axes", "directions"))
        return axis, 1 - direction


def _walk_body(
    b: Reverse, site: _Site, operands: list[ir.Value], states: list[ir.Value]
) -> tuple[dict[int, ir.Value], list[ir.Value | None]]:
    """Cotangent slices by output, and the cotangents of states, captured values and slices of one step."""
    results = scopes.copy_of(b, site.forward, operands)
    slices = {
        k: body_input(b, "ct_slice", v)
        for k, v in enumerate(results)
        if k >= site.states and site.arrived.get(k) is not None
    }
    cts = {**dict(zip(site.carried, states, strict=True)), **slices}
    seeds = [(results[k], as_cotangent(b, ct, results[k])) for k, ct in cts.items()]
    read = [*site.carried, *site.scanned]
    wrt = [operands[k] for k in read[: len(states)]] + site.captured + [operands[k] for k in read[len(states) :]]
    return slices, site.inner.walk(seeds, wrt)


def _outputs(
    b: Reverse,
    site: _Site,
    body: ir.Graph,
    operands: list[ir.Value],
    states: list[ir.Value],
    found: list[ir.Value | None],
    plan: _Plan,
) -> list[ir.Value]:
    """Give the body its outputs (``states`` grows by the sums); the values whose cotangents the Scan returns."""
    captured, carried = site.captured, site.carried
    of_states, rest = found[: len(carried)], found[len(carried) :]
    for k, ct in zip(carried, of_states, strict=True):
        add_output(b, body, ct or b.zeros_like(operands[k]), operands[k])
    values = [site.operand(k) for k in carried]
    for v, ct in zip(captured, rest[: len(captured)], strict=True):
        if ct is not None:
            values.append(v)
            states.append(total := body_input(b, "sum", v))
            add_output(b, body, b.total([total, ct]), v)
    for k, ct in zip(site.scanned, rest[len(captured) :], strict=True):
        if ct is not None:
            values.append(site.operand(k))
            add_output(b, body, ct, operands[k])
            plan.leaves(site.reversed("input", k))
    return values


def _sliced(
    b: Reverse, site: _Site, operands: list[ir.Value], slices: dict[int, ir.Value]
) -> Iterator[tuple[ir.Value, ir.Value, Way]]:
    """(body input, what is sliced, its way): kept states and slices that the body reads, and cotangents."""
    for k, v in enumerate(operands):
        if k >= site.states and (v.uses() or (k == site.states and not slices)):  # one at least, for the length
            yield v, site.operand(k), site.reversed("input", k)
        elif k < site.states and v.uses():
            yield v, _keep(b, site.node, k), (0, 1)
    for k, v in slices.items():
        ct = site.arrived[k]
        assert ct is not None
        yield v, ct, site.reversed("output", k)


@dataclass
class _Plan:
    """Operands that a Scan slices, and how it slices and stacks."""

    operands: list[ir.Value] = field(default_factory=list)
    _in: list[Way] = field(default_factory=list)
    _out: list[Way] = field(default_factory=list)

    def enters(self, v: ir.Value, way: Way) -> None:
        """One more sliced operand."""
        self.operands.append(v)
        self._in.append(way)

    def leaves(self, way: Way) -> None:
        """One more stacked output."""
        self._out.append(way)

    def attributes(self) -> dict[str, int | list[int]]:
        """Those of the Scan; what the standard takes for granted is left out."""
        found: dict[str, int | list[int]] = {"num_scan_inputs": len(self.operands)}
        for side, ways in (("input", self._in), ("output", self._out)):
            for i, what in enumerate(("axes", "directions")):
                if any(way[i] for way in ways):
                    found[f"scan_{side}_{what}"] = [way[i] for way in ways]
        return found


def _entry(node: ir.Node, name: str, index: int) -> int:
    given = node.attributes.get_ints(name) if name in node.attributes else None
    return int(given[index]) if given else 0


def _name_outputs(b: Reverse, node: ir.Node) -> None:
    """The file may leave outputs out that are read here."""
    for v in node.outputs:
        v.name = v.name or b.fresh(f"{node.name}_out")
    if any(v.type is None for v in node.outputs) and (pipes := scopes.pipes_of(node)) is not None:
        scopes.type_outputs(node, pipes)


def _keep(b: Reverse, node: ir.Node, k: int) -> ir.Value:
    """State ``k`` at the start of every step, stacked along axis 0."""
    body = node.attributes["body"].as_graph()
    inside = body.inputs[k]
    with b.inside(body):
        body.outputs.append(b.Identity(inside))
    for name in ("scan_output_axes", "scan_output_directions"):
        if name in node.attributes:
            node.attributes[name] = ir.AttrInt64s(name, [*(node.attributes.get_ints(name) or []), 0])
    node.resize_outputs(len(body.outputs))
    out = node.outputs[-1]
    out.name, out.type = b.fresh(f"{node.name}_kept"), inside.type
    x = node.inputs[scopes.state_count(node)]
    steps = None if x is None or not x.shape else x.shape[_entry(node, "scan_input_axes", 0)]
    out.shape = None if inside.shape is None else ir.Shape([steps, *inside.shape])
    return out
