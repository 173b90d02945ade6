"""Models of table rows, without any image: tensors in, answers known in closed form, over the whole service."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from service.types import Array
from tests.service.conftest import Served
from tests.service.shelf import KINDS

RNG = np.random.default_rng(12)
ROWS = RNG.normal(size=(3, 4)).astype(np.float32)
ONE_BY_ONE = {"method": "occlusion", "patch": 1, "stride": 1}


def weight(model: str, name: str) -> Array:
    tensors = KINDS[model].proto.graph.initializer
    return numpy_helper.to_array(next(t for t in tensors if t.name == name)).astype(np.float64)


def linear(x: Array) -> Array:
    """Probabilities of the model ``linear``."""
    node = KINDS["linear"].proto.graph.node[0]
    attributes = {a.name: np.array(a.floats, np.float64) for a in node.attribute if a.floats}
    z = x @ attributes["coefficients"].reshape(3, 4).T + attributes["intercepts"]
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def table(x: Array) -> Array:
    """Logits of the model ``table``."""
    return np.asarray(np.tanh(x @ weight("table", "v")) @ weight("table", "w"))


def drops(scores: Any, x: Array, fill: float) -> Array:
    """[features, classes]: f(x) - f(x with one feature replaced), by brute force."""
    covered = np.repeat(x[None], len(x), axis=0).astype(np.float64)
    np.fill_diagonal(covered, fill)
    return np.asarray(scores(x[None].astype(np.float64)) - scores(covered))


def test_a_classifier_without_a_graph_predicts(served: Served) -> None:
    answer = served.client.explain("linear", tensor=ROWS, method="predict")
    for item, want in zip(answer.items, linear(ROWS), strict=True):
        got = {s.index: s.probability for s in item.predictions}
        assert got == pytest.approx(dict(enumerate(want)), rel=1e-5)
        assert all(s.logit is None for s in item.predictions)


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_occlusion_of_a_classifier_without_a_graph(served: Served, score: str) -> None:
    """It has probabilities only: both scores are these."""
    answer = served.client.explain("linear", tensor=ROWS, targets=[1, (2, 0)], score=score, **ONE_BY_ONE)
    for item, x in zip(answer.items, ROWS, strict=True):
        want = drops(linear, x, 0.0)
        np.testing.assert_allclose(item.attributions[0].values, want[:, 1], atol=1e-6)
        np.testing.assert_allclose(item.attributions[1].values, want[:, 2] - want[:, 0], atol=1e-6)


@pytest.mark.parametrize(("baseline", "value"), [("zero", 0.0), ("grey", 0.0), ("value", 0.5), ("mean", None)])
def test_occlusion_of_a_table(served: Served, baseline: str, value: float | None) -> None:
    given = {} if value is None else {"value": value}
    answer = served.client.explain("table", tensor=ROWS, targets=2, baseline=baseline, **given, **ONE_BY_ONE)
    for item, x in zip(answer.items, ROWS, strict=True):
        fill = float(x.astype(np.float64).mean()) if value is None else value
        np.testing.assert_allclose(item.attributions[0].values, drops(table, x, fill)[:, 2], atol=1e-5)


def test_saliency_of_a_table(served: Served) -> None:
    answer = served.client.explain("table", tensor=ROWS, method="saliency", targets=0, signed=True)
    v, w = weight("table", "v"), weight("table", "w")
    for item, x in zip(answer.items, ROWS, strict=True):
        slope = 1 - np.tanh(x @ v) ** 2
        np.testing.assert_allclose(item.attributions[0].values, v @ (slope * w[:, 0]), atol=1e-5)


def test_the_second_input_rides_along(served: Served) -> None:
    weights = np.float32([[2], [-1], [0.5]])
    answer = served.client.explain("pair", tensor={"weight": weights, "x": ROWS}, targets=1, **ONE_BY_ONE)
    for item, x, factor in zip(answer.items, ROWS, weights, strict=True):
        np.testing.assert_allclose(item.attributions[0].values, x * weight("pair", "w")[:, 1] * factor, atol=1e-5)


TREES = {
    (1, 1, 0, 0): ({"dog": 0.75, "cat": 0.25, "owl": 0.0}, "dog", [0.75, 0.65, 0, 0]),
    (1, -1, 0, 0): ({"cat": 0.9, "dog": 0.1, "owl": 0.0}, "cat", [0.9, 0, 0, 0]),
    (-1, 1, 5, 5): ({"owl": 1.0, "cat": 0.0, "dog": 0.0}, "owl", [0, 0, 0, 0]),
}


@pytest.mark.parametrize("row", TREES)
def test_a_forest_with_names(served: Served, row: tuple[int, ...]) -> None:
    """Classes are called as the file calls them and counted as it counts them; only what a branch asks for matters."""
    probabilities, top, want = TREES[row]
    x = np.float32([row])
    answer = served.client.explain("trees", tensor=x, targets=[top, 0], **ONE_BY_ONE)
    assert {s.label: s.probability for s in answer.predictions} == pytest.approx(probabilities)
    assert answer.predictions[0].label == top
    assert [answer.items[0].attributions[k].target.label for k in (0, 1)] == [top, "owl"]
    np.testing.assert_allclose(answer.maps[0], want, atol=1e-6)
    strongest = served.client.explain("trees", tensor=x, **ONE_BY_ONE)
    assert strongest.items[0].attributions[0].target.label == top
    np.testing.assert_allclose(strongest.map, want, atol=1e-6)


def test_a_patch_covers_neighbours(served: Served) -> None:
    x = ROWS[:1]
    answer = served.client.explain("pair", tensor={"x": x, "weight": np.ones((1, 1), np.float32)}, targets=0,
                                   method="occlusion", patch=2, stride=2)  # fmt: skip
    parts = (x[0] * weight("pair", "w")[:, 0]).reshape(2, 2).sum(axis=1)
    np.testing.assert_allclose(answer.map, np.repeat(parts, 2), atol=1e-5)


def test_numbers_that_are_counts(served: Served) -> None:
    x = np.float32([[3, 1, -2, 0]])
    answer = served.client.explain("whole", tensor=x, method="predict")
    assert [s.index for s in answer.predictions] == [0, 1, 3, 2]
    assert [s.logit for s in answer.predictions] == [3, 1, 0, -2]
