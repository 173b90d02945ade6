"""The real engine behind the real server: the model of the demo over a real connection."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service import demo
from service.api.server import Settings, background
from service.client import Client, Result, ServiceError
from service.core import Engine
from service.explainers.registry import EXPLAINERS
from service.models.repository import Repository
from service.runtime.home import Runtime
from service.types import Progress
from tests.service.api.fake import WAIT

FILES = Path(demo.__path__[0])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(FILES / "scenes.onnx", folder)
    shutil.copy(FILES / "scenes.toml", folder)
    (folder / "broken.onnx").write_bytes((FILES / "scenes.onnx").read_bytes()[:5000])
    engine = Engine(Repository(Runtime("cpu", threads=1), folder))
    engine.repository.load_all()
    with background(engine, Settings(port=0)) as address, Client(address, timeout=4 * WAIT) as client:
        yield client


@pytest.fixture(scope="module")
def picture() -> bytes:
    noise = np.random.default_rng(5).integers(0, 256, (12, 15, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).resize((150, 120)).save(out, "PNG")
    return out.getvalue()


def test_the_broken_file_is_listed_and_the_other_served(client: Client) -> None:
    broken, scenes = client.models()
    assert (broken.name, broken.state) == ("broken", "UNAVAILABLE")
    assert broken.reason
    assert (scenes.name, scenes.state, scenes.latest) == ("scenes", "READY", True)
    assert scenes.digest.startswith("sha256:")
    with pytest.raises(ServiceError) as caught:
        client.model("broken")
    assert caught.value.code == "FAILED_PRECONDITION"


def test_a_model_is_described(client: Client) -> None:
    model = client.model("scenes", values=True)
    assert model.image is not None
    assert model.image[2] == 3
    assert len(model.labels) == model.classes
    assert model.score_kind == "multi-label"
    assert model.default_layer in model.layers
    assert model.default_layer in {v.name for v in model.values if v.gradient}
    assert (model.provider, model.whitebox_error) == ("CPUExecutionProvider", "")
    assert client.model("scenes").values == ()


def test_methods_are_described(client: Client) -> None:
    methods = {m.name: m for m in client.methods("scenes")}
    assert set(methods) == set(EXPLAINERS)
    assert all(m.supported for m in methods.values())
    for name, method in methods.items():
        assert [p.name for p in method.parameters] == [p.name for p in EXPLAINERS[name].parameter_infos()]


@pytest.mark.parametrize("method", sorted(EXPLAINERS))
def test_every_method_answers(client: Client, picture: bytes, method: str) -> None:
    model = client.model("scenes")
    result = client.explain("scenes", picture, method=method, render="overlay", top_k=3)
    assert result.method == method
    assert set(result.parameters) == {p.name for p in EXPLAINERS[method].parameter_infos()}
    assert len(result.predictions) == 3
    (item,) = result.items
    assert item.geometry is not None
    assert item.geometry.original == (120, 150)
    parts = (*item.attributions, *item.activations)
    assert [p[:4] for p in result.pictures[0]] == [b"\x89PNG"] * len(parts)
    if item.attributions:
        assert model.image is not None
        assert result.map.shape == model.image[:2]
        assert result.map.dtype == np.float32
        assert item.attributions[0].target.index == result.predictions[0].index


def test_the_second_request_builds_nothing(client: Client, picture: bytes) -> None:
    client.explain("scenes", picture, method="grad_cam")
    again = client.explain("scenes", picture, method="grad_cam", targets=[(0, 1)])
    assert again.timing.built == 0
    assert [a.target.minus_index for a in again.items[0].attributions] == [1]


def test_a_stream_of_the_looping_method(client: Client, picture: bytes) -> None:
    events = list(client.explain_stream("scenes", picture, method="occlusion", patch=32, partial_maps=True))
    *reports, last = events
    assert isinstance(last, Result)
    assert all(isinstance(r, Progress) for r in reports)
    done = [r.done for r in reports if isinstance(r, Progress)]
    assert done == sorted(done)
    same = client.explain("scenes", picture, method="occlusion", patch=32)
    assert np.array_equal(last.map, same.map)


def test_a_batch_equals_single_calls(client: Client, picture: bytes) -> None:
    items = {"a": picture, "b": np.zeros((40, 50, 3), np.uint8), "c": b"not an image"}
    outcomes = dict(client.explain_batch("scenes", items.items(), method="saliency"))  # type: ignore[arg-type]
    for name in ("a", "b"):
        outcome = outcomes[name]
        assert isinstance(outcome, Result)
        assert np.array_equal(outcome.map, client.explain("scenes", items[name], method="saliency").map)
    assert isinstance(outcomes["c"], ServiceError)
    assert outcomes["c"].code == "INVALID_ARGUMENT"


BAD = [
    ({"method": "grad_cam", "layer": "no_such_layer"}, "NOT_FOUND", ""),
    ({"targets": 10_000}, "INVALID_ARGUMENT", "targets[0]"),
    ({"targets": "no such class"}, "NOT_FOUND", ""),
    ({"method": "occlusion", "patch": 4000}, "INVALID_ARGUMENT", "occlusion.patch"),
    ({"method": "occlusion", "value": float("nan")}, "INVALID_ARGUMENT", "occlusion.value"),
    ({"image": b"not an image"}, "INVALID_ARGUMENT", "inputs[0].image"),
    ({"image": None}, "INVALID_ARGUMENT", "inputs"),
    ({"image": None, "tensor": np.zeros((1, 3), np.float32)}, "INVALID_ARGUMENT", "inputs"),
    ({"version": "9"}, "NOT_FOUND", ""),
    ({"model": "scene"}, "NOT_FOUND", ""),
]


@pytest.mark.parametrize(("given", "code", "field"), BAD, ids=range(len(BAD)))
def test_bad_requests(client: Client, picture: bytes, given: dict[str, object], code: str, field: str) -> None:
    request = {"model": "scenes", "image": picture, "method": "saliency", **given}
    with pytest.raises(ServiceError) as caught:
        client.explain(**request)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert caught.value.field.startswith(field)
    assert bool(caught.value.field) == bool(field)
    assert client.explain("scenes", picture, method="predict").predictions


def test_truncated_pictures_are_refused(client: Client, picture: bytes) -> None:
    with pytest.raises(ServiceError) as caught:
        client.explain("scenes", picture[: len(picture) // 2], method="predict")
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", "inputs[0].image")
