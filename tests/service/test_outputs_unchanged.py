"""A program returns the model's own outputs as the untouched file computes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import graph_tools
from graph_tools.errors import UnsupportedGradient, UnsupportedModel
from service.runtime.providers import resolve
from service.runtime.session import Options, Session, TensorInfo
from service.types import Array
from tests.bench import nets
from tests.service.zoo import SHARED

FILES = (
    "cifar10_cnn_pytorch_op10",
    "cifar10_resnet8_keras_op9",
    "deeplabv3_mnv2_dm05_pascal_fp32_op11",
    "fer2013_mini_xception_op12",
    "iris2_logreg_onnxmltools_mlop1",
    "iris_randomforest_skl2onnx",
    "lightgbm_skl2onnx",
    "magika_standard_v3_3_op15",
    "mnist01_dianna_pytorch_op11",
    "mnist_cntk_op8",
    "mnist_keras2onnx_op12",
    "mobilenet_v1_025_128_fp32_op9",
    "mobilenet_v1_050_160_fp32_op11",
    "mobilenet_v2_100_224_fp32_op10",
    "mobilenet_v2_100_224_qdq_uint8io_op13",
    "pipeline_vectorize_mlop1",
    "ppocr_textdir_cls_paddle_op14",
    "season_timeseries_dianna_op9",
    "squeezenet11_caffe2_fp16_op7",
    "squeezenet11_caffe2_fp32_op7",
    "ultraface_rfb320_simplified_op9",
    "vww96_mobilenet_v1_025_op11",
)
GRAPHLESS = {"iris2_logreg_onnxmltools_mlop1", "iris_randomforest_skl2onnx", "lightgbm_skl2onnx",
             "pipeline_vectorize_mlop1"}  # fmt: skip
NETS = {name: make for name, make in nets.NETS.items() if name != "vit_base"}  # it has the operators of vit_tiny


def _feeds(session: Session, rows: int) -> dict[str, Array]:
    """Seeded noise: grey levels for integers, [0, 1) for floats; open dimensions as ``rows``."""
    rng = np.random.default_rng(2)

    def draw(v: TensorInfo) -> Array:
        shape = [d if isinstance(d, int) else rows if i == 0 else 8 for i, d in enumerate(v.shape)]
        kind = np.dtype(v.dtype)
        return (rng.uniform(0, 1, shape) if kind.kind == "f" else rng.integers(0, 256, shape)).astype(kind)

    return {v.name: draw(v) for v in session.inputs}


def _compare(model: str | bytes, rows: int = 1) -> None:
    source = model if isinstance(model, bytes) else Path(model)
    known = graph_tools.values(source)
    options = Options(threads=1, disable_quant_qdq=any(v.operator == "QuantizeLinear" for v in known))
    x = next(v.name for v in known if v.kind == "input")
    # The last float value: behind it lie rounding or ArgMax, if anything.
    y = [v.name for v in known if v.operator and v.dtype.startswith("float") and not v.zero_derivative][-1]
    program = ir.to_proto(graph_tools.gradient(source, [y], [x]))
    plain, ours = (Session(m, resolve("cpu"), options=options) for m in (model, program.SerializeToString()))
    feeds = _feeds(plain, rows)
    want = plain.run(feeds)
    seed = next(v for v in ours.inputs if v.name == f"cotangent_{y}")
    exposed = Session(ir.to_proto(graph_tools.expose(source, [y])).SerializeToString(), resolve("cpu"), options=options)
    shape = exposed.run(feeds, [y])[y].shape
    ct = np.random.default_rng(4).uniform(-1, 1, shape).astype(seed.dtype)
    got = ours.run({**feeds, seed.name: ct})
    assert np.isfinite(got[f"grad_{x}"]).all()
    for name, b in want.items():
        a = got[name]
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        limit = 1e-2 if b.dtype == np.float16 else 1e-5
        gap = np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0)
        assert gap <= limit * np.abs(b.astype(np.float64)).max(initial=0.0), (name, gap)


@pytest.mark.parametrize("name", FILES)
def test_real_files(name: str) -> None:
    path = SHARED / "models" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"the file {path.name} is not on this machine")
    if name in GRAPHLESS:
        with pytest.raises((UnsupportedGradient, UnsupportedModel)):
            graph_tools.gradient(path, [onnx.load(path).graph.output[-1].name], [onnx.load(path).graph.input[0].name])
        return
    _compare(str(path))


@pytest.mark.parametrize("name", NETS)
def test_benchmark_nets(name: str) -> None:
    make: Callable[[int], onnx.ModelProto] = NETS[name]
    model = make(64)
    _compare(model.SerializeToString(), rows=2)
