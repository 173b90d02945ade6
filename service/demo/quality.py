"""How good a classifier of scenes is, and whether an explanation points at the object that it explains."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.demo.scenes import CLASSES, Scene, draw

Images = NDArray[np.uint8]  # [N, H, W, 3]
Floats = NDArray[np.floating]
Predict = Callable[[Images], Floats]

CARD: dict[str, Any] = tomllib.loads(Path(__file__).with_name("scenes.toml").read_text(encoding="utf-8"))
FRESH_SEEDS = range(2000)  # below TRAINING_SEEDS
BALANCED_ACCURACY, RECALL, TOP1_PRESENT = 0.95, 0.90, 0.98  # what the embedded model has to reach


@dataclass(frozen=True)
class Report:
    """Figures over a set of scenes. A class is called present at probability >= 0.5.

    Attributes:
        scenes: how many.
        shown: how many scenes show each class, int [C].
        recall: found / shown, per class, [C]; NaN for a class that no scene shows.
        specificity: left out / not shown, per class, [C].
        top1_present: share of scenes that show their most probable class.
    """

    scenes: int
    shown: NDArray[np.int64]
    recall: NDArray[np.float64]
    specificity: NDArray[np.float64]
    top1_present: float

    @property
    def balanced_accuracy(self) -> float:
        """Mean over the classes of (recall + specificity) / 2."""
        return float(np.mean((self.recall + self.specificity) / 2))

    @property
    def good(self) -> bool:
        """Whether all three thresholds of the embedded model are met."""
        return bool(
            self.balanced_accuracy >= BALANCED_ACCURACY
            and self.recall.min() >= RECALL
            and self.top1_present >= TOP1_PRESENT
        )

    def notes(self) -> dict[str, str]:
        """The three figures as metadata of the model's file."""
        return {
            "fresh_scenes": str(self.scenes),
            "balanced_accuracy": f"{self.balanced_accuracy:.4f}",
            "lowest_recall": f"{self.recall.min():.4f}",
            "top1_present": f"{self.top1_present:.4f}",
        }

    def table(self) -> str:
        """One line per class, then the three figures beside what is asked for."""
        rows = zip(CLASSES, self.shown, self.recall, self.specificity, strict=True)
        lines = [f"{'class':<12}{'shown':>7}{'recall':>9}{'specificity':>13}"]
        lines += [
            f"{name:<12}{shown:>7}{recall:>9.1%}{specificity:>13.1%}" for name, shown, recall, specificity in rows
        ]
        lines += [
            f"macro balanced accuracy {self.balanced_accuracy:.2%} (at least {BALANCED_ACCURACY:.0%})",
            f"lowest recall           {self.recall.min():.2%} (at least {RECALL:.0%})",
            f"top-1 is present        {self.top1_present:.2%} (at least {TOP1_PRESENT:.0%})",
            f"on {self.scenes} fresh scenes",
        ]
        return "\n".join(lines)


def evaluate(predict: Predict, seeds: Sequence[int] = FRESH_SEEDS, batch: int = 50) -> Report:
    """Measures a classifier on drawn scenes.

    Args:
        predict: uint8 [N, H, W, 3] -> probability of every class, [N, C].
        seeds: the scenes.
        batch: scenes per call.
    """
    truth, scores = [], []
    for first in range(0, len(seeds), batch):
        scenes = [draw(seed) for seed in seeds[first : first + batch]]
        scores.append(np.asarray(predict(np.stack([scene.image for scene in scenes]))))
        truth.append(np.stack([_shown(scene) for scene in scenes]))
    return report(np.concatenate(truth), np.concatenate(scores))


def report(truth: NDArray[np.bool_], scores: Floats) -> Report:
    """The figures from truth and probabilities, both [N, C]."""
    said = scores >= 0.5
    shown = truth.sum(0)
    with np.errstate(invalid="ignore"):
        recall = (said & truth).sum(0) / shown
        specificity = (~said & ~truth).sum(0) / (~truth).sum(0)
    top1 = truth[np.arange(len(truth)), scores.argmax(1)]
    return Report(len(truth), shown, recall, specificity, float(top1.mean()))


def reference(path: Path) -> Predict:
    """The model in a file as ONNX's own reference evaluator computes it: no runtime, no torch, slow."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(path))
    scale, mean, std = (np.asarray(CARD["input"][key], np.float32) for key in ("scale", "mean", "std"))

    def predict(images: Images) -> Floats:
        x = (images.astype(np.float32) * scale - mean) / std
        (probabilities,) = evaluator.run(None, {"image": np.ascontiguousarray(x.transpose(0, 3, 1, 2))})
        return np.asarray(probabilities)

    return predict


def _shown(scene: Scene) -> NDArray[np.bool_]:
    return np.isin(np.arange(len(CLASSES)), scene.present)


@dataclass(frozen=True)
class Pointing:
    """The pointing game (Zhang et al. 2016, section 4.2) without a margin: is the highest value on the target's mask?

    Attributes:
        targets: explanations asked for.
        hits: how many of them had their highest value on the target's mask.
        chance: mean share of the area that the masks cover, what a random point would hit.
    """

    targets: int
    hits: int
    chance: float

    @property
    def rate(self) -> float:
        return self.hits / self.targets

    def __str__(self) -> str:
        return f"{self.hits} of {self.targets} peaks on the target's object ({self.rate:.1%}; chance {self.chance:.1%})"


def peak(heat: Floats) -> tuple[int, int]:
    """(row, column) of the highest value; of a plateau, its pixel nearest to the plateau's middle.

    Occlusion maps are flat on squares of the stride, and the first maximum would be the square's top left corner.
    """
    rows, columns = np.nonzero(heat == heat.max())
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    return int(rows[nearest]), int(columns[nearest])


def point(explain: Callable[[Scene], Floats], scenes: Iterable[Scene]) -> Pointing:
    """Plays the pointing game for every object of every scene.

    Args:
        explain: scene -> one attribution per class of ``scene.present``, in its order: [K, H, W] at the scene's size.
        scenes: what to explain.
    """
    hits, shares = [], []
    for scene in scenes:
        for target, heat in zip(scene.present, explain(scene), strict=True):
            mask = scene.masks[CLASSES[target]]
            hits.append(bool(mask[peak(heat)]))
            shares.append(float(mask.mean()))
    return Pointing(len(hits), sum(hits), float(np.mean(shares)))
