"""``graph_tools.gradient`` against autograd: input, interior values and weights, through the file's own output."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import graph_tools
from tests.parity import oracles
from tests.parity.ledger import LEDGER, farthest
from tests.parity.subjects import Subject, find_values, outputs_of, run_beside

pytestmark = pytest.mark.parity


def leaves(module: nn.Module) -> list[nn.Module]:
    """Modules without parts."""
    return [m for m in module.modules() if not list(m.children())]


def cotangent(y: Tensor) -> Tensor:
    """Seeded, in the shape and dtype of ``y``."""
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(9)).to(y.dtype)


def through(module: nn.Module, ending: nn.Module, x: Tensor, parts: list[nn.Module]) -> list[Tensor | None]:
    """⟨cotangent, net(x) with its ending⟩ differentiated by x, by the parts' outputs and by the weights, in order."""
    x = x.clone().requires_grad_()
    kept: list[Tensor] = []
    outputs = outputs_of(lambda x: kept.append(ending(module(x))), parts, x)
    wrt = [x, *(outputs[p] for p in parts), *module.parameters()]
    return list(torch.autograd.grad(kept[0], wrt, cotangent(kept[0]), allow_unused=True))


class Autograd:
    """:func:`through` in float64 and, each way, in float32: ``exact[i]`` and ``narrow[way][i]``."""

    def __init__(self, subject: Subject, x: Tensor, parts: list[nn.Module]) -> None:
        places = {m: i for i, m in enumerate(subject.module.modules())}
        copies = list(subject.wide.modules())
        same = [copies[places[p]] for p in parts]
        self.exact = through(subject.wide, subject.ending, x.double(), same)
        self.narrow = list(oracles.evaluations(lambda x: through(subject.module, subject.ending, x, parts), x))
        self.own = max(
            farthest(np.asarray(one)[None], np.asarray(exact)[None])
            for way in self.narrow for one, exact in zip(way, self.exact, strict=True) if exact is not None
        )  # fmt: skip

    def hold(self, subject: Subject, method: str, got: np.ndarray, i: int) -> None:
        """All rows as one map: the gradient of a weight sums over them."""
        key = (method, "autograd", subject.net.name)
        if subject.net.real:
            LEDGER.near_exact(key, got[None], np.asarray(self.exact[i])[None], self.own)
        else:
            LEDGER.near(key, got[None], np.asarray(self.narrow[0][i])[None])


def gradients(subject: Subject, x: Tensor, names: list[str]) -> dict[str, np.ndarray]:
    """Ours of the file's output ``y``, by name; y itself is held against torch's."""
    program = graph_tools.gradient(subject.path, ["y"], names)
    with torch.no_grad():
        y = subject.ending(subject.module(x))
    got = run_beside(subject.path, program, {"x": x.numpy(), "cotangent_y": cotangent(y).numpy()})
    np.testing.assert_allclose(got["y"], y, rtol=1e-3, atol=1e-4 * float(y.abs().max()))
    return {name: got[f"grad_{name}"] for name in names}


def test_input_and_interior_values(subject: Subject) -> None:
    x = subject.inputs()
    named = find_values(subject.path, subject.module, leaves(subject.module), x)
    parts = list({name: p for p, name in named.items() if name != "y"}.values())  # Dropout hands on what it gets
    assert len(parts) >= 3, "too few of the net's modules were found in the file"
    names = ["x", *(named[p] for p in parts)]
    got, theirs = gradients(subject, x, names), Autograd(subject, x, parts)
    for i, name in enumerate(names):
        theirs.hold(subject, "gradient inside" if i else "gradient of x", got[name], i)


def test_weights(subject: Subject) -> None:
    """Those that the exporter left as they are (it folds BatchNormalization into some convolutions)."""
    x = subject.inputs()
    held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(subject.path).graph.initializer}
    named = {f"0.{name}": p.detach().numpy() for name, p in subject.module.named_parameters()}
    places = {n: i for i, n in enumerate(named, start=1) if n in held and np.array_equal(held[n], named[n])}
    assert places
    got, theirs = gradients(subject, x, list(places)), Autograd(subject, x, [])
    largest = max(float(g.norm()) for g in theirs.exact if g is not None)
    for name, i in places.items():
        exact = theirs.exact[i]
        if exact is None:  # not on the way
            assert not got[name].any()
        elif float(exact.norm()) < 1e-9 * largest:  # a key's bias shifts all scores alike: nothing but rounding
            assert np.linalg.norm(got[name]) < 1e-5 * largest
        else:
            theirs.hold(subject, "gradient of weights", got[name], i)
