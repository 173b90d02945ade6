"""The README's table of operators, from the rules and bodies: what is differentiated, from which opset on, and how."""

from __future__ import annotations

import onnx

import graph_tools.lowering  # fills the table
import graph_tools.vjp  # noqa: F401  fills the table
from graph_tools.lowering.table import AT_LOAD, BODIES
from graph_tools.model import NEWEST_OPSET, OLDEST_OPSET
from graph_tools.vjp.table import ANY, SAMPLERS, SCOPED, VJPS, zero

STRAIGHT = "straight-through"
FIRST, SHARED = "a tie's gradient goes to its first place", "ties share evenly"
NOTES = {
    "QuantizeLinear": f"{STRAIGHT}; clipped values pass none",
    "DynamicQuantizeLinear": STRAIGHT, "QLinearConv": STRAIGHT,
    "QLinearMatMul": STRAIGHT, "MatMulInteger": STRAIGHT, "ConvInteger": STRAIGHT, "MaxPool": FIRST,
    "GlobalMaxPool": FIRST, "Max": SHARED, "Min": SHARED, "ReduceMax": SHARED, "ReduceMin": SHARED,
    "If": "captured values too", "Loop": "captured values too", "Scan": "captured values too",
}  # fmt: skip
Row = tuple[str, str, str, str, str]


def operators() -> str:
    """Collapsed tables of the standard operators and of the fused domains, and those that no gradient passes."""
    rows: list[Row] = []
    zeros, refused = [], []
    schemas = _schemas()
    for name, (first, schema) in sorted(schemas.items()):
        how, wrt = _answer(name, schema)
        if how == "zero":
            zeros.append(name)
        elif how:
            rows.append((name, f"{max(first, OLDEST_OPSET)}+", wrt, how, NOTES.get(name, "")))
        else:
            refused.append(name)
    standard = {s.name for s in onnx.defs.get_all_schemas_with_history() if not s.domain}
    others = sorted({*BODIES, *(n for n, _ in VJPS)} - standard)
    made = [(n, "", _wrt(n, None), _fused(n), NOTES.get(n, "")) for n in others]
    inputs = sum(1 for (_, i), rule in VJPS.items() if rule is not zero and i != ANY)
    opsets = f"opset {OLDEST_OPSET} to {NEWEST_OPSET}"
    head = f"{len(rows)} of {len(schemas)} standard operators of {opsets} are differentiated, and"
    return "\n\n".join([
        f"{head} {len(made)} of other domains ({inputs} inputs have rules of their own).",
        _details("Standard operators", rows),
        _details("Fused and other domains: what ONNX Runtime's optimiser writes", made),
        f"Derivative zero: {', '.join(zeros)}.",
        f"No gradient passes (integers, booleans, strings, random draws): {', '.join(refused)}.",
    ])  # fmt: skip


def _schemas() -> dict[str, tuple[int, onnx.defs.OpSchema]]:
    """Operator -> (first opset, newest schema); withdrawn ones and those of later opsets are left out."""
    found: dict[str, tuple[int, onnx.defs.OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain:
            continue
        first, newest = found.get(schema.name, (schema.since_version, schema))
        newest = max(newest, schema, key=lambda s: s.since_version)
        found[schema.name] = (min(first, schema.since_version), newest)
    return {n: (f, s) for n, (f, s) in found.items() if not s.deprecated and f <= NEWEST_OPSET}


def _answer(name: str, schema: onnx.defs.OpSchema) -> tuple[str, str]:
    """(how, inputs with a gradient); how: ``rule``, ``body``, ``ONNX function``, ``zero``, "" = no gradient passes."""
    rules = [rule for (operator, _), rule in VJPS.items() if operator == name]
    if name in SCOPED:
        return "rule", "all"
    if any(rule is not zero for rule in rules):
        return "rule", _wrt(name, schema)
    if name in BODIES:
        return "body", "float inputs"
    if name in SAMPLERS:
        return "", ""
    if rules:
        return "zero", ""
    passes = all(any(_float(p, schema) for p in side) for side in (schema.inputs, schema.outputs))
    body = schema.has_function or schema.has_context_dependent_function  # type: ignore[attr-defined]
    return ("ONNX function", "float inputs") if passes and body else ("", "")


def _float(p: onnx.defs.OpSchema.FormalParameter, schema: onnx.defs.OpSchema) -> bool:
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return any("tensor(float)" in t for t in allowed.get(p.type_str, [p.type_str]))


def _wrt(name: str, schema: onnx.defs.OpSchema | None) -> str:
    """Names of the inputs that have a rule other than zero."""
    places = sorted(i for (operator, i), rule in VJPS.items() if operator == name and rule is not zero)
    if not places or schema is None:
        return "float inputs"
    if ANY in places:
        return "all"
    return ", ".join(schema.inputs[min(i, len(schema.inputs) - 1)].name for i in places)


def _fused(name: str) -> str:
    return "rule" if name not in BODIES else "body, at load" if name in AT_LOAD else "body"


def _details(title: str, rows: list[Row]) -> str:
    lines = [f"<details><summary>{title} ({len(rows)})</summary>", ""]
    lines += ["| operator | opset | with respect to | by | note |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(cell or "—" for cell in row) + " |" for row in rows]
    return "\n".join([*lines, "", "</details>"])
