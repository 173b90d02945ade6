"""Every net as a file of both torch exporters, with what torch knows about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from torch import Tensor, nn

import graph_tools
from tests.parity import nets


@dataclass(frozen=True)
class Net:
    """A net and how it is asked.

    ``end``: what the exported file has behind the logits. ``real``: as deep as a real network of ReLUs, where two
    correct float32 gradients differ by the units that rounding switches (see ledger.py). ``layers``: whether the
    last of its ``explained`` modules is the layer to be found by default.
    """

    name: str
    make: Callable[[], nn.Module]
    classes: int
    size: tuple[int, int] = (32, 32)
    end: str = "logits"
    real: bool = False
    seed: int = 1


NETS = {
    net.name: net
    for net in (
        Net("smooth", nets.Smooth, 7, end="softmax"),
        Net("residual", nets.Residual, 5, (24, 32)),
        Net("vgg", nets.Vgg, 6, end="softmax"),
        Net("mobilenet", nets.small_mobilenet, 9),
        Net("binary", nets.Binary, 1, (20, 28), end="sigmoid"),
        Net("vit", nets.Vit, 6),
        Net("resnet18", nets.ResNet18, 1000, (64, 64), real=True),
        Net("mobilenet_v2", nets.mobilenet_v2, 1000, (96, 96), real=True),
    )
}
FORMS = ("torchscript-17", "torchscript-18", "dynamo-18", "dynamo-20")
ROWS = 3


@dataclass(frozen=True)
class Subject:
    """One exported net. ``layers`` are the value names of ``module.explained``."""

    net: Net
    form: str
    path: Path
    module: nn.Module
    layers: tuple[str, ...]

    def inputs(self, rows: int = ROWS) -> Tensor:
        """float32 [rows, 3, H, W], seeded."""
        return inputs(self.net, rows)


def inputs(net: Net, rows: int = ROWS) -> Tensor:
    """Normal with mean 0.2: seeded per net, the same for all its forms."""
    return torch.randn((rows, 3, *net.size), generator=torch.Generator().manual_seed(5)) + 0.2


def export(net: Net, form: str, folder: Path) -> Subject:
    """Write the file and find the layers' values in it."""
    module = nets.build(net.make, net.seed)
    ending = {"softmax": nn.Softmax(1), "sigmoid": nn.Sigmoid(), "logits": nn.Identity()}[net.end]
    whole = nn.Sequential(module, ending).eval()
    kind, opset = form.split("-")
    path = folder / f"{net.name}-{form}.onnx"
    more = {"dynamic_shapes": ({0: torch.export.Dim("N")},)} if kind == "dynamo" else {"dynamic_axes": {"x": {0: "N"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporters
        torch.onnx.export(
            whole, (inputs(net),), path, input_names=["x"], output_names=["y"], opset_version=int(opset),
            dynamo=kind == "dynamo", verbose=False, **more,
        )  # fmt: skip
    found = find_values(path, module, module.explained, inputs(net))
    return Subject(net, form, path, module, tuple(found[m] for m in module.explained))


def find_values(
    path: Path, module: nn.Module, parts: tuple[nn.Module, ...] | list[nn.Module], x: Tensor
) -> dict[nn.Module, str]:
    """Which value of the file is which module's output: the first of its shape that has its numbers (to 1e-4)."""
    wanted = outputs_of(module, parts, x)
    shapes = {tuple(w.shape) for w in wanted.values()}
    candidates = [v.name for v in graph_tools.values(path) if v.kind in ("value", "output") and v.dtype == "float"]
    shown = path.with_suffix(".shown.onnx")  # beside the file: its weights may lie in a second one
    onnx.save(ir.to_proto(graph_tools.expose(path, candidates)), shown)
    session = onnxruntime.InferenceSession(shown, providers=["CPUExecutionProvider"])
    values = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"x": x.numpy()}), strict=True))
    found = {}
    for part, want in wanted.items():
        array, limit = want.numpy(), 1e-4 * float(want.norm())
        for name in candidates:
            value = values[name]
            if value.shape == array.shape and value.shape in shapes and np.linalg.norm(value - array) <= limit:
                found[part] = name
                break
    return found


def outputs_of(module: nn.Module, parts: tuple[nn.Module, ...] | list[nn.Module], x: Tensor) -> dict[nn.Module, Tensor]:
    """What each part computes for ``x``; parts whose output is no tensor, and reused ones, are left out."""
    seen: dict[nn.Module, list[Tensor]] = {part: [] for part in parts}
    handles = [p.register_forward_hook(lambda m, _, y: seen[m].append(y)) for p in dict.fromkeys(parts)]
    with torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    return {part: ys[0] for part, ys in seen.items() if len(ys) == 1 and isinstance(ys[0], Tensor)}


def opset_of(path: Path) -> int:
    """The file's ai.onnx opset."""
    proto = onnx.load(path, load_external_data=False)
    return next(o.version for o in proto.opset_import if o.domain == "")
