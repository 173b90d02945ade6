"""An operator replaced by its ONNX function body computes the same, under the same values."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graph_tools
from graph_tools.emit import Emitter
from graph_tools.lowering.table import lower
from graph_tools.walk.expand import expand, standard_body
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


STANDARD = [
    Case("Attention", ((2, 4, 3, 6), (2, 2, 5, 6), (2, 2, 5, 4)), opset=23),
    # Operands absent in the middle: no mask, but a past.
    Case("Attention", ((1, 2, 3, 6), (1, 2, 5, 6), (1, 2, 5, 4), None, (1, 2, 2, 6), (1, 2, 2, 4)), {"is_causal": 1},
         id="past", opset=24, outputs=3),
    Case("RotaryEmbedding", ((2, 2, 3, 4), (2, 3, 2), (2, 3, 2)), opset=23),
    # With an If inside.
    Case("AffineGrid", (np.linspace(-1, 1, 12).reshape(2, 2, 3), np.array([2, 1, 3, 4])), opset=20, runtime=(1,)),
]  # fmt: skip


@pytest.mark.parametrize("case", STANDARD, ids=[c.label for c in STANDARD])
def test_the_body_of_the_standard(case: Case) -> None:
    """Ours stands in front of it for some of these; two nodes of one operator share no names."""
    proto, feeds = build(case, np.float32)
    again = onnx.NodeProto()
    again.CopyFrom(proto.graph.node[0])
    again.name, again.output[:] = "again", [f"{y}_again" for y in again.output]
    proto.graph.node.append(again)
    proto.graph.output.append(onnx.helper.make_tensor_value_info("y0_again", onnx.TensorProto.FLOAT, None))
    model = graph_tools.load(proto)
    b = Emitter(model)
    for node in list(model.graph):
        assert lower(b, node, standard_body)
    assert case.op not in {n.op_type for n in model.graph}
    names = [v.name for n in model.graph.all_nodes() for v in n.outputs if v.name]
    assert len(names) == len(set(names))
    got, want = run_ort(ir.to_proto(model), feeds), run_ort(proto, feeds)
    for y in ("y0", "y0_again"):
        np.testing.assert_allclose(got[y], want[y], rtol=1e-4, atol=1e-5)
