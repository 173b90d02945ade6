"""Bad input: each defect is an UnsupportedModel that says what and where; never a hang or a crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import graph_tools
from graph_tools import ExplainError, UnsupportedGradient, UnsupportedModel
from tests.graph_tools.harness import run_ort
from tests.graph_tools.nets import cnn, model, tensor

X, Y = [tensor("x", [2, 3])], [tensor("y", [2, 3])]
node = helper.make_node


def _function(name: str, *called: str) -> onnx.FunctionProto:
    body = [node(c, [f"v{i}"], [f"v{i + 1}"], domain="my") for i, c in enumerate(called)]
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("my", 1)]
    return helper.make_function("my", name, ["v0"], [f"v{len(called)}"], body, imports)


def _calling(name: str, *functions: onnx.FunctionProto) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("my", 1)]
    return model([node(name, ["x"], ["y"], domain="my", name="call")], X, Y, functions=functions, opset_imports=imports)


def _laughs() -> onnx.ModelProto:
    """Ten calls of ten calls of …: 10^12 nodes."""
    base = helper.make_function(
        "my", "F0", ["v0"], ["v1"], [node("Neg", ["v0"], ["v1"])], [helper.make_opsetid("", 18)]
    )
    return _calling("F12", base, *(_function(f"F{i}", *[f"F{i - 1}"] * 10) for i in range(1, 13)))


def _if(then: list[onnx.NodeProto], returned: str = "t") -> onnx.ModelProto:
    branches = {
        "then_branch": helper.make_graph(then, "then", [], [tensor(returned, [2, 3])]),
        "else_branch": helper.make_graph([node("Abs", ["x"], ["e"])], "else", [], [tensor("e", [2, 3])]),
    }
    control = node("If", ["c"], ["y"], name="choice", **branches)
    return model([control], X, Y, {"c": np.array(True)})


def _deep(depth: int) -> onnx.ModelProto:
    """An If in an If in an If…"""
    proto = model([node("Neg", ["c"], ["y"])], X, [tensor("y", [2, 3])], {"c": np.array(True)})
    graph = proto.graph
    for i in range(depth):
        del graph.node[:]
        step = graph.node.add(op_type="If", input=["c"], output=["y" if not i else f"y{i - 1}"])
        small = helper.make_graph([node("Neg", ["x"], [f"z{i}"])], "small", [], [tensor(f"z{i}", [2, 3])])
        step.attribute.append(helper.make_attribute("else_branch", small))
        graph = step.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
        graph.name = f"g{i}"
        graph.output.append(tensor(f"y{i}", [2, 3]))
        graph.node.append(node("Abs", ["x"], [f"y{i}"]))
    return proto


def _data(change: Callable[[onnx.TensorProto], object]) -> onnx.ModelProto:
    proto = model([node("Add", ["x", "w"], ["y"])], X, Y, {"w": np.ones(3, np.float32)})
    change(proto.graph.initializer[0])
    return proto


def _external(**entries: str) -> onnx.ModelProto:
    def change(t: onnx.TensorProto) -> None:
        t.ClearField("raw_data")
        t.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            t.external_data.add(key=key, value=value)

    return _data(change)


def _loop(**changed: object) -> onnx.ModelProto:
    inputs = [tensor("i", [], TensorProto.INT64), tensor("go", [], TensorProto.BOOL), tensor("s", [2, 3])]
    outputs = [tensor("go2", [], TensorProto.BOOL), tensor("s2", [2, 3])]
    body = helper.make_graph(
        [node("Identity", ["go"], ["go2"]), node("Neg", ["s"], ["s2"])], "body",
        changed.get("inputs", inputs), changed.get("outputs", outputs),
    )  # fmt: skip
    return model([node("Loop", ["n", "", "x"], ["y"], name="loop", body=body)], X, Y, {"n": np.array(2, np.int64)})


BAD: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "cycle": (lambda: model([node("Add", ["x", "b"], ["a"], name="one"), node("Neg", ["a"], ["b"], name="two"),
                             node("Neg", ["b"], ["y"])], X, Y), r"cycle.*'(one|two)'.*'(one|two)'"),
    "self-loop": (lambda: model([node("Add", ["x", "y"], ["y"], name="own")], X, Y), "cycle.*'own'"),
    "output twice": (lambda: model([node("Neg", ["x"], ["y"], name="a"), node("Abs", ["x"], ["y"], name="b")], X, Y),
                     "two nodes compute.*'y'.*'a'.*'b'"),
    "output twice in one node": (lambda: model([node("Split", ["x"], ["y", "y"], axis=0, num_outputs=2)], X, Y),
                                 "two nodes compute.*'y'"),
    "output is input": (lambda: model([node("Neg", ["x"], ["x"], name="a")], X, [tensor("x", [2, 3])]),
                        "'a'.*computes 'x', which is an input"),
    "output is initializer": (lambda: model([node("Neg", ["x"], ["w"])], X, [tensor("w", [2])], {"w": np.ones(2)}),
                              "computes 'w', which is an input or initializer"),
    "input twice": (lambda: model([node("Neg", ["x"], ["y"])], X * 2, Y), "two inputs called 'x'"),
    "missing value": (lambda: model([node("Add", ["x", "q"], ["y"], name="sum")], X, Y), "'sum'.*reads 'q'"),
    "missing output": (lambda: model([node("Neg", ["x"], ["z"])], X, Y), "returns 'y'"),
    "captured name missing": (lambda: _if([node("Add", ["x", "q"], ["t"], name="inner")]), "'inner'.*reads 'q'"),
    "branch returns nothing known": (lambda: _if([node("Neg", ["x"], ["u"])]), "subgraph 'then' returns 't'"),
    "captured cycle": (lambda: _if([node("Add", ["x", "y"], ["t"])]), "cycle.*'choice'"),
    "no nodes": (lambda: model([], X, X), "no nodes"),
    "no outputs": (lambda: model([node("Neg", ["x"], ["y"])], X, []), "no outputs"),
    "no operator": (lambda: model([node("", ["x"], ["y"])], X, Y), "without an operator"),
    "unknown operator": (lambda: model([node("Convolve", ["x"], ["y"], name="n")], X, Y),
                         "'n'.*no such operator at opset 18"),
    "newer operator": (lambda: model([node("Gelu", ["x"], ["y"], name="n")], X, Y), "Gelu.*'n'.*no such operator"),
    "removed operator": (lambda: model([node("Upsample", ["x", "x"], ["y"], name="n")], X, Y), "Upsample.*was removed"),
    "experimental later": (lambda: model([node("ImageScaler", ["x"], ["y"])], X, Y, opset=10), "ImageScaler.*no such"),
    "domain not imported": (lambda: model([node("Foo", ["x"], ["y"], domain="acme", name="n")], X, Y),
                            "acme::Foo.*'n'.*'acme', which the model does not import"),
    "no import": (lambda: model([node("Neg", ["x"], ["y"])], X, Y, opset_imports=[]), r"no ai\.onnx operators"),
    "absurd import": (lambda: model([node("Neg", ["x"], ["y"])], X, Y, opset=10**9), "opset 1000000000;"),
    "negative import": (lambda: model([node("Neg", ["x"], ["y"])], X, Y, opset=-1), "opset -1;"),
    "two imports": (lambda: model([node("Neg", ["x"], ["y"])], X, Y, opset_imports=[
        helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx", 17)]), "imports opset 18 and opset 17"),
    "attribute of another type": (lambda: model([node("Softmax", ["x"], ["y"], name="n", axis=1.5)], X, Y),
                                  "'n'.*'axis' is FLOAT.*INT"),
    "unknown attribute": (lambda: model([node("Relu", ["x"], ["y"], name="n", slope=1.0)], X, Y), "'n'.*'slope'"),
    "attribute missing": (lambda: model([node("Cast", ["x"], ["y"], name="n")], X, Y), "'n'.*lacks its attribute 'to'"),
    "input missing": (lambda: model([node("Add", ["x"], ["y"], name="n")], X, Y), "'n'.*has 1 inputs; it takes 2"),
    "input absent": (lambda: model([node("Add", ["x", ""], ["y"], name="n")], X, Y), "'n'.*lacks its input 'B'"),
    "too many inputs": (lambda: model([node("Neg", ["x", "x"], ["y"], name="n")], X, Y), "'n'.*has 2 inputs"),
    "too many outputs": (lambda: model([node("Neg", ["x"], ["y", "z"], name="n")], X, Y), "'n'.*has 2 outputs"),
    "operands do not fit": (lambda: model([node("MatMul", ["x", "w"], ["y"], name="n")], X, Y,
                                          {"w": np.ones((4, 2), np.float32)}), "MatMul.*'n'.*'x' FLOAT.*'w' FLOAT"),
    "dtypes do not fit": (lambda: model([node("Add", ["x", "w"], ["y"], name="n")], X, Y,
                                        {"w": np.ones(3, np.int64)}),
                          "Add.*'n'.*one type.*'x' is tensor\\(float\\).*'w' is tensor\\(int64"),
    "input without a type": (lambda: model([node("Neg", ["x"], ["y"])], [onnx.ValueInfoProto(name="x")], Y),
                             "'x' has no type"),
    "recursive function": (lambda: _calling("F", _function("F", "F")), "call themselves: F → F"),
    "mutual recursion": (lambda: _calling("F", _function("F", "G"), _function("G", "H"), _function("H", "F")),
                         "call themselves: F → G → H → F"),
    "billion laughs": (_laughs, r"expand to 1e\+12 nodes.*'F12'"),
    "function twice": (lambda: _calling("F", _function("F"), _function("F")), "two functions are called my::F"),
    "function's value missing": (lambda: _calling("F", helper.make_function(
        "my", "F", ["a"], ["b"], [node("Add", ["a", "q"], ["b"], name="in")], [helper.make_opsetid("", 18)])),
        "'in'.*reads 'q'.*function 'F'"),
    "call does not fit": (lambda: _calling("F", helper.make_function(
        "my", "F", [], ["b"], [node("Constant", [], ["b"], value_float=1.0)], [helper.make_opsetid("", 18)])),
        "'call'.*1 inputs.*has 0"),
    "deep subgraphs": (lambda: _deep(40), "more than 32 subgraphs deep"),
    "loop body inputs": (lambda: _loop(inputs=[tensor("i", [], TensorProto.INT64), tensor("go", [], TensorProto.BOOL),
                         tensor("s", [2, 3]), tensor("u", [2])]), "'loop'.*body has 4 inputs.*3"),
    "loop body outputs": (lambda: _loop(outputs=[tensor("go2", [], TensorProto.BOOL)]),
                          "'loop'.*body has 1 outputs.*2"),
    "data too short": (lambda: _data(lambda t: setattr(t, "raw_data", b"1234")), "'w': 4 bytes.*need 12"),
    "data absent": (lambda: _data(lambda t: t.ClearField("raw_data")), "'w': 0 elements.*need 3"),
    "huge declared": (lambda: _data(lambda t: t.dims.extend([2**31, 2**31])), "'w': 12 bytes"),
    "negative dimension": (lambda: _data(lambda t: t.dims.__setitem__(0, -3)), "'w'.*negative dimension"),
    "unknown data type": (lambda: _data(lambda t: setattr(t, "data_type", 99)), "'w': unknown type 99"),
    "external, no folder": (lambda: _external(location="w.bin"), "'w' lies in the file 'w.bin'"),
    "external, absolute": (lambda: _external(location="/etc/passwd"), "'w'.*not a plain relative path"),
    "external, above": (lambda: _external(location="../w.bin"), "'w'.*not a plain relative path"),
    "external, no offset": (lambda: _external(location="w.bin", offset="-4"), "'w'.*offset '-4'"),
    "initializer twice": (lambda: _twice(), "two initializers called 'w'"),
}  # fmt: skip


def _twice() -> onnx.ModelProto:
    proto = _data(lambda t: None)
    proto.graph.initializer.append(proto.graph.initializer[0])
    return proto


@pytest.mark.parametrize("case", BAD)
def test_refused_by_name(case):
    build, words = BAD[case]
    with pytest.raises(UnsupportedModel, match=words):
        graph_tools.load(build())


@pytest.mark.parametrize("case", ["cycle", "missing value", "billion laughs", "attribute missing", "data too short"])
@pytest.mark.parametrize("work", [
    lambda p: graph_tools.values(p),
    lambda p: graph_tools.gradient(p, ["y"], ["x"]),
    lambda p: graph_tools.expose(p.SerializeToString(), ["y"]),
    lambda p: graph_tools.cut(p, "x"),
], ids=["values", "gradient", "expose-bytes", "cut"])  # fmt: skip
def test_every_entrance_refuses(case, work):
    with pytest.raises(UnsupportedModel):
        work(BAD[case][0]())


def _cut_short(folder: Path, size: int) -> Path:
    onnx.save(_external(location="w.bin", offset="4096"), folder / "m.onnx")
    (folder / "w.bin").write_bytes(bytes(size))
    return folder / "m.onnx"


def test_external_data_is_measured(tmp_path):
    with pytest.raises(UnsupportedModel, match=r"'w\.bin' is too short: 'w' refers to byte 4108, it has 4100"):
        graph_tools.load(_cut_short(tmp_path, 4100))
    graph_tools.load(_cut_short(tmp_path, 4108))
    (tmp_path / "w.bin").unlink()
    with pytest.raises(UnsupportedModel, match=r"'w\.bin' \(of 'w'\) is not there"):
        graph_tools.load(tmp_path / "m.onnx")
    (tmp_path / "w.bin").symlink_to("/etc/hostname")
    with pytest.raises(UnsupportedModel, match="leaves the model's folder"):
        graph_tools.load(tmp_path / "m.onnx")


# --- defects that can be mended


def test_unsorted_nodes_are_sorted():
    """ONNX Runtime sorts them too."""
    nodes = [node("Add", ["b", "x"], ["y"]), node("Tanh", ["a"], ["b"]), node("Mul", ["x", "x"], ["a"])]
    proto = model(nodes, X, Y)
    loaded = graph_tools.load(proto)
    assert [n.op_type for n in loaded.graph] == ["Mul", "Tanh", "Add"]
    x = np.float32([[1, 2, 3], [0, -1, 1]])
    np.testing.assert_array_equal(run_ort(ir.to_proto(loaded), {"x": x})["y"], run_ort(proto, {"x": x})["y"])


@pytest.mark.parametrize("lie", [[7, 7], [2, 3, 1], [2], ["N", 9]])
@pytest.mark.parametrize("place", ["value_info", "output"])
def test_a_lie_about_a_shape_is_dropped(lie, place):
    proto = model([node("Tanh", ["x"], ["a"]), node("Mul", ["a", "a"], ["y"])], X, Y)
    if place == "output":
        proto.graph.output[0].CopyFrom(tensor("y", lie))
    else:
        proto.graph.value_info.append(tensor("a", lie))
    shapes = {v.name: v.shape for v in graph_tools.values(proto)}
    assert shapes["a"] == shapes["y"] == (2, 3)
    program = ir.to_proto(graph_tools.gradient(proto, ["y"], ["x"]))
    x = np.float32([[1, 2, 3], [0, -1, 1]])
    got = run_ort(program, {"x": x, "cotangent_y": np.ones_like(x)})
    np.testing.assert_allclose(got["grad_x"], 2 * np.tanh(x) * (1 - np.tanh(x) ** 2), rtol=1e-4)


def test_a_lie_about_a_dtype_is_dropped():
    proto = model([node("Tanh", ["x"], ["a"]), node("Mul", ["a", "a"], ["y"])], X, Y)
    proto.graph.value_info.append(tensor("a", [2, 3], TensorProto.INT64))
    assert {v.name: v.dtype for v in graph_tools.values(proto)}["a"] == "float"


def test_a_declared_shape_that_says_more_is_kept():
    nodes = [node("Reshape", ["x", "to"], ["a"]), node("Tanh", ["a"], ["y"])]
    proto = model(nodes, [*X, tensor("to", [2], TensorProto.INT64)], [tensor("y", None)])
    proto.graph.value_info.append(tensor("a", ["T", 6]))
    assert {v.name: v.shape for v in graph_tools.values(proto)}["a"] == ("T", 6)


def test_a_name_hidden_in_a_branch_is_renamed():
    proto = _if([node("Neg", ["x"], ["e2"]), node("Neg", ["e2"], ["t"])])
    proto.graph.node.insert(0, node("Abs", ["x"], ["e2"]))
    proto.graph.output.append(tensor("e2", [2, 3]))
    x = np.float32([[1, -2, 3], [0, -1, 1]])
    got = run_ort(ir.to_proto(graph_tools.load(proto)), {"x": x})
    np.testing.assert_array_equal(got["y"], x)
    np.testing.assert_array_equal(got["e2"], np.abs(x))


def test_a_negative_dimension_is_an_open_one():
    proto = model([node("Tanh", ["x"], ["y"])], [tensor("x", [-1, 3])], [tensor("y", [-1, 3])])
    assert graph_tools.values(proto)[0].shape == (None, 3)


def test_functions_that_return_what_they_are_given():
    function = helper.make_function("my", "F", ["a", "b"], ["b", "a", "c"], [node("Add", ["a", "b"], ["c"])],
                                    [helper.make_opsetid("", 18)])  # fmt: skip
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("my", 1)]
    nodes = [node("F", ["x", "w"], ["p", "q", ""], domain="my"), node("Sub", ["p", "q"], ["y"])]
    proto = model(nodes, X, Y, {"w": np.full((2, 3), 5, np.float32)}, functions=[function], opset_imports=imports)
    x = np.float32([[1, 2, 3], [0, -1, 1]])
    np.testing.assert_array_equal(run_ort(ir.to_proto(graph_tools.load(proto)), {"x": x})["y"], 5 - x)


def test_a_fault_inside_a_rule_names_the_node(monkeypatch):
    from graph_tools.vjp.table import VJPS

    def broken(b, n, ct):
        raise IndexError("list index out of range")

    monkeypatch.setitem(VJPS, ("Tanh", 0), broken)
    proto = model([node("Tanh", ["x"], ["y"], name="the_node")], X, Y)
    with pytest.raises(
        UnsupportedGradient, match=r"Tanh \(node 'the_node'\).*input 0 \('x'\).*index out of range"
    ) as caught:
        graph_tools.gradient(proto, ["y"], ["x"])
    assert (caught.value.operator, caught.value.node) == ("Tanh", "the_node")


# --- operators without a gradient


def _ml(*nodes: onnx.NodeProto, outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("com.acme", 1),
               helper.make_opsetid("ai.onnx.preview.training", 1)]  # fmt: skip
    return model(
        [*nodes], X, outputs, {"k": np.float32([2]), "r": np.float32(0.1), "t": np.int64(0)}, opset_imports=imports
    )


MIXED = {
    "Scaler": (node("Scaler", ["h"], ["y"], domain="ai.onnx.ml", name="odd", offset=[0.0], scale=[1.0]),
               "ai.onnx.ml::Scaler"),
    "Normalizer": (node("Normalizer", ["h"], ["y"], domain="ai.onnx.ml", name="odd", norm="L2"),
                   "ai.onnx.ml::Normalizer"),
    "custom": (node("Blend", ["h"], ["y"], domain="com.acme", name="odd"), "com.acme::Blend"),
    "training": (node("Momentum", ["r", "t", "h", "h", "h"], ["y", "v"], domain="ai.onnx.preview.training", name="odd",
                      alpha=0.9, beta=1.0, mode="standard", norm_coefficient=0.0), "training::Momentum"),
}  # fmt: skip


@pytest.mark.parametrize("case", MIXED)
def test_the_operator_in_the_way_is_named(case):
    odd, operator = MIXED[case]
    proto = _ml(node("Tanh", ["x"], ["h"]), odd, outputs=Y)
    assert {v.operator for v in graph_tools.values(proto)} >= {
        "Tanh",
        operator.replace("training", "ai.onnx.preview.training"),
    }
    with pytest.raises(UnsupportedGradient, match=rf"{operator}.*'odd'.*black-box") as caught:
        graph_tools.gradient(proto, ["y"], ["x"])
    assert caught.value.node == "odd"


def test_the_float_part_of_a_mixed_model_is_differentiated():
    odd, _ = MIXED["Scaler"]
    proto = _ml(node("Tanh", ["x"], ["h"]), odd, outputs=Y)
    assert graph_tools.gradient(proto, ["h"], ["x"]).graph.outputs[-1].name == "grad_x"


def test_strings_and_random_numbers_are_named():
    label = tensor("y", [2, 3])
    proto = model([node("Mul", ["x", "r"], ["y"]), node("RandomNormalLike", ["x"], ["r"], name="dice")], X, [label])
    graph_tools.gradient(proto, ["y"], ["x"])  # not through it
    words = model([node("StringSplit", ["s"], ["parts", "y"])], [tensor("s", [2], TensorProto.STRING)],
                  [tensor("y", [2], TensorProto.INT64)], opset=20)  # fmt: skip
    with pytest.raises(UnsupportedGradient, match="'y' is INT64"):
        graph_tools.gradient(words, ["y"], ["s"])


@pytest.mark.parametrize("data", [cnn().SerializeToString()[:n] for n in (1, 10, 100, 1000, 2000)])
def test_truncated_files(data):
    with pytest.raises(UnsupportedModel):
        graph_tools.load(data)


def test_a_parse_that_is_too_deep_is_no_crash():
    proto = _deep(31)
    with pytest.raises(ExplainError):
        graph_tools.load(_deep(60))
    assert len(graph_tools.load(proto).graph) == 1
