"""Files exported for one row, asked for several: made batchable, they say what torch says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity import oracles
from tests.parity.ours import Ours
from tests.parity.subjects import ALL, Subject, export

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module", params=[n for n in ALL if not n.real], ids=lambda net: net.name)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    """One net out of both exporters."""
    folder: Path = tmp_path_factory.mktemp("fixed")
    return {form: export(request.param, form, folder, rows=1) for form in ("torchscript-18", "dynamo-18")}


@pytest.mark.parametrize("form", ["torchscript-18", "dynamo-18"])
def test_three_rows_through_a_file_for_one(made: dict[str, Subject], form: str, tmp_path: Path) -> None:
    subject, ours = made[form], Ours(tmp_path)
    ours.add(subject)
    x, (_, difference, second) = subject.inputs(), oracles.asked(subject.net)
    maps = ours.maps(subject, "saliency", x, (difference.target, second.target), signed=True)
    for k, one in enumerate((difference, second)):
        oracles.compare(
            ("saliency, fixed batch", "autograd"), subject, maps[:, k], x,
            lambda m, x, one=one: oracles.gradient(m, x, one.pick),
        )  # fmt: skip
    best = oracles.strongest(subject.module, x)
    cam = ours.maps(subject, "grad_cam", x, layer=subject.layers[-1], resize=False, relu=False)[:, 0]
    oracles.compare(
        ("grad_cam, fixed batch", "captum"), subject, cam, x,
        lambda m, x: oracles.captum_cam(m, x, -1, best, relu=False),
    )  # fmt: skip
    drops = ours.maps(subject, "occlusion", x, patch=(8,), stride=(8,), baseline="zero")[:, 0]
    oracles.compare(
        ("occlusion, fixed batch", "captum"), subject, drops, x,
        lambda m, x: oracles.captum_occlusion(m, x, best, (8, 8), (8, 8), 0),
    )  # fmt: skip
