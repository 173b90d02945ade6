"""float16 graphs whose sums are longer, or whose squares are larger, than float16 holds: gradients as in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

import graph_tools
from tests.graph_tools.harness import run_ort

RNG = np.random.default_rng(3)
LONG = RNG.uniform(0.5, 1.0, (2, 5000))
LARGE = RNG.uniform(200, 400, (2, 64)) * RNG.choice([-1, 1], (2, 64))
IMAGE = RNG.uniform(-1, 1, (1, 4, 64, 64))
AXIS = np.array([1], np.int64)
ONES = np.ones(64)

# (operator, float operands, other operands, attributes, opset)
ROWS: dict[str, tuple[str, list[np.ndarray], list[np.ndarray], dict[str, Any], int]] = {
    "mean-long": ("ReduceMean", [LONG], [AXIS], {}, 18),
    "sum-long": ("ReduceSum", [LONG], [AXIS], {}, 18),
    "l2-large": ("ReduceL2", [LARGE], [AXIS], {}, 18),
    "l1-long": ("ReduceL1", [LONG], [AXIS], {}, 18),
    "logsum-long": ("ReduceLogSum", [LONG], [AXIS], {}, 18),
    "logsumexp-long": ("ReduceLogSumExp", [LONG], [AXIS], {}, 18),
    "norm-large": ("LpNormalization", [LARGE], [], {"axis": 1, "p": 2}, 18),
    "norm-one-long": ("LpNormalization", [LONG], [], {"axis": 1, "p": 1}, 18),
    "layer-norm-large": ("LayerNormalization", [LARGE, ONES, ONES], [], {"axis": 1}, 18),
    "layer-norm-long": ("LayerNormalization", [LONG, np.ones(5000), np.ones(5000)], [], {"axis": 1}, 18),
    "rms-norm-large": ("RMSNormalization", [LARGE, ONES], [], {"axis": 1}, 23),
    "instance-norm-large": ("InstanceNormalization", [IMAGE * 300, np.ones(4), np.ones(4)], [], {}, 18),
    "mean-variance-large": ("MeanVarianceNormalization", [IMAGE * 300], [], {}, 18),
    "group-norm-large": ("GroupNormalization", [IMAGE * 300, np.ones(4), np.ones(4)], [], {"num_groups": 2}, 21),
    "softmax-long": ("Softmax", [LONG], [], {"axis": 1}, 18),
    "log-softmax-long": ("LogSoftmax", [LONG], [], {"axis": 1}, 18),
    "broadcast-long": ("Add", [LONG, np.ones((1, 1))], [], {}, 18),
    "product-long": ("Mul", [LONG, np.ones((1, 1))], [], {}, 18),
    "pool-long": ("GlobalAveragePool", [IMAGE], [], {}, 18),
    "lp-pool-large": ("GlobalLpPool", [IMAGE[:, :, :8, :8] * 300], [], {"p": 2}, 18),
    "conv-weights": ("Conv", [IMAGE, RNG.uniform(-1, 1, (2, 4, 3, 3)), np.ones(2)], [], {}, 18),
    "matmul-long": ("MatMul", [LONG, RNG.uniform(0, 1, (5000, 2))], [], {}, 18),
    "cumsum-long": ("CumSum", [LONG / 8], [np.array(1, np.int64)], {}, 18),
    "lrn-large": ("LRN", [IMAGE[:, :, :4, :4] * 300], [], {"size": 3}, 18),
    "prelu-long": ("PRelu", [-LONG, np.full((1, 1), 0.5)], [], {}, 18),
}


def _model(name: str, elem: int, kind: type) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    op, floats, others, attributes, opset = ROWS[name]
    feeds = {f"x{i}": a.astype(np.float16).astype(kind) for i, a in enumerate(floats)}
    fixed = [onnx.numpy_helper.from_array(a, f"k{i}") for i, a in enumerate(others)]
    node = helper.make_node(op, [*feeds, *(t.name for t in fixed)], ["y"], "n", **attributes)
    inputs = [helper.make_tensor_value_info(n, elem, a.shape) for n, a in feeds.items()]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", elem, None)], fixed)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), feeds


@pytest.mark.parametrize("form", ["cpu", "cuda"])
@pytest.mark.parametrize("name", ROWS)
def test_float16_sums_as_float32_does(name: str, form: str) -> None:
    """Error of the whole gradient below 1 % of its norm (the type has 11 bits: 0.05 % per rounding)."""
    half, feeds = _model(name, onnx.TensorProto.FLOAT16, np.float16)
    single, wide = _model(name, onnx.TensorProto.FLOAT, np.float32)
    try:
        shape = run_ort(half, feeds)["y"].shape
    except Exception:
        pytest.skip("ONNX Runtime has no float16 kernel for this operator")
    ct = np.random.default_rng(5).uniform(0.25, 1.0, shape).astype(np.float16)
    got = run_ort(ir.to_proto(graph_tools.gradient(half, ["y"], list(feeds), form=form)), {**feeds, "cotangent_y": ct})
    program = graph_tools.gradient(single, ["y"], list(feeds), form=form)
    want = run_ort(ir.to_proto(program), {**wide, "cotangent_y": ct.astype(np.float32)})
    for x in feeds:
        a, b = got[f"grad_{x}"].astype(np.float64), want[f"grad_{x}"].astype(np.float64)
        assert np.isfinite(a).all(), x
        # What float32 gives is itself stored in float16; differences below its smallest step are rounding.
        floor = 6e-8 * np.sqrt(b.size)
        assert np.linalg.norm(a - b) <= 1e-2 * np.linalg.norm(b) + floor, (x, np.linalg.norm(a - b), np.linalg.norm(b))
