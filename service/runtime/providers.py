"""Which execution provider really works here, and if CUDA does not, what is missing.

``get_available_providers()`` lists what was compiled in, and a session that cannot have CUDA is silently made
on the CPU. So a small session is made and run, and its own list of providers believed.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from graph_tools.errors import InvalidRequest, ProviderUnavailable
from service.runtime import ort
from service.runtime.threads import threads as threads  # re-exported: the other fact about this machine

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
REQUESTS = ("auto", "cpu", "cuda")

# Reasons: same_as_requested and HEURISTIC because programs see batches of many sizes (exhaustive search would
# time all algorithms for each); no TF32 because gradients are compared with the CPU's at float32.
CUDA_OPTIONS = {
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_algo_search": "HEURISTIC",
    "use_tf32": "0",
}

_NO_DEVICE, _DRIVER_TOO_OLD = 100, (35, 803)  # CUresult of cuInit

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Provider:
    """An execution provider that was tried and works.

    Attributes:
        requested: ``auto``, ``cpu`` or ``cuda``.
        name: ONNX Runtime's name of it.
        options: its options.
        detail: one sentence on why it was chosen.
    """

    requested: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``: where values live, and the form of the programs compiled for it."""
        return "cuda" if self.name == CUDA else "cpu"

    @property
    def chain(self) -> list[tuple[str, dict[str, str]]]:
        """What a session is given: this provider, and the CPU for nodes it has no kernel for."""
        own = (self.name, dict(self.options))
        return [own] if self.name == CPU else [own, (CPU, {})]


def resolve(requested: str = "auto", *, gpu_mem_limit: int | None = None, device_id: int = 0) -> Provider:
    """The provider to use for ``requested``; loads CUDA's libraries from pip's packages where they are
    installed.

    Args:
        requested: ``cuda`` insists on a GPU, ``auto`` takes one if it works (and logs the choice), ``cpu``.
        gpu_mem_limit: bytes one session's arena may take on the GPU; None = no limit.
        device_id: number of the GPU.

    Raises:
        InvalidRequest: another word.
        ProviderUnavailable: ``cuda`` does not work; says whether driver, libraries or device are missing.
    """
    if requested not in REQUESTS:
        raise InvalidRequest("provider", f"{requested!r} is not one of {', '.join(REQUESTS)}")
    if requested == "cpu":
        return Provider(requested, CPU, detail="as asked")
    options = {"device_id": str(device_id), **CUDA_OPTIONS}
    if gpu_mem_limit is not None:
        options["gpu_mem_limit"] = str(gpu_mem_limit)
    cuda = Provider(requested, CUDA, options, "a CUDA session was made and computed the right result")
    fault = try_cuda(cuda)
    if fault is None:
        _log.info("provider %s: %s", CUDA, cuda.detail)
        return cuda
    if requested == "cuda":
        raise ProviderUnavailable(f"provider cuda does not work here: {fault}. Use provider cpu, or auto")
    _log.info("provider %s, because cuda does not work here: %s", CPU, fault)
    return Provider(requested, CPU, detail=f"cuda does not work here: {fault}")


def try_cuda(provider: Provider) -> str | None:
    """Make and run a one-convolution session on the GPU alone; None if it did the work, else what is wrong."""
    if provider.name not in ort.api.get_available_providers():
        return "this build of ONNX Runtime has no CUDA; install onnxruntime-gpu in place of onnxruntime"
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    with ort.quiet():
        ort.api.preload_dlls()
        options = ort.api.SessionOptions()
        options.log_severity_level = ort.SILENT
        # A convolution that cuDNN cannot do would go to the CPU unseen.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = ort.api.InferenceSession(_probe(), options, providers=provider.chain[:1], enable_fallback=0)
            used = session.get_providers()[0]
            result = session.run(["y"], {"x": x}, ort.run_options())[0] if used == provider.name else None
        except ort.FAULTS as error:
            return diagnose() or " ".join(str(error).split())
    if result is None:
        return diagnose() or f"ONNX Runtime made the session on {used}"
    right = np.allclose(result[0, 0], x[0, 0, :3, :3] + x[0, 0, 1:, 1:], atol=1e-3)
    return None if right else "a test convolution gave a wrong result"


def diagnose(load: Callable[[str], Any] = ctypes.CDLL, cuda_version: str | None = None) -> str:
    """Why CUDA does not work, as far as the driver and the shared libraries tell; "" where they are all in
    order.

    Args:
        load: opens a shared library, raises OSError (replaced in tests).
        cuda_version: version ONNX Runtime was built for, None = ask it.
    """
    version = cuda_version or ort.api.cuda_version or "13.0"
    major = version.split(".", maxsplit=1)[0]
    causes = [_driver(load, int(major))]
    names = [
        f"libcublasLt.so.{major}",
        f"libcublas.so.{major}",
        f"libcudart.so.{major}",
        "libcurand.so.10",
        "libcudnn.so.9",
    ]
    missing = [name for name in names if not _loads(load, name)]
    if missing:
        causes.append(
            f"libraries of CUDA {major} or cuDNN 9 are missing ({', '.join(missing)}): "
            'pip install "onnx-explain[cuda]" brings them'
        )
    return "; ".join(filter(None, causes))


def _driver(load: Callable[[str], Any], major: int) -> str:
    """What is wrong with driver or device, "" if nothing is."""
    try:
        driver = load("libcuda.so.1")
    except OSError:
        return (
            "there is no NVIDIA driver (libcuda.so.1 cannot be loaded): install it; "
            "a container must be started with GPU access"
        )
    status = int(driver.cuInit(0))
    if status == _NO_DEVICE:
        return "the NVIDIA driver sees no device: check CUDA_VISIBLE_DEVICES and the GPUs given to the container"
    version = ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    if status in _DRIVER_TOO_OLD or 0 < version.value < 1000 * major:
        have = f"{version.value // 1000}.{version.value % 1000 // 10}"
        return f"the NVIDIA driver is too old: it offers CUDA {have}, ONNX Runtime needs {major}"
    return f"the NVIDIA driver does not start (cuInit returned {status})" if status else ""


def _loads(load: Callable[[str], Any], name: str) -> bool:
    try:
        load(name)
    except OSError:
        return False
    return True


def _probe() -> bytes:
    """y[i, j] = x[i, j] + x[i+1, j+1] as a convolution, which on CUDA needs cuBLAS and cuDNN too."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 3, 3])
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32).reshape(1, 1, 2, 2), "w")
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "probe", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString())
