"""The file as it came, only made batchable: predictions, and the scores black-box methods watch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from graph_tools import batching
from graph_tools.emit import array_of
from graph_tools.errors import ExplainError, InvalidRequest
from graph_tools.loading import parity
from service.models.tail import Tail
from service.runtime.context import Run
from service.runtime.home import Runtime
from service.runtime.rows import run_rows
from service.runtime.session import Session
from service.types import Array

_log = logging.getLogger(__name__)
ROWS = 3  # rows compared when a file with a fixed batch was made batchable


@dataclass(frozen=True)
class Files:
    """The model's proto in the forms it is served in.

    Attributes:
        original: as stored.
        relaxed: batchable where the rewrite worked, else ``original``.
        folder: of the external data.
        rows: None = any number of rows per run; k = exactly k.
        note: what was found, in a sentence; "" where there is nothing to say.
    """

    original: onnx.ModelProto
    relaxed: onnx.ModelProto
    folder: Path
    rows: int | None
    note: str


def make_batchable(proto: onnx.ModelProto, folder: Path, runtime: Runtime, size: int) -> Files:
    """Relax a fixed batch and compare row by row with the untouched file; keep the file where they differ.

    Args:
        proto: external tensors as references.
        folder: of the external data.
        runtime: runs both.
        size: assumed for open dimensions other than the batch.
    """
    fixed = batching.fixed_rows(proto)
    if fixed is None:
        return Files(proto, proto, folder, None, "")
    relaxed, _ = batching.relax(proto)
    try:
        worst = _worst_row(proto, relaxed, folder, runtime, fixed, size)
    except ExplainError as error:
        _log.info("the batch rewrite does not run: %s", error)
        worst = float("inf")
    half = any(t.data_type == onnx.TensorProto.FLOAT16 for t in proto.graph.initializer)
    if worst <= (2e-3 if half else 1e-5):
        return Files(proto, relaxed, folder, None, f"exported for batches of {fixed}, made batchable (rows checked)")
    return Files(proto, proto, folder, fixed, f"takes exactly {fixed} row{'s' * (fixed > 1)} a run: rows are looped")


def _worst_row(
    original: onnx.ModelProto, relaxed: onnx.ModelProto, folder: Path, runtime: Runtime, fixed: int, size: int
) -> float:
    """Largest difference between rows run together and run as the file wants them, relative to the output."""
    rows = ROWS * fixed
    feeds = parity.random_feeds(relaxed, size, rows)
    if any(v.dtype == np.uint8 for v in feeds.values()):
        feeds = {k: v * 25 if v.dtype == np.uint8 else v for k, v in feeds.items()}
    together = runtime.session(relaxed.SerializeToString(), folder).run(feeds)
    single = runtime.session(original.SerializeToString(), folder)
    worst = 0.0
    for start in range(0, rows, fixed):
        want = single.run({k: v[start : start + fixed] for k, v in feeds.items()})
        for name, value in want.items():
            if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
                got = together[name][start : start + fixed]
                if got.shape != value.shape:
                    return float("inf")
                scale = max(float(np.abs(value.astype(np.float64)).max(initial=0.0)), 1e-12)
                gap = np.abs(got.astype(np.float64) - value.astype(np.float64))
                worst = max(worst, float(gap.max(initial=0.0)) / scale)
    return worst


class Served:
    """Sessions of the untouched file, and how its outputs become scores.

    Attributes:
        session: own outputs, and the logits where they can be read without disturbing anything.
        rows: None = any number of rows per run.
    """

    def __init__(self, files: Files, graph: ir.Model | None, tail: Tail, quantised: bool, runtime: Runtime) -> None:
        """Load the session; ``graph`` is the loaded white-box graph where there is one."""
        self._files, self._graph, self._runtime, self.tail = files, graph, runtime, tail
        self.rows = files.rows
        self._quantised = quantised
        readable = tail.logits and not quantised and _has_value(files.relaxed, tail.logits)
        proto = _with_output(files.relaxed, tail.logits) if readable else files.relaxed
        self._logits_inside = bool(readable)
        self.session = runtime.session(proto.SerializeToString(), files.folder)
        self._logit_session: Session | None = None
        self._scale = _output_scale(graph, tail.output) if graph is not None else None

    def run(self, feeds: Mapping[str, Any], run: Run | None) -> tuple[Array | None, Array]:
        """(logits [N, classes] or None, output [N, classes] dequantised) of the file."""
        wanted = [self.tail.output] + ([self.tail.logits] if self._logits_inside else [])
        outputs = self._rows(self.session, feeds, list(dict.fromkeys(wanted)), run)
        own = self._dequantised(outputs[self.tail.output])
        logits = self.tail.rows(outputs[self.tail.logits]) if self._logits_inside else None
        return logits, own

    def logits(self, feeds: Mapping[str, Any], run: Run | None) -> Array:
        """float32 [N, classes]: logits, from a session of their own where the served one cannot show them.

        Raises:
            InvalidRequest: the model has no logits that can be read.
        """
        if self._logits_inside:
            return self.run(feeds, run)[0]  # type: ignore[return-value]
        if not self.tail.logits:
            return self.run(feeds, run)[1]
        if self._logit_session is None:
            proto = self._files.relaxed
            if not _has_value(proto, self.tail.logits):
                proto = ir.to_proto(self._graph) if self._graph is not None else proto
            proto = _with_output(proto, self.tail.logits)
            self._logit_session = self._runtime.session(proto.SerializeToString(), self._files.folder, plain=True)
        outputs = self._rows(self._logit_session, feeds, [self.tail.logits], run)
        return self.tail.rows(outputs[self.tail.logits])

    def _rows(self, session: Session, feeds: Mapping[str, Any], outputs: list[str], run: Run | None) -> dict[str, Any]:
        if self.rows is None:
            return session.run(feeds, outputs, run)
        arrays = {k: v if isinstance(v, np.ndarray) else v.numpy() for k, v in feeds.items()}
        return run_rows(session, arrays, list(arrays), self.rows, run, outputs=outputs, fixed=True)

    def _dequantised(self, value: Any) -> Array:
        table = self.tail.table(value)
        if self._scale is not None and table.dtype.kind in "iu":
            scale, zero = self._scale
            table = (table.astype(np.float32) - zero) * scale
        return self.tail.rows(table) if table.ndim != 2 or self.tail.class_axis not in (1, None) else table


def _has_value(proto: onnx.ModelProto, name: str) -> bool:
    return any(name in node.output for node in proto.graph.node)


def _with_output(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    if any(v.name == name for v in proto.graph.output):
        return proto
    work = onnx.ModelProto()
    work.CopyFrom(proto)
    work.graph.output.add(name=name)
    return work


def _output_scale(graph: ir.Model, output: str) -> tuple[float, float] | None:
    """(scale, zero point) of an output that a QuantizeLinear made."""
    node = next((v.producer() for v in graph.graph.outputs if v.name == output), None)
    if node is None or node.op_type != "QuantizeLinear":
        return None
    scale = array_of(node.inputs[1])
    zero = array_of(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(())
    if scale is None or zero is None or scale.size != 1:
        return None
    return float(scale.ravel()[0]), float(zero.ravel()[0])


def check_finite(name: str, array: Array) -> None:
    """Refuse NaN and infinity.

    Raises:
        InvalidRequest: with the number of bad entries.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise InvalidRequest(name, f"holds {bad} values that are not finite (NaN or infinity)")
