"""Quantised files through the service: they load, are explained, and say how far their float form is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from graph_tools.errors import UnsupportedModel
from graph_tools.loading import parity
from service.models.card import Card
from service.models.describe import describe
from service.models.distance import compare, is_quantised
from service.models.loaded import LoadedModel
from service.runtime.home import Runtime
from tests.graph_tools.optimised_nets import conv_net, optimised, quantised
from tests.service.zoo import SHARED

MOBILENET = SHARED / "models" / "mobilenet_v2_100_224_qdq_uint8io_op13.onnx"


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return Runtime("cpu", threads=1)


@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic", "QOperator-ALL", "dynamic-EXTENDED"])
def test_a_quantised_file_is_loaded_and_described(form: str, runtime: Runtime, tmp_path: Path) -> None:
    kind, _, level = form.partition("-")
    proto = quantised(conv_net(16), kind, tmp_path)
    if level:
        proto = optimised(proto, level, tmp_path)
    onnx.save(proto, tmp_path / "model.onnx")
    model = LoadedModel("m", "", tmp_path / "model.onnx", Card(), runtime)
    assert model.quantised
    info = describe(model)
    assert info.whitebox_error == ""
    assert info.default_layer
    assert any("the file is quantised" in note and "differ from the served session by" in note for note in info.notes)
    found = model.distance()
    assert found is not None
    assert found.output == "y"
    assert found.relative <= 0.1


def test_a_float_file_says_nothing_of_quantisation(runtime: Runtime, tmp_path: Path) -> None:
    onnx.save(conv_net(16), tmp_path / "model.onnx")
    model = LoadedModel("m", "", tmp_path / "model.onnx", Card(), runtime)
    assert model.distance() is None
    assert not any("quantised" in note for note in describe(model).notes)


def test_the_real_quantised_mobilenet(runtime: Runtime) -> None:
    if not MOBILENET.exists():
        pytest.skip(f"{MOBILENET.name} is not here")
    model = LoadedModel("m", "", MOBILENET, Card(), runtime)
    found = model.distance()
    assert found is not None
    assert found.relative <= 0.1  # one step of 18 on noise, whose strongest class gets 18 of 255
    assert found.same == 1.0


@pytest.mark.parametrize(("op", "domain", "yes"), [("QLinearAdd", "com.microsoft", True),
                                                   ("QGemm", "com.microsoft", True),
                                                   ("MatMulInteger", "", True), ("MatMul", "", False)])  # fmt: skip
def test_what_counts_as_quantised(op: str, domain: str, yes: bool) -> None:
    node = onnx.helper.make_node(op, ["a", "b"], ["y"], domain=domain)
    assert is_quantised(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], []))) is yes


def test_distance_is_of_the_worst_output() -> None:
    want = {"a": np.array([[1.0, 2.0], [4.0, 1.0]]), "b": np.array([[10, 0]], np.uint8), "c": np.array(["x"])}
    got = {"a": np.array([[1.0, 2.0], [1.0, 2.0]]), "b": np.array([[9, 0]], np.uint8)}
    found = compare(want, got)
    assert found is not None
    assert (found.output, found.relative, found.same) == ("a", 0.75, 0.5)
    assert compare({"c": np.array(["x"])}, {}) is None


def test_integer_kernels_may_be_a_few_steps_away_but_not_wrong(tmp_path: Path) -> None:
    proto = quantised(conv_net(16, rows=2), "QOperator", tmp_path)
    want = np.arange(10, dtype=np.uint8)[None]

    def runner(*answers: np.ndarray):  # type: ignore[no-untyped-def]
        left = iter(answers)
        return lambda *_: [next(left)]

    assert parity.compare(proto, proto, None, runner(want, want + 4)) is not None
    with pytest.raises(UnsupportedModel, match="differs from the file"):
        parity.compare(proto, proto, None, runner(want, want + 5))
