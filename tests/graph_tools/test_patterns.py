"""Operators written out in smaller ones: the same gradient, by one rule; never where an inner value is asked for."""

from __future__ import annotations

from math import erf

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

import graph_tools
from graph_tools.walk import patterns
from tests.graph_tools.harness import run_ort, run_reference

HEAD = """<ir_version: 8, opset_import: ["": 18]> g (float[2,5] x) => (float[2,5] y)
<float root = {1.4142135}, float inv = {0.70710677}, float one = {1.0}, float half = {0.5}, float third = {0.3}> """
WRITTEN = {
    "torch": "{ u = Div(x, root) e = Erf(u) a = Add(e, one) m = Mul(x, a) y = Mul(m, half) }",
    "scaled": "{ u = Mul(x, inv) e = Erf(u) a = Add(one, e) m = Mul(half, a) y = Mul(x, m) }",
    "halved first": "{ h = Mul(x, half) u = Mul(inv, x) e = Erf(u) a = Add(e, one) y = Mul(h, a) }",
}
OTHER = {
    "another factor": "{ u = Div(x, root) e = Erf(u) a = Add(e, one) m = Mul(x, a) y = Mul(m, third) }",
    "another scale": "{ u = Mul(x, third) e = Erf(u) a = Add(e, one) m = Mul(x, a) y = Mul(m, half) }",
    "read twice": "{ u = Div(x, root) e = Erf(u) a = Add(e, one) m = Mul(x, a) n = Mul(m, half) y = Add(n, e) }",
}
X = np.linspace(-4, 4, 10, dtype=np.float32).reshape(2, 5)
CT = np.linspace(1, -2, 10, dtype=np.float32).reshape(2, 5)


def _found(text: str) -> int:
    return len(patterns.find(list(graph_tools.load(onnx.parser.parse_model(HEAD + text)).graph), []))


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_gelu_is_found_and_right(text: str) -> None:
    model = onnx.parser.parse_model(HEAD + text)
    assert _found(text) == 1
    program = ir.to_proto(graph_tools.gradient(model, ["y"], ["x"]))
    assert sum(n.op_type == "Erf" for n in program.graph.node) == 2  # the file's, and the rule's
    got = run_ort(program, {"x": X, "cotangent_y": CT})
    exact = np.array([0.5 * (1 + erf(v / 2**0.5)) + v * np.exp(-v * v / 2) / (2 * np.pi) ** 0.5 for v in X.ravel()])
    np.testing.assert_allclose(got["grad_x"], CT * exact.reshape(X.shape), atol=2e-6)
    np.testing.assert_array_equal(got["y"], run_ort(model, {"x": X})["y"])


@pytest.mark.parametrize("text", OTHER.values(), ids=OTHER)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert _found(text) == 0
    model = onnx.parser.parse_model(HEAD + text)
    program = ir.to_proto(graph_tools.gradient(model, ["y"], ["x"]))
    got = run_reference(program, {"x": X, "cotangent_y": CT})["grad_x"]
    step = np.float32(1e-2)
    high, low = (run_ort(model, {"x": X + s * step})["y"].astype(np.float64) for s in (1, -1))
    np.testing.assert_allclose(got, CT * (high - low) / (2 * step), atol=2e-3)


@pytest.mark.parametrize("wrt", ["u", "e", "a", "m"])
def test_inner_values_keep_their_own_gradient(wrt: str) -> None:
    model = onnx.parser.parse_model(HEAD + WRITTEN["torch"])
    program = ir.to_proto(graph_tools.gradient(model, ["y"], ["x", wrt]))
    got = run_ort(program, {"x": X, "cotangent_y": CT})
    whole = run_ort(ir.to_proto(graph_tools.gradient(model, ["y"], ["x"])), {"x": X, "cotangent_y": CT})
    np.testing.assert_allclose(got["grad_x"], whole["grad_x"], atol=2e-6)
    assert np.abs(got[f"grad_{wrt}"]).max() > 0.1
