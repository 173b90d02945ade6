"""Models and inputs that have no gradient or no finite score: what the caller is told, and that the rest works."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.client import ServiceError
from tests.service.conftest import Served

PIXELS = np.random.default_rng(6).integers(0, 256, (16, 16, 3)).astype(np.uint8)
ROW = np.ones((1, 4), np.float32)
GRADIENTS = [
    ("stepped", "saliency", {}, "Cast", "to_integers"),
    ("stepped", "grad_cam", {}, "Cast", "to_integers"),
    ("stepped", "grad_cam", {"layer": "c"}, "Cast", "to_integers"),
    ("linear", "saliency", {"tensor": ROW}, "ai.onnx.ml::LinearClassifier", "LinearClassifier_0"),
]


@pytest.mark.parametrize(("model", "method", "given", "operator", "node"), GRADIENTS)
def test_no_gradient_path(
    served: Served, model: str, method: str, given: dict[str, Any], operator: str, node: str
) -> None:
    """The operator, its node, and what works instead; and that does."""
    image = None if "tensor" in given else PIXELS
    with pytest.raises(ServiceError) as caught:
        served.client.explain(model, image, method=method, **given)
    error = caught.value
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "UNSUPPORTED_GRADIENT")
    assert (error.facts["operator"], error.facts["node"]) == (operator, node)
    for word in (operator, node, "occlusion", "predict"):
        assert word in error.message
    given = {k: v for k, v in given.items() if k == "tensor"}
    for instead in ("occlusion", "predict"):
        assert served.client.explain(model, image, method=instead, **given).predictions
    if model == "stepped":  # behind the Cast there is a gradient
        assert served.client.explain(model, image, method="grad_cam", layer="again").map.shape == (16, 16)


def test_scores_that_are_not_finite_are_told(served: Served) -> None:
    huge = {"x": np.full((1, 4), 3e38, np.float32), "weight": np.full((1, 1), 3e38, np.float32)}
    answer = served.client.explain("pair", tensor=huge, method="predict")
    assert any("not finite for input 0" in note for note in answer.notes)
    with pytest.raises(ServiceError) as caught:
        served.client.explain("pair", tensor=huge, method="occlusion")
    assert caught.value.code == "FAILED_PRECONDITION"
    assert "not finite" in caught.value.message
