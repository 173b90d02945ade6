from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.client import Client, ServiceError
from service.client.requests import as_targets, make_call
from service.types import Selector, Target
from tests.service.api.fake import Running

ROOT = Path(__file__).resolve().parents[3]


def test_importing_the_client_loads_no_model_library() -> None:
    code = (
        "import sys, service.client\n"
        "heavy = {'onnx', 'onnx_ir', 'onnxruntime', 'graph_tools', 'PIL'}\n"
        "sys.exit(str(heavy & {name.partition('.')[0] for name in sys.modules} or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_models(client: Client) -> None:
    models = client.models()
    assert [m.name for m in models] == ["broken", *(f"model-{i:03}" for i in range(250))]
    assert (models[0].state, models[0].reason, models[0].latest) == ("UNAVAILABLE", "truncated", False)
    assert (models[1].state, models[1].digest, models[1].latest) == ("READY", "sha256:ab", True)


def test_an_unknown_model(client: Client) -> None:
    with pytest.raises(ServiceError) as caught:
        client.model("nett")
    assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "UNKNOWN_MODEL")
    assert set(caught.value.facts["nearest"].split(", ")) == {"net", "network"}


def test_methods(client: Client) -> None:
    grad_cam, occlusion = client.methods("net")
    assert (grad_cam.name, grad_cam.kind, grad_cam.supported) == ("grad_cam", "white-box", False)
    assert grad_cam.why_not == "no layer with space; try occlusion"
    assert (occlusion.kind, occlusion.supported, occlusion.reports_progress) == ("black-box", True, True)
    patch, baseline, value = occlusion.parameters
    assert (patch.name, patch.type, patch.default, patch.minimum) == ("patch", "list[int]", [], 1)
    assert (patch.maximum, patch.unit) == (None, "pixels")
    assert (baseline.type, baseline.default, baseline.choices) == ("str", "grey", ("grey", "blur"))
    assert (value.type, value.default, value.minimum, value.maximum) == ("float", 0.0, 0, 255)


def test_inputs_of_every_kind(server: Running, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(b"\x09png")
    pixels = np.full((2, 3), 8, np.uint8)
    client.explain("net", [file, str(file), bytearray(b"\1"), pixels], method="predict")
    images = server.engine.requests[-1].images
    assert images[:3] == (b"\x09png", b"\x09png", b"\1")
    assert np.array_equal(images[3], pixels)
    client.explain("net", tensor=np.ones((2, 4), np.float32), method="predict")
    assert server.engine.requests[-1].tensors[""].shape == (2, 4)
    client.explain("net", tensor={"a": np.ones(2, np.int64), "b": np.ones(2, bool)}, method="predict")
    assert {k: v.dtype.name for k, v in server.engine.requests[-1].tensors.items()} == {"a": "int64", "b": "bool"}


def test_targets_of_every_kind() -> None:
    one = Target(Selector(index=3))
    assert as_targets(3) == as_targets(np.int64(3)) == as_targets([3]) == as_targets(one) == (one,)
    assert as_targets("cat") == (Target(Selector(name="cat")),)
    assert as_targets([("cat", 3), Selector(rank=2)]) == (
        Target(Selector(name="cat"), Selector(index=3)),
        Target(Selector(rank=2)),
    )
    assert as_targets(()) == ()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([3.9], "targets[0]"),
        (3.0, "targets[0]"),
        ([1, True], "targets[1]"),
        ([None], "targets[0]"),
        ([(1, 2.5)], "targets[0].minus"),
        ([(1, 2, 3)], "targets[0]"),
        (np.array([1.5]), "targets[0]"),
    ],
)
def test_what_is_no_class_is_refused(client: Client, given: Any, field: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        as_targets(given)
    with pytest.raises(ServiceError) as caught:
        client.explain("net", b"x", targets=given)
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", field)


def test_parameters_from_both_ways() -> None:
    call = make_call("net", b"x", method="occlusion", parameters={"patch": "8"}, stride=4)
    assert call.request.parameters == {"patch": "8", "stride": 4}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"method": "nope"}, "method"),
        ({"method": "occlusion", "path": 3}, "occlusion.path"),
        ({"method": "occlusion", "patch": "big"}, "occlusion.patch"),
        ({"method": "predict", "render": "poster"}, "render.style"),
    ],
)
def test_mistakes_are_told_before_the_call(
    server: Running, client: Client, given: dict[str, object], field: str
) -> None:
    with pytest.raises(ServiceError) as caught:
        client.explain("net", b"x", **given)
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", field)
    assert server.engine.requests == []


def test_a_result_without_maps_says_so(client: Client) -> None:
    answer = client.explain("net", b"x", method="predict")
    empty = type(answer)(**{**vars(answer), "items": (type(answer.items[0])(),)})
    with pytest.raises(ValueError, match="predict makes no maps"):
        _ = empty.map


def test_the_example_runs(server: Running, tmp_path: Path) -> None:
    picture = tmp_path / "dog.png"
    picture.write_bytes(b"\3")
    command = [sys.executable, "-m", "service.client.example", server.address, "net", str(picture)]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "bull mastiff 0.75" in done.stdout
    assert (tmp_path / "explanation.png").read_bytes()[:4] == b"\x89PNG"
