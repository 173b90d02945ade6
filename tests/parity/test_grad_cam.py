"""Grad-CAM against autograd, captum and grad-cam: before and after the resize, with and without its ReLU."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.parity import oracles
from tests.parity.ours import Ours
from tests.parity.subjects import ALL, SMALL, Subject

pytestmark = pytest.mark.parity


@pytest.mark.nets(*(net.name for net in ALL if net.name != "vit"))
def test_the_default_layer_is_the_last_with_space(subject: Subject, ours: Ours) -> None:
    assert ours.engine.repository.get(subject.name).default_layer == subject.layers[-1]


def test_the_map_is_captums(subject: Subject, ours: Ours) -> None:
    x = subject.inputs()
    best = oracles.strongest(subject.module, x)
    for i, layer in enumerate(subject.layers):
        got = ours.maps(subject, "grad_cam", x, layer=layer, resize=False)[:, 0]
        oracles.compare(
            ("grad_cam", "captum"), subject, got, x,
            lambda m, x, i=i: oracles.captum_cam(m, x, i, best, relu=True), at=i,
        )  # fmt: skip


def test_the_map_before_its_relu_is_grad_cams(subject: Subject, ours: Ours) -> None:
    x = subject.inputs()
    best = oracles.strongest(subject.module, x)
    for i, layer in enumerate(subject.layers):
        got = ours.maps(subject, "grad_cam", x, layer=layer, relu=False, resize=False)[:, 0]
        oracles.compare(
            ("grad_cam signed", "grad-cam"), subject, got, x,
            lambda m, x, i=i: oracles.raw_grad_cam(m, x, i, best), at=i,
        )  # fmt: skip


@pytest.mark.nets(*SMALL)
@pytest.mark.parametrize("relu", [True, False])
def test_the_enlarged_map_is_torchs_bilinear_one(subject: Subject, ours: Ours, relu: bool) -> None:
    x = subject.inputs()
    best = oracles.strongest(subject.module, x)
    for i, layer in enumerate(subject.layers):
        got = ours.maps(subject, "grad_cam", x, layer=layer, relu=relu)[:, 0]

        def oracle(m: nn.Module, x: Tensor, i: int = i) -> Tensor:
            found = oracles.cam(m, x, i, lambda s: s.gather(1, best[:, None])[:, 0], relu=relu)
            return oracles.enlarged(found, subject.net.size)

        oracles.compare((f"grad_cam{'' if relu else ' signed'} resized", "autograd + torch"), subject, got, x, oracle)


@pytest.mark.nets(*SMALL)
def test_the_enlarged_map_is_opencvs(subject: Subject, ours: Ours) -> None:
    x = subject.inputs()
    best = oracles.strongest(subject.module, x)
    height, width = subject.net.size

    def oracle(m: nn.Module, x: Tensor) -> Tensor:
        raw = oracles.raw_grad_cam(m, x, -1, best).clamp(min=0).numpy()
        return torch.from_numpy(np.stack([cv2.resize(one, (width, height)) for one in raw]))

    got = ours.maps(subject, "grad_cam", x, layer=subject.layers[-1])[:, 0]
    oracles.compare(("grad_cam resized", "grad-cam + cv2"), subject, got, x, oracle)
