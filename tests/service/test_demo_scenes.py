from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest

import service.demo
from service.demo import quality
from service.demo.objects import OBJECTS, Paint, Pose, render, unit_area
from service.demo.scenes import AREA, CLASSES, COUNTS, SIZE, TRAINING_SEEDS, Scene, draw

FOLDER = Path(service.demo.__file__).parent
MODEL = FOLDER / "scenes.onnx"
GREY = Paint((200, 60, 60), (60, 200, 60), (60, 60, 200), (20, 20, 20))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw(seed) for seed in range(120)]


def test_the_same_seed_draws_the_same_scene_in_another_process(scenes: list[Scene]) -> None:
    program = (
        "import hashlib; from service.demo.scenes import draw\n"
        "print(*(hashlib.sha256(draw(s).image.tobytes()).hexdigest() for s in (3, 7)))"
    )
    root = FOLDER.parent.parent
    other = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert other.stdout.split() == [hashlib.sha256(scenes[s].image.tobytes()).hexdigest() for s in (3, 7)]


def test_what_a_seed_shows_stays_what_it_was(scenes: list[Scene]) -> None:
    shown = [[CLASSES[i] for i in scene.present] for scene in scenes[:3]]
    assert shown == [["star", "moon", "cup"], ["heart", "rocket"], ["star", "heart", "butterfly", "mushroom"]]


def test_different_seeds_draw_different_scenes(scenes: list[Scene]) -> None:
    assert len({scene.image.tobytes() for scene in scenes}) == len(scenes)


@pytest.mark.parametrize("size", [96, 128, 200])
def test_a_scene_holds_what_it_promises(size: int) -> None:
    for seed in range(20):
        scene = draw(seed, size)
        assert scene.image.shape == (size, size, 3)
        assert scene.image.dtype == np.uint8
        assert len(scene.present) in COUNTS
        assert scene.present == tuple(sorted(CLASSES.index(name) for name in scene.masks))


def test_every_object_covers_two_to_ten_percent(scenes: list[Scene]) -> None:
    shares = [mask.mean() for scene in scenes for mask in scene.masks.values()]
    assert AREA == (0.02, 0.10)
    assert min(shares) >= AREA[0]
    assert max(shares) <= AREA[1]


def test_masks_are_disjoint_and_inside(scenes: list[Scene]) -> None:
    for scene in scenes:
        stack = np.stack(list(scene.masks.values()))
        assert stack.dtype == np.bool_
        assert stack.sum(0).max() == 1
        assert not stack[:, [0, -1]].any()
        assert not stack[:, :, [0, -1]].any()


def test_every_class_and_every_count_is_drawn(scenes: list[Scene]) -> None:
    assert {i for scene in scenes for i in scene.present} == set(range(len(CLASSES)))
    assert {len(scene.present) for scene in scenes} == set(COUNTS)


def test_color_does_not_tell_the_class() -> None:
    """Mean colour over the mask: the classes' means lie within what chance allows (standard error times 4.5)."""
    colors: dict[str, list[np.ndarray]] = {name: [] for name in CLASSES}
    for seed in range(300):
        scene = draw(seed)
        for name, mask in scene.masks.items():
            r, g, b = scene.image[mask].mean(0)
            colors[name].append(np.array([r - g, g - b]))  # hue; lightness differs by the share of outline
    for name, seen in colors.items():
        stack = np.stack(seen)
        error = stack.std(0) / np.sqrt(len(stack))
        assert (np.abs(stack.mean(0)) < 4.5 * error).all(), name


def test_seeds_for_training_are_kept_apart() -> None:
    assert not set(quality.FRESH_SEEDS) & set(TRAINING_SEEDS)


@pytest.mark.parametrize("size", [16, 95])
def test_too_small_a_scene_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="96"):
        draw(0, size)


@pytest.mark.parametrize("name", CLASSES)
def test_an_object_has_the_area_that_is_planned_for_it(name: str) -> None:
    for pose in (Pose(30, 25, 1.12, True), Pose(18, -10, 0.9)):
        alpha = render(name, pose, GREY).alpha
        assert alpha.sum() == pytest.approx(unit_area(name) * pose.scale**2, rel=0.06)
        assert not alpha[[0, -1]].any()
        assert not alpha[:, [0, -1]].any()


def test_objects_differ_in_shape() -> None:
    shapes = {name: render(name, Pose(20), GREY).alpha > 0.5 for name in OBJECTS}
    for one in CLASSES:
        for other in CLASSES:
            if one < other:
                both, either = shapes[one] & shapes[other], shapes[one] | shapes[other]
                assert both.sum() / either.sum() < 0.85, (one, other)


# --- figures


def test_a_perfect_classifier_scores_one(scenes: list[Scene]) -> None:
    shown = {scene.image.tobytes(): np.isin(np.arange(len(CLASSES)), scene.present) for scene in scenes}

    def predict(images: np.ndarray) -> np.ndarray:
        return np.stack([shown[image.tobytes()] for image in images]).astype(np.float32)

    report = quality.evaluate(predict, range(60), batch=25)
    assert report.scenes == 60
    assert report.balanced_accuracy == 1.0
    assert report.top1_present == 1.0
    assert report.good
    assert report.shown.sum() == sum(len(scene.present) for scene in scenes[:60])


def test_the_figures_of_imperfect_classifiers() -> None:
    truth = np.zeros((8, len(CLASSES)), bool)
    truth[:4] = True  # every class is shown by 4 of 8 scenes
    scores = truth * 0.8 + 0.1
    scores[0, 0] = 0.49  # one of four missed
    scores[7, 1] = 0.5  # one of four wrongly called present; top-1 of a scene without it
    report = quality.report(truth, scores)
    assert report.recall[0] == 0.75
    assert report.specificity[1] == 0.75
    assert report.balanced_accuracy == pytest.approx(1 - 2 * 0.125 / len(CLASSES))
    assert report.top1_present == 0.5
    assert not report.good
    assert "75.0%" in report.table()


def test_always_yes_is_no_better_than_chance() -> None:
    seeds = range(60)
    report = quality.evaluate(lambda x: np.ones((len(x), len(CLASSES))), seeds)
    assert report.balanced_accuracy == 0.5
    assert not report.good


def maps(scene: Scene) -> np.ndarray:
    return np.stack([scene.masks[CLASSES[c]] for c in scene.present]).astype(np.float32)


def test_pointing_counts_peaks_on_the_mask(scenes: list[Scene]) -> None:
    few = scenes[:10]
    targets = sum(len(scene.present) for scene in few)
    on = quality.point(lambda scene: maps(scene) * np.random.RandomState(0).random_sample((128, 128)), few)
    off = quality.point(lambda scene: np.random.RandomState(0).random_sample((128, 128)) - 2 * maps(scene), few)
    swapped = quality.point(lambda scene: maps(scene)[::-1] * np.random.RandomState(0).random_sample((128, 128)), few)
    assert (on.targets, on.rate, off.rate) == (targets, 1.0, 0.0)
    assert swapped.hits == sum(len(scene.present) == 3 for scene in few)  # the middle one of three stays
    assert on.chance == pytest.approx(np.mean([m.mean() for s in few for m in s.masks.values()]))


def test_the_peak_of_a_plateau_is_its_middle() -> None:
    heat = np.zeros((20, 20))
    heat[4:9, 10:15] = 1.0
    assert quality.peak(heat) == (6, 12)
    heat[17, 3] = 2.0
    assert quality.peak(heat) == (17, 3)


# --- the shipped model


def test_the_model_is_small_and_valid() -> None:
    assert MODEL.stat().st_size <= 2 * 1000 * 1000
    model = onnx.load(MODEL)
    onnx.checker.check_model(model, full_check=True)
    (image,), (output,) = model.graph.input, model.graph.output
    dims = image.type.tensor_type.shape.dim
    assert (image.name, [d.dim_value for d in dims[1:]], dims[0].dim_param) == ("image", [3, SIZE, SIZE], "batch")
    assert (output.name, output.type.tensor_type.shape.dim[1].dim_value) == ("probabilities", len(CLASSES))
    made = {name for node in model.graph.node for name in node.output}
    assert {"features", "logits", "probabilities"} <= made


def test_the_card_names_what_the_scenes_draw() -> None:
    card = tomllib.loads(MODEL.with_suffix(".toml").read_text(encoding="utf-8"))
    assert tuple(card["labels"]) == CLASSES
    assert card["input"]["size"] == [SIZE, SIZE]


@pytest.fixture(scope="module")
def predict() -> quality.Predict:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    ort = pytest.importorskip("onnxruntime", reason="the runtime is not installed")
    session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    card = tomllib.loads(MODEL.with_suffix(".toml").read_text(encoding="utf-8"))["input"]
    mean, std = (np.array(card[key], np.float32) for key in ("mean", "std"))

    def run(images: np.ndarray) -> np.ndarray:
        x = (images.astype(np.float32) * np.float32(card["scale"]) - mean) / std
        return session.run(["probabilities"], {"image": np.ascontiguousarray(x.transpose(0, 3, 1, 2))})[0]

    return run


def test_the_model_is_as_good_as_it_says(predict: quality.Predict) -> None:
    report = quality.evaluate(predict, range(50_000, 50_300))
    assert report.balanced_accuracy >= 0.95, report.table()
    assert report.recall.min() >= 0.90, report.table()
    assert report.top1_present >= 0.98, report.table()


def test_the_answer_follows_the_object(predict: quality.Predict) -> None:
    """A grey box over one object takes its class away and leaves the others."""
    gone, kept = [], []
    for seed in range(60_000, 60_060):
        scene = draw(seed)
        for target in scene.present:
            others = [c for c in scene.present if c != target]
            rows, columns = np.nonzero(scene.masks[CLASSES[target]])
            box = slice(rows.min() - 1, rows.max() + 2), slice(columns.min() - 1, columns.max() + 2)
            if any(scene.masks[CLASSES[c]][box].any() for c in others):
                continue
            hidden = scene.image.copy()
            hidden[box] = 128
            after = predict(hidden[None])[0]
            gone.append(after[target] < 0.5)
            kept += [after[c] >= 0.5 for c in others]
    assert len(gone) >= 50
    assert np.mean(gone) >= 0.95
    assert np.mean(kept) >= 0.95
