"""Which operators ONNX Runtime's CUDA provider has kernels for, and which nodes of a model it leaves to the CPU.

``cuda_kernels.json`` holds the kernel registrations of one release of the wheel onnxruntime-gpu (named in it), read
from the provider library itself by ``python -m tests.gpu.read_kernels``: operator -> [since, until, {type parameter:
types}]; no last version: the kernel serves the version it names only; ``*``: all types of :data:`JUDGED`.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import NamedTuple

import onnx
import onnx_ir as ir

from graph_tools import model as models
from graph_tools.emit import operator_name
from graph_tools.model import Source

Entry = tuple[int, int | None, dict[str, str]]
JUDGED = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float", "double", "bfloat16",
    "float16",
)  # fmt: skip
"""The types that the table tells apart, in the order of ONNX Runtime's own lists."""
SHAPES = {"Shape", "Size"}  # their outputs lie in host memory, and what is computed from them alone stays there


class CudaException(NamedTuple):
    """A node that the CUDA provider leaves to the CPU (two copies between devices per run)."""

    node: str
    operator: str
    why: str


@functools.cache
def kernels() -> tuple[str, dict[str, list[Entry]]]:
    """The source of the table, and the table."""
    found = json.loads(resources.files("graph_tools").joinpath("cuda_kernels.json").read_text(encoding="utf-8"))
    return found["source"], {name: [(s, u, c) for s, u, c in rows] for name, rows in found["kernels"].items()}


def cuda_exceptions(source: Source) -> list[CudaException]:
    """The nodes, of subgraphs too, without a CUDA kernel for their opset, types and attributes.

    Nodes that are computed from constants alone (folded when a session is made) and shape arithmetic (kept on the host
    by ONNX Runtime's own choice) are no exceptions.

    Raises:
        UnsupportedModel: the model cannot be loaded.
    """
    model = models.load(source) if not isinstance(source, ir.Model) else source
    fixed: set[ir.Value] = set(model.graph.initializers.values())
    hosted: set[ir.Value] = set()
    found = []
    for node in model.graph.all_nodes():
        read = [v for v in node.inputs if v is not None and not _constant(v, fixed)]
        if not read and node.op_type not in SHAPES and not _has_subgraph(node) and node.inputs:
            fixed.update(node.outputs)
            continue
        if node.op_type in SHAPES or (read and all(v in hosted for v in read)):
            hosted.update(node.outputs)
            continue
        why = why_not(node, model.graph.opset_imports.get(node.domain, 1))
        if why:
            found.append(CudaException(node.name or "", operator_name(node), why))
    return found


def why_not(node: ir.Node, opset: int) -> str:
    """Why the CUDA provider does not take ``node`` at ``opset``; "" where it does."""
    name = operator_name(node)
    rows = kernels()[1].get(name)
    if rows is None:
        return "no CUDA kernel" + _body_note(node, opset)
    schema = _schema(node, opset)
    since = 1 if schema is None else schema.since_version
    rows = [r for r in rows if _serves(r[0], r[1], since)]
    if not rows:
        return f"no CUDA kernel at opset {opset} (version {since} of the operator)" + _body_note(node, opset)
    types = {} if schema is None else _types(node, schema)
    if not any(all(_fits(types.get(p), allowed) for p, allowed in row[2].items()) for row in rows):
        return "no CUDA kernel for " + ", ".join(sorted({t for ts in types.values() for t in ts}))
    return _attributes(node)


@functools.cache
def takes(op_type: str, opset: int, index: int, dtype: str) -> bool:
    """Whether input ``index`` of a standard operator may be of type ``dtype``, by its definition and on CUDA."""
    schema = onnx.defs.get_schema(op_type, opset, "")
    formal = schema.inputs[min(index, len(schema.inputs) - 1)]
    allowed = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == formal.type_str), ())
    rows = [c for since, until, c in kernels()[1].get(op_type, ()) if _serves(since, until, schema.since_version)]
    kernel = any(_fits({dtype}, c.get(formal.type_str, c.get(formal.name, "*"))) for c in rows)
    return kernel and f"tensor({dtype})" in (*allowed, formal.type_str)


def _serves(since: int, until: int | None, version: int) -> bool:
    """ONNX Runtime's rule: a kernel without a last version serves the version it names and no later one."""
    return since == version or (until is not None and since <= version <= until)


def _attributes(node: ir.Node) -> str:
    """What the provider checks beyond registrations (messages and symbols of the same library)."""
    given = node.attributes
    if node.domain not in ("", "ai.onnx"):
        return ""
    if node.op_type == "ConvTranspose":
        pads = list(given["pads"].as_ints()) if "pads" in given else []
        half = len(pads) // 2
        if given.get_string("auto_pad", "NOTSET").startswith("SAME") or pads[:half] != pads[half:]:
            return "no CUDA kernel for asymmetric or automatic padding"
    if node.op_type in ("LSTM", "GRU", "RNN"):
        peephole = node.op_type == "LSTM" and len(node.inputs) > 7 and node.inputs[7] is not None
        odd = {"activations", "activation_alpha", "activation_beta", "clip"} & set(given)
        if peephole or odd or given.get_int("layout") or given.get_int("input_forget"):
            return "no CUDA kernel with peepholes, clip, layout 1, input_forget or activations of its own"
        if node.op_type == "GRU" and not given.get_int("linear_before_reset"):
            return "no CUDA kernel with linear_before_reset = 0"
    if node.op_type in ("ArgMax", "ArgMin") and given.get_int("select_last_index"):
        return "no CUDA kernel with select_last_index"
    if node.op_type == "Einsum":
        terms = given.get_string("equation", "").split("->")[0].replace(" ", "").replace(".", "").split(",")
        if any(len(set(t)) != len(t) for t in terms):
            return "the CUDA kernel takes no diagonal (an index twice in one operand)"
    return ""


def _fits(types: set[str] | None, allowed: str) -> bool:
    return not types or allowed == "*" or types <= set(allowed.split())


def _types(node: ir.Node, schema: onnx.defs.OpSchema) -> dict[str, set[str]]:
    """Tensor types by type parameter (``T``) and by operand name; those outside the table are left out."""
    found: dict[str, set[str]] = {}
    for formals, operands in ((schema.inputs, node.inputs), (schema.outputs, node.outputs)):
        for i, v in enumerate(operands):
            if v is None or not formals or v.dtype is None or not isinstance(v.type, ir.TensorType):
                continue
            name = v.dtype.name.lower()
            formal = formals[min(i, len(formals) - 1)]
            if name in JUDGED:
                for key in (formal.type_str, formal.name):
                    found.setdefault(key, set()).add(name)
    return found


def _schema(node: ir.Node, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(node.op_type, opset, "" if node.domain == "ai.onnx" else node.domain)
    except onnx.defs.SchemaError:
        return None


def _body_note(node: ir.Node, opset: int) -> str:
    schema = _schema(node, opset)
    inlined = schema is not None and (schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]
    return "; its function body is inlined where the CPU has no kernel either" if inlined else ""


def _constant(v: ir.Value, fixed: set[ir.Value]) -> bool:
    return v in fixed or (v.const_value is not None and not v.is_graph_input())


def _has_subgraph(node: ir.Node) -> bool:
    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
