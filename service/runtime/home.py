"""What all models of a process share: the provider, the private store, the program cache."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from service.runtime.programs import ProgramCache
from service.runtime.providers import CPU, Provider, resolve
from service.runtime.session import Options, Session
from service.runtime.store import Store
from service.runtime.weights import SharedWeights

PROGRAM_BYTES = 4 << 30
MOST_INLINE = 1 << 30  # bytes of weights inside a program; a protobuf message cannot be larger than twice that


@dataclass(frozen=True)
class Memory:
    """What programs give for memory.

    Attributes:
        options: of their sessions.
        mapped: their weights lie in one file per model, which all of them map.
    """

    options: Options
    mapped: bool


MEMORY = {
    "fast": Memory(Options(), mapped=False),
    "shared": Memory(Options(prepack=False), mapped=True),
    "low": Memory(Options(prepack=False, arena=False), mapped=True),
}
"""``fast``: weights in the kernels' own layout in every program. ``shared``: many programs of a model map one copy.
``low``: besides, memory goes back after each run."""


class Runtime:
    """Provider, store and programs.

    Attributes:
        provider: what every session runs on.
        store: private copies of the model files.
        programs: compiled programs of all models.
        threads: intra-op threads per session; 0 = what this process may use.
    """

    def __init__(
        self,
        provider: str = "auto",
        *,
        store: Path | None = None,
        program_bytes: int = PROGRAM_BYTES,
        threads: int = 0,
        gpu_mem_limit: int | None = None,
        memory: str = "fast",
    ) -> None:
        """Find the provider.

        Args:
            provider: ``auto``, ``cpu`` or ``cuda``.
            store: folder kept between runs; None = private and temporary.
            program_bytes: size of the program cache.
            threads: intra-op threads; 0 = what this process may use.
            gpu_mem_limit: bytes on the device.
            memory: ``fast``, ``shared`` or ``low`` (:data:`MEMORY`).

        Raises:
            ProviderUnavailable: ``cuda`` was asked for and does not work here.
        """
        self.provider: Provider = resolve(provider, gpu_mem_limit=gpu_mem_limit)
        self.store = Store(store)
        self.programs: ProgramCache[Any] = ProgramCache(program_bytes)
        self.threads = threads
        self.memory = MEMORY[memory]
        self._weights: dict[str, SharedWeights] = {}
        self._mapped: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()

    @property
    def form(self) -> str:
        """Which of equivalent forms rules emit: ``cpu`` or ``cuda``."""
        return "cpu" if self.provider.name == CPU else "cuda"

    def session(self, model: bytes, folder: Path | None, *, plain: bool = False, low_memory: bool = False) -> Session:
        """A session on the provider; ``plain`` runs QuantizeLinear/DequantizeLinear pairs in float."""
        lean = not low_memory
        options = Options(threads=self.threads, disable_quant_qdq=plain, prepack=lean, arena=lean)
        return Session(model, self.provider, options=options, external_dir=folder)

    def program(self, model: ir.Model, digest: str, folder: Path | None, *, plain: bool = False) -> Session:
        """A session for a program made of the model with this ``digest``, in the memory setting of this runtime.

        Args:
            model: the program.
            digest: names the model that it was made of; programs of one model share its weights file.
            folder: where the external data of ``model`` lies.
            plain: run QuantizeLinear/DequantizeLinear pairs in float.
        """
        options = replace(self.memory.options, threads=self.threads, disable_quant_qdq=plain)
        if not self.memory.mapped and _held(model) <= MOST_INLINE:
            return Session(ir.to_proto(model).SerializeToString(), self.provider, options=options, external_dir=folder)
        with self._lock:
            if digest not in self._weights:
                self._mapped = self._mapped or tempfile.TemporaryDirectory(prefix="onnx-explain-weights-")
                self._weights[digest] = SharedWeights(Path(self._mapped.name) / str(len(self._weights)))
            weights = self._weights[digest]
        return Session(weights.serialise(model), self.provider, options=options, external_dir=weights.folder)

    def check(self, proto: onnx.ModelProto, folder: Path | None, feeds: Mapping[str, Any]) -> Sequence[Any]:
        """Runner for ``graph_tools.load(check=…)``: unoptimised, outputs in the model's order."""
        options = Options(
            threads=self.threads, optimisation="basic", prepack=False, arena=False, disable_quant_qdq=True
        )
        session = Session(proto.SerializeToString(), self.provider, options=options, external_dir=folder)
        outputs = session.run(feeds)
        return [outputs[v.name] for v in session.outputs]


def _held(model: ir.Model) -> int:
    """Bytes of the weights that would be written into the program."""
    tensors = (v.const_value for graph in model.graphs() for v in graph.initializers.values())
    return sum(t.nbytes for t in tensors if t is not None and not isinstance(t, ir.ExternalTensor))
