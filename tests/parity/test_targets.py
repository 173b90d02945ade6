"""Several targets share one forward pass, rows share a batch: neither changes a map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.parity import oracles
from tests.parity.ledger import LEDGER
from tests.parity.ours import Ours
from tests.parity.subjects import Subject

pytestmark = pytest.mark.parity
METHODS = ("saliency", "grad_cam", "occlusion")


def parameters(method: str, subject: Subject) -> dict[str, Any]:
    """Those of the requests in this file."""
    side = min(subject.net.size)
    return {
        "saliency": {"signed": True},
        "grad_cam": {"layer": subject.layers[-1], "relu": False},
        "occlusion": {"patch": (3 * side // 8,), "stride": (side // 4,), "baseline": "zero"},
    }[method]


def oracle(method: str, subject: Subject, pick: Any) -> oracles.Oracle:
    """The same map by torch alone."""

    def saliency(m: nn.Module, x: Tensor) -> Tensor:
        return oracles.gradient(m, x, pick)

    def grad_cam(m: nn.Module, x: Tensor) -> Tensor:
        return oracles.enlarged(oracles.cam(m, x, -1, pick, relu=False), subject.net.size)

    return {"saliency": saliency, "grad_cam": grad_cam}[method]


@pytest.mark.parametrize("method", ["saliency", "grad_cam"])
def test_three_targets_at_once_are_torchs(subject: Subject, ours: Ours, method: str) -> None:
    x, asked = subject.inputs(), oracles.asked(subject.net)
    got = ours.maps(subject, method, x, tuple(a.target for a in asked), **parameters(method, subject))
    for k, one in enumerate(asked):
        theirs = oracle(method, subject, one.pick)
        at = "x" if method == "saliency" else -1
        oracles.compare((f"{method} of three", "autograd"), subject, got[:, k], x, theirs, at)


@pytest.mark.parametrize("method", METHODS)
def test_three_targets_at_once_are_three_single_ones(subject: Subject, ours: Ours, method: str) -> None:
    x, asked = subject.inputs(2), oracles.asked(subject.net)
    together = ours.maps(subject, method, x, tuple(a.target for a in asked), **parameters(method, subject))
    for k, one in enumerate(asked):
        alone = ours.maps(subject, method, x, (one.target,), **parameters(method, subject))[:, 0]
        same(method, subject, "three = one", together[:, k], alone)


@pytest.mark.parametrize("method", METHODS)
def test_a_row_of_a_batch_is_the_row_alone(subject: Subject, ours: Ours, method: str) -> None:
    x, targets = subject.inputs(), tuple(a.target for a in oracles.asked(subject.net))
    batch = ours.maps(subject, method, x, targets, **parameters(method, subject))
    for row in range(len(x)):
        alone = ours.maps(subject, method, x[row : row + 1], targets, **parameters(method, subject))
        same(method, subject, "batch = row", batch[row], alone[0])


def same(method: str, subject: Subject, key: str, a: np.ndarray, b: np.ndarray) -> None:
    """Near; on real nets a batch of another size switches units, too."""
    LEDGER.near((method, key, subject.net.name), a, b, limit=1e-2 if subject.net.real else 1e-5)


def test_the_resolved_targets_are_torchs(subject: Subject, ours: Ours) -> None:
    x, asked = subject.inputs(), oracles.asked(subject.net)
    with torch.no_grad():
        scores = oracles.Scored(subject.module)(x)
    for row, item in enumerate(ours.ask(subject, "saliency", x, tuple(a.target for a in asked)).items):
        first, difference, second = (a.target for a in item.attributions)
        assert first.index == asked[0].target.select.index
        assert (difference.index, difference.minus_index) == (1, 0)
        assert second.index == scores[row].argsort(descending=True)[1]
        for target, one in zip((first, difference, second), asked, strict=True):
            want = float(one.pick(scores)[row])
            assert target.value == pytest.approx(want, rel=1e-4, abs=1e-4 * float(scores.abs().max()))
