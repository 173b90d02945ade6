"""Images through the preprocessing that a card names, against the same normalisation in torch, per grey level."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from service.models.card import Card, InputCard
from tests.parity import oracles
from tests.parity.normalised import Normalised
from tests.parity.ours import Ours
from tests.parity.subjects import SMALL, Subject

pytestmark = pytest.mark.parity


def pictures(subject: Subject, rows: int = 2) -> np.ndarray:
    """uint8 [rows, H, W, 3], seeded."""
    return np.random.default_rng(3).integers(0, 256, (rows, *subject.net.size, 3), np.uint8)


def ask(subject: Subject, ours: Ours, method: str, preset: str, **parameters: Any) -> np.ndarray:
    """[rows, H, W] of the strongest class: the first picture as an array, the second as a PNG."""
    name = f"{subject.name}-{preset}"
    ours.add(subject, name, Card(input=InputCard(resize="stretch").assuming(preset)))
    first, second = pictures(subject)
    encoded = io.BytesIO()
    Image.fromarray(second).save(encoded, "PNG")
    return ours.maps(subject, method, model=name, images=(first, encoded.getvalue()), **parameters)[:, 0]


def compare(method: str, subject: Subject, preset: str, got: np.ndarray, oracle: Any, at: Any = "x") -> None:
    x = torch.from_numpy(pictures(subject)).permute(0, 3, 1, 2).float()
    best = oracles.strongest(Normalised(subject.module, preset), x)
    oracles.compare(
        (f"{method}, image", preset), subject, got, x, lambda m, x: oracle(Normalised(m, preset), x, best), at
    )


def largest(m: nn.Module, x: Tensor, best: Tensor) -> Tensor:
    """The saliency map: the largest magnitude over the channels."""
    return oracles.captum_saliency(m, x, best).amax(1)


def test_saliency_per_grey_level(subject: Subject, ours: Ours) -> None:
    compare("saliency", subject, "imagenet-torch", ask(subject, ours, "saliency", "imagenet-torch"), largest)


@pytest.mark.nets(*SMALL)
def test_saliency_with_another_normalisation(subject: Subject, ours: Ours) -> None:
    compare("saliency", subject, "minus-one-to-one", ask(subject, ours, "saliency", "minus-one-to-one"), largest)


@pytest.mark.nets("smooth", "residual", "mobilenet")
def test_blue_first_and_signed(subject: Subject, ours: Ours) -> None:
    def strongest_channel(m: nn.Module, x: Tensor, best: Tensor) -> Tensor:
        g = oracles.gradient(m, x, lambda s: s.gather(1, best[:, None])[:, 0])
        return g.gather(1, g.abs().argmax(1, keepdim=True))[:, 0]

    got = ask(subject, ours, "saliency", "imagenet-caffe", signed=True)
    compare("saliency signed", subject, "imagenet-caffe", got, strongest_channel)


def test_grad_cam_at_the_pictures_size(subject: Subject, ours: Ours) -> None:
    def enlarged(m: nn.Module, x: Tensor, best: Tensor) -> Tensor:
        return oracles.enlarged(oracles.captum_cam(m, x, -1, best, relu=True), subject.net.size)

    got = ask(subject, ours, "grad_cam", "imagenet-torch", layer=subject.layers[-1])
    compare("grad_cam", subject, "imagenet-torch", got, enlarged, at=-1)


@pytest.mark.parametrize("baseline", ["grey", "mean", "zero"])
@pytest.mark.nets("smooth", "residual")
def test_occlusion_with_levels(subject: Subject, ours: Ours, baseline: str) -> None:
    side = min(subject.net.size) // 3

    def captum(m: nn.Module, x: Tensor, best: Tensor) -> Tensor:
        fill = {"grey": 128, "zero": 0, "mean": x.mean((2, 3), keepdim=True).expand_as(x)}[baseline]
        return oracles.captum_occlusion(m, x, best, (side, side), (side, side), fill)

    got = ask(subject, ours, "occlusion", "imagenet-torch", patch=(side,), stride=(side,), baseline=baseline)
    compare("occlusion", subject, "imagenet-torch", got, captum)
