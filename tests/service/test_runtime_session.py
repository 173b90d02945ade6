"""Sessions: what they report, how they fail, and that they live on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graph_tools.errors import (
    Busy,
    Cancelled,
    ExplainError,
    InvalidRequest,
    ProviderUnavailable,
    UnsupportedModel,
)
from service.runtime.context import Run
from service.runtime.providers import CUDA, Provider, try_cuda
from service.runtime.session import Options, Session, TensorInfo
from tests.service.runtime_graphs import CPU_ONLY, affine, counter, external, model, save_external, value

ROOT = Path(__file__).resolve().parents[2]
X = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


def load(proto: onnx.ModelProto, **more: object) -> Session:
    return Session(proto.SerializeToString(), CPU_ONLY, **more)  # type: ignore[arg-type]


def expected(x: np.ndarray) -> np.ndarray:
    w = np.arange(9, dtype=np.float32).reshape(3, 3) / 7
    return np.tanh(x @ w + w[0])


def test_it_runs_from_bytes_and_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(affine().SerializeToString())
    for source in (path.read_bytes(), path, str(path)):
        session = Session(source, CPU_ONLY)
        np.testing.assert_allclose(session.run({"x": X})["y"], expected(X), rtol=1e-6)
        assert session.nbytes == path.stat().st_size
        assert session.provider is CPU_ONLY


def test_inputs_and_outputs_are_described() -> None:
    proto = model(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE), helper.make_node("Identity", ["s"], ["t"])],
        [value("x", ["N", None, 3], TensorProto.FLOAT16), value("s", [2], TensorProto.STRING)],
        [value("y", ["N", None, 3], TensorProto.DOUBLE), value("t", [2], TensorProto.STRING)],
    )
    session = load(proto)
    assert session.inputs == (TensorInfo("x", "float16", ("N", None, 3)), TensorInfo("s", "string", (2,)))
    assert session.outputs == (TensorInfo("y", "float64", ("N", None, 3)), TensorInfo("t", "string", (2,)))
    found = session.run({"x": np.ones((1, 1, 3), np.float16), "s": np.array(["a", "b"], object)})
    assert found["t"].tolist() == ["a", "b"]


def test_only_the_outputs_asked_for_come_back() -> None:
    proto = affine()
    proto.graph.output.append(value("z", ["N", 3]))
    session = load(proto)
    assert list(session.run({"x": X}, ["z"])) == ["z"]
    assert list(session.run({"x": X})) == ["y", "z"]


def test_a_value_stays_on_the_device_between_two_sessions() -> None:
    session = load(affine())
    kept = session.run_to_device({"x": X})
    assert tuple(kept["y"].shape()) == X.shape
    assert np.array_equal(kept["y"].numpy(), session.run({"x": X})["y"])
    twice = session.run({"x": kept["y"]})["y"]
    again = session.run_to_device({"x": kept["y"]}, ["y"])["y"].numpy()
    direct = session.run({"x": session.run({"x": X})["y"]})["y"]
    assert np.array_equal(twice, direct)
    assert np.array_equal(again, direct)


def test_arrays_and_device_values_mix_and_scalars_keep_their_rank() -> None:
    session = load(counter())
    x = np.linspace(0, 1, 8, dtype=np.float32)[::2]  # not contiguous
    direct = session.run({"n": np.array(3), "x": x})["y"]
    assert np.array_equal(session.run_to_device({"n": np.array(3), "x": x})["y"].numpy(), direct)
    kept = session.run_to_device({"n": np.array(0), "x": x})["y"]
    assert np.array_equal(session.run({"n": np.array(3), "x": kept})["y"], direct)


@pytest.mark.parametrize(
    ("feeds", "outputs", "field", "words"),
    [
        ({"x": np.zeros((2, 4), np.float32)}, None, "x", "Got: 4 Expected: 3"),
        ({"x": np.zeros(3, np.float32)}, None, "x", "rank"),
        ({"x": np.zeros((2, 3))}, None, "", "double"),
        ({}, None, "x", "missing"),
        ({"x": X, "q": X}, None, "q", "Invalid input name"),
        ({"x": X}, ["nope"], "", "nope"),
    ],
)
def test_wrong_input_is_an_invalid_request(
    feeds: dict[str, np.ndarray], outputs: list[str] | None, field: str, words: str
) -> None:
    session = load(affine())
    with pytest.raises(InvalidRequest, match=words) as caught:
        session.run(feeds, outputs)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)
    assert "ONNXRuntimeError" not in str(caught.value)
    assert session.run({"x": X})["y"].shape == (5, 3)


def test_a_failing_node_is_named() -> None:
    node = helper.make_node("Reshape", ["x", "s"], ["y"], name="/head/flatten")
    proto = model([node], [value("x", ["N", "M"])], [value("y", [2, 3])], {"s": np.array([2, 3])})
    session = load(proto)
    with pytest.raises(UnsupportedModel, match=r"Reshape node.*'/head/flatten'.*cannot be reshaped") as caught:
        session.run({"x": np.zeros((2, 4), np.float32)})
    assert "onnxruntime" not in str(caught.value)


@pytest.mark.parametrize("arena", [True, False])
@pytest.mark.parametrize("method", ["run", "run_to_device"])
def test_too_little_memory_is_busy_and_the_session_lives(method: str, arena: bool) -> None:
    proto = model(
        [
            helper.make_node("ConstantOfShape", ["s"], ["z"]),
            helper.make_node("ReduceSum", ["z"], ["y"], keepdims=0),
        ],
        [value("s", [2], TensorProto.INT64)],
        [value("y", [])],
    )
    session = load(proto, options=Options(prepack=arena, arena=arena))
    with pytest.raises(Busy, match=r"out of memory.*smaller batch"):
        getattr(session, method)({"s": np.array([1 << 20, 1 << 20])})  # 4 TiB
    assert session.run({"s": np.array([4, 4])})["y"] == 0


BROKEN: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "random": lambda: np.random.default_rng(1).bytes(4096),
    "truncated": lambda: affine().SerializeToString()[:-7],
    "half": lambda: (lambda b: b[: len(b) // 2])(affine().SerializeToString()),
    "text": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "opset 99": lambda: model(
        [helper.make_node("Relu", ["x"], ["y"])], [value("x", [1])], [value("y", [1])], opset=99
    ).SerializeToString(),
    "ir 99": lambda: model(
        [helper.make_node("Relu", ["x"], ["y"])], [value("x", [1])], [value("y", [1])], ir_version=99
    ).SerializeToString(),
    "unknown operator": lambda: model(
        [helper.make_node("Nope", ["x"], ["y"])], [value("x", [1])], [value("y", [1])]
    ).SerializeToString(),
    "dangling": lambda: model(
        [helper.make_node("Relu", ["q"], ["y"])], [value("x", [1])], [value("y", [1])]
    ).SerializeToString(),
    "shapes": lambda: model(
        [helper.make_node("MatMul", ["x", "x"], ["y"])], [value("x", [2, 3])], [value("y", None)]
    ).SerializeToString(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_an_unsupported_model_with_a_clean_reason(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "secret" / "m.onnx"
    path.parent.mkdir()
    path.write_bytes(BROKEN[kind]())
    for source in (path, path.read_bytes()):
        with pytest.raises(UnsupportedModel, match=r"cannot be loaded: .") as caught:
            Session(source, CPU_ONLY)
        text = str(caught.value)
        assert "secret" not in text
        assert str(tmp_path) not in text
        assert "onnxruntime" not in text
        assert "\n" not in text


def test_the_reason_names_what_is_wrong() -> None:
    with pytest.raises(UnsupportedModel, match="No Op registered for Nope"):
        Session(BROKEN["unknown operator"](), CPU_ONLY)
    with pytest.raises(UnsupportedModel, match=r"opset 99, this ONNX Runtime knows opsets up to \d+"):
        Session(BROKEN["opset 99"](), CPU_ONLY)
    with pytest.raises(UnsupportedModel, match="IR version: 99, max supported"):
        Session(BROKEN["ir 99"](), CPU_ONLY)
    with pytest.raises(UnsupportedModel, match="not an ONNX file, or it is cut short"):
        Session(BROKEN["truncated"](), CPU_ONLY)


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_a_path_that_is_no_file(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        Session(tmp_path if kind == "folder" else tmp_path / "m.onnx", CPU_ONLY)
    assert str(tmp_path) not in str(caught.value)


def test_mutated_files_raise_nothing_but_our_errors() -> None:
    rng = np.random.default_rng(7)
    whole = [affine().SerializeToString(), counter().SerializeToString()]
    refused = 0
    for _ in range(400):
        raw = bytearray(whole[rng.integers(2)])
        for at in rng.integers(0, len(raw), rng.integers(1, 4)):
            raw[at] = rng.integers(256)
        try:
            Session(bytes(raw), CPU_ONLY, options=Options(threads=1))
        except ExplainError:
            refused += 1
    assert 50 < refused < 400


def test_the_session_must_come_up_on_the_provider_asked_for() -> None:
    if try_cuda(Provider("cuda", CUDA)) is None:
        pytest.skip("CUDA works on this machine")
    with pytest.raises(ProviderUnavailable, match="CPUExecutionProvider in place of CUDAExecutionProvider"):
        Session(affine().SerializeToString(), Provider("cuda", CUDA))


def test_external_data_of_bytes_comes_from_the_given_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.arange(1024, dtype=np.float32)
    raw = save_external(tmp_path, data).read_bytes()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsupportedModel, match=r"does not exist") as caught:
        Session(raw, CPU_ONLY)
    assert str(tmp_path) not in str(caught.value)
    session = Session(raw, CPU_ONLY, external_dir=tmp_path)
    assert np.array_equal(session.run({"x": np.ones(1, np.float32)})["y"], data + 1)
    assert session.nbytes == len(raw) + data.nbytes


def test_external_data_beyond_the_file_is_refused(tmp_path: Path) -> None:
    np.zeros(8, np.float32).tofile(tmp_path / "w.bin")
    with pytest.raises(UnsupportedModel) as caught:
        Session(external("w.bin").SerializeToString(), CPU_ONLY, external_dir=tmp_path)
    assert str(tmp_path) not in str(caught.value)


def test_a_cancelled_call_loads_nothing() -> None:
    run = Run()
    run.cancel()
    with pytest.raises(Cancelled):
        Session(affine().SerializeToString(), CPU_ONLY, run=run)


def test_options_reach_onnx_runtime() -> None:
    session = load(
        affine(),
        options=Options(threads=1, prepack=False, disable_quant_qdq=True, optimisation="none", dims=(("N", 2),)),
    )
    assert session.inputs[0].shape == (2, 3)
    used = session._session.get_session_options()
    assert used.intra_op_num_threads == 1
    assert used.graph_optimization_level.name == "ORT_DISABLE_ALL"
    entry = used.get_session_config_entry
    assert [entry(f"session.{key}") for key in ("disable_prepacking", "disable_quant_qdq")] == ["1", "1"]
    low = load(affine(), options=Options(prepack=False, arena=False))
    assert not low._session.get_session_options().enable_cpu_mem_arena
    assert np.array_equal(low.run({"x": X})["y"], load(affine()).run({"x": X})["y"])


def test_the_format_of_another_runtime_is_not_taken(tmp_path: Path) -> None:
    from service.runtime import ort

    options = ort.api.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.api.InferenceSession(affine().SerializeToString(), options, providers=["CPUExecutionProvider"])
    for source in (tmp_path / "m.ort", (tmp_path / "m.ort").read_bytes()):
        with pytest.raises(UnsupportedModel, match="not an ONNX file"):
            Session(source, CPU_ONLY)


def test_failures_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    session = load(affine())
    with pytest.raises(InvalidRequest):
        session.run({"x": np.zeros((2, 4), np.float32)})
    for kind in ("ir 99", "unknown operator"):
        with pytest.raises(UnsupportedModel):
            Session(BROKEN[kind](), CPU_ONLY)
    assert capfd.readouterr() == ("", "")


def test_no_telemetry_file_is_written(tmp_path: Path) -> None:
    code = (
        "from tests.service.runtime_graphs import CPU_ONLY, affine\n"
        "from service.runtime.session import Session\n"
        "Session(affine().SerializeToString(), CPU_ONLY)\n"
    )
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
    environment = {**keep, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_the_package_alone_loads_no_onnxruntime() -> None:
    code = "import sys, service.runtime; assert 'onnxruntime' not in sys.modules and 'onnx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
