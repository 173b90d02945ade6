"""The other side: autograd's formulas and the peers' calls. All take a float32 or float64 module and its input."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from service.types import Selector, Target
from tests.parity.ledger import LEDGER, farthest
from tests.parity.peers import ClassifierOutputTarget, GradCAM, LayerGradCam, Occlusion, Saliency
from tests.parity.subjects import Net, Subject, outputs_of

Oracle = Callable[[nn.Module, Tensor], Tensor]


class Scored(nn.Module):
    """Class scores [N, classes]: a single logit z is (−z, z)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        z = self.module(x)
        return torch.cat([-z, z], 1) if z.shape[1] == 1 else z


@dataclass(frozen=True)
class Asked:
    """A target in our words, and the same as a function of the class scores: [N, classes] -> [N]."""

    target: Target
    pick: Callable[[Tensor], Tensor]


def asked(net: Net) -> tuple[Asked, ...]:
    """A class, a difference of two classes, the second strongest."""
    last = max(net.classes, 2) - 1
    return (
        Asked(Target(Selector(index=last)), lambda s: s[:, last]),
        Asked(Target(Selector(index=1), minus=Selector(index=0)), lambda s: s[:, 1] - s[:, 0]),
        Asked(Target(Selector(rank=2)), lambda s: s.sort(1, descending=True).values[:, 1]),
    )


def strongest(module: nn.Module, x: Tensor) -> Tensor:
    """int64 [N]."""
    with torch.no_grad():
        return Scored(module)(x).argmax(1)


def gradient(module: nn.Module, x: Tensor, pick: Callable[[Tensor], Tensor]) -> Tensor:
    """d pick(scores) / d x."""
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(pick(Scored(module)(x)).sum(), x)
    return g


def cam(module: Any, x: Tensor, layer: int, pick: Callable[[Tensor], Tensor], *, relu: bool) -> Tensor:
    """[relu] Σ_k mean_ij(∂S/∂A_kij) A_k for ``module.explained[layer]``, by autograd: [N, h, w]."""
    scores: list[Tensor] = []
    acts = outputs_of(_kept(module, scores), module.explained, x)[module.explained[layer]]
    (g,) = torch.autograd.grad(pick(scores[0]).sum(), acts)
    found = (g.mean((2, 3), keepdim=True) * acts).sum(1).detach()
    return found.relu() if relu else found


def _kept(module: nn.Module, scores: list[Tensor]) -> Callable[[Tensor], None]:
    def run(x: Tensor) -> None:
        scores.append(Scored(module)(x))

    return run


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, h, w] -> [N, H, W], bilinear as torch has it."""
    return functional.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def captum_saliency(module: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
    """|∂S/∂x|, [N, 3, H, W]."""
    return Saliency(Scored(module)).attribute(x.clone().requires_grad_(), target=classes, abs=True).detach()


def captum_cam(module: Any, x: Tensor, layer: int, classes: Tensor, *, relu: bool) -> Tensor:
    """[N, h, w]."""
    method = LayerGradCam(Scored(module), module.explained[layer])
    return method.attribute(x, target=classes, relu_attributions=relu).detach()[:, 0]


def raw_grad_cam(module: Any, x: Tensor, layer: int, classes: Tensor) -> Tensor:
    """grad-cam's map before its ReLU, scaling and resizing: [N, h, w]."""
    seen: list[np.ndarray] = []

    class Raw(GradCAM):  # type: ignore[misc, valid-type]
        def get_cam_image(self, *args: Any, **kwargs: Any) -> np.ndarray:
            seen.append(super().get_cam_image(*args, **kwargs))
            return seen[-1]

    with Raw(model=Scored(module), target_layers=[module.explained[layer]]) as method:
        method(input_tensor=x, targets=[ClassifierOutputTarget(int(c)) for c in classes])
    return torch.from_numpy(np.array(seen[0]))


def captum_occlusion(
    module: nn.Module, x: Tensor, classes: Tensor, patch: tuple[int, int], stride: tuple[int, int], baseline: Any
) -> Tensor:
    """[N, H, W]: all channels are covered at once, and captum says the same of each."""
    found = Occlusion(Scored(module)).attribute(
        x, target=classes, sliding_window_shapes=(x.shape[1], *patch), strides=(x.shape[1], *stride), baselines=baseline
    )
    return found.detach()[:, 0]


def compare(key: tuple[str, str], subject: Subject, ours: np.ndarray, x: Tensor, oracle: Oracle, at: Any = "x") -> None:
    """Hold ``ours`` against the oracle: in float32, or in float64 with torch's own distance for real nets.

    ``key``: (method, oracle). ``at``: what the gradient is taken by, "x" or the index of a layer; None = none is.
    """
    line = (*key, subject.net.name)
    if subject.net.real:
        own = spread(oracle, subject, x) if at is None else gradient_spread(subject, at)
        LEDGER.near_exact(line, ours, oracle(subject.wide, x.double()).numpy(), own)
    else:
        LEDGER.near(line, ours, oracle(subject.module, x).numpy())


def spread(oracle: Oracle, subject: Subject, x: Tensor) -> float:
    """Torch's own distance: the largest of any row between float64 and float32, computed each way."""
    exact = oracle(subject.wide, x.double()).numpy()
    return max(farthest(found.numpy(), exact) for found in evaluations(lambda x: oracle(subject.module, x), x))


_SPREADS: dict[tuple[str, Any], float] = {}


def gradient_spread(subject: Subject, at: Any) -> float:
    """:func:`spread` of the gradient by x, or of the CAM at a layer, the largest over the targets asked.

    Which units rounding switches is luck: a single map may have none in one computation and some in another.
    """
    known = (subject.net.name, at)
    if known not in _SPREADS:
        picks = [a.pick for a in asked(subject.net)]

        def oracle(pick: Callable[[Tensor], Tensor]) -> Oracle:
            return lambda m, x: gradient(m, x, pick) if at == "x" else cam(m, x, at, pick, relu=False)

        _SPREADS[known] = max(spread(oracle(pick), subject, subject.inputs()) for pick in picks)
    return _SPREADS[known]


def evaluations(evaluate: Callable[[Tensor], Any], x: Tensor) -> Iterator[Any]:
    """The same in float32 by torch's different kernels: its own choice, without oneDNN, with channels last."""
    yield evaluate(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no Intel GPU
        with torch.backends.mkldnn.flags(enabled=False):
            yield evaluate(x)
    yield evaluate(x.contiguous(memory_format=torch.channels_last))


def with_ending(module: nn.Module, ending: nn.Module) -> nn.Module:
    """The net with its softmax or sigmoid, as exported."""
    return nn.Sequential(copy.deepcopy(module), ending).eval()
