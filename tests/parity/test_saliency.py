"""Saliency against autograd and captum, on tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from service.types import Selector, Target
from tests.parity import oracles
from tests.parity.ours import Ours
from tests.parity.subjects import SMALL, Subject

pytestmark = pytest.mark.parity


def test_the_absolute_gradient_is_captums(subject: Subject, ours: Ours) -> None:
    x = subject.inputs()
    best = oracles.strongest(subject.module, x)
    got = ours.maps(subject, "saliency", x)[:, 0]
    oracles.compare(("saliency", "captum"), subject, got, x, lambda m, x: oracles.captum_saliency(m, x, best))


@pytest.mark.nets(*SMALL)
def test_its_largest_over_the_channels(subject: Subject, ours: Ours) -> None:
    x = subject.inputs()
    best = oracles.strongest(subject.module, x)
    got = ours.maps(subject, "saliency", x)[:, 0].max(axis=1)
    oracles.compare(
        ("saliency max", "captum"), subject, got, x, lambda m, x: oracles.captum_saliency(m, x, best).amax(1)
    )


@pytest.mark.nets(*SMALL)
def test_the_signed_gradient_is_autograds(subject: Subject, ours: Ours) -> None:
    x = subject.inputs()
    target = Target(Selector(index=1))
    got = ours.maps(subject, "saliency", x, (target,), signed=True)[:, 0]
    oracles.compare(
        ("saliency signed", "autograd"), subject, got, x, lambda m, x: oracles.gradient(m, x, lambda s: s[:, 1])
    )
    assert (got < 0).any()
    absolute = ours.maps(subject, "saliency", x, (target,))[:, 0]
    np.testing.assert_array_equal(absolute, np.abs(got))


def test_predictions_are_torchs(subject: Subject, ours: Ours) -> None:
    x = subject.inputs()
    with torch.no_grad():
        scores = oracles.Scored(subject.module)(x).numpy()
    for row, item in enumerate(ours.ask(subject, "predict", x).items):
        best = item.predictions[0]
        assert best.index == scores[row].argmax()
        assert best.logit == pytest.approx(scores[row].max(), rel=1e-4)
