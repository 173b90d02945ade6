"""Weights that the programs of a model share."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from service.runtime.session import Options, Session
from service.runtime.weights import ALIGN, SharedWeights
from tests.service.runtime_graphs import CPU_ONLY, affine, model, value

W = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)


def network(weight: np.ndarray = W) -> ir.Model:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Add", ["z", "b"], ["y"])]
    proto = model(nodes, [value("x", ["N", 300])], [value("y", ["N", 3])], {"w": weight, "b": np.ones(3, np.float32)})
    return ir.from_proto(proto)


def bins(shared: SharedWeights) -> list[Path]:
    return sorted(shared.folder.iterdir())


def test_a_program_with_shared_weights_gives_the_same_bits(tmp_path: Path) -> None:
    whole = network()
    shared = SharedWeights(tmp_path / "weights")
    raw = shared.serialise(whole)
    assert len(raw) < 700
    [file] = bins(shared)
    assert file.read_bytes() == W.tobytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    x = np.random.default_rng(1).standard_normal((4, 300)).astype(np.float32)
    inline = Session(ir.to_proto(whole).SerializeToString(), CPU_ONLY)
    for prepack in (True, False):
        options = Options(prepack=prepack)
        session = Session(raw, CPU_ONLY, options=options, external_dir=shared.folder)
        same = Session(ir.to_proto(whole).SerializeToString(), CPU_ONLY, options=options)
        assert np.array_equal(session.run({"x": x})["y"], same.run({"x": x})["y"])
        assert session.nbytes == len(raw) + W.nbytes
    np.testing.assert_allclose(session.run({"x": x})["y"], inline.run({"x": x})["y"], rtol=1e-5)


def test_the_model_given_is_not_changed(tmp_path: Path) -> None:
    whole = network()
    SharedWeights(tmp_path).share(whole)
    assert isinstance(whole.graph.initializers["w"].const_value, ir.TensorProtoTensor)


def test_only_new_arrays_are_written(tmp_path: Path) -> None:
    shared = SharedWeights(tmp_path)
    first = shared.share(network())
    again = shared.share(network())
    third = shared.share(first)
    assert len(bins(shared)) == 1
    places = [m.graph.initializers["w"].const_value for m in (first, again, third)]
    assert len({(p.location, p.offset) for p in places if isinstance(p, ir.ExternalTensor)}) == 1
    flipped = network(W[::-1].copy())
    flipped.graph.initializers["w2"] = ir.Value(name="w2", const_value=ir.tensor(W, name="w2"))
    flipped.graph.initializers["w3"] = ir.Value(name="w3", const_value=ir.tensor(W * 2, name="w3"))
    result = shared.share(flipped)
    assert len(bins(shared)) == 2
    new = [result.graph.initializers[name].const_value for name in ("w", "w3")]
    assert all(isinstance(t, ir.ExternalTensor) and t.offset % ALIGN == 0 for t in new)
    assert np.array_equal(new[0].numpy(), W[::-1])  # type: ignore[union-attr]
    assert np.array_equal(new[1].numpy(), W * 2)  # type: ignore[union-attr]


def test_small_arrays_stay_in_the_program(tmp_path: Path) -> None:
    shared = SharedWeights(tmp_path)
    raw = shared.serialise(ir.from_proto(affine()))
    assert bins(shared) == []
    assert Session(raw, CPU_ONLY).inputs[0].name == "x"


def test_weights_of_a_loop_body_are_shared(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["a", "w"], ["a_out"])],
        "body",
        [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("a", [900])],
        [value("on", [], TensorProto.BOOL), value("a_out", [900])],
        [numpy_helper.from_array(W.ravel(), "w")],
    )
    loop = helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)
    proto = model([loop], [value("n", [], TensorProto.INT64), value("x", [900])], [value("y", [900])])
    shared = SharedWeights(tmp_path)
    session = Session(shared.serialise(ir.from_proto(proto)), CPU_ONLY, external_dir=shared.folder)
    assert len(bins(shared)) == 1
    found = session.run({"n": np.array(2), "x": np.zeros(900, np.float32)})["y"]
    assert np.array_equal(found, W.ravel() + W.ravel())
