"""The real models that tests use where their folder lies beside the project: cards, pictures, classes.

The cards say what no file can tell; layout, sizes, logits and layers are inferred. Expected classes and
probabilities are those of the files run alone with these cards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from service.models.labels import read_labels

SHARED = Path(__file__).resolve().parents[3] / "shared"
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Picture:
    """A picture and what the model says: ``top`` first, with ``probability`` (±0.006) where it has one.

    ``box`` (left, top, right, bottom) is cut out before the picture is given to the model.
    """

    file: str
    top: str
    probability: float | None = None
    box: Box | None = None


@dataclass(frozen=True)
class Model:
    """One file. ``layer``: the default layer to be inferred; ``card["labels"]``: a list or a shared file."""

    name: str
    card: Mapping[str, Any]
    pictures: tuple[Picture, ...]
    layer: str
    fixed_batch: bool = False
    classes: int = field(default=1000, kw_only=True)

    @property
    def path(self) -> Path:
        return SHARED / "models" / f"{self.name}.onnx"


def need(*names: str) -> None:
    """Skip the test where one of the shared files (``models/x.onnx``, ``images/y.png``) is absent."""
    for name in names:
        if not (SHARED / name).exists():
            pytest.skip(f"the real file {name} is not beside the project")


def card_of(model: Model) -> dict[str, Any]:
    """The card with its labels as a list."""
    card = dict(model.card)
    if isinstance(card.get("labels"), str):
        need(f"labels/{card['labels']}")
        card["labels"] = list(read_labels(card["labels"], SHARED / "labels", model.name))
    return card


def to_toml(card: Mapping[str, Any]) -> str:
    """A card's mapping as TOML; JSON's texts, numbers and lists are TOML's too."""
    top = [f"{k} = {json.dumps(v)}" for k, v in card.items() if not isinstance(v, Mapping)]
    for table, keys in card.items():
        if isinstance(keys, Mapping):
            top += [f"\n[{table}]", *(f"{k} = {json.dumps(v)}" for k, v in keys.items())]
    return "\n".join(top) + "\n"


PHOTOS = (
    "both_dog_cat.png", "tabby_cat.jpg", "arctic-fox.jpeg", "zebra.jpeg", "airliner.jpeg", "peacock.jpeg",
    "snail.jpeg", "kitten.jpg", "hummingbird.jpg", "fish.png", "dog_cat_lucid_224.jpg", "grace_hopper.jpg",
    "dog_segmentation.bmp", "bird_coral.bmp",
)  # fmt: skip
MNIST = tuple(f"mnist_{i:02d}_{digit}.png" for i, digit in enumerate("7210414959"))
CIFAR = tuple(f"cifar10_{i:02d}_{label}.png" for i, label in enumerate("3880661631"))

CIFAR_LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
DIGITS = [str(d) for d in range(10)]
EMOTIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
SYNSET, SYNSET_1001 = "imagenet_synset.txt", "imagenet_labels_1001_coral.txt"
FACE = (140, 100, 385, 330)  # grace_hopper.jpg


def _photos(*expected: tuple[str, float] | str) -> tuple[Picture, ...]:
    pairs = [e if isinstance(e, tuple) else (e, None) for e in expected]
    return tuple(Picture(file, *pair) for file, pair in zip(PHOTOS, pairs, strict=True))


def _all(files: tuple[str, ...], tops: str) -> tuple[Picture, ...]:
    return tuple(Picture(file, top) for file, top in zip(files, tops.split(), strict=True))


def _persons(*person: float) -> tuple[Picture, ...]:
    pairs = [("person", p) if p > 0.5 else ("no person", 1 - p) for p in person]
    return tuple(Picture(file, *pair) for file, pair in zip(PHOTOS, pairs, strict=True))


ZOO = (
    Model(
        "squeezenet11_caffe2_fp16_op7",
        {"labels": SYNSET, "preset": "imagenet-caffe"},
        _photos(
            ("bull mastiff", 0.59), ("Egyptian cat", 0.46), ("Arctic fox", 1.00), ("zebra", 1.00),
            ("airliner", 0.69), ("peacock", 1.00), ("snail", 0.78), ("tiger cat", 0.44),
            ("hummingbird", 0.89), ("barracouta", 0.74), ("golden retriever", 0.38), ("bow tie", 0.64),
            ("white wolf", 0.67), ("chickadee", 0.90),
        ),
        "fire9/concat_1",
        fixed_batch=True,
    ),
    Model(
        "squeezenet11_caffe2_fp32_op7",
        {"labels": SYNSET, "preset": "imagenet-caffe"},
        _photos(
            ("bull mastiff", 0.59), ("Egyptian cat", 0.46), ("Arctic fox", 1.00), ("zebra", 1.00),
            ("airliner", 0.68), ("peacock", 1.00), ("snail", 0.78), ("tiger cat", 0.44),
            ("hummingbird", 0.89), ("barracouta", 0.74), ("golden retriever", 0.37), ("bow tie", 0.64),
            ("white wolf", 0.66), ("chickadee", 0.90),
        ),
        "fire9/concat_1",
        fixed_batch=True,
    ),
    Model(
        "mobilenet_v1_025_128_fp32_op9",
        {"labels": SYNSET_1001, "preset": "minus-one-to-one"},
        _photos(
            ("tiger cat", 0.14), ("Egyptian cat", 0.70), ("Arctic fox", 0.75), ("zebra", 1.00),
            ("airliner", 0.63), ("peacock", 0.92), ("snail", 0.51), ("Egyptian cat", 0.33),
            ("hummingbird", 0.34), ("barracouta", 0.62), ("Sealyham terrier", 0.10), ("academic gown", 0.48),
            ("Arctic fox", 0.50), ("chickadee", 0.44),
        ),
        "Relu6__57:0",
        fixed_batch=True,
        classes=1001,
    ),
    Model(
        "mobilenet_v1_050_160_fp32_op11",
        {"labels": SYNSET_1001, "preset": "minus-one-to-one"},
        _photos(
            ("bull mastiff", 0.23), ("Egyptian cat", 0.52), ("Arctic fox", 0.96), ("zebra", 1.00),
            ("airliner", 0.86), ("peacock", 1.00), ("snail", 0.98), ("Egyptian cat", 0.59),
            ("hummingbird", 0.97), ("tench", 0.52), ("Labrador retriever", 0.35), ("academic gown", 0.50),
            ("Samoyed", 0.54), ("chickadee", 0.95),
        ),
        "Relu6__57:0",
        fixed_batch=True,
        classes=1001,
    ),
    Model(
        "mobilenet_v2_100_224_fp32_op10",
        {"labels": SYNSET_1001, "preset": "minus-one-to-one"},
        _photos(
            ("bull mastiff", 0.51), ("Egyptian cat", 0.50), ("Arctic fox", 1.00), ("zebra", 1.00),
            ("airliner", 0.88), ("peacock", 1.00), ("snail", 1.00), ("tiger cat", 0.47),
            ("hummingbird", 0.97), ("tench", 0.70), ("golden retriever", 0.75), ("mortarboard", 0.34),
            ("Samoyed", 0.97), ("chickadee", 1.00),
        ),
        "Relu6__90:0",
        fixed_batch=True,
        classes=1001,
    ),
    Model(
        "mobilenet_v2_100_224_qdq_uint8io_op13",
        {"labels": SYNSET_1001, "preset": "none"},
        _photos(
            "boxer", "tabby", "Arctic fox", "zebra", "airliner", "peacock", "snail", "tiger cat",
            "hummingbird", "tench", "golden retriever", "mortarboard", "Samoyed", "chickadee",
        ),
        "Relu6__90:0",
        fixed_batch=True,
        classes=1001,
    ),
    Model(
        "fer2013_mini_xception_op12",
        {"labels": EMOTIONS, "preset": "minus-one-to-one", "input": {"filter": "bicubic"}},
        (Picture("grace_hopper.jpg", "neutral", 0.63, FACE),),
        "model_1/add_4/add:0",
        classes=7,
    ),
    Model(
        "cifar10_resnet8_keras_op9",
        {"labels": CIFAR_LABELS, "preset": "none"},
        _all(CIFAR, "cat ship ship ship frog frog automobile frog cat automobile"),
        "model/activation_6/Relu:0",
        classes=10,
    ),
    Model(
        "cifar10_cnn_pytorch_op10",
        {"labels": CIFAR_LABELS, "preset": "minus-one-to-one"},
        _all(CIFAR, "cat ship automobile airplane frog cat cat frog cat automobile"),
        "43",
        classes=10,
    ),
    Model(
        "vww96_mobilenet_v1_025_op11",
        {
            "labels": ["no person", "person"],
            "preset": "zero-to-one",
            "input": {"filter": "bicubic"},
        },
        _persons(0.46, 0.01, 0.05, 0.00, 0.24, 0.01, 0.01, 0.07, 0.44, 0.00, 0.14, 0.83, 0.20, 0.60),
        "Relu__83:0",
        classes=2,
    ),
    Model(
        "mnist_cntk_op8",
        {"labels": DIGITS, "preset": "none"},
        _all(MNIST, "7 2 1 0 4 1 4 9 5 9"),
        "ReLU114_Output_0",
        fixed_batch=True,
        classes=10,
    ),
    Model(
        "mnist_keras2onnx_op12",
        {"labels": DIGITS, "preset": "zero-to-one"},
        _all(MNIST, "7 2 1 0 4 1 4 9 5 9"),
        "conv2d_15_1/Identity:0",
        classes=10,
    ),
    Model(
        "mnist01_dianna_pytorch_op11",
        {"labels": ["0", "1"], "preset": "none"},
        (Picture(MNIST[2], "1"), Picture(MNIST[3], "0"), Picture(MNIST[5], "1")),
        "14",
        classes=2,
    ),
    Model(
        "ppocr_textdir_cls_paddle_op14",
        {
            "labels": ["0 degrees", "180 degrees"],
            "preset": "minus-one-to-one",
            "input": {"size": [48, 192], "resize": "stretch"},
        },
        (Picture("kitten.jpg", "180 degrees", 0.76),),
        "hardswish_17.tmp_0",
        classes=2,
    ),
)  # fmt: skip

OTHERS = (
    Model(
        "deeplabv3_mnv2_dm05_pascal_fp32_op11",
        {
            "labels": "pascal_voc_segmentation_labels.txt",
            "preset": "minus-one-to-one",
            "input": {"resize": "stretch"},
        },
        (
            Picture("both_dog_cat.png", "background", 0.67),
            Picture("dog_segmentation.bmp", "dog", 0.54),
            Picture("bird_coral.bmp", "background", 0.82),
        ),
        "Relu__94:0",
        fixed_batch=True,
        classes=21,
    ),
    Model(
        "ultraface_rfb320_simplified_op9",
        {"labels": ["background", "face"], "input": {"mean": 127, "std": 128, "resize": "stretch"}},
        (Picture("grace_hopper.jpg", "face", 1.0),),
        "314",
        fixed_batch=True,
        classes=2,
    ),
)
"""Image models that are no classifiers: ``probability`` is a share of pixels, or the best score."""

BY_NAME = {model.name: model for model in (*ZOO, *OTHERS)}
