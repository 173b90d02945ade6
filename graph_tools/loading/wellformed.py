"""Is the file a graph at all? Names, order, scopes and the nesting of functions, read off the proto.

Runs before anything else touches the file: what comes after (onnx_ir, the inliner, shape inference in C++) trusts
that every name means one value, that no node waits for itself and that functions end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto

from graph_tools.errors import UnsupportedModel

MAX_DEPTH = 32  # subgraphs within subgraphs; protobuf itself stops at about 50
MAX_NODES = 1_000_000  # after the functions are expanded
FunctionId = tuple[str, str, str]
STANDARD = ("", "ai.onnx")


def check(proto: ModelProto) -> None:
    """Check the structure of ``proto``; a graph in another order than its data flow is no fault.

    Raises:
        UnsupportedModel: no nodes or outputs; a name given twice, missing, or waiting for itself; functions that
            call themselves or grow beyond :data:`MAX_NODES` nodes; subgraphs nested too deep. Names what and where.
    """
    graph = proto.graph
    if not graph.node:
        raise UnsupportedModel("the graph has no nodes, so there is nothing to explain")
    if not graph.output:
        raise UnsupportedModel("the graph has no outputs, so there is nothing to explain")
    _check_graph(graph, [], 0, False)
    functions = _functions(proto)
    for function in functions.values():
        _check_text(function.name, function.domain, *function.input, *function.output, *function.attribute)
        where = f"function {function.name!r}"
        _check_nodes(function.node, list(function.input), list(function.output), [], 0, where, True)
    if functions:
        _check_growth(proto, functions)


def describe(node: NodeProto) -> str:
    """``Conv (node 'conv1')``; a node without a name is told by its first output."""
    operator = node.op_type if node.domain in STANDARD else f"{node.domain}::{node.op_type}"
    if node.name:
        return f"{operator} (node {node.name!r})"
    named = next((o for o in node.output if o), "")
    return f"{operator} (unnamed node that computes {named!r})"


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """Graphs among the attributes of ``node``."""
    found: list[GraphProto] = []
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            found.append(attribute.g)
        elif attribute.type == AttributeProto.GRAPHS:
            found.extend(attribute.graphs)
    return found


def _check_graph(graph: GraphProto, outer: Sequence[set[str]], depth: int, in_function: bool) -> None:
    where = f"the subgraph {graph.name!r}" if depth else "the graph"
    if depth > MAX_DEPTH:
        raise UnsupportedModel(f"{where} lies more than {MAX_DEPTH} subgraphs deep")
    _check_text(graph.name, graph.doc_string, *(t.name for t in graph.initializer))
    for v in (*graph.input, *graph.output, *graph.value_info):
        _check_text(v.name, v.doc_string, *(d.dim_param for d in v.type.tensor_type.shape.dim))
    inputs = _distinct((v.name for v in graph.input), f"{where} has two inputs called")
    initializers = _distinct((t.name for t in graph.initializer), f"{where} has two initializers called")
    initializers |= {s.values.name for s in graph.sparse_initializer}
    if "" in inputs:
        raise UnsupportedModel(f"{where} has an input without a name")
    outputs = [v.name for v in graph.output]
    _check_nodes(graph.node, [*inputs, *initializers], outputs, outer, depth, where, in_function)


def _check_text(*names: str | bytes) -> None:
    """Protobuf hands out what is no UTF-8 as bytes."""
    for name in names:
        if isinstance(name, bytes):
            raise UnsupportedModel(f"the file has a name that is no UTF-8 text: {name[:40]!r}")


def _distinct(names: Iterable[str], sentence: str) -> set[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UnsupportedModel(f"{sentence} {name!r}")
        seen.add(name)
    return seen


def _check_nodes(
    nodes: Sequence[NodeProto], given: Sequence[str], outputs: Sequence[str], outer: Sequence[set[str]], depth: int,
    where: str, in_function: bool = False,
) -> None:  # fmt: skip
    """One definition per name; every name that is read is defined here or in an ``outer`` scope; no cycle."""
    scope = set(given)
    maker: dict[str, int] = {}
    for i, node in enumerate(nodes):
        _check_text(node.op_type, node.domain, node.name, node.doc_string, *node.input, *node.output)
        for attribute in node.attribute:
            _check_attribute(node, attribute, in_function)
        if not node.op_type:
            raise UnsupportedModel(f"{where} has a node without an operator: {describe(node)}")
        for name in node.output:
            if not name:
                continue
            if name in maker:
                raise UnsupportedModel(
                    f"two nodes compute the value {name!r}: {describe(nodes[maker[name]])} and {describe(node)}"
                )
            if name in scope:
                raise UnsupportedModel(f"{describe(node)} computes {name!r}, which is an input or initializer already")
            maker[name] = i
    scope.update(maker)
    visible = [*outer, scope]
    read = [_read(node, visible, depth, in_function) for node in nodes]
    for names, node in zip(read, nodes, strict=True):
        for name in names:
            if not any(name in s for s in visible):
                raise UnsupportedModel(
                    f"{describe(node)} reads {name!r}, but no input, initializer or node of {where} has that name"
                )
    for name in outputs:
        if not any(name in s for s in visible):
            raise UnsupportedModel(f"{where} returns {name!r}, but no input, initializer or node has that name")
    _check_order(nodes, read, maker)


def _check_attribute(node: NodeProto, attribute: AttributeProto, in_function: bool) -> None:
    _check_text(attribute.name, attribute.ref_attr_name, attribute.doc_string)
    if not attribute.ref_attr_name:
        if attribute.type == AttributeProto.UNDEFINED:
            raise UnsupportedModel(f"attribute {attribute.name!r} of {describe(node)} has no type")
        return
    graph = attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    if graph or not in_function:
        what = "takes a graph as" if graph else "refers to"
        raise UnsupportedModel(
            f"attribute {attribute.name!r} of {describe(node)} {what} the function parameter "
            f"{attribute.ref_attr_name!r}{'' if graph else ', outside of any function'}"
        )


def _read(node: NodeProto, visible: Sequence[set[str]], depth: int, in_function: bool) -> set[str]:
    """Names that ``node`` reads, those that its subgraphs capture from this scope included."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        _check_graph(graph, visible, depth + 1, in_function)
        names |= {n for n in _captured(graph) if n in visible[-1]}
    return names


def _captured(graph: GraphProto) -> set[str]:
    """Names read in ``graph`` that it does not define."""
    own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    own |= {s.values.name for s in graph.sparse_initializer} | {o for n in graph.node for o in n.output}
    read = {i for n in graph.node for i in n.input if i} | {v.name for v in graph.output}
    for node in graph.node:
        for inner in subgraphs(node):
            read |= _captured(inner)
    return read - own


def _check_order(nodes: Sequence[NodeProto], read: Sequence[set[str]], maker: Mapping[str, int]) -> None:
    """Kahn's algorithm; only where the nodes are not in order already."""
    waits = [{maker[n] for n in names if n in maker} for names in read]
    if all(max(w, default=-1) < i for i, w in enumerate(waits)):
        return
    users: dict[int, list[int]] = {}
    left = [len(w) for w in waits]
    for i, w in enumerate(waits):
        for j in w:
            users.setdefault(j, []).append(i)
    ready = [i for i, n in enumerate(left) if not n]
    done = 0
    while ready:
        done += 1
        for user in users.get(ready.pop(), ()):
            left[user] -= 1
            if not left[user]:
                ready.append(user)
    if done == len(nodes):
        return
    at = next(i for i, n in enumerate(left) if n)
    seen: list[int] = []
    while at not in seen:  # every blocked node waits for a blocked one
        seen.append(at)
        at = next(j for j in sorted(waits[at]) if left[j])
    loop = seen[seen.index(at) :]
    names = ", ".join(describe(nodes[i]) for i in loop[:4])
    more = " and others" if len(loop) > 4 else ""
    raise UnsupportedModel(f"the graph has a cycle: {names}{more} wait for each other")


def _functions(proto: ModelProto) -> dict[FunctionId, FunctionProto]:
    found: dict[FunctionId, FunctionProto] = {}
    for function in proto.functions:
        key = (function.domain, function.name, function.overload)
        if key in found:
            raise UnsupportedModel(f"two functions are called {function.domain}::{function.name}")
        found[key] = function
    return found


def _calls(nodes: Iterable[NodeProto], functions: Mapping[FunctionId, FunctionProto]) -> tuple[int, list[FunctionId]]:
    """Own nodes, and the function called by each of the others; subgraphs included."""
    plain, called = 0, []
    for node in nodes:
        key = (node.domain, node.op_type, node.overload)
        if key in functions:
            called.append(key)
        else:
            plain += 1
        for graph in subgraphs(node):
            inner, more = _calls(graph.node, functions)
            plain += inner
            called += more
    return plain, called


def _check_growth(proto: ModelProto, functions: Mapping[FunctionId, FunctionProto]) -> None:
    """Refuse functions that call themselves, and those that would expand without measure."""
    body = {key: _calls(function.node, functions) for key, function in functions.items()}
    size: dict[FunctionId, int] = {}
    for start in functions:
        stack: list[tuple[FunctionId, int]] = [(start, 0)]
        on_path = {start: None}
        while stack:
            key, i = stack.pop()
            plain, called = body[key]
            if key in size or i == len(called):
                size.setdefault(key, plain + sum(size[c] for c in called))
                on_path.pop(key, None)
                continue
            stack.append((key, i + 1))
            if called[i] in on_path:
                names = " → ".join(k[1] for k in [*on_path, called[i]])
                raise UnsupportedModel(f"the model's functions call themselves: {names}")
            if called[i] not in size:
                on_path[called[i]] = None
                stack.append((called[i], 0))
    plain, called = _calls(proto.graph.node, functions)
    total = plain + sum(size[c] for c in called)
    if total > MAX_NODES:
        largest = max(called, key=lambda c: size[c])
        raise UnsupportedModel(
            f"the model's functions expand to {total:.3g} nodes (at most {MAX_NODES:.0e}); the largest is "
            f"{largest[1]!r} with {size[largest]:.3g}"
        )


def opsets(proto: onnx.ModelProto) -> dict[str, int]:
    """Opset versions by domain, ``ai.onnx`` as ``""``.

    Raises:
        UnsupportedModel: a domain imported twice with different versions.
    """
    found: dict[str, int] = {}
    _check_text(*(o.domain for f in (proto, *proto.functions) for o in f.opset_import))
    for entry in proto.opset_import:
        domain = "" if entry.domain in STANDARD else entry.domain
        if found.setdefault(domain, entry.version) != entry.version:
            raise UnsupportedModel(
                f"the model imports opset {found[domain]} and opset {entry.version} of {domain or 'ai.onnx'!r}"
            )
    return found
