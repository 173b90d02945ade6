"""The images, as far as they can be held without building them."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from tests.service.api.fake import running

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = ("cpu", "gpu")


def script(name: str) -> ModuleType:
    """A file of deploy/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"deploy_{name}", DEPLOY / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stages(text: str) -> dict[str, list[tuple[str, str]]]:
    """Stages of a Dockerfile by name: (instruction, rest of the line). What an image inherits is in front."""
    found: dict[str, list[tuple[str, str]]] = {}
    own: list[tuple[str, str]] = []
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, _, name = rest.split()
            own = found[name] = list(found.get(base, []))
        own.append((word, rest))
    return found


STAGES = stages((DEPLOY / "Dockerfile").read_text(encoding="utf-8"))


def last(target: str, word: str) -> str:
    return [rest for instruction, rest in STAGES[target] if instruction == word][-1]


@pytest.mark.parametrize("target", TARGETS)
def test_the_requirements_are_those_of_the_project(target):
    requirements = script("requirements")
    path = DEPLOY / f"requirements-{target}.txt"
    wanted = requirements.text(requirements.lists()[target])
    assert path.read_text(encoding="utf-8") == wanted, "stale: run `python deploy/requirements.py`"


@pytest.mark.parametrize(("target", "runtime"), [("cpu", "onnxruntime"), ("gpu", "onnxruntime-gpu")])
def test_one_runtime_in_each_list_and_all_else_in_both(target, runtime):
    requirements = script("requirements")
    lines = [line for line in (DEPLOY / f"requirements-{target}.txt").read_text().splitlines() if line[0] != "#"]
    names = [requirements.name(line) for line in lines]
    assert [n for n in names if n.startswith("onnxruntime")] == [runtime]
    assert not any(";" in line for line in lines if "onnxruntime" in line), (
        "an image chooses by target, not by platform"
    )
    others = {n for r in PROJECT["dependencies"] if not (n := requirements.name(r)).startswith("onnxruntime")}
    assert set(names) == others | {runtime}
    assert len(names) == len(set(names))


def test_the_gpu_list_brings_cuda_and_cudnn():
    (runtime,) = [line for line in (DEPLOY / "requirements-gpu.txt").read_text().splitlines() if "onnxruntime" in line]
    assert {"cuda", "cudnn"} == set(re.findall(r"\w+", runtime[runtime.index("[") : runtime.index("]")]))


def test_a_second_runtime_is_refused(tmp_path):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").replace('"onnx>=', '"onnxruntime>=1", "onnx>=')
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="one onnxruntime"):
        script("requirements").lists(tmp_path / "pyproject.toml")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_the_server_as_nobody_and_without_a_shell(target):
    assert last(target, "USER") == "65532:65532"
    assert json.loads(last(target, "ENTRYPOINT")) == ["onnx-explain"]
    assert last(target, "STOPSIGNAL") == "SIGTERM"
    command, options = (rest := json.loads(last(target, "CMD")))[0], dict(zip(rest[1::2], rest[2::2], strict=True))
    assert command == "serve"
    assert options == {"--models": "/models", "--host": "0.0.0.0", "--port": last(target, "EXPOSE")}
    assert json.loads(last(target, "HEALTHCHECK").split("CMD", 1)[1]) == ["python", "/opt/onnx-explain/healthcheck.py"]
    environment = " ".join(rest for word, rest in STAGES[target] if word == "ENV").split()
    assert {"ORT_DISABLE_TELEMETRY=1", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"} <= set(environment)
    assert ("NVIDIA_VISIBLE_DEVICES=all" in environment) == (target == "gpu")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_takes_its_own_packages_and_the_project(target):
    copies = [rest for word, rest in STAGES[target] if word == "COPY"]
    assert [c.split()[0] for c in copies] == [f"--from={target}-packages", "--from=project"]
    assert any(f"requirements-{target}.txt" in rest for word, rest in STAGES[f"{target}-packages"] if word == "RUN")


def test_the_command_line_has_what_the_image_calls():
    from typer.testing import CliRunner

    from service.cli import app

    called = json.loads(last("cpu", "CMD"))
    shown = (
        CliRunner().invoke(app, [called[0], "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).output
    )
    assert [o for o in called if o.startswith("--") and o not in shown] == []


def test_the_label_says_the_version_of_the_project():
    assert last("cpu", "ARG") == f"VERSION={PROJECT['version']}"


def test_all_that_is_copied_is_sent_to_the_builder():
    """The ignore file lets in by name: everything the Dockerfile copies exists and is named there."""
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    }
    copied = {
        name
        for stage in STAGES.values()
        for word, rest in stage
        if word == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    }
    assert {"pyproject.toml", "graph_tools", "service", "deploy/healthcheck.py"} <= copied <= allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_health_check_asks_a_server(capsys):
    check = script("healthcheck")
    with running() as server:
        assert check.ready(server.address)
    assert not check.ready(server.address)
    assert "UNAVAILABLE" in capsys.readouterr().err
