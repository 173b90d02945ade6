"""The memory settings: the same numbers, weights held once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import graph_tools
from service.runtime import home
from service.runtime.home import MEMORY, Runtime

RNG = np.random.default_rng(0)
FEEDS = {"x": RNG.standard_normal((2, 16, 8, 8)).astype(np.float32),
         "cotangent_y": RNG.standard_normal((2, 32, 8, 8)).astype(np.float32)}  # fmt: skip


@pytest.fixture(scope="module")
def net() -> onnx.ModelProto:
    weights = [RNG.standard_normal(shape).astype(np.float32) / 12 for shape in ((32, 16, 3, 3), (32, 32, 3, 3))]
    nodes = [helper.make_node("Conv", ["x", "w0"], ["c"], pads=[1] * 4), helper.make_node("Relu", ["c"], ["h"]),
             helper.make_node("Conv", ["h", "w1"], ["y"], pads=[1] * 4)]  # fmt: skip
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", c, 8, 8]) for n, c in (("x", 16), ("y", 32))]
    initializers = [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def program(net: onnx.ModelProto, runtime: Runtime) -> ir.Model:
    return graph_tools.gradient(net, ["y"], ["x"], form=runtime.form)


@pytest.mark.parametrize("setting", [s for s in MEMORY if s != "fast"])
def test_every_setting_gives_the_same_numbers(net: onnx.ModelProto, setting: str) -> None:
    fast, other = (Runtime("cpu", memory=m) for m in ("fast", setting))
    want = fast.program(program(net, fast), "d", None).run(FEEDS)
    got = other.program(program(net, other), "d", None).run(FEEDS)
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)


def written(runtime: Runtime) -> int:
    assert runtime._mapped is not None
    return sum(p.stat().st_size for p in Path(runtime._mapped.name).rglob("*") if p.is_file())


def test_programs_of_one_model_share_one_weights_file(net: onnx.ModelProto) -> None:
    runtime = Runtime("cpu", memory="shared")
    runtime.program(program(net, runtime), "d", None)
    first = written(runtime)
    again = runtime.program(program(net, runtime), "d", None)
    assert written(runtime) == first
    runtime.program(program(net, runtime), "another model", None)
    assert written(runtime) == 2 * first
    assert again.run(FEEDS)["grad_x"].shape == (2, 16, 8, 8)


def test_a_program_too_large_for_a_message_is_mapped(net: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime("cpu")
    want = runtime.program(program(net, runtime), "d", None).run(FEEDS)["grad_x"]
    assert runtime._mapped is None
    monkeypatch.setattr(home, "MOST_INLINE", 1000)
    got = runtime.program(program(net, runtime), "d", None).run(FEEDS)["grad_x"]
    assert written(runtime) > 0
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
