"""The work behind ``demo``: a server, three scenes, three methods, one contact sheet."""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.table import Table

import service.demo
from service.api import server
from service.client import Client, Result
from service.commands.console import Meter, plain, say, stdout, table, watch
from service.core import Engine
from service.demo.scenes import CLASSES, Scene, draw
from service.models.repository import Repository
from service.pictures.panel import words
from service.pictures.png import to_png
from service.pictures.sheet import SheetRow, contact_sheet
from service.pictures.style import number, probability
from service.runtime.home import Runtime
from service.types import ItemResult, Score

MODEL = "scenes"
METHODS = ("saliency", "grad_cam", "occlusion")
SEEDS = (186, 125, 114)


@dataclass(frozen=True)
class Answer:
    """A result, and the seconds that the first call and the same call again took from end to end."""

    result: Result
    first: float
    warm: float


@dataclass(frozen=True)
class Shown:
    """A scene, the two classes that are explained, and the answer of every method."""

    name: str
    scene: Scene
    targets: tuple[int, int]
    answers: Mapping[str, Answer]

    @property
    def items(self) -> dict[str, ItemResult]:
        """Per method, the result with the picture."""
        image = self.scene.image
        return {m: dataclasses.replace(a.result.items[0], original=image) for m, a in self.answers.items()}


def run(output: Path, provider: str) -> None:
    """All of it; prints as it goes.

    Raises:
        ExplainError, ServiceError: something does not work here.
        OSError: the folder cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    repository = Repository(Runtime(provider), Path(service.demo.__file__).parent)
    with server.background(Engine(repository)) as address, Client(address, timeout=120) as client:
        say(f"serving on {address}", "bold")
        info = client.model(MODEL)
        say(f"model {MODEL} on {info.provider}: {len(info.labels)} classes, {', '.join(info.labels)}")
        shown = watch(lambda meter: _explain(client, meter), "explaining", client.close)
    scores = [one.items[METHODS[0]].predictions for one in shown]
    for one, top in zip(shown, scores, strict=True):
        stdout().print(_predictions(one, top))
    stdout().print(_timings(shown))
    files = {output / "demo.png": to_png(_sheet(shown, info.provider), {"model": MODEL, "digest": info.digest})}
    files |= {output / f"scene-{i}.png": _png(one.scene) for i, one in enumerate(shown, 1)}
    for path, data in files.items():
        path.write_bytes(data)
    say(f"wrote {output / 'demo.png'}, and the scenes beside it", "green")
    say("next: onnx-explain explain MODEL.onnx PHOTO.jpg --method grad_cam", "dim")


def _explain(client: Client, meter: Meter) -> list[Shown]:
    """Every scene by every method, each call once and once more."""
    shown = []
    for i, seed in enumerate(SEEDS):
        scene = draw(seed)
        picture = _png(scene)
        targets = _targets(client.explain(MODEL, picture, method="predict", top_k=len(CLASSES)), scene)
        answers = {}
        for j, method in enumerate(METHODS):
            meter.at(f"scene {i + 1}: {method}", i * len(METHODS) + j, len(SEEDS) * len(METHODS))
            answers[method] = _ask(client, picture, method, targets)
        shown.append(Shown(f"Scene {i + 1}", scene, targets, answers))
    return shown


def _ask(client: Client, picture: bytes, method: str, targets: Sequence[int]) -> Answer:
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        result = client.explain(MODEL, picture, method=method, targets=list(targets))
        seconds.append(time.perf_counter() - started)
    return Answer(result, seconds[0], seconds[1])


def _targets(predicted: Result, scene: Scene) -> tuple[int, int]:
    """Of the classes in the scene, the two that the model is surest of."""
    first, second = [s.index for s in predicted.predictions if s.index in scene.present][:2]
    return first, second


def _predictions(one: Shown, scores: Sequence[Score]) -> Table:
    made = table("class", "logit", "probability", "in the scene", "explained", right=("logit", "probability"),
                 title=f"{one.name}: top {len(scores)}")  # fmt: skip
    for s in scores:
        there = "yes" if s.index in one.scene.present else ""
        share = "" if s.probability is None else probability(s.probability)
        logit = "" if s.logit is None else number(s.logit)
        cells = (s.label, logit, share, there, "yes" if s.index in one.targets else "")
        made.add_row(*(plain(c, "bold" if s.index in one.targets else "") for c in cells))
    return made


def _timings(shown: Sequence[Shown]) -> Table:
    """Round trips of one call for two classes, and where the highest values lie."""
    made = table(
        "method", "first call", "warm call", "of it in the model", "rows", "highest value on the object",
        right=("first call", "warm call", "of it in the model", "rows"), title="Timings: one call, two classes",
    )  # fmt: skip
    for method in METHODS:
        answers = [one.answers[method] for one in shown]
        hits = [hit for one in shown for hit in _hits(one, method)]
        made.add_row(
            words(method),
            _ms(answers[0].first),
            _ms(float(np.median([a.warm for a in answers]))),
            _ms(float(np.median([a.result.timing.run for a in answers]))),
            str(answers[0].result.timing.rows),
            f"{sum(hits)} of {len(hits)}",
        )
    return made


def _hits(one: Shown, method: str) -> list[bool]:
    """Per target: whether the map's highest value lies on the object's mask."""
    maps = one.answers[method].result.items[0].attributions
    masks = [one.scene.masks[CLASSES[a.target.index]] for a in maps]
    return [bool(m[np.unravel_index(a.values.argmax(), m.shape)]) for a, m in zip(maps, masks, strict=True)]


def _sheet(shown: Sequence[Shown], provider: str) -> Image.Image:
    rows = [SheetRow(one.name, one.items, {i: one.scene.masks[CLASSES[i]] for i in one.targets}) for one in shown]
    return contact_sheet(
        rows,
        title="Where is the evidence?",
        subtitle="Three scenes, three methods, two classes each: the embedded model explained over gRPC",
        footer=[f"Model {MODEL}, a multi-label classifier of {len(CLASSES)} classes, on {provider}."],
    )


def _png(scene: Scene) -> bytes:
    out = io.BytesIO()
    Image.fromarray(scene.image).save(out, "PNG")
    return out.getvalue()


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"
