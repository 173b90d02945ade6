"""``inspect`` lists what a GPU would leave to the CPU, and the programs of the white-box methods add nothing to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from graph_tools.cuda_kernels import cuda_exceptions
from service.client.requests import make_call
from service.core import Engine
from service.models.card import Card, InputCard
from service.models.repository import Repository
from service.runtime.context import Run as Running
from service.runtime.home import Runtime
from service.runtime.session import Session
from service.types import ExplainResult
from tests.bench import nets
from tests.service.cli.conftest import SCENES, Run

CPU = ("--provider", "cpu")


def _celus(path: Path, opset: int) -> Path:
    """x [N, 4] -> Celu -> MatMul -> Celu: the operator has no CUDA kernel; a MaxPool has none from opset 22 on."""
    w = numpy_helper.from_array(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Celu", ["x"], ["a"], "first"),
        helper.make_node("MatMul", ["a", "w"], ["b"], "product"),
        helper.make_node("Celu", ["b"], ["y"], "second"),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", k]) for n, k in (("x", 4), ("y", 3)))
    graph = helper.make_graph(nodes, "g", [x], [y], [w])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
    return path


def test_nodes_of_the_file(run: Run, tmp_path: Path) -> None:
    path = _celus(tmp_path / "celus.onnx", 18)
    told = json.loads(run("inspect", path, "--json", *CPU).out)["without_cuda_kernel"]
    assert [(e["node"], e["operator"], e["emitted"]) for e in told] == [
        ("first", "Celu", False), ("second", "Celu", False),
    ]  # fmt: skip
    shown = " ".join(run("inspect", path, *CPU).out.split())
    assert "Celu x 2 stays on the CPU: no CUDA kernel" in shown


def test_a_file_without_exceptions(run: Run) -> None:
    assert json.loads(run("inspect", SCENES, "--json", *CPU).out)["without_cuda_kernel"] == []
    assert "every node of the file and of its gradient has a kernel" in " ".join(
        run("inspect", SCENES, *CPU).out.split()
    )


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[onnx.ModelProto]:
    """Programs are built in the CUDA form (and run on the CPU); every model that a session is made of."""
    seen: list[onnx.ModelProto] = []
    make = Session.__init__

    def spy(self: Session, model: object, *args: object, **more: object) -> None:
        if isinstance(model, bytes):
            seen.append(onnx.load_model_from_string(model))
        make(self, model, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "__init__", spy)
    monkeypatch.setattr(Runtime, "form", "cuda")
    return seen


def _ask(engine: Engine, name: str, method: str, size: int) -> ExplainResult:
    image = np.random.default_rng(1).integers(0, 256, (size, size, 3)).astype(np.uint8)
    return engine.explain(make_call(name, image, method=method, targets=[0, (1, 2)]).request, Running())


@pytest.mark.parametrize("method", ["saliency", "grad_cam"])
@pytest.mark.parametrize(("name", "opset"), [("scenes", 18), ("mobilenet_v2", 20), ("mobilenet_v2", 21)])
def test_programs_find_their_kernels(
    name: str, opset: int, method: str, built: list[onnx.ModelProto], tmp_path: Path
) -> None:
    path, size, card = SCENES, 128, None
    if name != "scenes":
        model, size = nets.mobilenet_v2(64), 64
        model.opset_import[0].version = opset
        path, card = tmp_path / f"{name}.onnx", Card(input=InputCard().assuming("imagenet-torch"))
        onnx.save(model, path)
    repository = Repository(Runtime("cpu"))
    repository.add(name, path, parsed=card or Card(input=InputCard().assuming("none")))
    assert _ask(Engine(repository), name, method, size).items[0].attributions[1].values.any()
    programs = [p for p in built if "attribution" in {v.name for v in p.graph.output}]
    assert programs
    for program in programs:
        assert cuda_exceptions(ir.from_proto(onnx.shape_inference.infer_shapes(program))) == []
