"""The same in float64 by onnx's reference evaluator: nothing but the formulas is left to differ."""

from __future__ import annotations

import pytest
import torch

from tests.parity.against_autograd import autograd, distance, find_inside, ours
from tests.parity.architectures import ALL
from tests.parity.exports_in_dtype import in_dtype, run_reference

pytestmark = pytest.mark.parity

LIMIT = 1e-10
DYNAMO = ("resnet18", "densenet", "convnext", "vit", "bert", "bilstm", "unet_resize")
"""From the dynamo exporter too, where it writes other operators than TorchScript's. It rounds what it folds, and the
numbers in the tanh form of GELU, to float32: what it writes of DETR and GPT-2 is not torch's function to 1e-10."""

OLDER = {"mobilenet_v3": "torchscript-12"}
"""HardSwish of opset 14 and later is defined with 1/6 rounded to float32; at 12 it is written with HardSigmoid."""

SINGLE = ("swin",)
"""Its library takes the softmax in float32, and the exporter refuses the fused attention's mask in float64."""

PAIRS = [(a.name, OLDER.get(a.name, "torchscript-17")) for a in ALL if a.name not in SINGLE]
PAIRS += [(name, "dynamo-20") for name in DYNAMO]


@pytest.mark.parametrize(("name", "form"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_float64(name: str, form: str) -> None:
    file = in_dtype(name, form, torch.float64, rows=1, runner=run_reference)
    inside = find_inside(file)
    got = ours(file, list(inside.values()))
    plain = run_reference(file.proto, file.feeds)
    assert all(distance(got.outputs[y], plain[y]) <= LIMIT for y in file.outputs)
    exact = autograd(file.module, file.inputs, list(inside))
    told = {n: distance(g, e) for n, g, e in zip(got.names, got.gradients, exact, strict=True)}
    assert max(told.values()) <= LIMIT, f"{file.name}: distances from autograd {told}"
