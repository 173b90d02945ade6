"""An operator replaced by its ONNX function body computes the same, under the same values."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import graph_tools
from graph_tools.expand import expand
from tests.graph_tools.harness import Case, build, run_ort

FOUR = np.linspace(0.5, 1.5, 4)
CASES = [
    Case("MeanVarianceNormalization", ((2, 4, 3, 2),)),  # its default axes are not spelled out in the node
    Case("ThresholdedRelu", ((3, 4),), id="default-alpha"),
    Case("Selu", ((3, 4),)),
    Case("GroupNormalization", ((2, 4, 3), FOUR, FOUR), {"num_groups": 2}, opset=21),
    Case("LayerNormalization", ((2, 3, 4), FOUR), id="optional-outputs"),
]


@pytest.mark.parametrize("case", CASES, ids=[c.label for c in CASES])
def test_body_computes_the_same(case: Case) -> None:
    proto, feeds = build(case, np.float32)
    model = graph_tools.load(proto)
    node = next(iter(model.graph))
    out, shape = node.outputs[0], node.outputs[0].shape
    assert expand(model, node)
    assert out is model.graph.outputs[0]
    assert out.producer() in set(model.graph)
    assert shape is None or out.shape == shape
    assert case.op not in {n.op_type for n in model.graph}
    np.testing.assert_allclose(
        run_ort(ir.to_proto(model), feeds)["y0"], run_ort(proto, feeds)["y0"], rtol=1e-4, atol=1e-5
    )


def test_no_body() -> None:
    model = graph_tools.load(build(Case("LRN", ((1, 4, 2, 2),), {"size": 3}), np.float32)[0])
    node = next(iter(model.graph))
    assert not expand(model, node)
    assert next(iter(model.graph)) is node
