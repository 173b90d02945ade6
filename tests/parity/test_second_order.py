"""Second order: ``gradient`` of its own result is the Hessian-vector product that autograd has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import graph_tools
from tests.parity import nets
from tests.parity.against_autograd import cotangents, distance
from tests.parity.exports import run, write

pytestmark = pytest.mark.parity

LIMIT = 1e-4


class Attention(nn.Module):
    """A block of a vision transformer: LayerNormalization, attention with softmax, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.out(torch.softmax(q @ k.transpose(-1, -2) * 0.35, -1) @ v)
        return x + self.mlp(self.norm2(x))


class Recurrent(nn.Module):
    """An LSTM in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.lstm(x)[0])


def mlp() -> nn.Module:
    layers = [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 7), nn.Sigmoid(), nn.Linear(7, 5)]
    return nn.Sequential(*layers, nn.Softmax(1))


def convolutions() -> nn.Module:
    front = [
        nn.Conv2d(2, 4, 3, padding=1),
        nn.Softplus(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3, 2, 1, groups=2),
        nn.SiLU(),
    ]
    back = [nn.ConvTranspose2d(6, 3, 2, 2), nn.ELU(), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 16, 3)]
    return nn.Sequential(*front, *back, nn.LogSoftmax(1))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (3, 6)),
    "convolutions": (convolutions, (2, 2, 8, 8)),
    "smooth": (nets.Smooth, (2, 3, 8, 8)),
    "attention": (Attention, (2, 5, 8)),
    "lstm": (Recurrent, (2, 4, 4)),
}
FORMS = ("torchscript-12", "torchscript-17", "dynamo-20")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NETS)
def test_hessian_vector_product(name: str, form: str) -> None:
    """d⟨v, d⟨c, f(x)⟩/dx⟩/dx, and by the cotangent c: the derivative of f along v."""
    make, shape = NETS[name]
    module = nets.build(make, seed=1)
    x, v = torch.randn((2, *shape), generator=torch.Generator().manual_seed(3))
    file = write(module, (x,), form)
    first = graph_tools.gradient(file, ["y0"], ["x0"])
    second = graph_tools.gradient(first, ["grad_x0"], ["x0", "cotangent_y0"])
    (new,) = {o.name for o in second.graph.outputs} - {"y0", "grad_x0", "grad_cotangent_y0"}

    wide = module.double()
    at, along = x.double().requires_grad_(), v.double()
    y = wide(at)
    (c,) = cotangents([y])
    c = c.requires_grad_()
    (g,) = torch.autograd.grad(y, at, c, create_graph=True)
    product, forward = torch.autograd.grad(g, (at, c), along)
    feeds: dict[str, Any] = {"x0": x, "cotangent_y0": c.detach().float(), "cotangent_grad_x0": v}
    got = run(second, {n: a.numpy() for n, a in feeds.items()})
    assert distance(got["grad_x0"], g.detach().numpy()) <= LIMIT
    assert distance(got[new], product.numpy()) <= LIMIT
    assert distance(got["grad_cotangent_y0"], forward.numpy()) <= LIMIT


@pytest.mark.parametrize("form", FORMS)
def test_a_linear_net_has_no_curvature(form: str) -> None:
    x = torch.randn((2, 5), generator=torch.Generator().manual_seed(3))
    file = write(nets.build(lambda: nn.Linear(5, 3), seed=1), (x,), form)
    second = graph_tools.gradient(graph_tools.gradient(file, ["y0"], ["x0"]), ["grad_x0"], ["x0"])
    feeds = {"x0": x.numpy(), "cotangent_y0": np.ones((2, 3), np.float32), "cotangent_grad_x0": x.numpy()}
    got = run(second, feeds)
    (new,) = set(got) - {"y0", "grad_x0"}
    assert not got[new].any()
