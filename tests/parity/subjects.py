"""Every net as a file of both torch exporters, with what torch knows about it."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Sequence
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

OLD, NEW = ("torchscript-17", "dynamo-20"), ("torchscript-18", "dynamo-18")
ROWS = 3
ENDINGS = {"logits": nn.Identity, "softmax": functools.partial(nn.Softmax, 1), "sigmoid": nn.Sigmoid}


@dataclass(frozen=True)
class Net:
    """A net and how it is asked.

    Attributes:
        classes: logits per row.
        size: (H, W).
        end: what the exported file has behind the logits, a key of ``ENDINGS``.
        real: as deep as a real network of ReLUs, where two correct float32 gradients differ by the units that
            rounding switches (see ledger.py).
        forms: exporter and opset.
    """

    name: str
    make: Callable[[], nn.Module]
    classes: int
    size: tuple[int, int] = (32, 32)
    end: str = "logits"
    real: bool = False
    forms: tuple[str, ...] = OLD

    def inputs(self, rows: int = ROWS) -> Tensor:
        """float32 [rows, 3, H, W], normal around 0.2, seeded; at most ``ROWS`` rows."""
        return torch.randn((ROWS, 3, *self.size), generator=torch.Generator().manual_seed(5))[:rows] + 0.2


ALL = (
    Net("smooth", nets.Smooth, 7, end="softmax", forms=OLD + NEW),
    Net("residual", nets.Residual, 5, (24, 32), forms=NEW),
    Net("vgg", nets.Vgg, 6, end="softmax", forms=OLD),
    Net("mobilenet", nets.small_mobilenet, 9, forms=NEW),
    Net("binary", nets.Binary, 1, (20, 28), end="sigmoid", forms=OLD),
    Net("vit", nets.Vit, 6, forms=OLD + NEW),
    Net("resnet18", nets.ResNet18, 1000, (160, 160), real=True, forms=NEW),
    Net("mobilenet_v2", nets.mobilenet_v2, 1000, (160, 160), real=True, forms=OLD),
)
SMALL = tuple(net.name for net in ALL if not net.real)


@dataclass(frozen=True)
class Subject:
    """One exported net.

    Attributes:
        module: float32, up to the logits.
        ending: what the file has behind them.
        layers: value names of ``module.explained``.
    """

    net: Net
    form: str
    path: Path
    module: nn.Module
    ending: nn.Module
    layers: tuple[str, ...]

    @property
    def name(self) -> str:
        """In the repository."""
        return f"{self.net.name}-{self.form}"

    @functools.cached_property
    def wide(self) -> nn.Module:
        """The module in float64."""
        return copy.deepcopy(self.module).double()

    def inputs(self, rows: int = ROWS) -> Tensor:
        """See :meth:`Net.inputs`; fewer for real nets."""
        return self.net.inputs(min(rows, 2) if self.net.real else rows)


def export(net: Net, form: str, folder: Path, *, rows: int | None = None) -> Subject:
    """The net with seeded weights as a file; ``rows``: for exactly so many, None = any number."""
    module = nets.build(net.make, seed=1)
    if net.real:
        nets.settle(module, net.inputs())
    return write(net, form, module, folder, rows=rows)


def write(net: Net, form: str, module: nn.Module, folder: Path, *, rows: int | None = None) -> Subject:
    """Export ``module`` and find the layers' values in the file."""
    ending, (kind, opset) = ENDINGS[net.end](), form.split("-")
    path, x = folder / f"{net.name}-{form}.onnx", net.inputs(rows or ROWS)
    axes = {"dynamic_shapes": ({0: torch.export.Dim("N")},)} if kind == "dynamo" else {"dynamic_axes": {"x": {0: "N"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporters
        torch.onnx.export(
            nn.Sequential(module, ending).eval(), (x,), path, input_names=["x"], output_names=["y"],
            opset_version=int(opset), dynamo=kind == "dynamo", verbose=False, **({} if rows else axes),
        )  # fmt: skip
    proto = onnx.load(path, load_external_data=False)
    assert [o.version for o in proto.opset_import if o.domain == ""] == [int(opset)]
    found = find_values(path, module, module.explained, x)
    return Subject(net, form, path, module, ending, tuple(found[m] for m in module.explained))


def find_values(path: Path, module: nn.Module, parts: Sequence[nn.Module], x: Tensor) -> dict[nn.Module, str]:
    """Which value of the file is which part's output: the first that has its shape and its numbers (to 1e-4)."""
    names = [v.name for v in graph_tools.values(path) if v.kind in ("value", "output") and v.dtype == "float"]
    values = run_beside(path, graph_tools.expose(path, names), {"x": x.numpy()})
    found = {}
    for part, output in outputs_of(module, parts, x).items():
        want = output.detach().numpy()
        limit = 1e-4 * np.linalg.norm(want)
        same = (n for n in names if values[n].shape == want.shape and np.linalg.norm(values[n] - want) <= limit)
        name = next(same, None)
        if name is not None:
            found[part] = name
    return found


def run_beside(path: Path, model: ir.Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a graph made from the file: saved beside it, where its weights may lie in a second file."""
    made = path.with_suffix(".made.onnx")
    onnx.save(ir.to_proto(model), made)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def outputs_of(module: nn.Module, parts: Sequence[nn.Module], x: Tensor) -> dict[nn.Module, Tensor]:
    """What each part computes for ``x``, still in autograd's graph; parts used more or less than once are left out."""
    seen: dict[nn.Module, list[Tensor]] = {part: [] for part in parts}
    handles = [part.register_forward_hook(lambda m, _, y: seen[m].append(y)) for part in seen]
    module(x)
    for handle in handles:
        handle.remove()
    return {part: ys[0] for part, ys in seen.items() if len(ys) == 1 and isinstance(ys[0], Tensor)}
