"""float16 files: the gradient is autograd's in float32 up to what float16 can hold."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from tests.parity.against_autograd import autograd, distance, find_inside, ours, switched_units
from tests.parity.exports import run
from tests.parity.exports_in_dtype import in_dtype

pytestmark = pytest.mark.parity

OWN = 1e-2  # the program's outputs beside the file's
LIMIT = 5e-3  # ‖ours − autograd's‖ / ‖autograd's‖; torch's own float16 gradients are 1e-3 to 5e-3 off
ROUNDING = 2e-2  # float16 switches one unit in a thousand: as near to its kink, in multiples of the largest input
FORMS = (
    "torchscript-12",
    "dynamo-20",
)  # TorchScript's fused attention, from 14 on, writes float16 files that do not load
NETS = (
    "vgg16", "resnet18", "mobilenet_v3", "densenet", "efficientnet", "convnext", "vit", "swin", "bert", "gpt2", "unet",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NETS)
def test_float16(name: str, form: str) -> None:
    file = in_dtype(name, form, torch.float16)
    inside = find_inside(file)
    got = ours(file, list(inside.values()))
    assert all(g.dtype == np.float16 for g in got.gradients)
    plain = run(file.proto, file.feeds)
    assert all(distance(got.outputs[y], plain[y]) <= OWN for y in file.outputs)
    single = copy.deepcopy(file.module).float()
    wanted = autograd(single, file.inputs, list(inside))
    near = [distance(g, w) for g, w in zip(got.gradients, wanted, strict=True)]
    units = []
    if max(near) > LIMIT:
        units, near = switched_units(file, list(inside), list(inside.values()))
        assert all(unit.near <= ROUNDING for unit in units), [str(unit) for unit in units]
    told = dict(zip(got.names, [f"{d:.1e}" for d in near], strict=True))
    assert max(near) <= LIMIT, f"{file.name}: distances from autograd {told} with {len(units)} units switched"
