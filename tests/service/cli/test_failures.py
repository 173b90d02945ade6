"""Everything that can be wrong with a call: one line on stderr, exit code 2 or 1, no traceback."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from service.commands import options
from service.commands.console import Meter, watch
from service.models.card import PRESETS
from service.runtime import providers
from tests.service.cli.conftest import SCENES, Run

ROOT = Path(__file__).resolve().parents[3]
CPU = ("--provider", "cpu")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nope.png", "-m", "saliency"], "INPUT: there is no file 'nope.png'"),
        (["phtoo.png", "-m", "saliency"], "nearest: photo.png"),
        ([], "Missing option '--method'"),
        (["-m", "saliency"], "INPUT: give a picture"),
        (["empty", "-m", "saliency"], "folder 'empty' holds no pictures"),
        (["text.png", "-m", "saliency"], "text.png: these 5 bytes are no image"),
        (["photo.png", "-m", "salience"], "there is no method 'salience'; nearest: saliency"),
        (["photo.png", "-m", "grad_cam", "--layer", "blok1"], "there is no layer 'blok1'; nearest: block1"),
        (["photo.png", "-m", "grad_cam", "--layer", "block1", "--layer", "block2"], "takes one layer"),
        (["photo.png", "-m", "saliency", "--layer", "block1"], "--layer: method saliency has no layer"),
        (["photo.png", "-m", "saliency", "-t", "rokcet"], "there is no class 'rokcet'; nearest: rocket"),
        (["photo.png", "-m", "saliency", "-t", "12"], "--target: class 12 is out of range: 0 to 11"),
        (["photo.png", "-m", "saliency", "-t", "-1"], "--target: class -1 is out of range: 0 to 11"),
        (["photo.png", "-m", "saliency", "-t", "top0"], "--target: top0: give top1 to"),
        (["photo.png", "-m", "saliency", "-t", "top13"], "--target: rank 13 is out of range: 1 to 12"),
        (["photo.png", "-m", "saliency", "-t", ""], "--target: is empty"),
        (["photo.png", "-m", "saliency", "--minus", "99"], "--minus: class 99 is out of range: 0 to 11"),
        (["photo.png", "-m", "saliency", "-t", "0", "--minus", "1", "--minus", "2"], "--minus: is given twice"),
        (["photo.png", "-m", "saliency", "-t", "0", "--minus", "0"], "--minus: '0' is the target itself"),
        (["photo.png", "-m", "saliency", "-t", "1", "-t", "0", "--minus", "Star"], "--minus: 'Star' is the target"),
        (["photo.png", "-m", "predict", "-t", "1"], "--target: method predict has no target"),
        (["photo.png", "-m", "activations", "--minus", "1"], "--minus: method activations has no target"),
        (["photo.png", "-m", "saliency", "--seed", "-1"], "--seed: -1 is out of range: 0 to 2^63 - 1"),
        (["photo.png", "-m", "saliency", "--threads", "257"], "'--threads': it must be less than or equal to 256"),
        (["photo.png", "-m", "occlusion", "--set", "value=5"], "--set: value is only used with baseline=value"),
        (["photo.png", "-m", "occlusion", "--set", "patch"], "--set: 'patch' is not name=value"),
        (["photo.png", "-m", "occlusion", "--set", "patch=0"], "occlusion.patch[0]: 0 is out of range"),
        (["photo.png", "-m", "occlusion", "--set", "patch=big"], "occlusion.patch[0]: 'big' is not an int"),
        (["photo.png", "-m", "occlusion", "--set", "patch=4", "--set", "patch=5"], "--set: 'patch' is given twice"),
        (["photo.png", "-m", "occlusion", "--set", "pach=4"], "no such parameter; it has patch, stride"),
        (["photo.png", "-m", "saliency", "-o", "x.jpg"], "-o: 'x.jpg': end it in .png (picture)"),
        (["photo.png", "-m", "saliency", "-o", "photo.png"], "-o: 'photo.png' would overwrite an input"),
        (["photo.png", "-m", "saliency", "-o", "photo.png/x.png"], "-o: 'photo.png/x.png' cannot be written"),
        (["photo.png", "-m", "saliency", "-o", "d/{name}_{x}.png"], "there is no {x}; use {name} and {method}"),
        (["none.npy", "-m", "saliency"], "none.npy: 'image' is [0, 3, 128, 128], without a row"),
        (["number.npy", "-m", "saliency"], "number.npy: 'image' is one number without a batch axis"),
        (["none.npz", "-m", "saliency"], "none.npz: is empty"),
        (["photo.png", "copy.png", "-m", "saliency", "-o", "x.png"], "-o: 2 inputs make 2 pictures"),
        (["photo.png", "-m", "saliency", "--max-seconds", "0"], "--max-seconds: 0 is out of range"),
        (["photo.png", "-m", "saliency", "--preset", "caffe"], "Invalid value for '--preset': 'caffe' is not one of"),
        (["photo.png", "-m", "saliency", "--card", "no.toml"], "no.toml cannot be read"),
        (["photo.png", "-m", "saliency", "--card", "bad.toml"], "bad.toml"),
        (["photo.png", "-m", "saliency", "--card", "/dev/zero"], "zero is no regular file"),
        (["photo.png", "-m", "saliency", "--bogus"], "No such option: --bogus"),
    ],
)
def test_wrong_calls(run: Run, photo: Path, args: list[str], said: str) -> None:
    Path("empty").mkdir()
    np.save("none.npy", np.zeros((0, 3, 128, 128), np.float32))
    np.save("number.npy", np.float32(1))
    np.savez("none.npz")
    Path("text.png").write_text("hello")
    Path("bad.toml").write_text("labls = []")
    Path("copy.png").write_bytes(photo.read_bytes())
    done = run("explain", SCENES, *args, *CPU)
    assert done.code == 2
    assert said in done.error
    assert done.out == ""


@pytest.mark.parametrize("command", [["explain", "MODEL", "photo.png", "-m", "saliency"], ["inspect", "MODEL"]])
@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("scens.onnx", "there is no file 'scens.onnx'; nearest: scenes.onnx"),
        ("cut.onnx", "cut short"),
        ("text.onnx", "not an ONNX file"),
        ("folder", "is a folder"),
    ],
)
def test_models_that_cannot_be_read(run: Run, photo: Path, command: list[str], model: str, said: str) -> None:
    Path("folder").mkdir()
    Path("scenes.onnx").write_bytes(SCENES.read_bytes())
    Path("cut.onnx").write_bytes(SCENES.read_bytes()[:5000])
    Path("text.onnx").write_text("hello, world")
    done = run(*[model if word == "MODEL" else word for word in command], *CPU)
    assert done.code == 2
    assert said in done.error


def test_tables_have_no_gradients_but_black_box_methods(run: Run, flowers: Path, photo: Path) -> None:
    done = run("explain", flowers, photo, "-m", "saliency", *CPU)
    assert done.code == 2
    assert "this model takes no image" in done.error


@pytest.mark.parametrize("command", ["explain", "inspect", "serve", "demo"])
def test_cuda_without_a_gpu(run: Run, photo: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "try_cuda", lambda _: "there is no NVIDIA driver")
    more = {"explain": [SCENES, photo, "-m", "saliency"], "inspect": [SCENES], "serve": ["--models", "."], "demo": []}
    done = run(command, *more[command], "--provider", "cuda")
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith("provider cuda does not work here: there is no NVIDIA driver")


def test_failures_to_write_are_failures(run: Run, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    done = run("explain", SCENES, photo, "-m", "saliency", "-o", "x.png", *CPU)
    assert (done.code, done.error) == (1, "x.png: No space left on device")


def test_a_bug_is_one_line_too(run: Run, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*args: object, **more: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("service.commands.explaining.read_inputs", bug)
    done = run("explain", SCENES, photo, "-m", "saliency", *CPU)
    assert done.code == 1
    assert done.error.startswith("unexpected RuntimeError: two lines. This is a bug")
    monkeypatch.setenv("ONNX_EXPLAIN_TRACEBACK", "1")
    with pytest.raises(AssertionError):  # the fixture's: the error came through
        run("explain", SCENES, photo, "-m", "saliency", *CPU)


def test_ctrl_c_is_quiet(run: Run, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("service.commands.explaining.read_inputs", interrupted)
    done = run("explain", SCENES, photo, "-m", "saliency", *CPU)
    assert (done.code, done.out, done.err) == (130, "", "")


def test_ctrl_c_cancels_the_work() -> None:
    import _thread

    cancelled = threading.Event()

    def work(meter: Meter) -> bool:
        _thread.interrupt_main()
        return cancelled.wait(30)

    with pytest.raises(KeyboardInterrupt):
        watch(work, "waiting", cancelled.set)
    assert cancelled.is_set()


def test_errors_of_the_work_reach_the_caller() -> None:
    def work(meter: Meter) -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        watch(work, "failing")


def test_help_needs_no_model_library() -> None:
    code = (
        "import sys, service.cli\n"
        "heavy = {'onnx', 'onnx_ir', 'onnxruntime', 'graph_tools', 'numpy', 'PIL', 'grpc', 'google'}\n"
        "sys.exit(str(heavy & {name.partition('.')[0] for name in sys.modules} or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_help_teaches(run: Run) -> None:
    from service.explainers.registry import EXPLAINERS

    for command in ([], ["explain"], ["inspect"], ["serve"]):
        done = run(*command, "--help")
        assert done.code == 0
        assert "onnx-explain " in done.out
    told = run("explain", "--help").out
    assert all(name in told for name in EXPLAINERS)
    assert run().out == run("--help").out
    assert "No such command 'explan'" in run("explan").error


def test_the_presets_offered_are_those_of_the_card() -> None:
    assert options.PresetName.__args__ == tuple(PRESETS)


def test_version_and_module(run: Run) -> None:
    assert run("--version").out.startswith("onnx-explain 0.")
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("onnx-explain 0.")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--log-level", "foo"], "Invalid value for '--log-level': 'foo' is not one of"),
        (["--threads", "99999"], "Invalid value for '--threads': it must be less than or equal to 256"),
    ],
)
def test_wrong_options_of_serve(run: Run, args: list[str], said: str) -> None:
    done = run("serve", "--models", ".", *args)
    assert done.code == 2
    assert said in done.error


@pytest.mark.parametrize("command", [[], ["explain"], ["inspect"], ["serve"], ["demo"]])
def test_help_reads_well(run: Run, command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.code == 0
    for noise in ("\\b", "\b", "<bool>", "9223372036854775807"):
        assert noise not in done.out
    examples = [line.strip() for line in done.out.splitlines() if line.strip().startswith("onnx-explain ")]
    assert len(examples) >= (0 if command == ["demo"] else 3)
