"""The work behind ``inspect``."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import typer

import graph_tools
from graph_tools.cuda_kernels import CudaException, cuda_exceptions, kernels
from graph_tools.errors import ExplainError
from graph_tools.values import ValueInfo
from service.commands.console import note, plain, say, stdout, table, watch
from service.commands.opening import Opened, open_model
from service.core import MethodInfo
from service.explainers.base import ParameterInfo
from service.models.describe import ModelInfo, TensorDescription, describe, values
from service.models.loaded import LoadedModel

Shape = tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Facts:
    """All there is to say about a file.

    Attributes:
        on_cpu: nodes of the file that ONNX Runtime's CUDA provider leaves to the CPU.
        emitted_on_cpu: such nodes among those that the gradient of the scores adds.
    """

    path: Path
    card: Path | None
    opset: str
    producer: str
    info: ModelInfo
    methods: list[MethodInfo]
    values: list[ValueInfo]
    on_cpu: list[CudaException]
    emitted_on_cpu: list[CudaException]

    @property
    def layers(self) -> list[ValueInfo]:
        """The model's own values with space."""
        names = set(self.info.layers)
        return [v for v in self.values if v.name in names]


def run(
    path: Path,
    card: Path | None,
    preset: str | None,
    provider: str,
    *,
    parameters: bool,
    layers: bool,
    values: bool,
    as_json: bool,
) -> None:
    """Load the file and print what was found."""
    facts = watch(lambda _: collect(open_model(path, card, preset, provider=provider), path), f"loading {path.name}")
    if as_json:
        typer.echo(json.dumps(as_mapping(facts, with_values=values), indent=2, ensure_ascii=False))
        return
    _print_model(facts)
    _print_methods(facts)
    if parameters:
        _print_parameters(facts)
    if layers:
        _print_values("Layers", facts.layers, facts.info.default_layer)
    if values:
        _print_values("Values", facts.values, facts.info.default_layer)
    if facts.info.whitebox_error:
        note(f"no gradients and no layers: {facts.info.whitebox_error}")
    for text in facts.info.notes:
        note(text)


def collect(opened: Opened, path: Path) -> Facts:
    """Everything, computed once."""
    proto = onnx.load(path, load_external_data=False)
    opset = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in proto.opset_import)
    methods = opened.engine.methods(opened.model.name)  # before describe: it may find that there are no gradients
    info = describe(opened.model)
    producer = " ".join(filter(None, (proto.producer_name, proto.producer_version)))
    form = f"{opset} (IR {proto.ir_version})"
    own, emitted = _left_to_the_cpu(proto), _emitted_to_the_cpu(opened.model)
    return Facts(path, opened.card, form, producer, info, methods, values(opened.model), own, emitted)


def _left_to_the_cpu(proto: onnx.ModelProto) -> list[CudaException]:
    with contextlib.suppress(Exception):  # operators it does not know, files above 2 GB: the file's own types then
        proto = onnx.shape_inference.infer_shapes(proto)  # types decide between kernels
    for v in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        if v.type.WhichOneof("value") != "tensor_type":  # onnx-ir has no maps
            v.ClearField("type")
    return cuda_exceptions(ir.from_proto(proto))


def _emitted_to_the_cpu(model: LoadedModel) -> list[CudaException]:
    """Of the nodes that the gradient of the scores with respect to the input adds; [] where there is none."""
    try:
        box = model.whitebox(model.image is not None)
        program = graph_tools.gradient(box.model, [box.scores], [box.entry], form="cuda")
    except ExplainError:
        return []
    own = {node.name for node in box.model.graph.all_nodes()}
    return [e for e in cuda_exceptions(program) if e.node not in own]


def as_mapping(facts: Facts, *, with_values: bool) -> dict[str, Any]:
    """For ``--json``."""
    out = {
        "file": str(facts.path),
        "card": None if facts.card is None else str(facts.card),
        "opset": facts.opset,
        "producer": facts.producer,
        **dataclasses.asdict(facts.info),
        "layers": [_value(v) for v in facts.layers],
        "methods": [_method(m) for m in facts.methods],
        "without_cuda_kernel": [
            {**e._asdict(), "emitted": emitted}
            for emitted, found in ((False, facts.on_cpu), (True, facts.emitted_on_cpu))
            for e in found
        ],
    }
    if with_values:
        out["values"] = [_value(v) for v in facts.values]
    return out


def _value(v: ValueInfo) -> dict[str, Any]:
    keys = ("name", "kind", "operator", "node", "dtype", "shape", "gradient")
    return {key: getattr(v, key) for key in keys}


def _method(m: MethodInfo) -> dict[str, Any]:
    e = m.explainer
    parameters = [dataclasses.asdict(p) for p in e.parameter_infos()]
    return {
        "name": e.name, "kind": e.kind, "supported": m.supported, "why_not": m.why_not, "summary": e.summary,
        "parameters": parameters,
    }  # fmt: skip


def _print_model(facts: Facts) -> None:
    made = table(title=str(facts.path))
    made.show_header = False
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, text in _facts(facts):
        made.add_row(plain(name), plain(text))
    stdout().print(made)


def _facts(facts: Facts) -> Iterable[tuple[str, str]]:
    info = facts.info
    yield "file", f"{_bytes(info.size)}, {info.digest}"
    yield "format", facts.opset + (f", by {facts.producer}" if facts.producer else "")
    for kind, tensors in (("input", info.inputs), ("output", info.outputs)):
        for t in tensors:
            yield kind, _tensor(t)
    yield "rows", "any number per run" if info.rows == "any" else f"exactly {info.rows} per run: others are looped"
    if info.image:
        height, width, channels = info.image
        yield "image", f"{width} x {height} (width x height), {channels} channel{'s' * (channels > 1)}"
        yield "preprocessing", info.preprocessing
    yield "scores", _scores(info)
    yield "labels", _labels(info.labels, info.classes)
    if info.default_layer or info.layers:
        yield "layer", f"{info.default_layer or 'none'} by default; {len(facts.layers)} have space (--layers)"
    if info.macs:
        yield "cost", f"{info.macs / 1e6:,.1f} million multiply-adds per row"
    yield "card", str(facts.card) if facts.card else "none"
    yield "provider", info.provider
    yield "on CUDA", _on_cuda(facts)


def _on_cuda(facts: Facts) -> str:
    """``all nodes``, or what stays on the CPU: operators with count and first node."""
    if not facts.on_cpu and not facts.emitted_on_cpu:
        return f"every node of the file and of its gradient has a kernel ({kernels()[0].rsplit(', ', 1)[-1]})"
    lines = []
    for where, found in (("", facts.on_cpu), (" of the gradient", facts.emitted_on_cpu)):
        grouped: dict[tuple[str, str], list[str]] = {}
        for e in found:
            grouped.setdefault((e.operator, e.why), []).append(e.node)
        for (operator, why), nodes in grouped.items():
            many = f" x {len(nodes)}" if len(nodes) > 1 else ""
            lines.append(f"{operator}{many}{where} stays on the CPU: {why} (node {nodes[0] or 'without a name'})")
    return "\n".join(lines)


def _scores(info: ModelInfo) -> str:
    where = f" of {info.logits!r}" if info.logits and info.logits != info.output else ""
    kinds = {
        "softmax": f"softmax{where}, one class of many",
        "multi-label": f"sigmoid{where}, any number of classes",
        "binary": f"sigmoid{where}, yes or no",
        "logits": "logits",
        "probabilities": "probabilities",
        "regression": "a number, no classes",
    }
    return f"{kinds[info.score_kind]}; output {info.output!r}"


def _labels(labels: Sequence[str], classes: int | None) -> str:
    count = f"{classes} classes" if classes else "classes unknown"
    if not labels:
        return f"none ({count}); name them in a card"
    return ", ".join(labels[:6]) + (f", … ({len(labels)})" if len(labels) > 6 else "")


def _print_methods(facts: Facts) -> None:
    made = table("method", "", "what it does", title="Methods")
    for m in sorted(facts.methods, key=lambda m: (not m.supported, m.explainer.name)):
        e = m.explainer
        if m.supported:
            made.add_row(plain(e.name, "bold"), plain("yes", "green"), plain(e.summary))
        else:
            told = "needs gradients or layers: see below" if m.why_not == facts.info.whitebox_error else m.why_not
            made.add_row(plain(e.name), plain("no", "yellow"), plain(told))
    stdout().print(made)


def _print_parameters(facts: Facts) -> None:
    made = table("method", "parameter", "default", "what it is", title="Parameters: --set name=value")
    for m in facts.methods:
        infos = m.explainer.parameter_infos() if m.supported else []
        for i, p in enumerate(infos):
            what = p.help + (f" ({', '.join(p.choices)})" if p.choices else "") + (f", {p.unit}" if p.unit else "")
            made.add_row(plain("" if i else m.explainer.name, "bold"), plain(p.name), plain(_default(p)), plain(what))
    stdout().print(made)


def _default(p: ParameterInfo) -> str:
    if isinstance(p.default, list | tuple):
        return ",".join(map(str, p.default))
    return str(p.default).lower() if p.type == "bool" else str(p.default)


def _print_values(title: str, found: Sequence[ValueInfo], default: str) -> None:
    made = table("name", "operator", "type", "shape", "gradient", title=f"{title} ({len(found)})")
    for v in found:
        style = "bold" if v.name == default else ""
        cells = (v.name, v.operator or v.kind, v.dtype, _shape(v.shape), "yes" if v.gradient else "no")
        made.add_row(*(plain(c, style) for c in cells))
    stdout().print(made)
    if not found:
        say("none: the graph cannot be rewritten" if title == "Values" else "none")


def _tensor(t: TensorDescription) -> str:
    return f"{t.name}: {t.dtype} {_shape(t.shape)}"


def _shape(shape: Shape) -> str:
    return "unknown" if shape is None else f"[{', '.join('?' if d is None else str(d) for d in shape)}]"


def _bytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"
