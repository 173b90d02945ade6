"""``onnx-explain explain`` on files: inputs, targets, outputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.core import Engine
from service.models.card import read_card
from service.models.repository import Repository
from service.pictures.png import read_metadata
from service.runtime.context import Run as Context
from service.runtime.home import Runtime
from service.types import ExplainRequest, ItemResult, Selector, Target
from tests.service.cli.conftest import SCENES, Run, picture

STAR, MUSHROOM = 0, 8
CPU = ("--provider", "cpu")


@pytest.fixture(scope="module")
def engine() -> Engine:
    engine = Engine(Repository(Runtime("cpu")))
    engine.repository.add("scenes", SCENES, parsed=read_card(SCENES.with_suffix(".toml")))
    return engine


def answer(engine: Engine, photo: Path, method: str, *targets: Target, **parameters: object) -> ItemResult:
    request = ExplainRequest("scenes", method, images=(photo.read_bytes(),), targets=targets, parameters=parameters)
    return engine.explain(request, Context()).items[0]


def test_a_picture_is_written_into_the_current_folder_by_default(run: Run, photo: Path) -> None:
    done = run("explain", SCENES, photo, "-m", "grad_cam", *CPU)
    assert (done.code, done.err) == (0, "")
    assert "wrote photo.grad_cam.png" in done.out
    assert "star" in done.out
    png = Path("photo.grad_cam.png").read_bytes()
    assert read_metadata(png)["method"] == "grad_cam"
    with Image.open("photo.grad_cam.png") as image:
        assert image.width > 600


@pytest.mark.parametrize(
    ("method", "given", "parameters"),
    [
        ("saliency", [], {}),
        ("grad_cam", ["--layer", "block2"], {"layer": "block2"}),
        ("occlusion", ["--set", "patch=32,16", "--set", "stride=16"], {"patch": (32, 16), "stride": (16,)}),
    ],
)
def test_npy_is_the_raw_map_of_the_engine(
    run: Run, engine: Engine, photo: Path, method: str, given: list[str], parameters: dict[str, object]
) -> None:
    done = run("explain", SCENES, photo, "-m", method, *given, "-o", "deep/map.npy", *CPU)
    assert done.code == 0, done.err
    want = answer(engine, photo, method, **parameters).attributions[0].values
    got = np.load("deep/map.npy")
    assert (got.dtype, got.shape) == (np.float32, (128, 128))
    np.testing.assert_array_equal(got, want)


def test_targets_by_index_label_and_rank(run: Run, engine: Engine, photo: Path) -> None:
    first = answer(engine, photo, "predict").predictions[0].index
    done = run("explain", SCENES, photo, "-m", "saliency", "-t", first, "-t", "MUSHROOM", "-t", "top2", "-o", "k.npy")
    assert done.code == 0, done.err
    maps = np.load("k.npy")
    assert maps.shape == (4, 128, 128)
    np.testing.assert_allclose(maps[0], maps[2], rtol=1e-5, atol=1e-7)
    alone = answer(engine, photo, "saliency", Target(Selector(index=MUSHROOM))).attributions[0].values
    np.testing.assert_allclose(maps[1], alone, rtol=1e-4, atol=1e-6)


def test_minus_explains_the_difference(run: Run, photo: Path) -> None:
    for name, more in {
        "a": ["-t", "star"],
        "b": ["-t", "mushroom"],
        "d": ["-t", "star", "--minus", "mushroom"],
    }.items():
        done = run("explain", SCENES, photo, "-m", "grad_cam", *more, "--set", "relu=false", "-o", f"{name}.npy", *CPU)
        assert done.code == 0, done.err
    a, b, d = (np.load(f"{n}.npy") for n in "abd")
    np.testing.assert_allclose(d, a - b, atol=1e-4 * np.abs(a).max())
    assert "star (0) − mushroom (8)" in done.out


def test_json_holds_everything(run: Run, engine: Engine, photo: Path) -> None:
    more = ["-t", "star", "-t", "top1", "--minus", "tree", "--top-k", "3", "--seed", "7"]
    done = run("explain", SCENES, photo, "-m", "grad_cam", *more, "-o", "r.json", "-o", "r.npy", *CPU)
    assert done.code == 0, done.err
    told = json.loads(Path("r.json").read_text())
    assert (told["model"], told["method"], told["seed"]) == ("scenes", "grad_cam", 7)
    assert told["provider"] == "CPUExecutionProvider"
    assert told["digest"].startswith("sha256:")
    assert told["parameters"] == {"layer": "", "relu": True, "resize": True}
    assert told["timing"]["rows"] == 1
    (item,) = told["items"]
    assert item["input"] == "photo"
    assert len(item["predictions"]) == 3
    assert set(item["predictions"][0]) == {"index", "label", "logit", "probability"}
    target = item["attributions"][0]["target"]
    assert (target["label"], target["minus_label"], target["minus_index"]) == ("star", "tree", 4)
    values = np.array([a["values"] for a in item["attributions"]], np.float32)
    np.testing.assert_array_equal(values, np.load("r.npy"))


def test_a_folder_gives_a_file_per_picture_or_one_stack(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in (3, 4, 5):
        picture(folder / f"p{seed}.png", seed)
    (folder / "readme.txt").write_text("not a picture")
    more = ["-o", "maps/{name}-{method}.npy", "-o", "all.npy", "-o", "all.json", "-o", "drawn/"]
    done = run("explain", SCENES, folder, "-m", "saliency", *more, *CPU)
    assert done.code == 0, done.err
    stack = np.load("all.npy")
    assert stack.shape == (3, 128, 128)
    for i, seed in enumerate((3, 4, 5)):
        np.testing.assert_array_equal(np.load(f"maps/p{seed}-saliency.npy"), stack[i])
        assert Path(f"drawn/p{seed}.saliency.png").is_file()
    told = json.loads(Path("all.json").read_text())
    assert [i["input"] for i in told["items"]] == ["p3", "p4", "p5"]
    assert told["timing"]["rows"] == 3
    assert [line.partition(" ")[0] for line in done.out.splitlines()[:3]] == ["p3", "p4", "p5"]


def test_a_damaged_picture_does_not_stop_the_others(run: Run, tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        picture(tmp_path / name)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    done = run("explain", SCENES, "a.png", "b.png", "c.png", "-m", "saliency", *CPU)
    assert done.code == 2
    assert done.error.startswith("b.png: the PNG is truncated")
    written = sorted(p.name for p in Path("saliency-out").iterdir())
    assert written == ["a.saliency.png", "c.saliency.png"]


def test_inputs_of_one_name_do_not_overwrite_each_other(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    picture(tmp_path / "a.png", 3)
    picture(tmp_path / "x" / "a.png", 4)
    assert run("explain", SCENES, "a.png", "x/a.png", "-m", "saliency", "-o", "o/{name}.npy", *CPU).code == 0
    assert (np.load("o/a.npy") != np.load("o/a-2.npy")).any()


def test_activations_as_grid_and_as_the_layer_itself(run: Run, engine: Engine, photo: Path) -> None:
    more = ["--layer", "block1", "-o", "l.npy", "-o", "l.png"]
    done = run("explain", SCENES, photo, "-m", "activations", *more, *CPU)
    assert done.code == 0, done.err
    (layer,) = answer(engine, photo, "activations", layers=("block1",), channels=0).activations
    assert f"block1: {layer.total} channels of 32 x 32" in done.out
    got = np.load("l.npy")
    assert got.shape == (layer.total, 32, 32)
    np.testing.assert_array_equal(got[layer.channels], layer.values)
    run(
        "explain", SCENES, photo, "-m", "activations", "--layer", "block1", "--set", "channels=2", "-o", "two.npy", *CPU
    )
    np.testing.assert_array_equal(np.load("two.npy"), layer.values[:2])


def test_predict_prints_and_writes_only_what_was_asked(run: Run, photo: Path) -> None:
    done = run("explain", SCENES, photo, "-m", "predict", "--top-k", "2", *CPU)
    assert done.code == 0
    assert "wrote" not in done.out
    assert [p.name for p in Path().iterdir()] == ["photo.png"]
    done = run("explain", SCENES, photo, "-m", "predict", "-o", "p.npy", *CPU)
    assert (done.code, done.error) == (2, "-o: method predict makes no map; write .json or .png")
    assert run("explain", SCENES, photo, "-m", "predict", "-o", "p.png", *CPU).code == 0


def test_a_time_budget_gives_what_there_is_and_says_so(run: Run, photo: Path) -> None:
    more = ["--set", "patch=8", "--set", "stride=4", "--max-seconds", "1e-9", "-o", "m.json"]
    done = run("explain", SCENES, photo, "-m", "occlusion", *more, *CPU)
    assert done.code == 0, done.err
    assert "note: the time was up" in done.err
    assert json.loads(Path("m.json").read_text())["truncated"] is True


@pytest.mark.parametrize("size", [(3, 4000), (4000, 3)])
def test_pictures_of_extreme_shapes(run: Run, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "green").save("long.png")
    for method in ("saliency", "grad_cam", "activations"):
        done = run("explain", SCENES, "long.png", "-m", method, *CPU)
        assert done.code == 0, done.err
        assert Path(f"long.{method}.png").is_file()
