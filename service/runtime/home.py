"""What all models of a process share: the provider, the private store, the program cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from service.runtime.programs import ProgramCache
from service.runtime.providers import CPU, Provider, resolve
from service.runtime.session import Options, Session
from service.runtime.store import Store

PROGRAM_BYTES = 4 << 30


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
    ) -> None:
        """Find the provider.

        Args:
            provider: ``auto``, ``cpu`` or ``cuda``.
            store: folder kept between runs; None = private and temporary.
            program_bytes: size of the program cache.
            threads: intra-op threads; 0 = what this process may use.
            gpu_mem_limit: bytes on the device.

        Raises:
            ProviderUnavailable: ``cuda`` was asked for and does not work here.
        """
        self.provider: Provider = resolve(provider, gpu_mem_limit=gpu_mem_limit)
        self.store = Store(store)
        self.programs: ProgramCache[Any] = ProgramCache(program_bytes)
        self.threads = threads

    @property
    def form(self) -> str:
        """Which of two equivalent forms rules emit: ``cpu`` or ``cuda``."""
        return "cpu" if self.provider.name == CPU else "cuda"

    def session(self, model: bytes, folder: Path | None, *, plain: bool = False, low_memory: bool = False) -> Session:
        """A session on the provider; ``plain`` runs QuantizeLinear/DequantizeLinear pairs in float."""
        options = Options(threads=self.threads, disable_quant_qdq=plain, low_memory=low_memory)
        return Session(model, self.provider, options=options, external_dir=folder)

    def check(self, proto: onnx.ModelProto, folder: Path | None, feeds: Mapping[str, Any]) -> Sequence[Any]:
        """Runner for ``graph_tools.load(check=…)``: unoptimised, outputs in the model's order."""
        options = Options(threads=self.threads, optimisation="basic", low_memory=True, disable_quant_qdq=True)
        session = Session(proto.SerializeToString(), self.provider, options=options, external_dir=folder)
        outputs = session.run(feeds)
        return [outputs[v.name] for v in session.outputs]
