"""What the rows cannot say of the linear, shape and indexing rules: emitted forms, ties, repeated indices, errors."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

import graph_tools
from graph_tools.errors import UnsupportedGradient
from tests.graph_tools.harness import Case, build, run_ort
from tests.graph_tools.test_vjp import CASES

RNG = np.random.default_rng(9)


def row(label: str) -> Case:
    return next(c for c in CASES if c.label == label)


def program(
    text: str, weights: dict[str, np.ndarray] | None = None, wrt: str = "x", opset: int = 18
) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items())
    return ir.to_proto(graph_tools.gradient(proto, ["y"], [wrt]))


def emitted(label: str) -> list[str]:
    """Operators that the gradient of a row adds, Identity aside."""
    case = row(label)
    proto, feeds = build(case, np.float32)
    floats = [n for n, a in feeds.items() if a.dtype == np.float32][:1]
    nodes = ir.to_proto(graph_tools.gradient(proto, [f"y{i}" for i in case.through], floats)).graph.node
    return [n.op_type for n in nodes if n.name != "the_node" and n.op_type != "Identity"]


@pytest.mark.parametrize(
    ("label", "operators"),
    [
        ("MatMul", ["Gemm"]),
        ("MatMul-batch-times-matrix", ["Flatten", "Gemm", "Reshape"]),
        ("MatMul-batches", ["Transpose", "MatMul"]),
        ("Gemm-transB-alpha-beta", ["Gemm"]),
        ("Einsum-attention", ["Einsum"]),
        ("Reshape", ["Reshape"]),
        ("Squeeze", ["Unsqueeze"]),
        ("Transpose-perm", ["Transpose"]),
        ("Expand", ["ReduceSum", "Reshape"]),
        ("Tile", ["Reshape", "ReduceSum"]),
        ("Tile-nothing", []),
        ("Concat", ["Slice"]),
        ("Split", ["Concat"]),
        ("Split-sizes-middle", ["Pad"]),
        ("Slice", ["Pad"]),
        ("Slice-reversed", ["Slice"]),
        ("Slice-step", ["Unsqueeze", "Pad", "Reshape", "Slice", "Pad"]),
        ("Pad", ["Slice"]),
        ("Pad-nothing", []),
        ("Pad-reflect", ["Pad", "Gather", "ReduceSum", "Pad", "Gather", "ReduceSum"]),
        ("DepthToSpace", ["SpaceToDepth"]),
        ("Gather-one", ["Pad"]),
        ("Gather-scalar", ["Unsqueeze", "Pad"]),
        ("Gather-run", ["Pad"]),
        ("Gather-permutation", ["Gather"]),
        ("Gather-subset", ["Pad", "Gather"]),
        ("Gather-upsample", ["Gather", "ReduceSum"]),
        ("TopK", ["Expand", "ScatterElements"]),
    ],
)
def test_known_dimensions_give_the_short_form(label: str, operators: list[str]) -> None:
    assert emitted(label) == operators


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N,3] x) => (float[N,4] y) { y = MatMul(x, w) }",
        "g (float[N,2,3] x) => (float[N,2,4] y) { y = MatMul(x, w) }",
        "g (float[N,3] x) => (float[N,4] y) { y = Gemm(x, w) }",
        "g (float[N,4] x) => (float[N,3] y) { y = Gemm <transB = 1> (x, w) }",
    ],
)
def test_weights_are_not_copied(text: str) -> None:
    proto = program(text, {"w": RNG.normal(size=(3, 4)).astype(np.float32)})
    assert [t.name for t in proto.graph.initializer if len(t.dims) == 2] == ["w"]
    assert not [n for n in proto.graph.node if n.op_type == "Transpose"]


def test_shape_alone_gives_no_derivative() -> None:
    text = """g (float[2,3] x) => (float[2,3] y) {
        s = Shape(x)  n = Size(x)  f = Cast <to = 1> (n)  e = EyeLike(x)
        r = RandomNormalLike <seed = 1.0> (x)  u = RandomUniformLike <seed = 1.0> (x)
        z = ConstantOfShape(s)  a = Add(z, e)  c = Add(a, f)  d = Add(c, r)  y = Add(d, u) }"""
    got = run_ort(program(text), {"x": np.ones((2, 3), np.float32), "cotangent_y": np.ones((2, 3), np.float32)})
    np.testing.assert_array_equal(got["grad_x"], np.zeros((2, 3)))


@pytest.mark.parametrize("rows", ["known", "runtime"])
def test_repeated_indices_add_up(rows: str) -> None:
    """On several threads too: 50 000 rows into 3."""
    index = RNG.integers(0, 3, 50_000)
    text = "g (float[3,4] x{}) => (float[n,4] y) {{ y = Gather(x, i) }}"
    known = rows == "known"
    proto = program(text.format("" if known else ", int64[n] i"), {"i": index} if known else {})
    ct = np.ones((50_000, 4), np.float32)
    feeds = {"x": np.zeros((3, 4), np.float32), "cotangent_y": ct, **({} if known else {"i": index})}
    got = run_ort(proto, feeds, threads=4)["grad_x"]
    np.testing.assert_array_equal(got, np.bincount(index, minlength=3)[:, None] * np.ones(4))


def test_a_very_uneven_index_is_scattered_not_gathered() -> None:
    assert "ScatterElements" in emitted("Gather-one-very-often")


@pytest.mark.parametrize("reduction", ["max", "min"])
def test_ties_of_a_scatter_share_evenly(reduction: str) -> None:
    """Place 0: data and one update tie. Place 1: two updates tie above (below) data. Place 2: data alone."""
    sign = 1 if reduction == "max" else -1
    data = np.array([1.0, 0.0, 5.0], np.float32) * sign
    updates = np.array([1.0, 2.0, 2.0, 0.5], np.float32) * sign
    index = np.array([0, 1, 1, 0])
    text = (
        "g (float[3] x, float[4] u) => (float[3] y)"
        f' {{ y = ScatterElements <axis = 0, reduction = "{reduction}"> (x, i, u) }}'
    )
    feeds = {"x": data, "u": updates, "cotangent_y": np.array([6.0, 4.0, 2.0], np.float32)}
    np.testing.assert_array_equal(run_ort(program(text, {"i": index}), feeds)["grad_x"], [3, 0, 2])
    np.testing.assert_array_equal(run_ort(program(text, {"i": index}, wrt="u"), feeds)["grad_u"], [3, 2, 2, 0])


def test_product_with_two_zeros_at_one_place() -> None:
    text = 'g (float[2] x, float[4] u) => (float[2] y) { y = ScatterElements <axis = 0, reduction = "mul"> (x, i, u) }'
    feeds = {
        "x": np.array([2, 3], np.float32),
        "u": np.array([0, 5, 0, 7], np.float32),
        "cotangent_y": np.ones(2, np.float32),
    }
    index = np.array([0, 0, 1, 1])
    np.testing.assert_array_equal(run_ort(program(text, {"i": index}, wrt="u"), feeds)["grad_u"], [10, 0, 21, 0])
    both = {**feeds, "u": np.array([0, 0, 4, 7], np.float32)}
    np.testing.assert_array_equal(run_ort(program(text, {"i": index}, wrt="u"), both)["grad_u"], [0, 0, 21, 12])
    np.testing.assert_array_equal(run_ort(program(text, {"i": index}), both)["grad_x"], [0, 28])


def test_top_k_ties_follow_the_operators_own_choice() -> None:
    text = "g (float[4] x) => (float[2] y) { y, i = TopK (x, k) }"
    x = np.array([1, 3, 3, 3], np.float32)
    got = run_ort(program(text, {"k": np.array([2])}), {"x": x, "cotangent_y": np.array([1, 2], np.float32)})
    np.testing.assert_array_equal(got["grad_x"], [0, 1, 2, 0])


def test_unknown_rank_is_an_error_that_says_so() -> None:
    text = "g (float[N,4] x, int64[n] s, float[4] w) => (float y) { r = Reshape(x, s) y = LayerNormalization(r, w) }"
    with pytest.raises(UnsupportedGradient, match=r"number of dimensions of 'r'"):
        program(text)
