"""Several targets of one row: they share a forward pass where the model allows it, and are right where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import graph_tools
from graph_tools import model as models
from graph_tools.batch_axis import batch_throughout
from service.core import Engine
from service.models.repository import Repository
from service.runtime.context import Run
from service.runtime.home import Runtime
from service.types import ExplainRequest, ExplainResult, Selector, Target
from tests.graph_tools.nets import cnn, model, tensor

RNG = np.random.default_rng(8)
ASKED = (
    Target(Selector(index=2)),
    Target(Selector(index=0), minus=Selector(index=1)),
    Target(Selector(rank=2)),
)


def tokens() -> onnx.ModelProto:
    """A class token in front of every row's four, as vision transformers have it: its rows come from a shape alone.

    scores = W · tanh(mean over tokens of concat(token, x)²)
    """
    weights = {
        "token": RNG.normal(size=(1, 1, 6)).astype(np.float32), "w": RNG.normal(size=(6, 3)).astype(np.float32),
        "rest": np.array([1, 6], np.int64), "zero": np.array([0], np.int64), "axis": np.array([1], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], start=0, end=1),
        helper.make_node("Concat", ["rows", "rest"], ["shape"], axis=0),
        helper.make_node("Expand", ["token", "shape"], ["first"]),
        helper.make_node("Concat", ["first", "x"], ["all"], axis=1),
        helper.make_node("Mul", ["all", "all"], ["squares"]),
        helper.make_node("ReduceMean", ["squares", "axis"], ["mean"], keepdims=0),
        helper.make_node("Tanh", ["mean"], ["bent"]),
        helper.make_node("MatMul", ["bent", "w"], ["z"]),
    ]
    return model(nodes, [tensor("x", ["N", 4, 6])], [tensor("z", ["N", 3])], weights)


@pytest.fixture
def engine() -> Engine:
    return Engine(Repository(Runtime("cpu")))


def ask(engine: Engine, x: np.ndarray, targets: tuple[Target, ...], **fields: Any) -> ExplainResult:
    return engine.explain(ExplainRequest("m", "saliency", tensors={"x": x}, targets=targets, **fields), Run())


@pytest.mark.parametrize(("make", "shape"), [(tokens, (2, 4, 6)), (cnn, (2, 3, 16, 16))])
@pytest.mark.parametrize("rows", [1, 2])
def test_together_as_one_by_one(engine: Engine, tmp_path: Path, make: Any, shape: tuple[int, ...], rows: int) -> None:
    onnx.save(make(), tmp_path / "m.onnx")
    engine.repository.add("m", tmp_path / "m.onnx")
    x = RNG.normal(size=shape).astype(np.float32)[:rows]
    together = ask(engine, x, ASKED).items
    for k, target in enumerate(ASKED):
        for several, single in zip(together, ask(engine, x, (target,)).items, strict=True):
            got, want = several.attributions[k], single.attributions[0]
            assert np.abs(want.values).max() > 0
            np.testing.assert_allclose(got.values, want.values, rtol=1e-5, atol=1e-7)
            assert (got.target.index, got.target.minus_index) == (want.target.index, want.target.minus_index)
            assert got.target.value == pytest.approx(want.target.value, rel=1e-5)
            assert several.predictions == single.predictions


@pytest.mark.parametrize(("make", "shared"), [(cnn, True), (tokens, False)])
def test_which_models_share_a_forward_pass(make: Any, shared: bool) -> None:
    loaded = graph_tools.load(make())
    named = models.values_by_name(loaded)
    end = named["logits"] if "logits" in named else named["z"]
    assert batch_throughout(loaded, named["x"], end) is shared


def test_weights_in_a_second_file(engine: Engine, tmp_path: Path) -> None:
    """Rules that rewrite weights (flipped kernels) find them, and the maps are those of the file in one piece."""
    x = RNG.normal(size=(2, 3, 16, 16)).astype(np.float32)
    found = []
    for kind, options in (("whole", {}), ("split", {"save_as_external_data": True, "size_threshold": 100})):
        folder = tmp_path / kind
        folder.mkdir()
        onnx.save(cnn(), folder / "m.onnx", **options)
        engine.repository.add("m", folder / "m.onnx")
        found.append(ask(engine, x, ASKED).items)
    assert [p.name for p in (tmp_path / "split").iterdir()] != ["m.onnx"]
    for one, other in zip(*found, strict=True):
        for a, b in zip(one.attributions, other.attributions, strict=True):
            np.testing.assert_array_equal(a.values, b.values)
