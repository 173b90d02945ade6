"""Every standard operator has one answer: a rule, a body, zeros, or a refusal by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import graph_tools
from graph_tools.errors import UnsupportedGradient
from graph_tools.lowering.table import BODIES
from graph_tools.vjp.table import ANY, SAMPLERS, SCOPED, VJPS, zero
from tests.graph_tools.harness import run_ort

F, INT, B, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
BLACK_BOX = "black-box methods (occlusion, predict)"

INTEGER = "returns integers"
BOOLEAN = "returns booleans"
NO_FLOAT = "takes no float operand"
TEXT = "reads or writes strings"
RANDOM = "draws: no operand reaches its value"
LIFTED = "replaced when a model is loaded"

# Operators with neither rule nor body: why nothing passes through them.
REFUSED = {
    "And": BOOLEAN, "ArgMax": INTEGER, "ArgMin": INTEGER, "BitCast": "reads the bits, not the number",
    "BitShift": NO_FLOAT, "BitwiseAnd": NO_FLOAT, "BitwiseNot": NO_FLOAT, "BitwiseOr": NO_FLOAT,
    "BitwiseXor": NO_FLOAT, "Constant": NO_FLOAT, "ConstantOfShape": NO_FLOAT, "Equal": BOOLEAN, "Greater": BOOLEAN,
    "ImageDecoder": NO_FLOAT, "IsInf": BOOLEAN, "IsNaN": BOOLEAN, "Less": BOOLEAN, "Multinomial": RANDOM,
    "NonMaxSuppression": INTEGER, "NonZero": INTEGER, "Not": BOOLEAN, "Or": BOOLEAN, "RandomNormal": NO_FLOAT,
    "RandomUniform": NO_FLOAT, "RegexFullMatch": TEXT, "Scatter": LIFTED, "SequenceEmpty": NO_FLOAT,
    "StringConcat": TEXT, "StringNormalizer": TEXT, "StringSplit": TEXT,
    "TfIdfVectorizer": "counts n-grams of integers", "Upsample": LIFTED, "Xor": BOOLEAN,
}  # fmt: skip
# Operators whose every rule is zero: piecewise constant, or only the shape of the operand counts.
ZERO = {
    "Ceil", "EyeLike", "Floor", "Hardmax", "MelWeightMatrix", "OptionalHasElement", "RandomNormalLike",
    "RandomUniformLike", "Round", "SequenceLength", "Shape", "Sign", "Size",
}  # fmt: skip


def _schemas(domain: str) -> dict[str, onnx.defs.OpSchema]:
    """The newest schema of every operator."""
    found: dict[str, onnx.defs.OpSchema] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == domain and schema.since_version >= getattr(found.get(schema.name), "since_version", 0):
            found[schema.name] = schema
    return found


def _answer(name: str, schema: onnx.defs.OpSchema) -> str:
    rules = [rule for (operator, _), rule in VJPS.items() if operator == name]
    if name in SCOPED or any(rule is not zero for rule in rules):
        return "rule"
    if name in BODIES:
        return "body"
    if rules:
        return "zero"
    return "function" if schema.has_function or schema.has_context_dependent_function else "refused"


def test_every_operator_has_one_answer() -> None:
    answers = {name: _answer(name, schema) for name, schema in _schemas("").items()}
    assert len(answers) > 200
    assert {n for n, a in answers.items() if a == "refused"} == set(REFUSED)
    assert {n for n, a in answers.items() if a == "zero"} == ZERO


def test_a_refused_operator_that_takes_floats_returns_none() -> None:
    """Those of the table that could have had a gradient: none has both float operands and float results."""
    for name, reason in REFUSED.items():
        schema = _schemas("")[name]
        if schema.deprecated or reason == "reads the bits, not the number":
            continue
        allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
        floats = [
            any("tensor(float)" in allowed.get(p.type_str, {p.type_str}) for p in side)
            for side in (schema.inputs, schema.outputs)
        ]
        assert not all(floats), name


def _model(
    op: str, shapes: Sequence[tuple[int, Sequence[int]]], out: int = F, domain: str = "", opset: int = 22, **attrs: Any
) -> onnx.ModelProto:
    """y = Cast(op(x, x1, …)) to float32; no Cast where the operator returns floats."""
    names = ["x", *(f"x{i}" for i in range(1, len(shapes)))]
    made = helper.make_node(op, names, ["y" if out == F else "o"], "the_node", domain=domain, **attrs)
    nodes = [made] if out == F else [made, helper.make_node("Cast", ["o"], ["y"], "back", to=F)]
    infos = [helper.make_tensor_value_info(n, t, s) for n, (t, s) in zip(names, shapes, strict=True)]
    graph = helper.make_graph(nodes, "g", infos, [helper.make_tensor_value_info("y", F, None)])
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(domain, _schemas(domain)[op].since_version)] if domain else []
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


BLOCKED: dict[str, tuple[list[tuple[int, list[int]]], int, dict[str, Any]]] = {
    "ArgMax": ([(F, [2, 3])], INT, {}),
    "ArgMin": ([(F, [2, 3])], INT, {}),
    "NonZero": ([(F, [2, 3])], INT, {}),
    "IsNaN": ([(F, [3])], B, {}),
    "IsInf": ([(F, [3])], B, {}),
    "Equal": ([(F, [3]), (F, [3])], B, {}),
    "Greater": ([(F, [3]), (F, [3])], B, {}),
    "Less": ([(F, [3]), (F, [3])], B, {}),
    "GreaterOrEqual": ([(F, [3]), (F, [3])], B, {}),
    "LessOrEqual": ([(F, [3]), (F, [3])], B, {}),
    "NonMaxSuppression": ([(F, [1, 3, 4]), (F, [1, 1, 3])], INT, {}),
    "BitCast": ([(F, [3])], TensorProto.INT32, {"to": TensorProto.INT32}),
    "Multinomial": ([(F, [2, 3])], INT, {"dtype": INT}),
    "Bernoulli": ([(F, [3])], F, {}),
    "RandomNormalLike": ([(F, [3])], F, {}),
    "RandomUniformLike": ([(F, [3])], F, {}),
}


@pytest.mark.parametrize("op", BLOCKED)
def test_where_every_path_ends_the_operator_is_named(op: str) -> None:
    shapes, out, attrs = BLOCKED[op]
    model = _model(op, shapes, out, opset=26 if op == "BitCast" else 22, **attrs)
    with pytest.raises(UnsupportedGradient, match=op) as caught:
        graph_tools.gradient(model, ["y"], ["x"])
    assert (caught.value.operator, caught.value.node) == (op, "the_node")
    assert BLACK_BOX in str(caught.value)
    assert ("random" in str(caught.value)) == (op in SAMPLERS)
    assert not next(v for v in graph_tools.values(model) if v.name == "x").gradient


CONSTANT = {"Ceil": {}, "Floor": {}, "Round": {}, "Sign": {}, "Hardmax": {}, "EyeLike": {}}


@pytest.mark.parametrize("op", CONSTANT)
def test_piecewise_constant_operators_give_zeros(op: str) -> None:
    model = _model(op, [(F, [2, 3])], opset=18)
    program = ir.to_proto(graph_tools.gradient(model, ["y"], ["x"]))
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    got = run_ort(program, {"x": x, "cotangent_y": np.ones((2, 3), np.float32)})
    np.testing.assert_array_equal(got["grad_x"], np.zeros((2, 3), np.float32))
    listed = {v.name: v for v in graph_tools.values(model)}
    assert listed["y"].zero_derivative
    assert not listed["x"].gradient
    assert not listed["x"].zero_derivative


def _text(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 20]>' + text)


def test_zeros_where_one_of_several_dead_ways_is_piecewise_constant() -> None:
    model = _text("g (float[1,3] x) => (float[1,3] y) { f = Floor(x) a = ArgMax(x) c = Cast <to=1> (a) y = Add(f, c) }")
    got = run_ort(
        ir.to_proto(graph_tools.gradient(model, ["y"], ["x"])),
        {"x": np.ones((1, 3), np.float32), "cotangent_y": np.ones((1, 3), np.float32)},
    )
    np.testing.assert_array_equal(got["grad_x"], np.zeros((1, 3)))


def test_a_dead_way_beside_a_live_one_does_no_harm() -> None:
    """Noise of x's shape, and a mask of x: what else leads to y is differentiated."""
    model = _text(
        "g (float[4] x) => (float[4] y) { n = RandomNormalLike <seed = 1.0> (x) z = Floor(x) m = Equal(x, z) "
        "s = Mul(x, x) w = Where(m, n, s) y = Identity(w) }"
    )
    x = np.array([0.5, 1.5, -2.5, 3.0], np.float32)
    got = run_ort(
        ir.to_proto(graph_tools.gradient(model, ["y"], ["x"])), {"x": x, "cotangent_y": np.ones(4, np.float32)}
    )
    np.testing.assert_allclose(got["grad_x"], [1, 3, -5, 0])


def test_zeros_where_the_output_does_not_depend_on_the_input() -> None:
    model = _text("g (float[2] x, float[3] z) => (float[3] y, float[2] u) { y = Relu(z) u = Neg(x) }")
    feeds = {n: np.ones(k, np.float32) for n, k in (("x", 2), ("z", 3), ("cotangent_y", 3))}
    got = run_ort(ir.to_proto(graph_tools.gradient(model, ["y"], ["x"])), feeds)
    np.testing.assert_array_equal(got["grad_x"], np.zeros(2))


@pytest.mark.parametrize(("out", "word"), [("INT64", "ArgMax"), ("BOOL", "IsNaN"), ("STRING", "Cast")])
def test_an_output_that_is_no_float_has_no_gradient(out: str, word: str) -> None:
    attrs = {"to": S} if word == "Cast" else {}
    node = helper.make_node(word, ["x"], ["y"], "the_node", **attrs)
    infos = [
        helper.make_tensor_value_info("x", F, [2, 3]),
        helper.make_tensor_value_info("y", getattr(TensorProto, out), None),
    ]
    model = helper.make_model(helper.make_graph([node], "g", infos[:1], infos[1:]), ir_version=10,
                              opset_imports=[helper.make_opsetid("", 20)])  # fmt: skip
    with pytest.raises(UnsupportedGradient, match=f"'y' is {out}"):
        graph_tools.gradient(model, ["y"], ["x"])


def test_strings_have_no_gradient() -> None:
    attrs = {"mode": "TF", "max_gram_length": 1, "min_gram_length": 1, "max_skip_count": 0, "ngram_counts": [0],
             "ngram_indexes": [0, 1], "pool_strings": ["a", "b"]}  # fmt: skip
    with pytest.raises(UnsupportedGradient, match=f"TfIdfVectorizer.*{BLACK_BOX[:9]}"):
        graph_tools.gradient(_model("TfIdfVectorizer", [(S, [3])], **attrs), ["y"], ["x"])


OTHERS = [(name, domain) for domain in ("ai.onnx.ml", "ai.onnx.preview.training") for name in _schemas(domain)]


@pytest.mark.parametrize(("name", "domain"), OTHERS)
def test_other_domains_are_refused_by_name(name: str, domain: str) -> None:
    """Trees, linear models and their kin of ai.onnx.ml, and what only training needs."""
    assert not {(f"{domain}::{name}", i) for i in (ANY, 0, 1, 2)} & set(VJPS)
    schema = _schemas(domain)[name]
    count = max(schema.min_input, 1)
    names = [f"x{i}" for i in range(count)]
    outs = [f"y{i}" for i in range(max(schema.min_output, 1))]
    node = helper.make_node(name, names, outs, "the_node", domain=domain)
    infos = [helper.make_tensor_value_info(n, F, [2, 3]) for n in (*names, *outs)]
    graph = helper.make_graph([node], "g", infos[:count], infos[count:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(domain, schema.since_version)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    with pytest.raises(UnsupportedGradient, match=f"{domain}::{name}.*the_node.*{BLACK_BOX[:9]}"):
        graph_tools.gradient(model, [outs[0]], [names[0]])


def test_values_say_where_a_gradient_arrives_through_bodies_and_branches() -> None:
    """An operator with a body (a loss) and an If with rules let it pass; a forest does not."""
    model = _text(
        "g (float[2,3] x, int64[2] t, bool c) => (float y) { "
        "a = If (c) <then_branch = p () => (float[2,3] u) { u = Exp(x) }, else_branch = q () => (float[2,3] v) "
        "{ v = Neg(x) }> y = SoftmaxCrossEntropyLoss(a, t) }"
    )
    listed = {v.name: v.gradient for v in graph_tools.values(model)}
    assert listed == {"x": True, "t": False, "c": False, "a": True, "y": True}
