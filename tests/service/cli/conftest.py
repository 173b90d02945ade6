"""Small models, one picture, and a way to run the command in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from PIL import Image
from typer.testing import CliRunner

import service.demo
from service.cli import app
from service.demo.scenes import draw
from service.types import Array

SCENES = Path(service.demo.__file__).parent / "scenes.onnx"


@dataclasses.dataclass(frozen=True)
class Done:
    """What a run of the command came to."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The only error line."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ")


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``onnx-explain`` with some arguments, in an empty folder; a traceback fails the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("ONNX_EXPLAIN_TRACEBACK", raising=False)

    def invoke(*args: object) -> Done:
        result = CliRunner().invoke(app, [str(a) for a in args])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        return Done(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A drawn scene as ``photo.png``."""
    return picture(tmp_path / "photo.png")


def picture(path: Path, seed: int = 3) -> Path:
    Image.fromarray(draw(seed).image).save(path)
    return path


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """A convolutional net for pictures [N, 3, 8, 8] with 3 classes, without a card."""
    rng = np.random.default_rng(5)
    weights = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "v": rng.normal(size=(4, 3)).astype(np.float32),
        "axes": np.array([2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["features"]),
        helper.make_node("ReduceMean", ["features", "axes"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "v"], ["scores"]),
    ]
    return _model(tmp_path / "colours.onnx", nodes, {"x": ["N", 3, 8, 8]}, {"scores": ["N", 3]}, weights)


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """Rows of 4 numbers to 3 classes by a softmax: z = x · w."""
    weights = {"w": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [2, 0, -1]], np.float32)}
    nodes = [helper.make_node("MatMul", ["row", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["p"], axis=1)]
    return _model(tmp_path / "flowers.onnx", nodes, {"row": ["N", 4]}, {"p": ["N", 3]}, weights)


@pytest.fixture
def columns(tmp_path: Path) -> Path:
    """Two inputs of one column each, ``age`` and ``height``, to 2 scores: (age + height, age − height)."""
    nodes = [
        helper.make_node("Add", ["age", "height"], ["a"]),
        helper.make_node("Sub", ["age", "height"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["scores"], axis=1),
    ]
    inputs: dict[str, list[str | int]] = {"age": ["N", 1], "height": ["N", 1]}
    return _model(tmp_path / "columns.onnx", nodes, inputs, {"scores": ["N", 2]}, {})


def _model(
    path: Path,
    nodes: list[object],
    inputs: dict[str, list[str | int]],
    outputs: dict[str, list[str | int]],
    weights: dict[str, Array],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(v, n) for n, v in weights.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path
