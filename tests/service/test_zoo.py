"""The real files on their pictures: the class they are known for, a map, the layer inferred, batches, both animals."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from PIL import Image

from service.core import Engine
from service.models.card import parse_card
from service.models.repository import Repository
from service.runtime.context import Run
from service.runtime.home import Runtime
from service.types import ExplainRequest, Geometry, Selector, Target
from tests.service.zoo import BY_NAME, SHARED, ZOO, Model, Picture, card_of, need

METHODS = ("saliency", "grad_cam", "occlusion")
DOG, CAT = (12, 128, 70, 178), (124, 222, 44, 200)  # rows, columns of both_dog_cat.png at 224 x 224
ANIMALS = [
    "squeezenet11_caffe2_fp32_op7",
    "squeezenet11_caffe2_fp16_op7",
    "mobilenet_v1_050_160_fp32_op11",
    "mobilenet_v2_100_224_fp32_op10",
    "mobilenet_v2_100_224_qdq_uint8io_op13",
]


@functools.cache
def _engine() -> Engine:
    return Engine(Repository(Runtime("cpu")))


def _model(model: Model) -> str:
    need(f"models/{model.path.name}")
    repository = _engine().repository
    if model.name not in {s.name for s in repository.list()}:
        repository.add(model.name, model.path, parsed=parse_card(card_of(model), model.name))
    return model.name


def _pixels(picture: Picture) -> np.ndarray:
    need(f"images/{picture.file}")
    image = Image.open(SHARED / "images" / picture.file).convert("RGB")
    return np.asarray(image.crop(picture.box) if picture.box else image)


def _explain(model: Model, method: str, pictures: list[Picture], **more):
    images = tuple(_pixels(p) for p in pictures)
    return _engine().explain(ExplainRequest(_model(model), method, images=images, **more), Run())


@pytest.mark.parametrize("model", ZOO, ids=lambda m: m.name)
def test_predicts_what_it_is_known_for(model):
    result = _explain(model, "predict", list(model.pictures))
    for item, picture in zip(result.items, model.pictures, strict=True):
        best = item.predictions[0]
        assert best.label.startswith(picture.top) or picture.top in best.label, picture.file
        if picture.probability is not None:
            off = 0.012 if "fp16" in model.name else 0.006  # in float16 a row differs with its batch
            assert best.probability == pytest.approx(picture.probability, abs=off), picture.file


@pytest.mark.parametrize("model", ZOO, ids=lambda m: m.name)
def test_default_layer(model):
    name = _model(model)
    assert _engine().repository.get(name).default_layer == model.layer


@pytest.mark.parametrize("method", ["saliency", "grad_cam"])
@pytest.mark.parametrize("model", ZOO, ids=lambda m: m.name)
def test_every_picture_gets_a_map_of_its_predicted_class(model, method):
    result = _explain(model, method, list(model.pictures))
    for item, picture in zip(result.items, model.pictures, strict=True):
        (attribution,) = item.attributions
        assert attribution.values.shape == item.image.shape[:2]
        assert np.isfinite(attribution.values).all()
        assert attribution.target.index == item.predictions[0].index, picture.file
        if method == "saliency":
            assert attribution.values.max() > 0, picture.file


@pytest.mark.parametrize("model", ZOO, ids=lambda m: m.name)
def test_occlusion_of_one_picture(model):
    side = min(_engine().repository.get(_model(model)).input_size())
    quarter = {"patch": (side // 4,), "stride": (side // 4,)}
    result = _explain(model, "occlusion", [model.pictures[0]], parameters=quarter)
    (attribution,) = result.items[0].attributions
    assert attribution.values.shape == result.items[0].image.shape[:2]
    assert np.abs(attribution.values).max() > 0
    assert attribution.target.index == result.items[0].predictions[0].index


@pytest.mark.parametrize("name", ANIMALS)
def test_dog_minus_cat_looks_at_the_dog_and_the_reverse_at_the_cat(name):
    model = BY_NAME[name]
    dog, cat = Selector(name="bull mastiff"), Selector(name="Egyptian cat")
    picture = Picture("both_dog_cat.png", "")
    result = _explain(model, "grad_cam", [picture], targets=(Target(dog, cat), Target(cat, dog)))
    item = result.items[0]
    for attribution, inside, outside in zip(item.attributions, (DOG, CAT), (CAT, DOG), strict=True):
        positive = np.maximum(attribution.values, 0)
        ratio = _mean(positive, inside, item.geometry) / max(_mean(positive, outside, item.geometry), 1e-12)
        assert ratio >= 10, (name, attribution.target.label, ratio)


def _mean(values: np.ndarray, box: tuple[int, int, int, int], geometry: Geometry) -> float:
    """Mean inside a box of the original, carried through resize and crop."""
    scale = geometry.resized[0] / geometry.original[0]
    top, left, height, width = geometry.crop
    rows = [int(np.clip(round(b * scale) - top, 0, height)) for b in box[:2]]
    columns = [int(np.clip(round(b * scale) - left, 0, width)) for b in box[2:]]
    return float(values[slice(*rows), slice(*columns)].mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["mobilenet_v2_100_224_fp32_op10", "squeezenet11_caffe2_fp32_op7"])
def test_a_batch_of_eight_equals_eight_runs(name, method):
    """Both files were exported with a batch of 1."""
    model = BY_NAME[name]
    pictures = list(model.pictures[:8])
    parameters = {"patch": (112,), "stride": (112,)} if method == "occlusion" else {}
    together = _explain(model, method, pictures, parameters=parameters)
    for picture, item in zip(pictures, together.items, strict=True):
        alone = _explain(model, method, [picture], parameters=parameters).items[0]
        want, got = alone.attributions[0], item.attributions[0]
        assert got.target.index == want.target.index
        # A row in a batch differs from the row alone by float rounding; a ReLU within rounding of 0 may flip.
        assert np.linalg.norm(got.values - want.values) <= 2e-3 * np.linalg.norm(want.values)
        for a, b in zip(item.predictions, alone.predictions, strict=True):
            assert abs(a.logit - b.logit) < 1e-4


def test_predictions_at_batch_eight_are_those_of_the_untouched_file():
    model = BY_NAME["mobilenet_v2_100_224_fp32_op10"]
    name = _model(model)
    loaded = _engine().repository.get(name)
    x = np.random.default_rng(0).uniform(-1, 1, (8, 224, 224, 3)).astype(np.float32)
    together = loaded.served.session.run({"image": x})
    from service.runtime.providers import resolve
    from service.runtime.session import Session

    alone = Session(str(model.path), resolve("cpu"))
    for i in range(8):
        want = alone.run({"image": x[i : i + 1]})
        for key, value in want.items():
            np.testing.assert_allclose(together[key][i : i + 1], value, atol=1e-6)
