"""Every method on every kind of model: files in a folder, a real server, a real client, equal to the engine alone."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest

from graph_tools.errors import UnsupportedModel
from service.client import Result, ServiceError
from service.client.requests import make_call
from service.explainers.registry import EXPLAINERS
from service.runtime.context import Run
from service.types import Array, ItemResult, Progress, Selector
from tests.service import shelf
from tests.service.conftest import Served
from tests.service.shelf import BROKEN, KINDS

PAIRS = [(name, method) for name in KINDS for method in EXPLAINERS]


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit, whatever it is made of."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.shape(a) == np.shape(b) and np.array_equal(a, b, equal_nan=True)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return bool(a == b)


def request(name: str, method: str) -> dict[str, Any]:
    """Two random inputs; for methods with a target the strongest class and the difference of two."""
    kind, explainer = KINDS[name], EXPLAINERS[method]
    asked: dict[str, Any] = {"method": method, "top_k": 3, **kind.feeds(2, seed=1)}
    if explainer.needs_target:
        asked["targets"] = [Selector(rank=1), (0, 1)]
    elif explainer.needs_layer and not kind.layer:
        asked["layers"] = [kind.inner]
    return asked


@pytest.mark.parametrize(("name", "method"), PAIRS, ids=[f"{n}-{m}" for n, m in PAIRS])
def test_every_method_on_every_model(served: Served, name: str, method: str) -> None:
    """The client gets exactly what the engine computes in process, and the second request builds nothing."""
    kind, explainer, asked = KINDS[name], EXPLAINERS[method], request(name, method)
    listed = {m.name: m for m in served.client.methods(name)}[method]
    assert listed.supported == kind.supports(explainer), listed.why_not
    if not listed.supported:
        with pytest.raises(ServiceError) as caught:
            served.client.explain(name, **asked)
        assert caught.value.code == "FAILED_PRECONDITION"
        assert listed.why_not in caught.value.message
        assert "occlusion" in caught.value.message
        return
    alone = served.engine.explain(make_call(name, **asked).request, Run())
    answer = served.client.explain(name, **asked)
    assert answer.timing.built == answer.timing.build == 0
    assert (answer.model, answer.digest, answer.provider) == (name, alone.digest, "CPUExecutionProvider")
    assert (answer.parameters, answer.notes) == (dict(alone.parameters), alone.notes)
    assert len(answer.items) == 2
    for got, want in zip(answer.items, alone.items, strict=True):
        assert same(got, dataclasses.replace(want, image=None, original=None))
        check(name, method, got)


def check(name: str, method: str, item: ItemResult) -> None:
    """Shapes, and that every number is one."""
    kind, explainer = KINDS[name], EXPLAINERS[method]
    assert len(item.predictions) == min(3, kind.classes)
    assert (item.geometry is not None) == kind.image
    assert len(item.attributions) == (2 if explainer.needs_target else 0)
    whole = kind.shape[:2] if kind.image else kind.shape
    plane = kind.shape[-2:] if len(kind.shape) > 2 and not kind.image else whole
    for attribution in item.attributions:
        assert attribution.values.shape in (whole, plane)
        assert attribution.values.dtype == np.float32
        assert np.isfinite(attribution.values).all()
        assert attribution.layer == (kind.layer if explainer.needs_layer else "")
    for layer in item.activations:
        assert layer.layer == (kind.layer or kind.inner)
        assert len(layer.values) == len(layer.channels) == min(64, layer.total)
        assert list(layer.energy) == sorted(layer.energy, reverse=True)
    if explainer.needs_target:
        strongest, difference = (a.target for a in item.attributions)
        assert strongest.index == item.predictions[0].index
        assert strongest.label == item.predictions[0].label
        assert (difference.index, difference.minus_index) == (0, 1)


@pytest.mark.parametrize("method", [m for m, e in EXPLAINERS.items() if e.needs_target])
def test_one_net_in_every_form_gives_one_answer(served: Served, method: str) -> None:
    asked = request("nchw", method)
    want = served.client.explain("nchw", **asked)
    for name, tolerance in (("nhwc", 1e-5), ("single", 1e-5), ("two", 1e-5), ("half", 2e-2)):
        got = served.client.explain(name, **asked)
        for a, b in zip(got.items, want.items, strict=True):
            for x, y in zip(a.attributions, b.attributions, strict=True):
                step = 2e-3 if (name, method) == ("half", "occlusion") else 0  # of a logit in float16
                limit = step + tolerance * np.abs(y.values).max()
                np.testing.assert_allclose(x.values, y.values, atol=limit, err_msg=name)
                assert x.target.index == y.target.index


@pytest.mark.parametrize("method", sorted(EXPLAINERS))
def test_rows_that_are_looped_do_not_mix(served: Served, method: str) -> None:
    """A file that takes one row a run: three inputs together are three inputs alone."""
    assert served.client.model("looped").fixed_rows == 1
    assert served.client.model("single").fixed_rows is None
    images = KINDS["looped"].feeds(3, seed=4)["image"]
    together = served.client.explain("looped", images, method=method)
    for image, item in zip(images, together.items, strict=True):
        assert same(served.client.explain("looped", image, method=method).items, (item,))


def test_a_stream_and_a_batch_give_the_same(served: Served) -> None:
    images = KINDS["nchw"].feeds(3, seed=2)["image"]
    want = [served.client.explain("nchw", image, method="occlusion", patch=3, stride=1) for image in images]
    *reports, last = served.client.explain_stream("nchw", images[0], method="occlusion", patch=3, stride=1)
    assert isinstance(last, Result)
    assert same(last.items, want[0].items)
    done = [r.done for r in reports if isinstance(r, Progress)]
    assert len(done) == len(reports)
    assert done == sorted(done)
    items = [(str(i), image) for i, image in enumerate(images)]
    outcomes = dict(served.client.explain_batch("nchw", items, method="occlusion", patch=3, stride=1))
    for i, single in enumerate(want):
        outcome = outcomes[str(i)]
        assert isinstance(outcome, Result)
        assert same(outcome.items, single.items)


def test_models_are_described(served: Served) -> None:
    for name, kind in KINDS.items():
        model = served.client.model(name, values=True)
        assert model.classes == kind.classes, name
        assert (model.default_layer, bool(model.whitebox_error)) == (kind.layer, not kind.graph), name
        assert (model.image == kind.shape) or not kind.image, name
        assert not any("preprocessed" in layer for layer in model.layers), name
        assert set(model.layers) <= {v.name for v in model.values}, name
    assert served.client.model("trees").labels == ("owl", "cat", "dog")
    assert served.client.model("linear").labels == ()
    assert [v.name for v in served.client.model("two").outputs] == ["age", "species"]


def test_the_first_request_builds_and_says_how_long(served: Served) -> None:
    image = KINDS["nchw"].feeds(1, seed=7)["image"]
    for method in EXPLAINERS:
        first = served.client.explain("versioned", image, method=method, version="9")
        if method != "predict":
            assert first.timing.built >= 1, method
        assert (first.timing.build > 0) == (first.timing.built > 0)
        assert first.timing.build + first.timing.run + first.timing.decode <= first.timing.total
        asked = {"targets": 3} if EXPLAINERS[method].needs_target else {}
        again = served.client.explain("versioned", image, method=method, version="9", **asked)
        assert (again.timing.built, again.timing.build) == (0, 0.0), method


def test_many_callers_at_once_build_once(served: Served) -> None:
    image = KINDS["nchw"].feeds(1, seed=7)["image"]
    with ThreadPoolExecutor(6) as pool:
        calls = [
            pool.submit(served.client.explain, "versioned", image, method="saliency", signed=True, version="1")
            for _ in range(6)
        ]
        answers = [call.result() for call in calls]
    assert sum(a.timing.built for a in answers) == 1
    assert all(same(a.items, answers[0].items) for a in answers)


@pytest.mark.parametrize("name", KINDS)
def test_probabilities_are_probabilities(served: Served, name: str) -> None:
    answer = served.client.explain(name, **KINDS[name].feeds(2, seed=5), method="predict", top_k=1000)
    for item in answer.items:
        assert len(item.predictions) == KINDS[name].classes
        found = [s.probability for s in item.predictions if s.probability is not None]
        assert sum(found) == pytest.approx(1, abs=2e-3 if name == "half" else 1e-5)
        assert found == sorted(found, reverse=True)


def test_the_newest_version_is_served(served: Served) -> None:
    listed = [(m.version, m.latest) for m in served.client.models() if m.name == "versioned"]
    assert sorted(listed) == [("1", False), ("10", True), ("9", False)]
    image = KINDS["nchw"].feeds(1, seed=3)["image"]
    answers = {v: served.client.explain("versioned", image, method="grad_cam", version=v) for v in ("", "1", "9", "10")}
    assert [a.version for a in answers.values()] == ["10", "1", "9", "10"]
    assert same(answers[""].items, answers["10"].items)
    assert len({a.digest for a in answers.values()}) == 3
    assert not same(answers["1"].items, answers["9"].items)
    for version in ("1", "9", "10"):
        onnx.checker.check_model(served.folder / "versioned" / version / "model.onnx")
        assert served.client.model("versioned", version).digest == answers[version].digest


def test_broken_files_are_listed_and_the_others_served(served: Served) -> None:
    models = served.client.models()
    assert {m.name for m in models if m.state == "READY"} == {*KINDS, "versioned", "scenes", "fragile"}
    broken = {m.name: m for m in models if m.state == "UNAVAILABLE"}
    assert set(broken) == set(BROKEN)
    assert len(models) == len(KINDS) + 3 + 1 + 1 + len(BROKEN)
    for name, word in BROKEN.items():
        assert word in broken[name].reason, broken[name].reason
        assert str(served.folder.parent) not in broken[name].reason
        assert "Traceback" not in broken[name].reason
        assert broken[name].digest == ""


@pytest.mark.parametrize("name", [n for n in BROKEN if " " not in n])
def test_broken_files_are_refused_on_every_call(served: Served, name: str) -> None:
    reason = {m.name: m.reason for m in served.client.models()}[name]
    for call in (
        lambda: served.client.explain(name, np.zeros((16, 16, 3), np.uint8), method="predict"),
        lambda: served.client.model(name),
        lambda: served.client.methods(name),
    ):
        with pytest.raises(ServiceError) as caught:
            call()
        assert (caught.value.code, caught.value.reason) == ("FAILED_PRECONDITION", "UNSUPPORTED_MODEL")
        assert caught.value.message == reason
    depths = []
    for _ in range(3):
        with pytest.raises(UnsupportedModel) as raised:
            served.engine.repository.get(name)
        depths.append(len(raised.traceback))
    assert len(set(depths)) == 1  # nothing of a caller stays behind in the error that is kept


def test_the_demo_model_with_its_card(served: Served) -> None:
    model = served.client.model("scenes")
    assert model.image is not None
    assert len(model.labels) == model.classes
    image = np.random.default_rng(0).integers(0, 256, (90, 140, 3)).astype(np.uint8)
    for method, explainer in EXPLAINERS.items():
        targets = [model.labels[3]] if explainer.needs_target else ()
        answer = served.client.explain("scenes", image, method=method, targets=targets, render="sheet")
        assert answer.notes == ()  # the card says everything: nothing was assumed
        for attribution in answer.items[0].attributions:
            assert attribution.target.label == model.labels[3]
            assert attribution.values.shape == model.image[:2]
        assert all(p.startswith(b"\x89PNG") for p in answer.pictures[0])


FRAGILE = "fragile"


def test_files_changed_under_the_server_change_nothing(served: Served) -> None:
    """Written over in place, cut short, gone: the same bits, for programs built before and after."""
    row: Array = np.random.default_rng(8).normal(size=(2, 4)).astype(np.float32)
    asked: dict[str, Any] = {"tensor": row, "targets": [1], "method": "occlusion"}
    before = served.client.explain(FRAGILE, **asked)
    files = [served.folder / "fragile.onnx", served.folder / "fragile.bin"]
    whole = [file.read_bytes() for file in files]
    gradients = []
    for damage in ("overwritten", "cut", "gone"):
        for file, data in zip(files, whole, strict=True):
            if damage == "gone":
                file.unlink()
            else:
                with open(file, "r+b") as open_file:
                    open_file.write(bytes(len(data)))
                    open_file.truncate(len(data) if damage == "overwritten" else 10)
        after = served.client.explain(FRAGILE, **asked)
        assert same(after.items, before.items), damage
        assert after.digest == before.digest
        gradients.append(served.client.explain(FRAGILE, **{**asked, "method": "saliency"}))
    assert np.abs(gradients[0].map).max() > 0
    assert all(same(g.items, gradients[0].items) for g in gradients)
    assert served.client.model(FRAGILE).digest == before.digest
    assert {m.name: m.state for m in served.client.models()}[FRAGILE] == "READY"


def test_the_folder_is_read_once(served: Served) -> None:
    """A file that comes later is not served, and does not disturb."""
    onnx.save(KINDS["nchw"].proto, served.folder / "late.onnx")
    assert "late" not in {m.name for m in served.client.models()}
    assert shelf.KINDS.keys() <= {m.name for m in served.client.models()}
