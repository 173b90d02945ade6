"""Which provider works, why CUDA does not, and how many threads there are."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graph_tools.errors import InvalidRequest, ProviderUnavailable
from service.runtime import ort, providers
from service.runtime.providers import CPU, CUDA, Provider, diagnose, resolve
from service.runtime.threads import MOST, threads

LIBRARIES = ("libcublasLt.so.13", "libcublas.so.13", "libcudart.so.13", "libcurand.so.10", "libcudnn.so.9")


class Driver:
    """libcuda as far as it is asked."""

    def __init__(self, status: int = 0, version: int = 13000) -> None:
        self._status, self._version = status, version

    def cuInit(self, flags: int) -> int:
        return self._status

    def cuDriverGetVersion(self, out: Any) -> int:
        out._obj.value = self._version
        return 0


def machine(driver: Driver | None = None, missing: tuple[str, ...] = ()) -> Callable[[str], object]:
    def load(name: str) -> object:
        if name == "libcuda.so.1" and driver is not None:
            return driver
        if name in LIBRARIES and name not in missing:
            return object()
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    return load


@pytest.mark.parametrize(
    ("driver", "missing", "words", "absent"),
    [
        (Driver(), (), [], ["driver", "libraries"]),
        (None, (), ["no NVIDIA driver", "libcuda.so.1"], ["libraries"]),
        (Driver(100), (), ["sees no device", "CUDA_VISIBLE_DEVICES"], ["libraries", "no NVIDIA driver"]),
        (Driver(0, 12040), (), ["too old", "offers CUDA 12.4", "needs 13"], ["libraries"]),
        (Driver(803, 12080), (), ["too old", "12.8"], ["libraries"]),
        (Driver(999), (), ["cuInit returned 999"], ["libraries"]),
        (Driver(), LIBRARIES[:1], ["missing (libcublasLt.so.13)", "onnx-explain[cuda]"], ["driver"]),
        (Driver(), LIBRARIES[-1:], ["missing (libcudnn.so.9)"], ["driver"]),
        (None, LIBRARIES, ["no NVIDIA driver", "libcublasLt.so.13, libcublas.so.13", "libcudnn.so.9"], []),
    ],
)
def test_the_cause_is_told(
    driver: Driver | None, missing: tuple[str, ...], words: list[str], absent: list[str]
) -> None:
    text = diagnose(machine(driver, missing), "13.0")
    assert all(word in text for word in words), text
    assert not any(word in text for word in absent), text
    assert bool(text) == bool(words)


@pytest.fixture(scope="module")
def fault() -> str:
    """Why there is no CUDA here; skips where there is."""
    found = providers.try_cuda(Provider("cuda", CUDA))
    if found is None:
        pytest.skip("CUDA works on this machine")
    return found


def test_cuda_without_a_gpu_is_refused_with_the_cause(fault: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ProviderUnavailable, match="provider cuda does not work here") as caught:
        resolve("cuda")
    assert fault in str(caught.value)
    assert any(cause in fault for cause in ("driver", "libraries", "no CUDA"))
    assert capfd.readouterr() == ("", "")


def test_auto_without_a_gpu_is_cpu_and_says_why(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "service.runtime.providers"):
        provider = resolve("auto")
    assert (provider.requested, provider.name, provider.device) == ("auto", CPU, "cpu")
    assert provider.chain == [(CPU, {})]
    assert fault in provider.detail
    assert any(fault in record.getMessage() for record in caplog.records)


def test_a_working_gpu_is_taken_with_its_options(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(providers, "try_cuda", lambda provider: None)
    for request in ("auto", "cuda"):
        with caplog.at_level(logging.INFO, "service.runtime.providers"):
            provider = resolve(request, gpu_mem_limit=1 << 30, device_id=1)
        assert (provider.requested, provider.name, provider.device) == (request, CUDA, "cuda")
        assert provider.options["arena_extend_strategy"] == "kSameAsRequested"
        assert (provider.options["gpu_mem_limit"], provider.options["device_id"]) == (str(1 << 30), "1")
        assert [name for name, _ in provider.chain] == [CUDA, CPU]
        assert CUDA in caplog.text
    assert "gpu_mem_limit" not in resolve("cuda").options


def test_a_build_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort.api, "get_available_providers", lambda: [CPU])
    with pytest.raises(ProviderUnavailable, match="onnxruntime-gpu"):
        resolve("cuda")


def test_cpu_needs_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "try_cuda", lambda provider: pytest.fail("CUDA was tried"))
    assert resolve("cpu").name == CPU


def test_another_word_is_invalid() -> None:
    with pytest.raises(InvalidRequest, match="'gpu' is not one of auto, cpu, cuda") as caught:
        resolve("gpu")
    assert caught.value.field == "provider"


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({}, "0::/\n", 64),
        ({"cpu.max": "max 100000\n"}, "0::/\n", 64),
        ({"cpu.max": "250000 100000\n"}, "0::/\n", 3),
        ({"cpu.max": "10000 100000\n"}, "0::/\n", 1),
        ({"pod/cpu.max": "400000 100000\n", "pod/box/cpu.max": "max 100000\n"}, "0::/pod/box\n", 4),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "3:cpu:/\n0::/\n", 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "3:cpu:/\n", 64),
        ({"cpu,cpuacct/box/cpu.cfs_quota_us": "150000", "cpu,cpuacct/box/cpu.cfs_period_us": "100000"},
         "4:memory:/m\n3:cpu,cpuacct:/box\n", 2),
        ({"cpu.max": "nonsense\n"}, None, 64),
    ],
)  # fmt: skip
def test_threads_follow_the_quota(
    files: dict[str, str], own: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    if own is not None:
        (tmp_path / "own").write_text(own)
    assert threads(tmp_path / "fs", tmp_path / "own") == min(expected, MOST)


def test_threads_follow_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 7}, raising=False)
    assert threads(tmp_path, tmp_path / "none") == 3
    assert threads() >= 1
