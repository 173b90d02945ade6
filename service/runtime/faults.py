"""What ONNX Runtime raises, as the errors of this project: one clean line, no paths, and what to do instead."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from graph_tools.errors import Busy, ExplainError, InvalidRequest, ProviderUnavailable, UnsupportedModel
from service.runtime import ort

LIMIT = 300  # characters of a foreign message that are worth reading

# Arena (CPU and CUDA), plain allocator, arena with a limit, cudaMalloc, cuBLAS and cuDNN.
_MEMORY = re.compile(
    r"Failed to allocate memory|bad_alloc|bad allocation|out of memory|Available memory of \d+ is smaller"
    r"|STATUS_ALLOC_FAILED|Cannot allocate memory",
    re.IGNORECASE,
)
_GPU = re.compile(r"\bCUDA failure|\bCUDNN failure|\bCUBLAS failure|\bcudnn_frontend", re.IGNORECASE)
_INPUT = re.compile(r"(?:input: |input name: |inputs \(\[')([^\s'\]]+)")
_NOISE = (
    r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"^Error in execution: ",
    r"^Load model from .*? failed:",
    r"^Exception during (?:initialization|loading): ",
    # C++ source position with its signature: "/x/core/graph/model.cc:256 onnxruntime::Model::Model(…) const
    # [with …] "
    r"/onnxruntime_src/\S+:\d+ .*?\) (?:const )?(?:\[with [^\]]*\] )?",
    r"\b\w+\.(?:cc|h|cpp|cu):\d+ \w+ ",
    r" Please fix either the inputs/outputs or the model\.",
)


def reason(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """The message of ``error`` as one line of at most ``LIMIT`` characters.

    Args:
        error: what was raised.
        secrets: folders that must not be shown; of a path below them only the rest is left.
    """
    text = str(error).strip()
    for noise in _NOISE:
        text = re.sub(noise, "", text, flags=re.DOTALL)
    for folder in sorted(secrets, key=len, reverse=True):
        text = text.replace(folder.rstrip(os.sep) + os.sep, "")
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= LIMIT else text[: LIMIT - 1] + "…"


def load_error(error: BaseException, secrets: Iterable[str] = ()) -> ExplainError:
    """The error of a session that could not be made: Busy where memory ran out, else UnsupportedModel."""
    if _is_memory(error):
        return Busy("there is not enough memory to load the model; unload others or raise the memory limit")
    if isinstance(error, ort.PROVIDER_FAULTS) or _GPU.search(str(error)):
        return ProviderUnavailable(f"the GPU failed while the model was loaded: {reason(error, secrets)}")
    text = reason(error, secrets)
    if "protobuf parsing failed" in text.lower():
        text = "it is not an ONNX file, or it is cut short"
    elif opset := re.search(r"Opset (\d+) is under development.*till opset (\d+)", str(error), re.DOTALL):
        text = f"it is at opset {opset[1]}, this ONNX Runtime knows opsets up to {opset[2]}"
    elif isinstance(error, UnicodeDecodeError):
        text = "a name in it is not UTF-8"
    return UnsupportedModel(f"the model cannot be loaded: {text}")


def run_error(error: BaseException, device: str, secrets: Iterable[str] = ()) -> ExplainError:
    """The error of a run that failed for another reason than cancel or deadline.

    Args:
        error: what was raised.
        device: ``cpu`` or ``cuda``, named where memory ran out.
        secrets: folders that must not be shown.

    Returns:
        Busy (memory), InvalidRequest (wrong input; the field is the input's name where it is known),
        ProviderUnavailable (the GPU failed) or UnsupportedModel (a node failed).
    """
    if _is_memory(error):
        size = re.search(r"buffer of size (\d+)|requested bytes of (\d+)", str(error))
        asked = f" ({int(size[1] or size[2]) / 1e9:.3g} GB were asked for)" if size else ""
        where = "GPU memory" if device == "cuda" else "memory"
        return Busy(f"out of {where}{asked}: send a smaller batch, fewer targets or a smaller image")
    text = reason(error, secrets)
    if isinstance(error, ort.InvalidArgument | ValueError) or "Error when binding input" in text:
        field = _INPUT.search(text)
        return InvalidRequest(field[1] if field else "", text)
    if isinstance(error, ort.PROVIDER_FAULTS) or _GPU.search(text):
        return ProviderUnavailable(f"the GPU failed: {text}")
    return UnsupportedModel(f"the model failed while running: {text}")


def is_terminated(error: BaseException) -> bool:
    """Whether ``error`` says that a run ended because its RunOptions.terminate was set."""
    return "terminate flag" in str(error)


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or _MEMORY.search(str(error)) is not None
