"""If, and what all operators with bodies share: a body's reverse is a body that computes it anew and walks back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

import onnx_ir as ir

from graph_tools import scopes
from graph_tools.errors import UnsupportedGradient
from graph_tools.reverse import FLOATS, Reverse
from graph_tools.vjp.table import Inner, Seed, scoped
from graph_tools.walk.sequence_ops import is_sequence, plain_type

RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}


@scoped("If")
def branches(b: Reverse, node: ir.Node, inner: Inner, *cts: ir.Value | None) -> Iterator[Seed]:
    """ct_x = If(condition, reverse of the branch taken): zeros from a branch that does not use x."""
    refuse_repeat(b, node)
    wanted = [v for v in scopes.captured(node) if v in inner.live]
    bodies = [_reverse_branch(b, node, branch, inner, cts, wanted) for branch in scopes.subgraphs(node)]
    used = [i for i in range(len(wanted)) if any(found[i] is not None for _, found in bodies)]
    if not used:
        return
    for body, found in bodies:
        with b.inside(body):
            for i in used:
                add_output(b, body, found[i] or b.zeros_like(wanted[i]), wanted[i])
        finish(node, body)
    then, other = (body for body, _ in bodies)
    results = b.If(node.inputs[0], then_branch=then, else_branch=other, _outputs=len(used))
    yield from typed(results, [wanted[i] for i in used])


def _reverse_branch(
    b: Reverse,
    node: ir.Node,
    branch: ir.Graph,
    inner: Inner,
    cts: Sequence[ir.Value | None],
    wanted: Sequence[ir.Value],
) -> tuple[ir.Graph, list[ir.Value | None]]:
    body = ir.Graph([], [], nodes=[], name=b.fresh(f"{branch.name}_reverse"))
    with b.inside(body):
        results = scopes.copy_of(b, branch, [])
        seeds = [(v, as_cotangent(b, ct, v)) for v, ct in zip(results, cts, strict=False) if ct is not None]
        return body, inner.walk(seeds, wanted)


def as_cotangent(b: Reverse, ct: ir.Value, v: ir.Value) -> ir.Value:
    """``ct`` inside a body, where more may be known of its shape than outside: that of ``v``."""
    if is_sequence(v):
        return ct
    alias = b.Identity(ct)
    if v.shape is not None:
        alias.shape = v.shape
    return alias


def add_output(b: Reverse, body: ir.Graph, v: ir.Value, like: ir.Value | None = None) -> None:
    """Make ``v`` an output of ``body``, through an Identity where the body does not itself compute it, or did so twice.

    ``like``: a value of the type and shape that the output has.
    """
    producer = v.producer()
    if producer is None or producer.graph is not body or v.is_graph_output():
        v = b.Identity(v)
    if like is not None:
        v.type = plain_type(like) if v.type is None else v.type
        v.shape = scopes.sharper(v.shape, like.shape) if v.shape is not None else like.shape
    body.outputs.append(v)


def body_input(b: Reverse, hint: str, like: ir.Value) -> ir.Value:
    """A body's input of the type and shape of ``like``."""
    return ir.Value(name=b.fresh(hint), type=plain_type(like), shape=like.shape)


def typed(results: ir.Value | Sequence[ir.Value], values: Sequence[ir.Value]) -> Iterator[Seed]:
    """Pairs (value, its cotangent), the cotangents with the shapes and types of the values."""
    for v, ct in zip(values, [results] if isinstance(results, ir.Value) else results, strict=True):
        ct.type = plain_type(v) if v.dtype in FLOATS else ct.type
        ct.shape = v.shape
        yield v, ct


def finish(node: ir.Node, body: ir.Graph) -> None:
    """Drop what the reverse of a body does not need.

    Raises:
        UnsupportedGradient: it needs numbers that were drawn at random, which computing anew would draw again.
    """
    scopes.prune(body)
    for n in body.all_nodes():
        training = n.op_type == "Dropout" and len(n.inputs) > 2 and n.inputs[2] is not None
        if n.op_type in RANDOM or training:
            refuse(node, f"draws random numbers inside ({n.op_type}), which its gradient would have to draw again")


def refuse_repeat(b: Reverse, node: ir.Node) -> None:
    """Control flow has one cotangent per row."""
    if b.repeat is not None:
        refuse(node, "cannot take several cotangents per row at once; ask for one target at a time")


def refuse(node: ir.Node, what: str) -> NoReturn:
    """Raise the error that names the node."""
    raise UnsupportedGradient(
        f"operator {node.op_type} (node {node.name!r}) {what}; black-box methods (occlusion, predict) work on this "
        "model",
        operator=node.op_type,
        node=node.name or "",
    )
