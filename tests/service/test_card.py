"""The card: every key, presets and what wins, what is refused and how it is said; labels and their names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from graph_tools.errors import InvalidRequest, UnknownValue
from service.models.card import PRESETS, Card, InputCard, OutputCard, parse_card, read_card
from service.models.labels import match, read_labels
from tests.service import zoo

FULL = """
labels = ["cat", "dog"]
preset = "imagenet-torch"
[input]
name = "image"
size = [224, 160]
layout = "nhwc"
channels = "bgr"
scale = 1
mean = [1, 2.5, 3]
std = 2
resize = "crop"
resize_to = 256
filter = "lanczos"
[output]
name = "probs"
logits = "fc"
kind = "multi-label"
class_axis = -1
[defaults]
layer = "layer4"
"""


def test_every_key(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(FULL)
    assert read_card(tmp_path / "card.toml") == Card(
        labels=("cat", "dog"),
        preset="imagenet-torch",
        input=InputCard("image", (224, 160), "nhwc", "bgr", 1.0, (1.0, 2.5, 3.0), (2.0,), "crop", 256, 0, "lanczos"),
        output=OutputCard("probs", "fc", "multi-label", -1),
        layer="layer4",
    )


def test_empty_card_says_nothing() -> None:
    card = parse_card({}, "card.toml")
    assert card == Card()
    assert not card.input.pixels_known


def test_one_number_is_a_square() -> None:
    assert parse_card({"input": {"size": 96}}, "c").input.size == (96, 96)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_all_numbers(name: str) -> None:
    entry = parse_card({"preset": name}, "c").input
    base = PRESETS[name]
    assert (entry.scale, entry.mean, entry.std, entry.channels) == (
        base.scale, base.mean, base.std, base.channels
    )  # fmt: skip


def test_explicit_keys_win_over_the_preset() -> None:
    entry = parse_card({"preset": "imagenet-torch", "input": {"mean": 0.5, "filter": "box"}}, "c").input
    assert (entry.mean, entry.std, entry.filter) == ((0.5,), (0.229, 0.224, 0.225), "box")


def test_a_presets_numbers_follow_the_channel_order() -> None:
    caffe = parse_card({"preset": "imagenet-caffe", "input": {"channels": "rgb"}}, "c").input
    torch = parse_card({"preset": "imagenet-torch", "input": {"channels": "bgr"}}, "c").input
    assert caffe.mean == (123.68, 116.779, 103.939)
    assert (torch.mean, torch.std) == ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229))
    own = parse_card({"preset": "imagenet-caffe", "input": {"channels": "rgb", "mean": [1, 2, 3]}}, "c").input
    assert own.mean == (1, 2, 3)


def test_numbers_without_a_preset_start_from_identity() -> None:
    entry = parse_card({"input": {"mean": 127, "std": 128}}, "c").input
    assert (entry.scale, entry.mean, entry.std, entry.channels) == (1.0, (127.0,), (128.0,), None)


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"presets": "none"}, "presets", "nearest: preset"),
    ({"preset": "imagenet"}, "preset", "imagenet-torch, imagenet-caffe"),
    ({"preset": ["none"]}, "preset", "not one of"),
    ({"input": 3}, "input", "expected a table [input]"),
    ({"input": {"means": 1}}, "input.means", "nearest: mean"),
    ({"input": {"zzzz": 1}}, "input.zzzz", "known: name, size"),
    ({"input": {"name": ""}}, "input.name", "expected a name"),
    ({"input": {"size": [224]}}, "input.size", "[height, width]"),
    ({"input": {"size": [0, 4]}}, "input.size", "1 to 8192"),
    ({"input": {"size": [4.5, 4]}}, "input.size", "whole number"),
    ({"input": {"size": True}}, "input.size", "whole number"),
    ({"input": {"mean": [1, 2]}}, "input.mean", "got 2"),
    ({"input": {"mean": []}}, "input.mean", "got 0"),
    ({"input": {"mean": ["a"]}}, "input.mean", "finite number, got 'a'"),
    ({"input": {"mean": float("nan")}}, "input.mean", "finite"),
    ({"input": {"std": 0}}, "input.std", "above 0"),
    ({"input": {"std": [1, 1, -1]}}, "input.std", "above 0"),
    ({"input": {"scale": 0}}, "input.scale", "must not be 0"),
    ({"input": {"scale": True}}, "input.scale", "finite number"),
    ({"input": {"channels": "gbr"}}, "input.channels", "rgb, bgr, grey"),
    ({"input": {"layout": "NCHW"}}, "input.layout", "nchw, nhwc"),
    ({"input": {"filter": "cubic"}}, "input.filter", "bicubic"),
    ({"input": {"resize": "fit"}}, "input.resize", "crop, stretch, pad"),
    ({"input": {"resize_to": 0}}, "input.resize_to", "1 to 16384"),
    ({"input": {"size": 224, "resize_to": 200}}, "input.resize_to", "smaller"),
    ({"input": {"resize": "pad", "resize_to": 200}}, "input.resize_to", 'resize = "crop"'),
    ({"input": {"pad_value": 3}}, "input.pad_value", 'resize = "pad"'),
    ({"input": {"resize": "pad", "pad_value": 256}}, "input.pad_value", "0 to 255"),
    ({"input": {"channels": "grey", "mean": [1, 2, 3]}}, "input.mean", "one grey channel"),
    ({"preset": "imagenet-torch", "input": {"channels": "grey"}}, "input.mean", "one grey channel"),
    ({"output": {"kind": "sigmoid"}}, "output.kind", "multi-label, binary"),
    ({"output": {"class_axis": 0}}, "output.class_axis", "batch"),
    ({"output": {"class_axis": 8}}, "output.class_axis", "-7 to 7"),
    ({"output": {"logit": "x"}}, "output.logit", "nearest: logits"),
    ({"defaults": {"layer": 4}}, "defaults.layer", "expected a name"),
    ({"labels": []}, "labels", "none"),
    ({"labels": ["a", 3]}, "labels[1]", "got 3"),
    ({"labels": ["a", " "]}, "labels[1]", "expected a name"),
    ({"labels": 3}, "labels", "expected a list"),
]


@pytest.mark.parametrize(("mapping", "field", "text"), WRONG, ids=[str(w[0]) for w in WRONG])
def test_wrong_keys_are_named(mapping: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_card(mapping, "some.toml")
    assert caught.value.field == field
    assert text in str(caught.value)
    assert "some.toml" in str(caught.value)


def test_unreadable_cards_name_the_file_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("labels = [")
    (tmp_path / "latin.toml").write_bytes(b"labels = ['\xe9']")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    for name in ("bad.toml", "latin.toml", "deep.toml", "absent.toml"):
        with pytest.raises(InvalidRequest, match=name) as caught:
            read_card(tmp_path / name)
        assert str(tmp_path) not in str(caught.value)
        assert caught.value.field == "card"


def _read(folder: Path, name: str, text: str) -> tuple[str, ...]:
    (folder / name).write_text(text, encoding="utf-8")
    return read_labels(name, folder, "card.toml")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "tench, Tinca tinca\r\ngoldfish\n\nremarks after an empty line\n"),
        ("a.txt", "n01440764 tench, Tinca tinca\nn01443537 goldfish"),
        ("a.txt", "\ufefftench, Tinca tinca\ngoldfish\n"),
        ("a.json", '["tench, Tinca tinca", "goldfish"]'),
        ("a.json", '{"1": "goldfish", "0": "tench, Tinca tinca"}'),
        ("a.json", '{"0": ["n01440764", "tench,_Tinca_tinca"], "1": ["n01443537", "goldfish"]}'),
        ("a.json", '[["n01440764", "tench", "tench, Tinca tinca"], ["n01443537", "goldfish"]]'),
        ("a.json", '{"version": 3, "id2label": {"0": "tench, Tinca tinca", "1": "goldfish"}}'),
    ],
)
def test_label_files(tmp_path: Path, name: str, text: str) -> None:
    assert _read(tmp_path, name, text) == ("tench, Tinca tinca", "goldfish")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "none"),
        ("a.json", "{", "holds no labels"),
        ("a.json", '{"0": "a", "2": "b"}', "without gaps"),
        ("a.json", '{"a": "b"}', "without gaps"),
        ("a.json", "3", "expected a list"),
        ("a.json", "[3]", "got 3"),
    ],
)
def test_wrong_label_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        _read(tmp_path, name, text)
    assert caught.value.field.startswith("labels")


def test_labels_stay_in_the_cards_folder(tmp_path: Path) -> None:
    served = tmp_path / "served"
    (served / "names").mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("secret\n")
    (served / "names" / "inside.txt").write_text("cat\n")
    (served / "link.txt").symlink_to(tmp_path / "outside.txt")
    card = served / "card.toml"
    for name in ("../outside.txt", str(tmp_path / "outside.txt"), "link.txt", "names/../../outside.txt"):
        card.write_text(f"labels = {json.dumps(name)}")
        with pytest.raises(InvalidRequest, match="not in the card's folder"):
            read_card(card)
        assert read_card(card, allow_outside=True).labels == ("secret",)
    card.write_text('labels = "names/inside.txt"')
    assert read_card(card).labels == ("cat",)
    card.write_text('labels = "absent.txt"')
    with pytest.raises(InvalidRequest, match=r"absent\.txt cannot be read"):
        read_card(card)


LABELS = [
    "tabby, tabby cat",
    "tiger cat",
    "Egyptian cat",
    "crane",
    "crane",
    "ice cream, icecream",
    "great_white",
]


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("tabby", 0), ("TABBY,  tabby cat", 0), ("tabby cat", 0), ("Egyptian Cat", 2), ("egyptian", 2),
        ("tiger_cat", 1), ("icecream", 5), ("cream", 5), ("great white", 6),
    ],
)  # fmt: skip
def test_match(name: str, index: int) -> None:
    assert match(LABELS, name) == index


def test_ambiguous_and_unknown_names() -> None:
    with pytest.raises(UnknownValue, match=r"3 \(crane\), 4 \(crane\).*index"):
        match(LABELS, "crane")
    with pytest.raises(UnknownValue, match=r"0 \(tabby, tabby cat\), 1 \(tiger cat\), 2 \(Egyptian cat\)"):
        match(LABELS, "cat")
    with pytest.raises(UnknownValue, match=r"nearest: tabby.*index 0 to 6") as caught:
        match(LABELS, "tabbi")
    assert caught.value.nearest[0] == "tabby"
    for name in ("", "  ", "cre"):  # no part of a word
        with pytest.raises(UnknownValue):
            match(LABELS, name)


TENCH, TISSUE = "tench, Tinca tinca", "toilet tissue, toilet paper, bathroom tissue"


@pytest.mark.parametrize(
    ("file", "count", "first", "last"),
    [
        ("imagenet_synset.txt", 1000, TENCH, TISSUE),
        ("imagenet_labels_1001_coral.txt", 1001, "background", TISSUE),
        ("imagenet_class_index.json", 1000, "tench", "toilet tissue"),
        ("imagenet_classes_djl.json", 1000, TENCH, TISSUE),
        ("inat_bird_labels.txt", 965, "Haemorhous cassinii (Cassin's Finch)", "background"),
        ("pascal_voc_segmentation_labels.txt", 21, "background", "tvmonitor"),
        ("season_labels_dianna.txt", 2, "summer", "winter"),
        ("magika_v3_3_config.json", 214, "3gp", "zlibstream"),
        ("magika_fast_v2_1_config.json", 213, "3gp", "zlibstream"),
    ],
)
def test_real_label_files(file: str, count: int, first: str, last: str) -> None:
    zoo.need(f"labels/{file}")
    labels = read_labels(file, zoo.SHARED / "labels", "card.toml")
    assert (len(labels), labels[0], labels[-1]) == (count, first, last)
    if count == 1000:
        assert (match(labels, "boxer"), match(labels, "tabby")) == (242, 281)


@pytest.mark.parametrize("model", [*zoo.ZOO, *zoo.OTHERS], ids=lambda m: m.name)
def test_cards_of_the_real_models(model: zoo.Model, tmp_path: Path) -> None:
    mapping = zoo.card_of(model)
    (tmp_path / "card.toml").write_text(zoo.to_toml(mapping))
    card = read_card(tmp_path / "card.toml")
    assert card == parse_card(mapping, "card.toml")
    assert card.labels is not None
    assert len(card.labels) == model.classes
    for picture in model.pictures:
        match(card.labels, picture.top)


def test_only_regular_files_of_a_sensible_size_are_read(tmp_path: Path) -> None:
    card = tmp_path / "card.toml"
    os.mkfifo(tmp_path / "pipe.txt")
    for name, said in (("/dev/zero", "zero is no regular file"), ("pipe.txt", "no regular file")):
        card.write_text(f'labels = "{name}"')
        with pytest.raises(InvalidRequest, match=f"labels: .*{said}"):
            read_card(card, allow_outside=True)
    with (tmp_path / "big.txt").open("wb") as file:
        file.truncate((16 << 20) + 1)
    card.write_text('labels = "big.txt"')
    with pytest.raises(InvalidRequest, match=r"labels: big\.txt is larger than 16 MB"):
        read_card(card)
    with card.open("wb") as file:
        file.truncate((1 << 20) + 1)
    with pytest.raises(InvalidRequest, match=r"card: card\.toml is larger than 1 MB"):
        read_card(card)
    with pytest.raises(InvalidRequest, match=r"card: zero is no regular file"):
        read_card("/dev/zero")
