"""LSTM, GRU, RNN: the body equals the kernels and the equations, its gradient equals central differences of these."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graph_tools
from graph_tools.walk.expand import expand
from tests.graph_tools.harness import run_ort, run_reference
from tests.graph_tools.recurrent_nets import Form, feeds, model, oracle

ALL = {"RNN": "BLH", "GRU": "BLH", "LSTM": "BLHCP"}
DIRECTIONS = ("forward", "reverse", "bidirectional")
SIX = ["HardSigmoid", "Affine", "LeakyRelu", "ScaledTanh", "Tanh", "Elu"]
PLAIN = [
    Form(op, operands, {"direction": direction, "layout": layout})
    for op in ("RNN", "GRU", "LSTM")
    for direction in DIRECTIONS
    for operands in ("", ALL[op])
    for layout in (0, 1)
]
SPECIAL = [
    Form("LSTM", "BLHCP", {"clip": 0.3}, scale=2.0),
    Form("LSTM", "BHCP", {"input_forget": 1}),
    Form("LSTM", "C"),
    Form("LSTM", "LB", {"direction": "bidirectional"}, lengths=(0, 4, 2)),
    Form("LSTM", "BL", {"direction": "bidirectional"}, outputs=(1,)),
    Form("LSTM", "BL", {"direction": "reverse"}, outputs=(2,)),
    Form("LSTM", "B", {"direction": "reverse"}, outputs=(0,)),
    Form("GRU", "BLH", {"linear_before_reset": 1, "direction": "bidirectional"}),
    Form("GRU", "H", {"linear_before_reset": 1}),
    Form("GRU", "BLH", {"clip": 0.3}, scale=2.0),
    Form("GRU", "BLH", {"clip": 0.3, "linear_before_reset": 1}, scale=2.0),
    Form("GRU", "BLH", outputs=(1,)),
    Form("GRU", "BLH", {"layout": 1, "linear_before_reset": 1}, opset=18),
    Form("RNN", "BLH", {"clip": 0.3}, scale=2.0),
    Form("RNN", "BLH", {"direction": "bidirectional", "activations": ["Relu", "Tanh"]}),
    Form("GRU", "B", {"activations": ["HardSigmoid", "ScaledTanh"], "activation_alpha": [0.3, 0.9],
                      "activation_beta": [0.4, 0.8]}),
    Form("LSTM", "BH", {"activations": SIX, "direction": "bidirectional", "activation_alpha": [0.3, 0.7, 0.2, 0.9, 0.5],
                        "activation_beta": [0.4, 0.1, 0.8]}),
]  # fmt: skip
ACTIVATIONS = [
    Form("RNN", "BH", {"activations": [name], "activation_alpha": [0.6], "activation_beta": [0.4]})
    for name in ("Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign", "Softplus",
                 "Relu", "Tanh", "Sigmoid")
]  # fmt: skip
ACTIVATIONS += [Form("RNN", "BH", {"activations": [name]}) for name in ("LeakyRelu", "HardSigmoid", "ThresholdedRelu")]
USUAL = [  # the forms that have a rule of their own
    Form(op, operands, {"direction": direction, **how}, outputs=outputs)
    for op, operands, how in (("LSTM", "BHC", {}), ("LSTM", "C", {}), ("GRU", "BH", {}), ("GRU", "H", {}),
                              ("GRU", "BH", {"linear_before_reset": 1}), ("GRU", "", {"linear_before_reset": 1}))
    for direction in DIRECTIONS
    for outputs in ((0, 1, 2), (0,), (1,), (2,))
    if outputs != (2,) or op == "LSTM"
]  # fmt: skip
FORMS = USUAL + PLAIN + SPECIAL + ACTIVATIONS
IDS = [f.label for f in FORMS]


@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_body_computes_what_the_node_does(form: Form) -> None:
    given = feeds(form)
    proto, want = model(form, given), oracle(form, given)
    loaded = graph_tools.load(proto)
    assert expand(loaded, next(iter(loaded.graph)))
    found = run_ort(ir.to_proto(loaded), given)
    for name, a in found.items():
        assert a.shape == want[name].shape
        np.testing.assert_allclose(a, want[name], rtol=1e-5, atol=1e-5)
    if not form.attrs.get("layout"):  # ONNX Runtime has no kernel for layout 1
        for name, a in run_ort(proto, given).items():
            np.testing.assert_allclose(found[name], a, rtol=1e-5, atol=1e-5)


def _check(form: Form, kind: type, tolerance: float, *, open_dims: bool = False) -> None:
    exact = feeds(form, np.float64)
    given = {k: a.astype(kind) if a.dtype == np.float64 else a for k, a in exact.items()}
    proto = model(form, given, open_dims=open_dims)
    ys = [v.name for v in proto.graph.output]
    xs = [k for k, a in given.items() if a.dtype == kind]
    program = ir.to_proto(graph_tools.gradient(proto, ys, xs))
    rng = np.random.default_rng(2)
    want = oracle(form, exact)
    cts = {y: rng.uniform(-1, 1, want[y].shape) for y in ys}
    runner = run_ort if kind is np.float32 else run_reference
    got = runner(program, {**given, **{f"cotangent_{y}": ct.astype(kind) for y, ct in cts.items()}})
    for y in ys:
        np.testing.assert_allclose(got[y], want[y], rtol=1e-5, atol=1e-5)
    for x in xs:
        assert got[f"grad_{x}"].shape == given[x].shape
        for _ in range(2):
            along = rng.uniform(-1, 1, given[x].shape)
            ends = [oracle(form, {**exact, x: exact[x] + s * 1e-6 * along}) for s in (1, -1)]
            numeric = sum(float(((ends[0][y] - ends[1][y]) / 2e-6 * ct).sum()) for y, ct in cts.items())
            analytic = float((got[f"grad_{x}"].astype(np.float64) * along).sum())
            assert abs(analytic - numeric) <= tolerance * max(1.0, abs(numeric)), (x, analytic, numeric)


@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_gradient_with_respect_to_every_operand(form: Form) -> None:
    _check(form, np.float32, 1e-4, open_dims=bool(form.attrs.get("layout")))


@pytest.mark.parametrize("form", SPECIAL + USUAL[::4], ids=[f.label for f in SPECIAL + USUAL[::4]])
def test_float64_gradient(form: Form) -> None:
    _check(form, np.float64, 1e-7)


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_lstm_with_8_bit_weights(direction: str, per_row: bool) -> None:
    form = Form("LSTM", "BLHCP", {"direction": direction})
    given = feeds(form)
    rng, floats = np.random.default_rng(1), dict(given)
    tensors, names = [], {}
    for key in ("W", "R"):
        d, rows, columns = given[key].shape
        scale = rng.uniform(0.005, 0.01, (d, rows) if per_row else (d,)).astype(np.float32)
        zero = rng.integers(-9, 9, scale.shape).astype(np.int8) * (not per_row)  # the kernel wants zeros per row
        bits = rng.integers(-100, 100, (d, columns, rows)).astype(np.int8)
        axes = (1,) if per_row else (1, 2)
        wide = (bits.astype(np.float32) - np.expand_dims(zero, axes)) * np.expand_dims(scale, axes)
        floats[key] = np.ascontiguousarray(wide.transpose(0, 2, 1))
        names[key] = [f"{key}_bits", f"{key}_scale", f"{key}_zero"]
        tensors += [onnx.numpy_helper.from_array(a, n) for a, n in zip((bits, scale, zero), names[key], strict=True)]
    proto = model(form, given)
    node = proto.graph.node[0]
    operands = ["X", names["W"][0], names["R"][0], *list(node.input)[3:], *names["W"][1:], *names["R"][1:]]
    node.CopyFrom(onnx.helper.make_node("DynamicQuantizeLSTM", operands, list(node.output), name="cell",
                                        domain="com.microsoft", hidden_size=3, direction=direction))  # fmt: skip
    kept = [v for v in proto.graph.input if v.name not in ("W", "R")]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    proto.graph.initializer.extend(tensors)
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    left = {k: a for k, a in given.items() if k not in ("W", "R")}
    loaded = graph_tools.load(proto)
    assert [n.op_type for n in loaded.graph if n.op_type.endswith("LSTM")] == ["LSTM"]
    found, want, own = run_ort(ir.to_proto(loaded), left), oracle(form, floats), run_ort(proto, left)
    for name, a in found.items():
        np.testing.assert_allclose(a, want[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(a, own[name], atol=0.03)  # the kernel rounds x and h to 8 bits
    program = ir.to_proto(graph_tools.gradient(proto, ["Y"], ["X"]))
    ct = rng.uniform(-1, 1, want["Y"].shape)
    got = run_ort(program, {**left, "cotangent_Y": ct.astype(np.float32)})["grad_X"]
    along = rng.uniform(-1, 1, got.shape)
    exact = {k: a.astype(np.float64) if a.dtype == np.float32 else a for k, a in floats.items()}
    ends = [oracle(form, {**exact, "X": exact["X"] + s * 1e-6 * along})["Y"] for s in (1, -1)]
    numeric = float(((ends[0] - ends[1]) / 2e-6 * ct).sum())
    assert abs(float((got * along).sum()) - numeric) <= 1e-4 * max(1.0, abs(numeric))


@pytest.mark.parametrize(
    "form",
    [
        Form("LSTM", "BHC", {"direction": "bidirectional"}),
        Form("LSTM", "BLHCP"),
        Form("GRU", "BH"),
        Form("GRU", "BH", {"linear_before_reset": 1, "direction": "reverse"}),
    ],
    ids=lambda f: f.label,
)
def test_second_order(form: Form) -> None:
    """d<v, dX>/dX along u by the gradient of the gradient program, and by a central difference of that program."""
    given = feeds(form, np.float64)
    first = ir.to_proto(graph_tools.gradient(model(form, given), ["Y"], ["X"]))
    (producer,) = (n for n in first.graph.node if "grad_X" in n.output)
    inner = producer.input[0]
    second = ir.to_proto(graph_tools.gradient(first, [inner], ["R"]))
    rng = np.random.default_rng(4)
    seed = {"cotangent_Y": rng.uniform(-1, 1, oracle(form, given)["Y"].shape)}
    v, u = rng.uniform(-1, 1, given["X"].shape), rng.uniform(-1, 1, given["R"].shape)
    got = run_reference(second, {**given, **seed, f"cotangent_{inner}": v})["grad_R"]
    ends = [run_reference(first, {**given, "R": given["R"] + s * 1e-6 * u, **seed})["grad_X"] for s in (1, -1)]
    numeric = float(((ends[0] - ends[1]) / 2e-6 * v).sum())
    assert abs(float((got * u).sum()) - numeric) <= 1e-6 * max(1.0, abs(numeric))
