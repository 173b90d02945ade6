"""The reverse walk on graphs small enough to differentiate by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

import graph_tools
from graph_tools.errors import UnknownValue, UnsupportedGradient, UnsupportedModel
from graph_tools.reverse import Reverse
from tests.graph_tools.harness import run_ort, run_reference

X = np.array([[0.5, -1.0, 2.0], [-0.25, 3.0, -2.0]], np.float32)
CT = np.array([[1.0, 2.0, -1.0], [0.5, -3.0, 4.0]], np.float32)


def model(text: str, weights: dict[str, np.ndarray] | None = None, opset: int = 18) -> onnx.ModelProto:
    """A graph in ONNX's text form; ``weights`` become initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}, "acme" : 1]> {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in (weights or {}).items())
    for i, node in enumerate(proto.graph.node):
        node.name = f"node_{i}_{node.op_type}"
    return proto


def gradients(
    proto: onnx.ModelProto, outputs: list[str], inputs: list[str], overlay: Any = None, **feeds: np.ndarray
) -> dict[str, np.ndarray]:
    program = ir.to_proto(graph_tools.gradient(proto, outputs, inputs, overlay=overlay))
    onnx.checker.check_model(program)
    return run_ort(program, feeds)


ONE_IN = "g (float[2,3] x) => (float[2,3] y)"


# --- what the walk adds up


def test_fan_out_adds_up() -> None:
    proto = model(
        ONE_IN + " { a = Tanh(x) b = Neg(x) c = Mul(x, two) d = Add(a, b) y = Add(d, c) }", {"two": np.float32(2)}
    )
    got = gradients(proto, ["y"], ["x"], x=X, cotangent_y=CT)
    np.testing.assert_allclose(got["grad_x"], CT * (1 - np.tanh(X) ** 2 - 1 + 2), rtol=1e-4)
    np.testing.assert_allclose(got["y"], np.tanh(X) - X + 2 * X, rtol=1e-4)


def test_diamond() -> None:
    proto = model(ONE_IN + " { t = Tanh(x) u = Neg(t) v = Tanh(t) y = Mul(u, v) }")
    t = np.tanh(X)
    dt = -np.tanh(t) - t * (1 - np.tanh(t) ** 2)
    got = gradients(proto, ["y"], ["x", "t"], x=X, cotangent_y=CT)
    np.testing.assert_allclose(got["grad_t"], CT * dt, rtol=1e-4)
    np.testing.assert_allclose(got["grad_x"], CT * dt * (1 - t**2), rtol=1e-4)


def test_value_used_twice_by_one_node() -> None:
    proto = model(ONE_IN + " { y = Mul(x, x) }")
    np.testing.assert_allclose(gradients(proto, ["y"], ["x"], x=X, cotangent_y=CT)["grad_x"], 2 * X * CT)


def test_interior_value_and_input_get_total_derivatives() -> None:
    """h is a value of its own and on the way from x: its derivative is not taken off x's."""
    proto = model(ONE_IN + " { h = Mul(x, x) y = Add(h, x) }")
    got = gradients(proto, ["y"], ["h", "x"], x=X, cotangent_y=CT)
    np.testing.assert_allclose(got["grad_h"], CT)
    np.testing.assert_allclose(got["grad_x"], CT * (2 * X + 1))


def test_several_outputs_one_behind_the_other() -> None:
    proto = model("g (float[2,3] x) => (float[2,3] h, float[2,3] y) { h = Tanh(x) y = Mul(h, h) }")
    got = gradients(proto, ["h", "y"], ["x"], x=X, cotangent_h=CT, cotangent_y=2 * CT)
    h = np.tanh(X)
    np.testing.assert_allclose(got["grad_x"], (CT + 2 * CT * 2 * h) * (1 - h**2), rtol=1e-4)


def test_output_with_respect_to_itself_is_the_cotangent() -> None:
    proto = model(ONE_IN + " { y = Tanh(x) }")
    np.testing.assert_array_equal(gradients(proto, ["y"], ["y"], x=X, cotangent_y=CT)["grad_y"], CT)


def test_interior_output() -> None:
    proto = model(ONE_IN + " { h = Mul(x, x) y = Sign(h) }")
    np.testing.assert_allclose(gradients(proto, ["h"], ["x"], x=X, cotangent_h=CT)["grad_x"], 2 * X * CT)


def test_weights_and_broadcast_bias() -> None:
    w, c = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones(2, np.float32)
    proto = model("g (float[N,3] x) => (float[N,2] y) { h = MatMul(x, w) y = Add(h, c) }", {"w": w, "c": c})
    ct = CT[:, :2]
    got = gradients(proto, ["y"], ["w", "c", "x"], x=X, cotangent_y=ct)
    np.testing.assert_allclose(got["grad_w"], X.T @ ct)
    np.testing.assert_allclose(got["grad_c"], ct.sum(0))
    np.testing.assert_allclose(got["grad_x"], ct @ w.T)


# --- zeros, and what cannot be differentiated


def test_unused_input_gets_zeros_of_its_shape() -> None:
    proto = model("g (float[2,3] x, float[N,4] z) => (float[2,3] y) { y = Tanh(x) }")
    got = gradients(proto, ["y"], ["z", "x"], x=X, z=np.ones((5, 4), np.float32), cotangent_y=CT)
    np.testing.assert_array_equal(got["grad_z"], np.zeros((5, 4), np.float32))
    assert np.any(got["grad_x"])


def test_piecewise_constant_path_gives_zeros() -> None:
    proto = model(ONE_IN + " { s = Sign(x) y = Mul(s, three) }", {"three": np.float32(3)})
    got = gradients(proto, ["y"], ["x"], x=X, cotangent_y=CT)
    np.testing.assert_array_equal(got["grad_x"], np.zeros_like(X))


def test_path_that_ends_in_integers_is_an_error_that_names_the_operator() -> None:
    proto = model("g (float[2,3] x) => (float[2,1] y) { i = ArgMax <axis = 1> (x) y = Cast <to = 1> (i) }")
    with pytest.raises(UnsupportedGradient, match=r"ArgMax.*node_0_ArgMax.*'x'.*'y'.*black-box") as caught:
        graph_tools.gradient(proto, ["y"], ["x"])
    assert (caught.value.operator, caught.value.node) == ("ArgMax", "node_0_ArgMax")


def test_integers_beside_a_smooth_path_do_no_harm() -> None:
    proto = model(
        "g (float[2,3] x) => (float[2,3] y) { i = ArgMax <axis = 1> (x) f = Cast <to = 1> (i) y = Mul(x, f) }"
    )
    got = gradients(proto, ["y"], ["x"], x=X, cotangent_y=CT)
    np.testing.assert_allclose(got["grad_x"], CT * X.argmax(1)[:, None])


def test_integer_output_cannot_be_differentiated() -> None:
    proto = model("g (float[2,3] x) => (int64[2,1] y) { y = ArgMax <axis = 1> (x) }")
    with pytest.raises(UnsupportedGradient, match=r"'y' is INT64"):
        graph_tools.gradient(proto, ["y"], ["x"])


def test_ruleless_operator_is_named_with_node_and_input() -> None:
    proto = model(ONE_IN + " { h = Tanh(x) y = acme.Mystery(two, h) }", {"two": np.float32(2)})
    with pytest.raises(
        UnsupportedGradient, match=r"acme::Mystery \(node 'node_1_Mystery'\).*input 1 \('h'\)"
    ) as caught:
        graph_tools.gradient(proto, ["y"], ["x"])
    assert (caught.value.operator, caught.value.node) == ("acme::Mystery", "node_1_Mystery")


@pytest.mark.parametrize(
    "branch",
    [
        "z = acme.Mystery(x)",  # nothing that is differentiated depends on it
        "q = acme.Mystery(x) z = Sign(q)",
        "s = Sign(x) z = acme.Mystery(s)",  # it depends on nothing that is differentiated
    ],
)
def test_ruleless_operator_on_a_dead_branch_does_no_harm(branch: str) -> None:
    proto = model("g (float[2,3] x) => (float[2,3] y, float[2,3] z) { y = Mul(x, x) " + branch + " }")
    program = ir.to_proto(graph_tools.gradient(proto, ["y"], ["x"]))
    del program.graph.output[1]  # z cannot run anywhere
    kept = {"Mul", "Add", "Identity"}
    nodes = [n for n in program.graph.node if n.op_type in kept]
    del program.graph.node[:]
    program.graph.node.extend(nodes)
    np.testing.assert_allclose(run_ort(program, {"x": X, "cotangent_y": CT})["grad_x"], 2 * X * CT)


def test_ruleless_operator_behind_a_sign_counts_as_dead() -> None:
    proto = model(ONE_IN + " { q = acme.Mystery(x) s = Sign(q) y = Add(s, x) }")
    graph_tools.gradient(proto, ["y"], ["x"])


def test_subgraph_that_captures_for_indices_only_does_no_harm() -> None:
    proto = model(
        "g (float[2,3] x, bool c) => (float[2,3] y) { h = Tanh(x)"
        " s = If <then_branch = t () => (int64[2] a) { a = Shape(h) },"
        " else_branch = e () => (int64[2] b) { b = Shape(h) }> (c) y = Reshape(x, s) }"
    )
    got = gradients(proto, ["y"], ["x"], x=X, c=np.array(True), cotangent_y=CT)
    np.testing.assert_array_equal(got["grad_x"], CT)


def test_subgraph_that_captures_nothing_of_the_path_does_no_harm() -> None:
    proto = model(
        "g (float[2,3] x, float[2,3] z, bool c) => (float[2,3] y) {"
        " w = If <then_branch = t () => (float[2,3] a) { a = Neg(z) },"
        " else_branch = e () => (float[2,3] b) { b = Tanh(z) }> (c) y = Mul(x, w) }"
    )
    got = gradients(proto, ["y"], ["x"], x=X, z=CT, c=np.array(True), cotangent_y=CT)
    np.testing.assert_allclose(got["grad_x"], -CT * CT)


def test_operator_with_a_body_and_no_rule_is_expanded() -> None:
    proto = model(
        "g (float[2,3] x) => (float y) { h = Tanh(x) y = SoftmaxCrossEntropyLoss(h, labels) }",
        {"labels": np.array([2, 0])},
    )
    assert not [k for k in graph_tools.backward.VJPS if k[0] == "SoftmaxCrossEntropyLoss"]
    got = gradients(proto, ["y"], ["x", "h"], x=X, cotangent_y=np.array(1, np.float32))
    h = np.tanh(X)
    share = np.exp(h) / np.exp(h).sum(axis=1, keepdims=True)
    share[[0, 1], [2, 0]] -= 1
    np.testing.assert_allclose(got["grad_h"], share / 2, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got["grad_x"], share / 2 * (1 - h**2), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("wrt", [["x"], ["h"], ["y"], ["x", "h", "y"]])
def test_expanded_operator_at_either_end(wrt: list[str]) -> None:
    proto = model(
        "g (float[2,3] x) => (float[3,3] y) { h = CenterCropPad(x, tall) y = CenterCropPad(h, wide) }",
        {"tall": np.array([4, 3]), "wide": np.array([3, 3])},
    )
    ct = np.arange(9, dtype=np.float32).reshape(3, 3)
    want = {"y": ct, "h": np.pad(ct, ((0, 1), (0, 0))), "x": np.pad(ct, ((0, 1), (0, 0)))[1:3]}
    got = gradients(proto, ["y"], wrt, x=X, cotangent_y=ct)
    for name in wrt:
        np.testing.assert_array_equal(got[f"grad_{name}"], want[name])


# --- names


def test_unknown_names_come_with_the_nearest() -> None:
    proto = model(ONE_IN + " { hidden = Tanh(x) y = Neg(hidden) }")
    with pytest.raises(UnknownValue, match=r"'hiden'; nearest: hidden"):
        graph_tools.gradient(proto, ["hiden"], ["x"])
    with pytest.raises(UnknownValue, match="'z'"):
        graph_tools.gradient(proto, ["y"], ["z"])


@pytest.mark.parametrize("name", ["cotangent_y", "grad_x"])
def test_taken_contract_name_is_an_error(name: str) -> None:
    proto = model(ONE_IN + f" {{ {name} = Tanh(x) y = Neg({name}) }}")
    with pytest.raises(UnsupportedModel, match=name):
        graph_tools.gradient(proto, ["y"], ["x"])


def test_names_like_the_walks_own_do_not_clash() -> None:
    taken = ["_const", "_Mul", "_Mul_node", "_Neg", "_Add", "_Identity", "_Shape", "_Sub", "_Expand"]
    chain = " ".join(f"{new} = Tanh({old})" for old, new in zip(["x", *taken], taken, strict=False))
    proto = model(ONE_IN + f" {{ {chain} y = Mul({taken[-1]}, x) }}")
    program = ir.to_proto(graph_tools.gradient(proto, ["y"], ["x"]))
    made = [o for n in program.graph.node for o in n.output] + [t.name for t in program.graph.initializer]
    assert len(made) == len(set(made))
    got, own = run_ort(program, {"x": X, "cotangent_y": CT}), run_ort(proto, {"x": X})
    np.testing.assert_array_equal(got["y"], own["y"])


def test_inputs_and_outputs_are_the_sources_and_then_ours() -> None:
    proto = model("g (float[N,3] x, float[3] w) => (float[N,3] y, float[N,3] h) { h = Mul(x, w) y = Tanh(h) }")
    program = graph_tools.gradient(proto, ["y", "h"], ["w", "x"])
    assert [v.name for v in program.graph.inputs] == ["x", "w", "cotangent_y", "cotangent_h"]
    assert [v.name for v in program.graph.outputs] == ["y", "h", "grad_w", "grad_x"]
    assert str(program.graph.inputs[2].shape) == str(program.graph.inputs[0].shape)


# --- sources


@pytest.mark.parametrize("form", ["path", "str", "bytes", "proto", "ir"])
def test_source_forms(form: str, tmp_path: Path) -> None:
    proto = model(ONE_IN + " { y = Mul(x, x) }")
    path = tmp_path / "square.onnx"
    onnx.save(proto, path)
    source: Any = {
        "path": path, "str": str(path), "bytes": proto.SerializeToString(), "proto": proto, "ir": ir.from_proto(proto)
    }[form]  # fmt: skip
    program = ir.to_proto(graph_tools.gradient(source, ["y"], ["x"]))
    np.testing.assert_allclose(run_ort(program, {"x": X, "cotangent_y": CT})["grad_x"], 2 * X * CT)


def test_source_is_not_changed() -> None:
    proto = model(ONE_IN + " { h = CenterCropPad(x, shape) y = Mul(h, x) }", {"shape": np.array([2, 3])})
    before = proto.SerializeToString(deterministic=True)
    graph_tools.gradient(proto, ["y"], ["x", "h"])
    assert proto.SerializeToString(deterministic=True) == before
    plain = ir.from_proto(proto)
    loaded = graph_tools.load(proto)
    for source in (plain, loaded):
        text = ir.to_proto(source).SerializeToString(deterministic=True)
        graph_tools.gradient(source, ["y"], ["x", "h"])
        assert ir.to_proto(source).SerializeToString(deterministic=True) == text


def test_file_that_is_no_model() -> None:
    with pytest.raises(UnsupportedModel):
        graph_tools.gradient(b"not a model", ["y"], ["x"])


# --- overlays and higher orders


def test_overlay_replaces_a_rule_and_leaves_the_table_alone() -> None:
    """Guided backpropagation (Springenberg et al. 2015, figure 1): ct · [y > 0] · [ct > 0] at every ReLU."""

    def guided(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
        y = b.primal(node.outputs[0])
        return b.Where(b.And(b.Greater(y, 0.0), b.Greater(ct, 0.0)), ct, b.const(0.0, like=ct))

    w = np.array([[1, -1, 2], [0.5, 3, -1], [2, 1, 1]], np.float32)
    proto = model(ONE_IN + " { r = Relu(x) m = MatMul(r, w) y = Relu(m) }", {"w": w})
    r = np.maximum(X, 0)
    m = r @ w
    back = np.where((m > 0) & (CT > 0), CT, 0) @ w.T
    want = np.where((X > 0) & (back > 0), back, 0)
    plain = (np.where(m > 0, CT, 0) @ w.T) * (X > 0)
    assert not np.allclose(want, plain)
    got = gradients(proto, ["y"], ["x"], overlay={("Relu", 0): guided}, x=X, cotangent_y=CT)
    np.testing.assert_allclose(got["grad_x"], want, rtol=1e-4)
    np.testing.assert_allclose(gradients(proto, ["y"], ["x"], x=X, cotangent_y=CT)["grad_x"], plain, rtol=1e-4)


def test_gradient_of_a_gradient() -> None:
    """f(x) = Σ v·tanh(W x): gradient Wᵀ(v(1 − t²)), Hessian times u Wᵀ diag(−2 v t (1 − t²)) W u."""
    rng = np.random.default_rng(0)
    w, v = rng.normal(size=(3, 4)), rng.normal(size=(4, 1))
    proto = model(
        "g (double[N,3] x) => (double[N,1] y) { h = MatMul(x, w) t = Tanh(h) y = MatMul(t, v) }", {"w": w, "v": v}
    )
    first = graph_tools.gradient(proto, ["y"], ["x"])
    next(o for o in first.graph.outputs if o.name == "grad_x").name = "slope"
    second = ir.to_proto(graph_tools.gradient(first, ["slope"], ["x", "cotangent_y"]))
    x, u, ct = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), np.ones((2, 1))
    got = run_reference(second, {"x": x, "cotangent_y": ct, "cotangent_slope": u})
    t = np.tanh(x @ w)
    np.testing.assert_allclose(got["slope"], (v.T * (1 - t**2)) @ w.T, rtol=1e-12)
    np.testing.assert_allclose(got["grad_x"], ((u @ w) * (-2 * v.T * t * (1 - t**2))) @ w.T, rtol=1e-12)
    np.testing.assert_allclose(got["grad_cotangent_y"], ((u @ w) * (1 - t**2)) @ v, rtol=1e-12)  # forward mode
