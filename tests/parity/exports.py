"""The architectures as files of both torch exporters, exported once per run; what torch knows about them beside."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from torch import Tensor, nn

import graph_tools
from tests.parity.architectures import BY_NAME

Runner = Callable[[ir.Model | onnx.ModelProto, dict[str, np.ndarray]], dict[str, np.ndarray]]
FORMS = (
    "torchscript-9", "torchscript-12", "torchscript-17", "torchscript-20", "dynamo-18", "dynamo-20", "dynamo-23",
)  # fmt: skip
REFUSED = {
    ("swin", "torchscript-9"): "ONNX export of Pad in opset 9",
    ("detr", "torchscript-9"): "ONNX export of cumsum in opset 9",
}
"""(architecture, form) that torch does not export: what it says."""

EAGER = ("swin",)
"""Exported with attention as operators of its own: dynamo's decomposition of the fused one fails on a view here."""

FUSED_ATTENTION = 14  # TorchScript's exporter has scaled_dot_product_attention from this opset on


def run(model: ir.Model | onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name in ONNX Runtime on one thread; feeds that the model has no input for are left out."""
    proto = model if isinstance(model, onnx.ModelProto) else ir.to_proto(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    asked = {i.name for i in session.get_inputs()}
    found = session.run(None, {name: a for name, a in feeds.items() if name in asked})
    return dict(zip([o.name for o in session.get_outputs()], found, strict=True))


@dataclass(frozen=True)
class Exported:
    """One file, in memory.

    Attributes:
        module: float32, eval.
        feeds: arrays by input name, and ``inputs``, the same as tensors.
        outputs: their names.
        runner: what runs it and what is made of it; ``dtype``, of its floats.
    """

    name: str
    proto: onnx.ModelProto
    module: nn.Module
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    runner: Runner = run
    dtype: str = "float"

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        """By name."""
        return feeds_of(self.inputs)

    @functools.cached_property
    def wide(self) -> nn.Module:
        """The module in float64."""
        return copy.deepcopy(self.module).double()

    @property
    def text(self) -> bool:
        """Whether the input is tokens, which have no gradient."""
        return not self.inputs[0].is_floating_point()


def feeds_of(inputs: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """By the names that files are exported with."""
    return {f"x{i}": x.numpy() for i, x in enumerate(inputs)}


@functools.cache
def built(name: str, full: bool = False) -> nn.Module:
    """The one module of an architecture in this run."""
    return BY_NAME[name].build(full)


@functools.lru_cache(maxsize=8)
def exported(name: str, form: str, *, full: bool = False, rows: int | None = 2) -> Exported:
    """The architecture's file in this form; ``rows`` None: any number."""
    module, inputs = built(name, full), BY_NAME[name].inputs(full)
    proto = write(module, inputs, form, dynamic=rows is None, eager=name in EAGER, key=(name, full))
    if any(n.op_type == "Upsample" for n in proto.graph.node):
        module = as_opset_9_resizes(module)
    return Exported(f"{name}, {form}", proto, module, inputs, tuple(o.name for o in proto.graph.output))


def write(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    form: str,
    *,
    dynamic: bool = False,
    eager: bool = False,
    key: Any = None,
) -> onnx.ModelProto:
    """``module`` as a file with inputs ``x0``… and outputs ``y0``….

    Args:
        dynamic: any number of rows.
        eager: attention as operators of its own where there is a choice.
        key: with one, torch.export runs once for all opsets.
    """
    kind, opset = form.split("-")
    with torch.no_grad():
        found = module(*inputs)
    ys = [f"y{i}" for i in range(len(found) if isinstance(found, tuple) else 1)]
    write_one = _dynamo if kind == "dynamo" else _torchscript
    eager = eager or (kind != "dynamo" and int(opset) < FUSED_ATTENTION)
    with quiet(), attention(module, "eager" if eager else "sdpa"):
        proto = write_one(module, inputs, int(opset), list(feeds_of(inputs)), ys, dynamic, key)
    assert [o.version for o in proto.opset_import if o.domain == ""] == [int(opset)]
    return proto


def _torchscript(
    module: nn.Module, inputs: tuple[Tensor, ...], opset: int, xs: list[str], ys: list[str], dynamic: bool, _: Any
) -> onnx.ModelProto:
    kept, axes = io.BytesIO(), {x: {0: "N"} for x in xs} if dynamic else None
    torch.onnx.export(
        module, inputs, kept, dynamo=False, opset_version=opset, input_names=xs, output_names=ys, dynamic_axes=axes
    )
    return onnx.load_from_string(kept.getvalue())


_PROGRAMS: dict[Any, torch.export.ExportedProgram] = {}


def _dynamo(
    module: nn.Module, inputs: tuple[Tensor, ...], opset: int, xs: list[str], ys: list[str], dynamic: bool, key: Any
) -> onnx.ModelProto:
    if key is None or dynamic or key not in _PROGRAMS:
        shapes = tuple({0: torch.export.Dim("N", min=2, max=64)} for _ in inputs) if dynamic else None
        _PROGRAMS.clear()
        _PROGRAMS[None if dynamic else key] = torch.export.export(module, inputs, dynamic_shapes=shapes)
    (program,) = _PROGRAMS.values()
    made = torch.onnx.export(
        program, inputs, dynamo=True, opset_version=opset, input_names=xs, output_names=ys, verbose=False
    )
    assert made is not None
    return made.model_proto


class Interleave(nn.Module):
    """Twice the size, linear, sampled at x / 2: what a linear Upsample of opset 9 is in ONNX Runtime.

    torch writes it for bilinear resizing, which samples at (x + 1/2) / 2 − 1/2, and warns that it differs.
    """

    def forward(self, x: Tensor) -> Tensor:
        for axis in (2, 3):
            last = x.shape[axis] - 1
            after = torch.cat([x.narrow(axis, 1, last), x.narrow(axis, last, 1)], axis)
            x = torch.stack([x, (x + after) / 2], axis + 1).flatten(axis, axis + 1)
        return x


def as_opset_9_resizes(module: nn.Module) -> nn.Module:
    """A copy of ``module`` with torch's resizing replaced by what its file does."""
    module = copy.deepcopy(module)
    for part in module.modules():
        for name, child in part.named_children():
            if isinstance(child, nn.Upsample):
                setattr(part, name, Interleave())
    return module


@contextlib.contextmanager
def attention(module: nn.Module, kind: str) -> Iterator[None]:
    """The transformers library's attention as operators of its own (``eager``) or as torch's one (``sdpa``)."""
    net = getattr(module, "net", None)
    change = getattr(net, "set_attn_implementation", None)
    if change is None or not net._supports_sdpa:
        yield
        return
    change(kind)
    try:
        yield
    finally:
        change("sdpa")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporters' deprecations, progress and graph dumps unsaid."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)


def values_of(proto: onnx.ModelProto, kind: str = "float") -> list[str]:
    """Names of the computed values of this dtype, in order."""
    return [v.name for v in graph_tools.values(proto) if v.kind in ("value", "output") and v.dtype == kind]
