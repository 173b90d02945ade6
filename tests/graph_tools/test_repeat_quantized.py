"""K cotangents per row through quantised and optimised files: the same as K runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graph_tools
from graph_tools.backward import backward
from graph_tools.emit import Emitter
from graph_tools.model import values_by_name
from tests.graph_tools.harness import run_plain
from tests.graph_tools.optimised_nets import conv_net, mlp, optimised, quantised

K = 3


@pytest.mark.parametrize("kind", ["QDQ", "QOperator", "dynamic", "dynamic-mlp", "ALL", "MatMulInteger"])
def test_k_cotangents(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    net = mlp() if kind.endswith("mlp") else conv_net(16)
    shape = (2, 5, 8) if kind.endswith("mlp") else (2, 3, 16, 16)
    if kind == "ALL":
        proto = optimised(net, "ALL", tmp_path)
    elif kind == "MatMulInteger":
        proto = optimised(quantised(mlp(), "dynamic", tmp_path), "EXTENDED", tmp_path)
        shape = (2, 5, 8)
    else:
        proto = quantised(net, kind.removesuffix("-mlp"), tmp_path)
    x = rng.normal(size=shape).astype(np.float32)
    y = run_plain(proto, {"x": x})["y"]
    cts = rng.normal(size=(K * len(y), *y.shape[1:])).astype(np.float32)
    got = _together(proto, x, cts)
    plain = ir.to_proto(graph_tools.gradient(proto, ["y"], ["x"]))
    single = [run_plain(plain, {"x": x, "cotangent_y": cts[k::K]})["grad_x"] for k in range(K)]
    want = np.stack(single, axis=1).reshape(-1, *x.shape[1:])
    assert np.abs(want).max() > 0
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5 * float(np.abs(want).max()))


def _together(proto: onnx.ModelProto, x: np.ndarray, cts: np.ndarray) -> np.ndarray:
    model = graph_tools.load(proto)
    b, values = Emitter(model), values_by_name(model)
    repeat = b.input("times", ir.DataType.INT64, [])
    seed = b.input("cotangent_y", ir.DataType.FLOAT, [None, *cts.shape[1:]])
    (found,) = backward(model, {values["y"]: seed}, [values["x"]], repeat=repeat)
    assert found is not None
    b.output(found, "grad")
    return run_plain(ir.to_proto(model), {"x": x, "times": np.array(K), "cotangent_y": cts})["grad"]
