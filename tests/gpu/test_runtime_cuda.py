"""The runtime on a GPU: the same numbers as on the CPU, values that stay there, and failures that are survived."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto, helper

from graph_tools.errors import Busy, Cancelled
from service.runtime.context import Run
from service.runtime.providers import Provider
from service.runtime.session import Session
from tests.service.runtime_graphs import CPU_ONLY, ENDLESS, affine, counter, model, value

pytestmark = pytest.mark.gpu
X = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)


def test_cuda_equals_cpu(cuda: Provider) -> None:
    raw = affine().SerializeToString()
    session = Session(raw, cuda)
    assert session.provider.device == "cuda"
    np.testing.assert_allclose(session.run({"x": X})["y"], Session(raw, CPU_ONLY).run({"x": X})["y"], atol=1e-6)


def test_a_value_stays_on_the_gpu_between_sessions(cuda: Provider) -> None:
    session = Session(affine().SerializeToString(), cuda)
    kept = session.run_to_device({"x": X})["y"]
    assert kept.device_name().lower() == "cuda"
    first = session.run({"x": X})["y"]
    assert np.array_equal(kept.numpy(), first)
    assert np.array_equal(session.run({"x": kept})["y"], session.run({"x": first})["y"])


def test_cancel_ends_an_endless_run(cuda: Provider) -> None:
    session, run = Session(counter().SerializeToString(), cuda), Run()
    feeds = {"n": ENDLESS, "x": np.zeros(4, np.float32)}
    with ThreadPoolExecutor(1) as pool:
        endless = pool.submit(session.run, feeds, None, run)
        threading.Timer(0.05, run.cancel).start()
        with pytest.raises(Cancelled):
            endless.result(30)
    assert np.isfinite(session.run({**feeds, "n": np.array(3)})["y"]).all()


def test_too_little_gpu_memory_is_busy_and_the_session_lives(cuda: Provider) -> None:
    nodes = [helper.make_node("Expand", ["x", "s"], ["z"]), helper.make_node("ReduceMax", ["z"], ["y"], keepdims=0)]
    proto = model(nodes, [value("x", [1, 1]), value("s", [2], TensorProto.INT64)], [value("y", [])])
    session = Session(proto.SerializeToString(), cuda)
    one = np.ones((1, 1), np.float32)
    with pytest.raises(Busy, match="out of GPU memory"):
        session.run({"x": one, "s": np.array([1 << 20, 1 << 20])})
    assert session.run({"x": one, "s": np.array([4, 4])})["y"] == 1
