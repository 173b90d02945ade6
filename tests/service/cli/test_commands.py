"""The model card a file gets, ``inspect``, ``--server``, ``serve`` and ``demo``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.api import server
from service.client import Client
from service.core import Engine
from service.models.repository import Repository
from service.runtime.home import Runtime
from tests.service.cli.conftest import SCENES, Run

ROOT = Path(__file__).resolve().parents[3]
CPU = ("--provider", "cpu")
COLOURS = 'labels = ["red", "green", "blue"]\npreset = "zero-to-one"\n'


def describe(run: Run, model: Path, *more: object) -> dict[str, object]:
    done = run("inspect", model, "--json", *more, *CPU)
    assert done.code == 0, done.err
    told: dict[str, object] = json.loads(done.out)
    return told


# cards


def test_the_card_beside_the_model_is_used(run: Run, colours: Path) -> None:
    assert (describe(run, colours)["labels"], describe(run, colours)["card"]) == ([], None)
    Path("card.toml").write_text(COLOURS)
    assert describe(run, colours)["labels"] == ["red", "green", "blue"]  # the only model of the folder
    Path("other.onnx").write_bytes(b"")
    assert describe(run, colours)["card"] is None
    Path("colours.toml").write_text(COLOURS.replace("red", "rot"))
    assert describe(run, colours)["labels"] == ["rot", "green", "blue"]
    Path("mine.toml").write_text(COLOURS.replace("red", "rosso"))
    assert describe(run, colours, "--card", "mine.toml")["labels"] == ["rosso", "green", "blue"]


def test_a_versioned_model_has_its_card_above(run: Run, colours: Path) -> None:
    version = Path("nets/1")
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(colours.read_bytes())
    Path("nets/card.toml").write_text(COLOURS)
    assert describe(run, version / "model.onnx")["labels"] == ["red", "green", "blue"]


def test_a_preset_overrides_the_numbers_of_the_card_and_nothing_else(run: Run, colours: Path) -> None:
    Path("colours.toml").write_text('labels = ["a", "b", "c"]\n[input]\nscale = 2.0\nmean = 7\nresize = "pad"\n')
    with_card, with_preset = describe(run, colours), describe(run, colours, "--preset", "minus-one-to-one")
    assert with_card["preprocessing"] != with_preset["preprocessing"]
    assert with_preset["labels"] == ["a", "b", "c"]
    Path("colours.toml").write_text('preset = "minus-one-to-one"\n')
    assert describe(run, colours)["preprocessing"] == with_preset["preprocessing"]


def test_what_was_assumed_is_said(run: Run, colours: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("black.png")
    assumed = run("explain", colours, "black.png", "-m", "saliency", *CPU)
    assert (assumed.code, "note: no preprocessing was given: assumed preset zero-to-one" in assumed.err) == (0, True)
    told = run("explain", colours, "black.png", "-m", "saliency", "--preset", "zero-to-one", *CPU)
    assert "assumed" not in told.err


# inspect


def test_inspect_as_tables(run: Run) -> None:
    done = run("inspect", SCENES, "--layers", "--values", "--parameters", *CPU)
    assert (done.code, done.err) == (0, "")
    for text in ("image: float32 [batch, 3, 128, 128]", "star, heart, moon", "features by default", "grad_cam",
                 "sigmoid of 'logits'", "block1.sum", "stride", "probabilities: float32 [batch, 12]"):  # fmt: skip
        assert text in done.out
    short = run("inspect", SCENES, *CPU).out
    assert "block1.sum" not in short
    assert "stride" not in short


def test_inspect_as_json(run: Run) -> None:
    told = describe(run, SCENES, "--values")
    assert (told["opset"], told["rows"], told["image"]) == ("ai.onnx 18 (IR 8)", "any", [128, 128, 3])
    assert (told["default_layer"], told["score_kind"], told["classes"]) == ("features", "multi-label", 12)
    layers = {v["name"]: v for v in told["layers"]}
    batch, _, height, width = layers["block1"]["shape"]
    assert (batch, height, width) == ("batch", 32, 32)
    assert layers["block1"]["gradient"] is True
    assert {m["name"] for m in told["methods"] if m["supported"]} >= {"saliency", "grad_cam", "occlusion", "predict"}
    assert len(told["values"]) > len(layers)
    assert "values" not in describe(run, SCENES)


def test_inspect_says_what_a_model_does_not_support(run: Run, flowers: Path) -> None:
    told = describe(run, flowers)
    methods = {m["name"]: m for m in told["methods"]}
    assert told["image"] is None
    assert methods["saliency"]["supported"]
    assert not methods["grad_cam"]["supported"]
    assert methods["grad_cam"]["why_not"] in run("inspect", flowers, *CPU).out.replace("\n", " ")


# a server


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server.background(Engine(Repository(Runtime("cpu"), SCENES.parent))) as address:
        yield address


def test_a_server_gives_what_the_file_gives(run: Run, photo: Path, address: str) -> None:
    more = ["-m", "grad_cam", "-t", "star", "-t", "top2", "--minus", "tree", "--set", "relu=no"]
    there = run("explain", "scenes", photo, *more, "--server", address, "-o", "t.npy", "-o", "t.json", "-o", "t.png")
    here = run("explain", SCENES, photo, *more, "-o", "h.npy", "-o", "h.json", "-o", "h.png", *CPU)
    assert (there.code, here.code) == (0, 0), there.err
    np.testing.assert_array_equal(np.load("t.npy"), np.load("h.npy"))
    one, two = (json.loads(Path(f"{n}.json").read_text()) for n in "th")
    assert one["items"] == two["items"]
    assert (one["digest"], one["parameters"]) == (two["digest"], two["parameters"])
    assert (np.asarray(Image.open("t.png")) == np.asarray(Image.open("h.png"))).all()
    np.save("x.npy", np.zeros((3, 128, 128), np.float32))
    done = run("explain", "scenes", "x.npy", "-m", "occlusion", "--set", "patch=64", "--server", address)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["scnes", "photo.png", "-m", "saliency"], 2, "there is no model 'scnes'; nearest: scenes"),
        (["scenes", "photo.png", "-m", "salience"], 2, "there is no method 'salience'; nearest: saliency"),
        (["scenes", "photo.png", "-m", "saliency", "-t", "77"], 2, "--target: class 77 is out of range"),
        (["scenes", "photo.png", "-m", "grad_cam", "--layer", "block9"], 2, "there is no layer 'block9'; nearest"),
        (["scenes", "photo.png", "-m", "occlusion", "--set", "pach=9"], 2, "no such parameter"),
        (["scenes", "photo.png", "-m", "saliency", "--preset", "none"], 2, "belongs to the server's models folder"),
        (["scenes", "text.png", "-m", "saliency"], 2, "are no image"),
        (["scenes", "photo.png", "-m", "saliency", "--server", "127.0.0.1:1"], 1, "no server answers at 127.0.0.1:1"),
    ],
)
def test_errors_of_a_server(run: Run, photo: Path, address: str, args: list[str], code: int, said: str) -> None:
    Path("text.png").write_text("hello")
    done = run("explain", "--server", address, *args)
    assert done.code == code
    assert said in done.error


def test_serve_serves_until_sigterm(tmp_path: Path) -> None:
    (tmp_path / "scenes.onnx").write_bytes(SCENES.read_bytes())
    (tmp_path / "scenes.toml").write_bytes(SCENES.with_suffix(".toml").read_bytes())
    (tmp_path / "cut.onnx").write_bytes(SCENES.read_bytes()[:5000])
    command = [sys.executable, "-m", "service.cli", "serve", "--models", str(tmp_path), "--port", "0", *CPU]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("listening on "):
                break
        if not said:
            pytest.fail(process.communicate(timeout=30)[1])
        with Client(said[-1].split()[2].rstrip(","), timeout=30) as client:
            assert {m.name: m.state for m in client.models()} == {"cut": "UNAVAILABLE", "scenes": "READY"}
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, rest) == (0, "stopped\n")
    assert any(line.startswith("UNAVAILABLE  cut: ") and "cut short" in line for line in said)
    assert said[-1].endswith("1 of 2 models ready\n")


def test_serve_refuses_what_cannot_be_served(run: Run, address: str) -> None:
    port = address.rpartition(":")[2]
    assert run("serve", "--models", "nowhere", *CPU).error == "--models: there is no folder 'nowhere'"
    assert "holds no model; put NAME.onnx" in run("serve", "--models", ".", *CPU).error
    taken = run("serve", "--models", SCENES.parent, "--port", port, *CPU)
    assert (taken.code, "is another server running there?" in taken.error) == (2, True)
    assert "Missing option '--models'" in run("serve").error


# the demo


def test_the_demo_explains_three_scenes_and_draws_them(run: Run) -> None:
    done = run("demo", "-o", "out", *CPU)
    assert (done.code, done.err) == (0, "")
    assert "wrote out/demo.png" in done.out
    assert done.out.count("top 5") == 3
    for method in ("Saliency", "Grad-CAM", "Occlusion"):
        (row,) = [line for line in done.out.splitlines() if line.strip().startswith(method)]
        assert row.count(" ms") == 3
        assert " of 6" in row
    with Image.open("out/demo.png") as sheet:
        assert sheet.width > 1500
    assert sorted(p.name for p in Path("out").iterdir()) == ["demo.png", *(f"scene-{i}.png" for i in (1, 2, 3))]
