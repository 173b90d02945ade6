"""Where the evidence is: on drawn scenes the masks are known, so the strongest point of a map can be judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import service.demo
from service.core import Engine
from service.demo.quality import peak
from service.demo.scenes import CLASSES, draw
from service.models.card import read_card
from service.models.repository import Repository
from service.runtime.context import Run
from service.runtime.home import Runtime
from service.types import ExplainRequest, Selector, Target

FOLDER = Path(service.demo.__file__).parent
SCENES = 200
FIRST_SEED = 9_000_000  # training draws seeds far below


@pytest.fixture(scope="module")
def engine():
    engine = Engine(Repository(Runtime("cpu")))
    engine.repository.add("scenes", FOLDER / "scenes.onnx", parsed=read_card(FOLDER / "scenes.toml"))
    return engine


@pytest.mark.parametrize("method", ["grad_cam", "occlusion"])
def test_the_strongest_point_lies_on_the_target(engine, method, capsys):
    """Every class present in 200 fresh scenes, one target after the other: at least 90 % of the peaks hit."""
    hits, chance = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + SCENES):
        scene = draw(seed)
        names = [CLASSES[i] for i in scene.present]
        targets = tuple(Target(Selector(name=n)) for n in names)
        request = ExplainRequest("scenes", method, images=(scene.image,), targets=targets)
        for name, attribution in zip(names, engine.explain(request, Run()).items[0].attributions, strict=True):
            mask = scene.masks[name]
            hits.append(mask[peak(attribution.values)])
            chance.append(mask.mean())
    with capsys.disabled():
        print(f"\n  {method}: peak on the object in {100 * np.mean(hits):.1f} % of {len(hits)} targets in {SCENES} "
              f"scenes; by chance {100 * np.mean(chance):.1f} %")  # fmt: skip
    assert np.mean(hits) >= 0.9
