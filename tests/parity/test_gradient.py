"""``graph_tools.gradient`` against autograd: input, interior values and weights, through the file's own output."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import graph_tools
from tests.parity import oracles
from tests.parity.ledger import LEDGER
from tests.parity.subjects import Subject, find_values, outputs_of, run_beside

pytestmark = pytest.mark.parity


def leaves(module: nn.Module) -> list[nn.Module]:
    """Modules without parts."""
    return [m for m in module.modules() if not list(m.children())]


def cotangent(y: Tensor) -> Tensor:
    """Seeded, in the shape and dtype of ``y``."""
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(9)).to(y.dtype)


def through(module: nn.Module, ending: nn.Module, x: Tensor, parts: list[nn.Module]) -> list[Tensor]:
    """⟨cotangent, net(x) with its ending⟩ differentiated by x, by the parts' outputs and by the weights, in order."""
    x = x.clone().requires_grad_()
    kept: list[Tensor] = []
    outputs = outputs_of(lambda x: kept.append(ending(module(x))), parts, x)
    wrt = [x, *(outputs[p] for p in parts), *module.parameters()]
    return list(torch.autograd.grad(kept[0], wrt, cotangent(kept[0]), allow_unused=True))


def test_input_and_interior_values(subject: Subject) -> None:
    x = subject.inputs()
    named = find_values(subject.path, subject.module, leaves(subject.module), x)
    parts = [p for p, name in named.items() if name != "y"]
    assert len(parts) >= 3, "too few of the net's modules were found in the file"
    names = ["x", *(named[p] for p in parts)]
    program = graph_tools.gradient(subject.path, ["y"], names)
    with torch.no_grad():
        y = subject.ending(subject.module(x))
    got = run_beside(subject.path, program, {"x": x.numpy(), "cotangent_y": cotangent(y).numpy()})
    np.testing.assert_allclose(got["y"], y, rtol=1e-3, atol=1e-4 * float(y.abs().max()))
    theirs = through(subject.module, subject.ending, x, parts)
    exact = wide(subject, x, parts)
    for i, name in enumerate(names):
        hold(subject, "gradient of x" if i == 0 else "gradient inside", got[f"grad_{name}"], theirs[i], exact[i])


def test_weights(subject: Subject) -> None:
    """Those that the exporter left as they are (it folds BatchNormalization into some convolutions)."""
    x = subject.inputs()
    held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(subject.path).graph.initializer}
    named = {f"0.{name}": p for name, p in subject.module.named_parameters()}
    names = [n for n, p in named.items() if n in held and np.array_equal(held[n], p.detach().numpy())]
    assert names
    program = graph_tools.gradient(subject.path, ["y"], names)
    with torch.no_grad():
        y = subject.ending(subject.module(x))
    got = run_beside(subject.path, program, {"x": x.numpy(), "cotangent_y": cotangent(y).numpy()})
    theirs, exact = (dict(zip(named, g[1:], strict=True)) for g in (
        through(subject.module, subject.ending, x, []), wide(subject, x, [])
    ))  # fmt: skip
    largest = max(float(g.norm()) for g in exact.values() if g is not None)
    for name in names:
        if theirs[name] is None:  # not on the way
            assert not got[f"grad_{name}"].any()
        elif float(exact[name].norm()) < 1e-9 * largest:  # a key's bias shifts all scores alike: rounding is all there is
            assert np.linalg.norm(got[f"grad_{name}"]) < 1e-5 * largest
        else:
            hold(subject, "gradient of weights", got[f"grad_{name}"], theirs[name], exact[name])


def wide(subject: Subject, x: Tensor, parts: list[nn.Module]) -> list[Tensor]:
    """:func:`through` in float64, by the same modules of the wider copy."""
    places = {m: i for i, m in enumerate(subject.module.modules())}
    copies = list(subject.wide.modules())
    return through(subject.wide, subject.ending, x.double(), [copies[places[p]] for p in parts])


def hold(subject: Subject, method: str, got: np.ndarray, theirs: Tensor, exact: Tensor) -> None:
    """As one map: the gradient of a weight sums over all rows."""
    key = (method, "autograd", subject.net.name)
    ours, one, other = (np.asarray(a)[None] for a in (got, theirs, exact))
    if subject.net.real:
        LEDGER.near_exact(key, ours, one, other)
    else:
        LEDGER.near(key, ours, one)
