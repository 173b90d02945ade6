"""Occlusion against captum: the same windows, the same baselines."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from service.types import Selector, Target
from tests.parity import oracles
from tests.parity.ours import Ours
from tests.parity.subjects import ALL, SMALL, Subject

pytestmark = pytest.mark.parity
ENDED = tuple(net.name for net in ALL if net.end != "logits")


def check(
    subject: Subject, ours: Ours, patch: tuple[int, int], stride: tuple[int, int], fill: Any, **parameters: Any
) -> None:
    x = subject.inputs()
    classes = oracles.strongest(subject.module, x)
    got = ours.maps(subject, "occlusion", x, patch=patch, stride=stride, **parameters)[:, 0]
    oracles.compare(
        ("occlusion", "captum"), subject, got, x,
        lambda m, x: oracles.captum_occlusion(m, x, classes, patch, stride, fill(x)), at=None,
    )  # fmt: skip


def test_windows_side_by_side(subject: Subject, ours: Ours) -> None:
    side = min(subject.net.size) // (2 if subject.net.real else 4)
    check(subject, ours, (side, side), (side, side), lambda x: 0.3, baseline="value", value=0.3)


@pytest.mark.nets(*SMALL)
def test_overlapping_windows_clipped_at_the_border(subject: Subject, ours: Ours) -> None:
    check(subject, ours, (9, 7), (5, 4), lambda x: 0, baseline="zero")


@pytest.mark.nets("smooth", "residual")
def test_a_step_longer_than_what_is_left(subject: Subject, ours: Ours) -> None:
    height, _ = subject.net.size
    check(subject, ours, (height - 1, 3), (height - 1, 2), lambda x: 0, baseline="grey")


@pytest.mark.nets("smooth", "mobilenet")
def test_the_mean_as_baseline(subject: Subject, ours: Ours) -> None:
    def mean(x: Tensor) -> Tensor:
        return x.mean((1, 2, 3), keepdim=True).expand_as(x)

    check(subject, ours, (8, 8), (6, 6), mean, baseline="mean")


@pytest.mark.nets(*ENDED)
def test_the_drop_of_a_probability(subject: Subject, ours: Ours) -> None:
    x = subject.inputs()

    def oracle(m: nn.Module, x: Tensor) -> Tensor:
        ended = oracles.with_ending(oracles.Scored(m), subject.ending)
        return oracles.captum_occlusion(ended, x, torch.ones(len(x), dtype=torch.int64), (8, 8), (5, 5), 0)

    got = ours.maps(
        subject, "occlusion", x, (Target(Selector(index=1)),), patch=(8,), stride=(5,), baseline="zero",
        score="probability",
    )[:, 0]  # fmt: skip
    oracles.compare(("occlusion probability", "captum"), subject, got, x, oracle)
