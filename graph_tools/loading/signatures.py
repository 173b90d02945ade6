"""Does every node fit its operator: does it exist at this opset, with these inputs, outputs, attributes, subgraphs?

What the standard says is read off ``onnx.defs``; operators of other domains are taken as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import onnx
import onnx_ir as ir

from graph_tools.emit import operator_name
from graph_tools.errors import UnsupportedModel
from graph_tools.lowering.table import AT_LOAD

EXPERIMENTAL = {  # of ai.onnx below opset 10, no longer in the standard, still run by ONNX Runtime
    "Affine", "Crop", "DynamicSlice", "ImageScaler", "MeanVarianceNormalization", "ParametricSoftplus", "Scale",
    "ScaledTanh", "ThresholdedRelu",
}  # fmt: skip
EARLY = {"LayerNormalization"}  # ONNX Runtime's optimiser writes it at any opset
LEGACY_ATTRIBUTES = ("consumed_inputs", "is_test")  # meaningless since opset 7; old converters still wrote them
_TYPES = {getattr(onnx.defs.OpSchema.AttrType, t.name): t for t in ir.AttributeType if t.name != "UNDEFINED"}
_AXES = {"axis", "axes", "perm", "batch_axis", "time_axis", "batch_dims", "scan_input_axes", "scan_output_axes"}
_REDEFINED = {"GroupNormalization"}  # deprecated at 18 for its meaning at 21, and run by ONNX Runtime
_NEW_AXIS = {"OneHot"}  # the axis is one of the result's
MAX_RANK = 64
_SUBGRAPHS = {"If", "Loop", "Scan"}


def check(model: ir.Model) -> None:
    """Check every node of the graph, its subgraphs and the functions at the opsets that they import.

    Raises:
        UnsupportedModel: names the node, its operator, and what is wrong with it.
    """
    called = set(model.functions)
    for nodes, opsets in [
        (model.graph.all_nodes(), model.graph.opset_imports),
        *((f.all_nodes(), f.opset_imports) for f in model.functions.values()),
    ]:
        _check_nodes(nodes, opsets, called)


def check_types(node: ir.Node, version: int) -> None:
    """Check the operands that are known: types allowed, and equal where the operator wants them equal; the axis.

    Raises:
        UnsupportedModel: names the node and its operands.
    """
    x = node.inputs[0] if node.inputs else None
    known = x is not None and x.shape is not None and isinstance(x.type, ir.TensorType)
    if "axis" in node.attributes and x is not None and x.shape is not None and known:
        if len(x.shape) == 0 and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return  # ONNX Runtime's optimiser writes an axis for a single number too: it says nothing
        _check_axes(node, "axis", -len(x.shape) - (node.op_type in _NEW_AXIS), len(x.shape))
    wanted = _wanted(node.op_type, version)
    if wanted is None:
        return
    bound: dict[str, tuple[str, str | None]] = {}
    names, allowed, same = wanted
    for i, v in enumerate(node.inputs):
        if v is None or v.dtype is None or not isinstance(v.type, ir.TensorType):
            continue
        formal = names[min(i, len(names) - 1)]
        kind = f"tensor({v.dtype.name.lower()})"
        if formal in allowed and kind not in allowed[formal] and not _wider(kind, allowed[formal]):
            raise UnsupportedModel(f"{told(node)} takes no {kind}, which {v.name!r} is (opset {version})")
        other, first = bound.setdefault(formal, (kind, v.name)) if formal in same else (kind, "")
        if other != kind:
            raise UnsupportedModel(
                f"{told(node)} needs operands of one type, but {first!r} is {other} and {v.name!r} is {kind}"
            )


def _wider(kind: str, allowed: frozenset[str]) -> bool:
    """Whether it is float64 in place of float32: what the reference evaluator runs to check a gradient."""
    return kind == "tensor(double)" and "tensor(float)" in allowed


@functools.cache
def _wanted(op_type: str, version: int) -> tuple[list[str], dict[str, frozenset[str]], frozenset[str]] | None:
    """Type parameter of each input, the types that each parameter allows, and those that bind one type."""
    schema = _schema(op_type, version)
    if schema is None or not schema.inputs:
        return None
    names = [f.type_str for f in schema.inputs]
    free = {f.type_str for f in schema.inputs if not f.is_homogeneous}
    allowed = {c.type_param_str: frozenset(c.allowed_type_strs) for c in schema.type_constraints}
    return names, allowed, frozenset(allowed) - free


def told(node: ir.Node) -> str:
    """``Conv (node 'conv1')``."""
    return f"{operator_name(node)} (node {node.name!r})"


def _check_nodes(nodes: Iterable[ir.Node], opsets: Mapping[str, int], called: set[ir.OperatorIdentifier]) -> None:
    for node in nodes:
        if node.op_identifier() in called:
            continue
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = opsets.get(domain, opsets.get(node.domain))
        if version is None:
            raise UnsupportedModel(
                f"{told(node)} belongs to the domain {domain or 'ai.onnx'!r}, which the model does not import"
            )
        if domain == "":
            _check_standard(node, version)


def _check_standard(node: ir.Node, version: int) -> None:
    for name in LEGACY_ATTRIBUTES:
        node.attributes.pop(name, None)
    schema = _schema(node.op_type, version)
    if schema is None:
        if (version < 10 and node.op_type in EXPERIMENTAL) or node.op_type in AT_LOAD or node.op_type in EARLY:
            return
        raise UnsupportedModel(
            f"{told(node)}: ai.onnx has no such operator at opset {version}. If it is a custom operator, its node must "
            "name its domain"
        )
    if schema.deprecated and node.op_type not in _REDEFINED:
        raise UnsupportedModel(f"{told(node)}: the operator was removed from ai.onnx before opset {version}")
    _check_operands(node, schema)
    _check_attributes(node, schema)
    if node.op_type in _SUBGRAPHS:
        _check_subgraphs(node, version)


def _schema(op_type: str, version: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return None


def _check_operands(node: ir.Node, schema: onnx.defs.OpSchema) -> None:
    given, made = len(node.inputs), len(node.outputs)
    if not schema.min_input <= given <= schema.max_input:
        raise UnsupportedModel(
            f"{told(node)} has {given} inputs; it takes {_between(schema.min_input, schema.max_input)}"
        )
    if not schema.min_output <= made <= schema.max_output:
        raise UnsupportedModel(
            f"{told(node)} has {made} outputs; it has {_between(schema.min_output, schema.max_output)} at this opset"
        )
    for formal, value in zip(schema.inputs, node.inputs, strict=False):
        if value is None and formal.option == onnx.defs.OpSchema.FormalParameterOption.Single:
            raise UnsupportedModel(f"{told(node)} lacks its input {formal.name!r}")


def _between(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} or more" if high > 1000 else f"{low} to {high}"


def _check_attributes(node: ir.Node, schema: onnx.defs.OpSchema) -> None:
    for name, attribute in node.attributes.items():
        formal = schema.attributes.get(name)
        if formal is None:
            known = ", ".join(sorted(schema.attributes)) or "none"
            raise UnsupportedModel(f"{told(node)} has an attribute {name!r}; its attributes are: {known}")
        want = _TYPES.get(formal.type)
        if attribute.type != want:
            raise UnsupportedModel(
                f"{told(node)}: attribute {name!r} is {attribute.type.name}, where "
                f"{want.name if want else formal.type} is needed"
            )
    for name in _AXES & set(node.attributes):
        _check_axes(node, name, -MAX_RANK, MAX_RANK)
    missing = [n for n, a in schema.attributes.items() if a.required and n not in node.attributes]
    if missing:
        raise UnsupportedModel(f"{told(node)} lacks its attribute {missing[0]!r}")


def _check_axes(node: ir.Node, name: str, low: int, high: int) -> None:
    """Axes far outside are no mere mistake: inference in C++ indexes with them unchecked."""
    attribute = node.attributes[name]
    if attribute.is_ref():
        return
    given = [attribute.as_int()] if attribute.type == ir.AttributeType.INT else list(attribute.as_ints())
    wrong = [a for a in given if not low <= a <= high]
    if wrong:
        raise UnsupportedModel(f"{told(node)}: its {name} {wrong[0]} is outside {low} to {high}")


def _check_subgraphs(node: ir.Node, version: int) -> None:
    """Numbers of inputs and outputs of the bodies of If, Loop and Scan."""
    made = len(node.outputs)
    if any(a.is_ref() for a in node.attributes.values()):
        return
    if node.op_type == "If":
        for name in ("then_branch", "else_branch"):
            _agree(node, name, "outputs", len(node.attributes[name].as_graph().outputs), made)
            _agree(node, name, "inputs", len(node.attributes[name].as_graph().inputs), 0)
        return
    body = node.attributes["body"].as_graph()
    if node.op_type == "Loop":
        carried = len(node.inputs) - 2
        _agree(node, "body", "inputs", len(body.inputs), carried + 2)
        _agree(node, "body", "outputs", len(body.outputs), made + 1)
        if made < carried:
            raise UnsupportedModel(f"{told(node)} carries {carried} values, but has {made} outputs")
        return
    fed = len(node.inputs) - (version == 8)  # sequence_lens came first
    scanned = node.attributes["num_scan_inputs"].as_int()
    if not 1 <= scanned <= fed:
        raise UnsupportedModel(f"{told(node)}: num_scan_inputs is {scanned}, with {fed} inputs")
    _agree(node, "body", "inputs", len(body.inputs), fed)
    _agree(node, "body", "outputs", len(body.outputs), made)
    if made < fed - scanned:
        raise UnsupportedModel(f"{told(node)} carries {fed - scanned} values, but has {made} outputs")


def _agree(node: ir.Node, name: str, what: str, have: int, want: int) -> None:
    if have != want:
        raise UnsupportedModel(f"{told(node)}: its {name} has {have} {what}, where {want} are needed")
