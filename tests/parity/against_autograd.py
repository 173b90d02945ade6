"""Our gradient of a file's outputs beside autograd's: the input, and values inside that torch's modules compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

import graph_tools
from tests.parity import kinks
from tests.parity.exports import Exported, values_of

Array = np.ndarray
COPIES = (nn.Dropout, nn.Identity)
"""Modules that hand on what they get: the file has one value for both."""


def distance(a: Array, b: Array) -> float:
    """‖a − b‖ / ‖b‖ in float64."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape, (a.shape, b.shape)
    assert b.any(), "the oracle says nothing: it is zero everywhere"
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def kept_outputs(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """What every part without parts computes, by its path, and the outputs; parts used more than once are left out."""
    seen: dict[str, list[Tensor]] = {}

    def keep(path: str, y: object) -> None:
        first = y[0] if isinstance(y, tuple) else y
        if isinstance(first, Tensor) and first.is_floating_point():
            seen.setdefault(path, []).append(first)

    parts = [(p, m) for p, m in module.named_modules() if p and not list(m.children()) and not isinstance(m, COPIES)]
    handles = [m.register_forward_hook(lambda _, __, y, p=p: keep(p, y)) for p, m in parts]
    try:
        found = module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    once = {path: ys[0] for path, ys in seen.items() if len(ys) == 1}
    return once, found if isinstance(found, tuple) else (found,)


class Values:
    """A file's computed values for its inputs, to be found by their numbers."""

    def __init__(self, file: Exported) -> None:
        self._near = 2e-2 if file.dtype == "float16" else 1e-4
        self.names = values_of(file.proto, file.dtype)
        self._got = file.runner(graph_tools.expose(file.proto, self.names), file.feeds)
        self._norms = {name: float(np.linalg.norm(self._got[name].astype(np.float64))) for name in self.names}

    def find(self, want: Array) -> str | None:
        """The first value that has the shape and, to 1e-4 (2e-2 in float16), the numbers."""
        want = want.astype(np.float64)
        size = float(np.linalg.norm(want))
        for name in self.names:
            got = self._got[name]
            if got.shape != want.shape or abs(self._norms[name] - size) > self._near * size:
                continue
            if np.linalg.norm(got - want) <= self._near * size:
                return name
        return None


def find_inside(file: Exported, count: int = 3) -> dict[str, str]:
    """``count`` modules, spread over the depth, and the value of the file that each one computes."""
    with torch.no_grad():
        outputs, _ = kept_outputs(file.module, file.inputs)
    values = Values(file)
    found: dict[str, str] = {}
    for path, tensor in outputs.items():
        name = values.find(tensor.numpy())
        if name is not None and name not in file.outputs and name not in found.values():
            found[path] = name
    assert len(found) >= count, f"{file.name}: only {sorted(found)} were found in the file"
    paths = list(found)
    return {paths[i]: found[paths[i]] for i in np.linspace(0, len(paths) - 1, count).round().astype(int)}


def cotangents(outputs: Sequence[Tensor]) -> list[Tensor]:
    """A random projection of each output, seeded, in its dtype."""
    generator = torch.Generator().manual_seed(9)
    return [torch.randn(y.shape, generator=generator).to(y.dtype) for y in outputs]


def autograd(module: nn.Module, inputs: Sequence[Tensor], paths: Sequence[str]) -> list[Array]:
    """d⟨cotangents, outputs⟩ by the first input where it is float, then by the modules' outputs, in order."""
    kind = next(module.parameters()).dtype
    inputs = [x.to(kind) if x.is_floating_point() else x for x in inputs]
    first = inputs[0]
    if first.is_floating_point():
        first = first.clone().requires_grad_()
    outputs, ys = kept_outputs(module, [first, *inputs[1:]])
    wrt = [*([first] if first.is_floating_point() else []), *(outputs[p] for p in paths)]
    return [g.numpy() for g in torch.autograd.grad(ys, wrt, cotangents(ys))]


@dataclass
class Ours:
    """What the program returned for ``names``, the file's own outputs, and what it was fed."""

    names: list[str]
    gradients: list[Array]
    outputs: dict[str, Array]
    also: dict[str, Array]


def ours(file: Exported, inside: Sequence[str], also: Sequence[str] = ()) -> Ours:
    """The program of the first input, where it is float, and of the values ``inside``; ``also``: values to read."""
    names = [*([] if file.text else ["x0"]), *inside]
    program = graph_tools.gradient(file.proto, list(file.outputs), names)
    if also:
        program = graph_tools.expose(program, also)
    with torch.no_grad():
        ys = file.module(*file.inputs)
    seeds = cotangents(ys if isinstance(ys, tuple) else (ys,))
    got = file.runner(
        program, file.feeds | {f"cotangent_{y}": s.numpy() for y, s in zip(file.outputs, seeds, strict=True)}
    )
    return Ours(names, [got[f"grad_{n}"] for n in names], {y: got[y] for y in file.outputs}, {n: got[n] for n in also})


def switched_units(file: Exported, paths: Sequence[str], inside: Sequence[str]) -> tuple[list[kinks.Unit], list[float]]:
    """Units that the program has on the other side than torch in float64; distances from autograd with these."""
    kept: list[Ours] = []

    def find(arrays: Sequence[Array]) -> list[Array]:
        values = Values(file)
        names = [values.find(a) for a in arrays]
        assert None not in names, f"{file.name}: some activations were not found in the file"
        found = [n for n in names if n is not None]
        kept.append(ours(file, inside, found))
        return [kept[0].also[n] for n in found]

    units = kinks.switched(file.wide, file.inputs, find)
    options = [units, [u for u in units if not u.tied]]
    told = [_with(file, paths, chosen, kept[0]) for chosen in options[: 1 + any(u.tied for u in units)]]
    best = min(range(len(told)), key=lambda i: max(told[i]))
    return options[best], told[best]


def _with(file: Exported, paths: Sequence[str], units: Sequence[kinks.Unit], got: Ours) -> list[float]:
    with kinks.Kinks(file.wide, units):
        exact = autograd(file.wide, file.inputs, paths)
    return [distance(a, b) for a, b in zip(got.gradients, exact, strict=True)]
