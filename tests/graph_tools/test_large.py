"""Models above 2 GB: weights stay in their file, are mapped where they are read, and are never copied whole.

The weights file is sparse (holes read as zeros and take no disk); memory is measured in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import graph_tools
from graph_tools.save import save
from tests.graph_tools.harness import run_ort
from tests.graph_tools.nets import cnn, model, tensor

ROOT = Path(__file__).resolve().parents[2]
ROWS, WIDTH = 160_000, 1024  # 655 MB a table
TABLES = 4
BYTES = ROWS * WIDTH * 4


def large(folder: Path) -> Path:
    """Gather from three tables of 655 MB, a small MatMul, a product with a fourth: 2.6 GB of weights, no disk."""
    small = np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["table0", "ids"], ["e0"]),
             helper.make_node("Gather", ["table1", "ids"], ["e1"]),
             helper.make_node("Gather", ["table2", "ids"], ["e2"]),
             helper.make_node("Sum", ["e0", "e1", "e2", "x"], ["h"]),
             helper.make_node("MatMul", ["h", "small"], ["m"]), helper.make_node("Tanh", ["m"], ["t"]),
             helper.make_node("Gemm", ["t", "table3"], ["y"], transB=1)]  # fmt: skip
    inputs = [tensor("x", ["N", WIDTH]), tensor("ids", ["N"], TensorProto.INT64)]
    proto = model(nodes, inputs, [tensor("y", ["N", ROWS])])
    for i in range(TABLES):
        table = TensorProto(name=f"table{i}", data_type=TensorProto.FLOAT, dims=[ROWS, WIDTH],
                            data_location=TensorProto.EXTERNAL)  # fmt: skip
        for key, value in {"location": "w.bin", "offset": str(i * BYTES), "length": str(BYTES)}.items():
            table.external_data.add(key=key, value=value)
        proto.graph.initializer.append(table)
    proto.graph.initializer.append(numpy_helper.from_array(small, "small"))
    path = folder / "large.onnx"
    onnx.save(proto, path)
    with open(folder / "w.bin", "wb") as file:
        file.truncate(TABLES * BYTES)
        file.seek(3 * 4 * WIDTH)  # row 3 of table 0
        file.write(np.full(WIDTH, 0.5, np.float32).tobytes())
    return path


WORK = """
import json, sys
from pathlib import Path
import graph_tools
from graph_tools.save import save
path, target = sys.argv[1:]
def peak():  # not getrusage: that one starts at the high-water mark of the process that started this one
    return next(int(t.split()[1]) for t in Path("/proc/self/status").read_text().splitlines() if t.startswith("VmHWM"))
before = peak()
loaded = graph_tools.load(path)
graph_tools.values(loaded)
graph_tools.expose(loaded, ["h"])
graph_tools.cut(loaded, "t")
program = graph_tools.gradient(path, ["y"], ["x", "t", "h"])
save(program, target)
kinds = sorted({type(v.const_value).__name__ for n, v in program.graph.initializers.items() if n.startswith("table")})
print(json.dumps({"before": before / 1024, "peak": peak() / 1024, "kinds": kinds}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_load_gradient_and_save_take_no_memory(tmp_path):
    path = large(tmp_path)
    target = tmp_path / "gradient.onnx"
    done = subprocess.run(
        [sys.executable, "-c", WORK, path, target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kinds"] == ["ExternalTensor"]
    assert found["peak"] < 300, found
    assert target.stat().st_size < 5 << 20
    assert not (tmp_path / "gradient.onnx.data").exists()
    saved = onnx.load(target, load_external_data=False)
    places = {t.name: {e.key: e.value for e in t.external_data} for t in saved.graph.initializer if t.external_data}
    assert {n: p["location"] for n, p in places.items()} == {f"table{i}": "w.bin" for i in range(TABLES)}
    assert int(places["table2"]["offset"]) == 2 * BYTES
    again = graph_tools.load(target)
    np.testing.assert_array_equal(again.graph.initializers["table0"].const_value.numpy()[3, :4], np.full(4, 0.5))


def test_the_weights_are_mapped_not_read(tmp_path):
    loaded = graph_tools.load(large(tmp_path))
    table = loaded.graph.initializers["table0"].const_value
    assert isinstance(table, ir.ExternalTensor)
    assert table.raw is None  # nothing was opened
    assert table.numpy()[3, 0] == 0.5


@pytest.mark.parametrize("inline_bytes", [0, 1 << 30])
def test_new_weights_go_to_a_file_of_their_own(tmp_path, inline_bytes):
    program = graph_tools.gradient(cnn(), ["logits"], ["x"])
    save(program, tmp_path / "g.onnx", inline_bytes=inline_bytes)
    assert (tmp_path / "g.onnx.data").exists() == (inline_bytes == 0)
    x = np.random.default_rng(0).random((2, 3, 16, 16)).astype(np.float32)
    feeds = {"x": x, "cotangent_logits": np.ones((2, 5), np.float32)}
    want = run_ort(ir.to_proto(graph_tools.gradient(cnn(), ["logits"], ["x"])), feeds)
    got = run_ort(onnx.load(tmp_path / "g.onnx"), feeds)
    np.testing.assert_allclose(got["grad_x"], want["grad_x"], rtol=1e-5, atol=1e-6)


def test_weights_outside_the_folder_are_copied_beside(tmp_path):
    """ONNX Runtime reads nothing outside the model's folder."""
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    target.mkdir()
    onnx.save(cnn(), source / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    save(graph_tools.load(source / "m.onnx"), target / "m.onnx")
    x = np.random.default_rng(0).random((2, 3, 16, 16)).astype(np.float32)
    got, want = run_ort(onnx.load(target / "m.onnx"), {"x": x}), run_ort(cnn(), {"x": x})
    np.testing.assert_allclose(got["probabilities"], want["probabilities"], rtol=1e-6)


def test_a_failed_save_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(ir, "to_proto", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(graph_tools.load(cnn()), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
