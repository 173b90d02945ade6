"""One loaded graph: named arrays in, named arrays out, every failure an error of this project."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import onnx

from graph_tools.errors import Cancelled, ProviderUnavailable
from service.runtime import external, faults, ort
from service.runtime.context import Run
from service.runtime.providers import CPU, Provider, threads
from service.types import Array

T = TypeVar("T")
Feeds = Mapping[str, Any]  # arrays, or OrtValues that another session of the same provider left on its device

_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_DTYPES = {"float": "float32", "double": "float64"}
_NO_FOLDER = "/nonexistent"


@dataclass(frozen=True)
class TensorInfo:
    """An input or output.

    Attributes:
        name: value name.
        dtype: NumPy's name (``float32``, …), ``string``, ONNX's name where NumPy has none (``bfloat16``), or
            the whole type of what is no tensor (``seq(map(int64,tensor(float)))``).
        shape: sizes, symbol names, or None per axis; () also where the rank is unknown.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class Options:
    """How a session is made.

    Attributes:
        threads: intra-op threads; 0 = what this process may use.
        optimisation: graph optimisation level.
        prepack: copy weights into the kernels' own layout: faster, twice the memory. Off where many programs
            of one model share a weights file.
        arena: keep freed memory for the next run (one arena for all sessions): faster.
        disable_quant_qdq: run QuantizeLinear/DequantizeLinear pairs in float (white-box programs of quantised
            files).
        dims: sizes for symbolic dimensions, by symbol.
    """

    threads: int = 0
    optimisation: Literal["none", "basic", "extended", "all"] = "all"
    prepack: bool = True
    arena: bool = True
    disable_quant_qdq: bool = False
    dims: tuple[tuple[str, int], ...] = ()


class Session:
    """A model in ONNX Runtime on one provider. Thread-safe; runs may overlap.

    Attributes:
        provider: what it runs on; compared with what ONNX Runtime really used.
        inputs, outputs: in the file's order.
        nbytes: size of the model with its external data (the estimate that the program cache counts).
    """

    def __init__(
        self,
        model: bytes | str | os.PathLike[str],
        provider: Provider,
        *,
        options: Options | None = None,
        external_dir: str | os.PathLike[str] | None = None,
        run: Run | None = None,
    ) -> None:
        """Load.

        Args:
            model: a serialised ModelProto, or the path of a file from the store (files that others write may
                change under the session).
            provider: from :func:`service.runtime.providers.resolve`.
            options: see :class:`Options`.
            external_dir: folder of the external data; None = the model's own folder for a path, none for
                bytes.
            run: cancels a slow load.

        Raises:
            UnsupportedModel: ONNX Runtime refuses the file, with its reason.
            ProviderUnavailable: the session did not come up on ``provider``.
            Busy: not enough memory.
            Cancelled, DeadlinePassed: by ``run``.
        """
        self.provider = provider
        path = None if isinstance(model, bytes) else os.fspath(model)
        folder = external_dir if external_dir is not None else (_NO_FOLDER if path is None else None)
        self._secrets = _folders(path, folder)
        settings = _settings(options or Options(), provider, folder)

        def load() -> tuple[Any, list[TensorInfo], list[TensorInfo]]:
            session = ort.api.InferenceSession(
                path or model, settings, providers=provider.chain, enable_fallback=0, read_config_from_model=0
            )
            return session, [_info(n) for n in session.get_inputs()], [_info(n) for n in session.get_outputs()]

        self._session, inputs, outputs = self._guarded(
            load,
            functools.partial(settings.set_load_cancellation_flag, True),
            run,
            lambda error: faults.load_error(error, self._secrets),
        )
        self._session._model_bytes = None  # kept for its fallback only: a second copy of the model
        used = self._session.get_providers()[0]
        if used != provider.name:
            raise ProviderUnavailable(f"the session was made on {used} in place of {provider.name}")
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.nbytes = _size(model, external_dir)

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None, run: Run | None = None) -> dict[str, Array]:
        """Run once.

        Args:
            feeds: every input by name: arrays, or OrtValues from :meth:`run_to_device` of a session on this
                provider.
            outputs: names wanted; None = all.
            run: stops the run on cancel or deadline.

        Returns:
            Arrays by name (lists and dicts where the file's outputs are no tensors).

        Raises:
            Cancelled, DeadlinePassed: by ``run``; the session stays usable.
            Busy: out of memory; the session stays usable.
            InvalidRequest: a wrong dtype, rank, size or name; the field is the input's name where it is
                known.
            UnsupportedModel: a node failed.
        """
        names = list(outputs) if outputs is not None else [o.name for o in self.outputs]
        kinds = {o.name: o.dtype for o in self.outputs}
        if any("(" in kinds.get(name, "") for name in names):  # OrtValues of sequences and maps cannot be read
            feeds = {k: v.numpy() if isinstance(v, ort.OrtValue) else v for k, v in feeds.items()}
        if any(isinstance(value, ort.OrtValue) for value in feeds.values()):
            found = self._run(lambda o: self._session.run_with_ort_values(names, _values(feeds), o), run)
            return {name: value.numpy() for name, value in zip(names, found, strict=True)}
        found = self._run(lambda o: self._session.run(names, dict(feeds), o), run)
        return dict(zip(names, found, strict=True))

    def run_to_device(
        self, feeds: Feeds, outputs: Sequence[str] | None = None, run: Run | None = None
    ) -> dict[str, Any]:
        """As :meth:`run`, with the outputs as OrtValues left on the provider's device (tensors only)."""
        names = list(outputs) if outputs is not None else [o.name for o in self.outputs]
        device, number = self.provider.device, int(self.provider.options.get("device_id", 0))

        def bound(options: Any) -> list[Any]:
            binding = self._session.io_binding()
            for name, value in _values(feeds).items():
                binding.bind_ortvalue_input(name, value)
            for name in names:
                binding.bind_output(name, device, number)
            binding.synchronize_inputs()
            self._session.run_with_iobinding(binding, options)
            binding.synchronize_outputs()
            return list(binding.get_outputs())

        return dict(zip(names, self._run(bound, run), strict=True))

    def release_memory(self) -> None:
        """Give free memory back before a retry with a smaller batch (CPU; on CUDA the arena grows as requested)."""
        if self.provider.name == CPU:
            ort.release_memory()

    def _run(self, call: Callable[[Any], T], run: Run | None) -> T:
        options = ort.run_options()
        return self._guarded(
            lambda: call(options),
            functools.partial(setattr, options, "terminate", True),
            run,
            lambda error: faults.run_error(error, self.provider.device, self._secrets),
        )

    def _guarded(
        self,
        call: Callable[[], T],
        stop: Callable[[], None],
        run: Run | None,
        explain: Callable[[Exception], Exception],
    ) -> T:
        """``call`` with ``run`` able to ``stop`` it; its failure as what ``run`` or else ``explain`` says."""
        try:
            if run is None:
                return call()
            with run.stoppable(stop):
                result = call()
            run.check()  # the last node may have outlasted the cancel
            return result
        except ort.FAULTS as error:
            if run is not None:
                run.check()
            if faults.is_terminated(error):
                raise Cancelled("the run was stopped") from error
            raise explain(error) from error


def _settings(options: Options, provider: Provider, folder: str | os.PathLike[str] | None) -> Any:
    settings = ort.api.SessionOptions()
    settings.log_severity_level = ort.SILENT
    settings.intra_op_num_threads = options.threads or threads()
    settings.graph_optimization_level = getattr(ort.api.GraphOptimizationLevel, _LEVELS[options.optimisation])
    for symbol, size in options.dims:
        settings.add_free_dimension_override_by_name(symbol, size)
    entries = {
        # Threads spin while their session runs, and stop when it returns: spinning pools of idle programs would take
        # the cores from the one that runs. Eight MobileNetV2 in turn on two cores: 17.5 ms a run with ONNX Runtime's
        # default, 5.4 without spinning, 3.9 so.
        "session.intra_op.allow_spinning": "1",
        "session.force_spinning_stop": "1",
        "session.load_model_format": "ONNX",  # never ONNX Runtime's own format, which skips the checks
        "session.disable_prepacking": str(int(not options.prepack)),
        "session.disable_quant_qdq": str(int(options.disable_quant_qdq)),
    }
    if folder is not None:
        entries["session.model_external_initializers_file_folder_path"] = os.fspath(folder)
    if not options.arena:
        settings.enable_cpu_mem_arena = False
        settings.enable_mem_pattern = False
    elif provider.name == CPU:
        ort.share_arena()
        entries["session.use_env_allocators"] = "1"
    for key, value in entries.items():
        settings.add_session_config_entry(key, value)
    return settings


def _folders(path: str | None, folder: str | os.PathLike[str] | None) -> set[str]:
    """Folders that ONNX Runtime may name in its messages."""
    named = {os.fspath(f) for f in (folder, path and os.path.dirname(path)) if f}
    return {f for f in named | {os.path.realpath(f) for f in named} if f.strip("./")}


def _values(feeds: Feeds) -> dict[str, Any]:
    """Every feed as an OrtValue; arrays stay where they are (on the CPU, not copied)."""
    return {
        name: value
        if isinstance(value, ort.OrtValue)
        else ort.OrtValue.ortvalue_from_numpy(np.asarray(value, order="C"))
        for name, value in feeds.items()
    }


def _info(node: Any) -> TensorInfo:
    kind = str(node.type)
    if kind.startswith("tensor(") and kind.endswith(")"):
        kind = _DTYPES.get(kind[7:-1], kind[7:-1])
    return TensorInfo(node.name, kind, tuple(node.shape or ()))


def _size(model: bytes | str | os.PathLike[str], external_dir: str | os.PathLike[str] | None) -> int:
    """Bytes of the model; the external data of a serialised one is read off its references."""
    if not isinstance(model, bytes):
        return Path(model).stat().st_size
    if external_dir is None:
        return len(model)
    ends: dict[str, int] = {}
    for reference in external.references(onnx.load_model_from_string(model)):
        ends[reference.location] = max(ends.get(reference.location, 0), reference.end)
    return len(model) + sum(ends.values())
