"""A models folder with one small model of every kind, and every kind of file that cannot be served."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from service import demo
from service.explainers.base import Explainer
from tests.graph_tools.nets import cnn, model, tensor
from tests.service import shelf_nets as nets
from tests.service.runtime_graphs import external

RNG = np.random.default_rng(3)
SPECIES = ("cat", "dog", "fox", "owl", "ant")
ZERO_TO_ONE = 'preset = "zero-to-one"\n'
SECRET = "secret-weights"


@dataclass(frozen=True)
class Kind:
    """A model that is served.

    Attributes:
        proto: the file.
        card: its card's text, "" = none.
        shape: of its primary input, one row; for image models that of the image [H, W, 3].
        classes: number of scores.
        image: whether images go in.
        graph: whether the graph can be rewritten.
        gradient: whether gradients of the scores reach the input and the default layer.
        layer: its default layer, "" = none.
        inner: a value to look at where there is no default layer.
        others: further inputs, name -> shape of one row.
    """

    proto: onnx.ModelProto
    card: str
    shape: tuple[int, ...]
    classes: int
    image: bool = True
    graph: bool = True
    gradient: bool = True
    layer: str = ""
    inner: str = ""
    others: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def supports(self, explainer: Explainer) -> bool:
        """Whether the method can explain this model with its defaults (and ``inner`` as its layer)."""
        if explainer.kind == "black-box":
            return True
        return self.graph and (
            not explainer.needs_target or (self.gradient and bool(self.layer or not explainer.needs_layer))
        )

    def feeds(self, rows: int, seed: int) -> dict[str, Any]:
        """Random inputs as the client takes them: ``image`` or ``tensor``."""
        rng = np.random.default_rng(seed)
        if self.image:
            return {"image": list(rng.integers(0, 256, (rows, *self.shape)).astype(np.uint8))}
        shapes = {"x": self.shape, **self.others}
        return {"tensor": {k: rng.normal(size=(rows, *shape)).astype(np.float32) for k, shape in shapes.items()}}


def kinds() -> dict[str, Kind]:
    """Every model by name."""
    labels = f"labels = {list(SPECIES)!r}\n".replace("'", '"')
    picture, conv = (16, 16, 3), ZERO_TO_ONE + labels
    return {
        "nchw": Kind(cnn(), conv, picture, 5, layer="features"),
        "nhwc": Kind(cnn(layout="nhwc"), conv, picture, 5, layer="features"),
        "single": Kind(cnn(batch=1), conv, picture, 5, layer="features"),
        "looped": Kind(nets.looped(), conv, picture, 5, layer="features"),
        "half": Kind(nets.halved(cnn()), conv, picture, 5, layer="features"),
        "quantised": Kind(nets.quantised(), labels, picture, 5, layer="r"),
        "binary": Kind(nets.one_logit(), ZERO_TO_ONE + 'labels = ["no", "yes"]\n', picture, 2, layer="r"),
        "two": Kind(nets.two_outputs(), ZERO_TO_ONE + '[output]\nname = "species"\n', picture, 5, layer="features"),
        "stepped": Kind(nets.stepped(), ZERO_TO_ONE, picture, 3, gradient=False, layer="large"),
        "table": Kind(nets.table(), "", (4,), 3, image=False, inner="t"),
        "pair": Kind(nets.pair(), "", (4,), 3, image=False, inner="h", others={"weight": (1,)}),
        "mixed": Kind(nets.mixed(), "", (3, 8, 8), 3, image=False, inner="gap", others={"weight": (1,)}),
        "whole": Kind(nets.whole(), "", (4,), 4, image=False, graph=False),
        "linear": Kind(nets.linear_classifier(), "", (4,), 3, image=False, gradient=False, inner="probabilities"),
        "trees": Kind(nets.trees(), "", (4,), 3, image=False, graph=False),
    }


def build(folder: Path) -> None:
    """Fill ``folder``: ``KINDS``, versions of one model, the demo's, one with weights beside it, and broken ones."""
    for name, kind in KINDS.items():
        onnx.save(kind.proto, folder / f"{name}.onnx")
        if kind.card:
            (folder / f"{name}.toml").write_text(kind.card, encoding="utf-8")
    for version, seed in (("1", 1), ("9", 9), ("10", 10)):
        (folder / "versioned" / version).mkdir(parents=True)
        onnx.save(cnn(seed=seed), folder / "versioned" / version / "model.onnx")
    (folder / "versioned" / "card.toml").write_text(ZERO_TO_ONE, encoding="utf-8")
    path = folder / "fragile.onnx"
    onnx.save(nets.wide(), path, save_as_external_data=True, location="fragile.bin", size_threshold=0)
    for suffix in ("onnx", "toml"):
        shutil.copy(Path(demo.__path__[0]) / f"scenes.{suffix}", folder)
    _break(folder)


BROKEN = {
    "cut": "cut short",
    "noise": "not an ONNX file",
    "empty": "empty",
    "escape": "plain relative path",
    "missing-data": "cannot be opened",
    "wrong-card": "presett",
    "wrong-labels": "5 classes",
    "wrong-layer": "no_such_layer",
    "unknown-operator": "Frobnicate",
    "bad name": "no valid name",
}
"""Name -> a word of the reason."""


def _break(folder: Path) -> None:
    whole = cnn().SerializeToString()
    (folder / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (folder / "noise.onnx").write_bytes(RNG.bytes(5000))
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "bad name.onnx").write_bytes(whole)
    (folder.parent / SECRET).write_bytes(bytes(4096))
    (folder / "escape.onnx").write_bytes(external(f"../{SECRET}").SerializeToString())
    (folder / "missing-data.onnx").write_bytes(external("nowhere.bin").SerializeToString())
    cards = {
        "wrong-card": 'presett = "zero-to-one"\n',
        "wrong-labels": ZERO_TO_ONE + 'labels = ["a", "b"]\n',
        "wrong-layer": ZERO_TO_ONE + '[defaults]\nlayer = "no_such_layer"\n',
    }
    for name, card in cards.items():
        (folder / f"{name}.onnx").write_bytes(whole)
        (folder / f"{name}.toml").write_text(card, encoding="utf-8")
    odd = model([helper.make_node("Frobnicate", ["x"], ["y"])], [tensor("x", ["N", 4])], [tensor("y", ["N", 4])])
    onnx.save(odd, folder / "unknown-operator.onnx")


KINDS = kinds()
