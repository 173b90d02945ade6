"""The small forms exported in float64 and float16."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from torch import Tensor, nn
from torch.nn import functional

from tests.graph_tools.reference_ops import REPAIRED
from tests.parity.architectures import BY_NAME
from tests.parity.exports import EAGER, Exported, Runner, built, run, write


def erf(x: np.ndarray) -> np.ndarray:
    """In the type of ``x``."""
    return np.vectorize(math.erf, otypes=[x.dtype])(x)


class Erf(OpRun):
    """onnx's own is float32 whatever it gets."""

    op_domain = ""

    def _run(self, x: Any) -> tuple[Any, ...]:
        return (erf(x),)


class Gelu(OpRun):
    """Likewise."""

    op_domain = ""

    def _run(self, x: Any, approximate: Any = None) -> tuple[Any, ...]:
        inner = (
            np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)) if approximate == "tanh" else erf(x / math.sqrt(2))
        )
        return (0.5 * x * (1 + inner),)


def run_reference(model: ir.Model | onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name by onnx's reference evaluator, which computes float64; feeds without an input are left out."""
    proto = model if isinstance(model, onnx.ModelProto) else ir.to_proto(model)
    asked = {i.name for i in proto.graph.input}
    evaluator = ReferenceEvaluator(proto, new_ops=[*REPAIRED, Erf, Gelu])
    with np.errstate(all="ignore"):  # of branches that a Where does not take
        found = evaluator.run(None, {name: a for name, a in feeds.items() if name in asked})
    return dict(zip([o.name for o in proto.graph.output], found, strict=True))


class HardSigmoid(nn.Module):
    """With the file's slope: 1/6 is an attribute there, which is float32."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.hardtanh(x * float(np.float32(1 / 6)) + 0.5, 0.0, 1.0)


class HardSwish(HardSigmoid):
    """x · HardSigmoid(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * super().forward(x)


def in_dtype(name: str, form: str, dtype: torch.dtype, *, rows: int = 2, runner: Runner = run) -> Exported:
    """The small form with weights, and image, of another dtype; float64 modules have their file's attributes."""
    module = copy.deepcopy(built(name)).to(dtype)
    for part in module.modules():
        if isinstance(getattr(part, "eps", None), float):
            part.eps = float(np.float32(part.eps))
    inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in BY_NAME[name].inputs(rows=rows))
    proto = write(module, inputs, form, eager=name in EAGER)
    kind = {torch.float64: "double", torch.float16: "float16"}[dtype]
    if dtype == torch.float64:
        _round_slopes(module)
    outputs = tuple(o.name for o in proto.graph.output)
    return Exported(f"{name}, {form}, {kind}", proto, module, inputs, outputs, runner, kind)


def _round_slopes(module: nn.Module) -> None:
    for part in module.modules():
        for name, child in part.named_children():
            if isinstance(child, nn.Hardsigmoid | nn.Hardswish):
                setattr(part, name, HardSigmoid() if isinstance(child, nn.Hardsigmoid) else HardSwish())
