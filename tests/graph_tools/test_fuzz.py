"""Mutated files: only the errors that are meant for callers come out, whatever is changed.

``python -m tests.graph_tools.test_fuzz SECONDS [SEED]`` runs it for longer and prints what it finds.
"""

from __future__ import annotations

import contextlib
import random
import sys
import time
import traceback
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, helper

import graph_tools
from graph_tools import ExplainError
from tests.graph_tools.nets import cnn, model, tensor

node = helper.make_node


def _attention() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.normal(size=(4, 4)).astype(np.float32) for i in range(3)}
    weights |= {"to": np.int64([0, 0, 2, 2]), "back": np.int64([0, 0, 4]), "s": np.ones(4, np.float32)}
    nodes = [node("LayerNormalization", ["x", "s", "s"], ["n"], axis=-1)]
    for i in range(3):
        nodes += [node("MatMul", ["n", f"w{i}"], [f"m{i}"]), node("Reshape", [f"m{i}", "to"], [f"r{i}"]),
                  node("Transpose", [f"r{i}"], [f"t{i}"], perm=[0, 2, 3, 1] if i == 1 else [0, 2, 1, 3])]  # fmt: skip
    nodes += [node("MatMul", ["t0", "t1"], ["qk"]), node("Softmax", ["qk"], ["p"], axis=-1),
              node("MatMul", ["p", "t2"], ["o"]), node("Transpose", ["o"], ["ot"], perm=[0, 2, 1, 3]),
              node("Reshape", ["ot", "back"], ["r"]), node("Gelu", ["r"], ["g"]),
              node("Add", ["x", "g"], ["y"])]  # fmt: skip
    return model(nodes, [tensor("x", ["N", 3, 4])], [tensor("y", ["N", 3, 4])], weights, 20)


def _control() -> onnx.ModelProto:
    body = helper.make_graph(
        [node("Identity", ["go"], ["go2"]), node("Mul", ["s", "x"], ["s2"]),
         node("ReduceSum", ["s2"], ["row"], keepdims=0)],
        "body", [tensor("i", [], TensorProto.INT64), tensor("go", [], TensorProto.BOOL), tensor("s", [2, 3])],
        [tensor("go2", [], TensorProto.BOOL), tensor("s2", [2, 3]), tensor("row", [])],
    )  # fmt: skip
    then = helper.make_graph([node("Slice", ["l", "zero", "one", "zero"], ["t"])], "then", [], [tensor("t", [1, 3])])
    other = helper.make_graph([node("ReduceMax", ["l", "zero"], ["e"])], "else", [], [tensor("e", [1, 3])])
    weights = {"n": np.array(3, np.int64), "zero": np.int64([0]), "one": np.int64([1])}
    nodes = [node("Loop", ["n", "", "x"], ["l", "rows"], body=body), node("Size", ["rows"], ["size"]),
             node("Greater", ["size", "n"], ["c"]),
             node("If", ["c"], ["y"], then_branch=then, else_branch=other)]  # fmt: skip
    return model(nodes, [tensor("x", [2, 3])], [tensor("y", [1, 3])], weights)


def _old() -> onnx.ModelProto:
    w = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    bn = {k: np.abs(w[:, 0, 0, i % 3]) for i, k in enumerate("abcd")}
    nodes = [node("Pad", ["x"], ["p"], pads=[0, 0, 1, 1, 0, 0, 1, 1], value=0.5), node("Conv", ["p", "w"], ["c"]),
             node("BatchNormalization", ["c", *"abcd"], ["n"]), node("Clip", ["n"], ["k"], min=0.0, max=6.0),
             node("MaxPool", ["k"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
             node("Upsample", ["m"], ["u"], scales=[1.0, 1.0, 2.0, 2.0], mode="linear"), node("Add", ["u", "k"], ["s"]),
             node("ReduceMean", ["s"], ["g"], axes=[2, 3], keepdims=0), node("Dropout", ["g"], ["d"], ratio=0.4),
             node("Slice", ["d"], ["z"], axes=[1], starts=[0], ends=[3]), node("Softmax", ["z"], ["y"])]  # fmt: skip
    return model(nodes, [tensor("x", [1, 3, 8, 8])], [tensor("y", [1, 3])], {"w": w, **bn}, 7, 7)


def _called() -> onnx.ModelProto:
    inner = helper.make_function("my", "G", ["a"], ["b"], [node("Tanh", ["a"], ["b"])], [helper.make_opsetid("", 18)])
    step = node("LeakyRelu", ["c"], ["d"])
    step.attribute.append(AttributeProto(name="alpha", type=AttributeProto.FLOAT, ref_attr_name="slope"))
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("my", 1)]
    outer = helper.make_function(
        "my", "F", ["a"], ["d"], [node("G", ["a"], ["c"], domain="my"), step], imports, ["slope"]
    )
    nodes = [node("F", ["x"], ["h"], domain="my", slope=0.2), node("F", ["h"], ["y"], domain="my", slope=0.1)]
    return model(nodes, [tensor("x", [2, 3])], [tensor("y", [2, 3])], functions=[outer, inner], opset_imports=imports)


def _quantised() -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    weights = {"s": np.float32(0.05), "z": np.uint8(128), "w": rng.integers(-9, 9, (3, 4)).astype(np.int8),
               "ws": rng.random(4).astype(np.float32), "wz": np.zeros(4, np.int8), "i": np.int64([2, 0])}  # fmt: skip
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"]),
             node("DequantizeLinear", ["w", "ws", "wz"], ["dw"], axis=1), node("MatMul", ["d", "dw"], ["m"]),
             node("LSTM", ["x3", "lw", "lr"], ["", "h"], hidden_size=2), node("Gather", ["m", "i"], ["g"], axis=1),
             node("Concat", ["g", "h2"], ["y"], axis=1), node("Squeeze", ["h", "zero"], ["h2"]),
             node("Unsqueeze", ["x", "zero"], ["x3"])]  # fmt: skip
    weights |= {"lw": rng.normal(size=(1, 8, 3)).astype(np.float32),
                "lr": rng.normal(size=(1, 8, 2)).astype(np.float32),
                "zero": np.int64([0])}  # fmt: skip
    return model(nodes, [tensor("x", [2, 3])], [tensor("y", [2, 4])], weights)


NETS: dict[str, Callable[[], onnx.ModelProto]] = {
    "cnn": cnn, "attention": _attention, "control": _control, "old": _old, "functions": _called,
    "quantised": _quantised,
}  # fmt: skip


def _graphs(proto: onnx.ModelProto) -> list[onnx.GraphProto]:
    found = [proto.graph]
    for graph in found:
        found += [a.g for n in graph.node for a in n.attribute if a.type == AttributeProto.GRAPH]
    return found


def _nodes(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [n for g in _graphs(proto) for n in g.node] + [n for f in proto.functions for n in f.node]


def mutate(proto: onnx.ModelProto, rng: random.Random) -> str:
    """Change one thing somewhere in ``proto``; what, in words."""
    graph, nodes = rng.choice(_graphs(proto)), _nodes(proto)
    n = rng.choice(nodes)
    names = [x for m in nodes for x in (*m.input, *m.output)] + [t.name for t in graph.initializer] or [""]
    kind = rng.choice(_KINDS)
    number = rng.choice([-(2**63), -(2**31), -7, -1, 0, 1, 2, 3, 17, 2**31, 2**40, 2**63 - 1])
    if kind == "drop node" and graph.node:
        del graph.node[rng.randrange(len(graph.node))]
    elif kind == "swap nodes" and len(graph.node) > 1:
        i, j = rng.sample(range(len(graph.node)), 2)
        first = onnx.NodeProto.FromString(graph.node[i].SerializeToString())
        graph.node[i].CopyFrom(graph.node[j])
        graph.node[j].CopyFrom(first)
    elif kind == "rename input" and n.input:
        n.input[rng.randrange(len(n.input))] = rng.choice([*names, "", "nowhere"])
    elif kind == "rename output" and n.output:
        n.output[rng.randrange(len(n.output))] = rng.choice([*names, "", "fresh"])
    elif kind == "operands":
        side = rng.choice([n.input, n.output])
        side.append(rng.choice([*names, ""])) if rng.random() < 0.5 or not side else side.pop()
    elif kind == "operator":
        n.op_type = rng.choice([m.op_type for m in nodes] + [s.name for s in _SCHEMAS])
    elif kind == "attribute" and n.attribute:
        a = n.attribute[rng.randrange(len(n.attribute))]
        _mutate_attribute(a, number, rng)
    elif kind == "drop attribute" and n.attribute:
        del n.attribute[rng.randrange(len(n.attribute))]
    elif kind == "add attribute":
        n.attribute.append(helper.make_attribute(rng.choice(["axis", "perm", "to", "body", "value", "mode"]),
                                                 rng.choice([number, [number], "linear", 1.5])))  # fmt: skip
    elif kind == "initializer" and graph.initializer:
        t = rng.choice(list(graph.initializer))
        choice = rng.randrange(5)
        if choice == 0:
            t.data_type = rng.randrange(30)
        elif choice == 1 and t.dims:
            t.dims[rng.randrange(len(t.dims))] = number
        elif choice == 2:
            a = onnx.numpy_helper.to_array(t)
            t.CopyFrom(onnx.numpy_helper.from_array(np.asarray(a.reshape(rng.choice([(-1,), (1, -1)]))), t.name))
        elif choice == 3:
            a = onnx.numpy_helper.to_array(t)
            wild = np.full_like(a, number if a.dtype == np.int64 else 1)
            t.CopyFrom(onnx.numpy_helper.from_array(wild, t.name))
        else:
            t.raw_data = t.raw_data[: rng.randrange(9)]
    elif kind == "type":
        infos = [*graph.input, *graph.output, *graph.value_info]
        if infos:
            _mutate_type(rng.choice(infos).type, number, rng)
    elif kind == "opset" and proto.opset_import:
        rng.choice(list(proto.opset_import)).version = rng.choice([number % 2**40, 6, 7, 9, 11, 13, 17, 21, 24])
    elif kind == "declare":
        graph.value_info.append(tensor(rng.choice(names), [rng.randrange(9), number], rng.randrange(1, 17)))
    elif kind == "output":
        graph.output.append(tensor(rng.choice(names), None))
    elif kind == "domain":
        n.domain = rng.choice(["my", "com.microsoft", "ai.onnx.ml", "ai.onnx", ""])
    return kind


_KINDS = ["drop node", "swap nodes", "rename input", "rename output", "operands", "operator", "attribute", "attribute",
          "drop attribute", "add attribute", "initializer", "initializer", "type", "opset", "declare",
          "output", "domain"]  # fmt: skip
_SCHEMAS = [s for s in onnx.defs.get_all_schemas() if s.domain == ""]


def _mutate_attribute(a: AttributeProto, number: int, rng: random.Random) -> None:
    choice = rng.randrange(4)
    if choice == 0:
        a.type = rng.randrange(15)
    elif choice == 1:
        a.name = rng.choice(["axis", "pads", "to", a.name + "x", ""])
    elif a.type == AttributeProto.INT:
        a.i = number
    elif a.type == AttributeProto.INTS:
        if rng.random() < 0.5 and a.ints:
            a.ints[rng.randrange(len(a.ints))] = number
        else:
            a.ints.append(number)
    elif a.type == AttributeProto.FLOATS:
        a.floats.append(rng.choice([float("nan"), 1e30, -1.0]))
    elif a.type == AttributeProto.FLOAT:
        a.f = rng.choice([float("nan"), float("inf"), -1.0, 0.0])
    elif a.type == AttributeProto.STRING:
        a.s = rng.choice([b"", b"\xff\xfe", b"linear", b"cubic", b"SAME_UPPER"])


def _mutate_type(kind: onnx.TypeProto, number: int, rng: random.Random) -> None:
    choice = rng.randrange(4)
    if choice == 0:
        kind.tensor_type.elem_type = rng.randrange(30)
    elif choice == 1:
        kind.Clear()
    elif choice == 2:
        kind.tensor_type.shape.dim.add(dim_value=number)
    elif kind.tensor_type.shape.dim:
        rng.choice(list(kind.tensor_type.shape.dim)).dim_value = number


def attempt(source: onnx.ModelProto | bytes) -> None:
    """Everything that a caller may do with a file; raises what is no ExplainError, and what no check foresaw."""
    try:
        loaded = graph_tools.load(source)
    except ExplainError as error:
        if "unexpected" in str(error) and error.__cause__ is not None:
            raise error.__cause__ from None
        return
    found = graph_tools.values(loaded)
    floats = [v.name for v in found if v.dtype in ("float", "double", "float16")]
    ys = [v.name for v in found if v.kind == "output" and v.name in floats][:2]
    xs = [v.name for v in found if v.kind == "input"][:1] + floats[:: max(1, len(floats) // 3)]
    for work in (lambda: graph_tools.gradient(loaded, ys, xs), lambda: graph_tools.cut(loaded, xs[-1] if xs else "x")):
        with contextlib.suppress(ExplainError):
            work()


def mutant(name: str, seed: int) -> tuple[onnx.ModelProto | bytes, str]:
    """The net ``name`` with one to four seeded changes, or (every fourth seed) with bytes flipped."""
    rng = random.Random(f"{name}{seed}")
    proto = NETS[name]()
    if seed % 4 == 3:
        data = bytearray(proto.SerializeToString())
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data), "bytes"
    changes = []
    for _ in range(rng.randrange(1, 5)):
        try:
            changes.append(mutate(proto, rng))
        except (ValueError, TypeError, DecodeError, KeyError, OverflowError, AttributeError):  # no such change here
            continue
    return proto, ", ".join(changes)


@pytest.mark.parametrize("name", NETS)
def test_only_errors_for_callers_come_out(name):
    for seed in range(60):
        source, changes = mutant(name, seed)
        try:
            attempt(source)
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed} ({changes}): {error!r}") from error


if __name__ == "__main__":
    end, seed, seen = time.monotonic() + float(sys.argv[1]), int(sys.argv[2] if len(sys.argv) > 2 else 0), set()
    while time.monotonic() < end:
        for net in NETS:
            mutated, said = mutant(net, seed)
            print(net, seed, said, flush=True, file=sys.stderr)
            began = time.monotonic()
            try:
                attempt(mutated)
            except Exception as error:
                frames = traceback.extract_tb(error.__traceback__)
                ours = next((f for f in reversed(frames) if "graph_tools" in f.filename), frames[-1])
                place = (type(error).__name__, ours.filename, ours.lineno)
                if place not in seen:
                    seen.add(place)
                    print(net, seed, said, place, str(error)[:200], flush=True)
            if time.monotonic() - began > 2:
                print("SLOW", net, seed, said, time.monotonic() - began, flush=True)
        seed += 1
    print("seeds up to", seed)
