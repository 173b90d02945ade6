"""The models that ONNX's wheel keeps at old opsets: they load, run the same, and their gradients are right.

``simple``, ``pytorch-operator`` and ``pytorch-converted`` (opsets 6–10 of the first PyTorch exporters), and the nine
``light`` networks of Caffe2 (their constants filled in at run time).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

import graph_tools
from graph_tools import UnsupportedGradient
from graph_tools.loading import parity
from tests.graph_tools.harness import run_ort, run_reference

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
NODES = sorted(
    p.parent for s in ("simple", "pytorch-operator", "pytorch-converted") for p in (DATA / s).glob("*/model.onnx")
)
LIGHT = sorted((DATA / "light").glob("*.onnx"))
TRAINING = {"test_gradient_of_add", "test_gradient_of_add_and_mul"}  # hold the operator Gradient
ZERO = {"test_sign_model"}


def _feeds(folder: Path, proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    feeds = {}
    initializers = {t.name for t in proto.graph.initializer}
    inputs = [v for v in proto.graph.input if v.name not in initializers]
    for i, v in enumerate(inputs):
        data = (folder / "test_data_set_0" / f"input_{i}.pb").read_bytes()
        feeds[v.name] = numpy_helper.to_array(onnx.TensorProto.FromString(data))
    return feeds


def _floats(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> tuple[list[str], list[str]]:
    ys = [v.name for v in proto.graph.output if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    return ys, [k for k, a in feeds.items() if a.dtype == np.float32 and a.size]


def _outputs(folder: Path, proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    stored = sorted((folder / "test_data_set_0").glob("output_*.pb"))
    if any(v.type.WhichOneof("value") != "tensor_type" for v in proto.graph.output):
        return {}
    arrays = [numpy_helper.to_array(onnx.TensorProto.FromString(p.read_bytes())) for p in stored]
    return dict(zip([v.name for v in proto.graph.output], arrays, strict=True))


def check_gradient(
    loaded: ir.Model, feeds: dict[str, np.ndarray], ys: list[str], xs: list[str], *, along: bool = False
) -> None:
    """The gradient in ORT float32 against central differences on three directions; the best of four steps counts.

    A kink between the ends of a step spoils that difference, not the gradient. ``along``: the gradient's own signs
    are the directions, on random thirds of the elements; in a deep net a random direction changes less than float32
    resolves.
    """
    proto = ir.to_proto(graph_tools.expose(loaded, ys))
    program = ir.to_proto(graph_tools.gradient(loaded, ys, xs))
    rng = np.random.default_rng(3)
    own = run_ort(proto, feeds)
    cts = {y: rng.uniform(-1, 1, own[y].shape).astype(np.float32) for y in ys}
    got = run_ort(program, {**feeds, **{f"cotangent_{y}": ct for y, ct in cts.items()}})
    for v in loaded.graph.outputs:
        np.testing.assert_allclose(got[v.name], own[v.name], rtol=1e-4, atol=1e-5)
    for _ in range(3):
        directions = {x: rng.uniform(-1, 1, feeds[x].shape) for x in xs}
        if along:
            directions = {x: np.sign(got[f"grad_{x}"]) * (d > 1 / 3) for x, d in directions.items()}
        analytic = sum(float((got[f"grad_{x}"].astype(np.float64) * d).sum()) for x, d in directions.items())
        errors = []
        for h in (1e-2, 1e-3, 1e-4, 1e-5):
            ends = [{**feeds, **{x: (feeds[x] + s * h * d).astype(np.float32) for x, d in directions.items()}}
                    for s in (1, -1)]  # fmt: skip
            high, low = (run_ort(proto, e) for e in ends)
            numeric = sum(float(((high[y].astype(np.float64) - low[y]) / (2 * h) * cts[y]).sum()) for y in ys)
            errors.append(abs(analytic - numeric) / max(1.0, abs(numeric)))
        assert min(errors) <= 1e-2, (analytic, errors)


@pytest.mark.parametrize("folder", NODES, ids=lambda p: p.name.removeprefix("test_"))
def test_case_of_the_suite(folder):
    proto = onnx.load(folder / "model.onnx")
    feeds = _feeds(folder, proto)
    ys, xs = _floats(proto, feeds)
    if folder.name in TRAINING:
        with pytest.raises(UnsupportedGradient, match=r"training::Gradient.*black-box"):
            graph_tools.gradient(proto, ys, xs)
        return
    loaded = graph_tools.load(proto)
    want = _outputs(folder, proto)
    strings = any(n.op_type == "StringNormalizer" for n in loaded.graph)  # ORT wants the machine's locales for it
    got = (run_reference if strings else run_ort)(ir.to_proto(loaded), feeds)
    for name, a in want.items():
        if a.dtype.kind == "f":
            np.testing.assert_allclose(got[name], a, rtol=1e-3, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(got[name], a, err_msg=name)
    if folder.name in ZERO:
        assert not any(v.gradient for v in graph_tools.values(loaded) if v.kind == "input")
    elif ys and xs:
        if any(np.isnan(a).any() for a in got.values()):  # roots and powers of negative numbers
            feeds = {k: np.abs(a) + np.float32(0.5) for k, a in feeds.items()}
        if "maxpool" in folder.name.lower():  # no two values closer than the step
            feeds = {k: (a.ravel().argsort().argsort() / a.size * 4 - 2).astype(np.float32).reshape(a.shape)
                     for k, a in feeds.items()}  # fmt: skip
        check_gradient(loaded, feeds, ys, xs)


def _filled(path: Path) -> onnx.ModelProto:
    """The network with seeded He-scaled weights in place of its ConstantOfShape nodes, which make it constant."""
    proto = onnx.load(path)
    tensors = {t.name: t for t in proto.graph.initializer}
    tensors |= {n.output[0]: n.attribute[0].t for n in proto.graph.node if n.op_type == "Constant"}
    shapes = {name: numpy_helper.to_array(t) for name, t in tensors.items()}
    rng = np.random.default_rng(0)
    kept = []
    for node in proto.graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = tuple(int(d) for d in shapes[node.input[0]])
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 0
        a = rng.normal(0, np.sqrt(2 / fan), shape) if fan else rng.uniform(0.5, 1.5, shape)
        proto.graph.initializer.append(numpy_helper.from_array(a.astype(np.float32), node.output[0]))
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    return proto


@pytest.mark.parametrize("path", LIGHT, ids=lambda p: p.stem.removeprefix("light_"))
def test_light_network_builds(path):
    proto = onnx.load(path)
    loaded = graph_tools.load(proto)
    image = next(v.name for v in loaded.graph.inputs)
    assert [v.name for v in loaded.graph.inputs] == [image]
    program = graph_tools.gradient(loaded, [loaded.graph.outputs[0].name], [image])
    assert [v.name for v in program.graph.outputs][-1] == f"grad_{image}"


@pytest.mark.parametrize("stem", ["light_squeezenet", "light_shufflenet"])
def test_light_network_computes_the_same(stem):
    proto = _filled(DATA / "light" / f"{stem}.onnx")
    feeds = parity.random_feeds(proto, 224)
    loaded = graph_tools.load(proto)
    image, y = loaded.graph.inputs[0].name, loaded.graph.outputs[0].name
    want, got = run_ort(proto, feeds), run_ort(ir.to_proto(loaded), feeds)
    np.testing.assert_allclose(got[y], want[y], rtol=1e-4, atol=1e-6)
    logits = loaded.graph[-1].inputs[0].name
    found = [n for n in loaded.graph if n.op_type == "Softmax"]
    check_gradient(loaded, feeds, [found[0].inputs[0].name if found else logits], [image], along=True)
