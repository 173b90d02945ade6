"""The plan of the house, held: who imports whom, one place for ONNX Runtime, light package roots."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Room -> rooms it may import. The first prefix that fits a module names its room.
ROOMS = {
    "graph_tools": set(),
    "service.types": set(),
    "service.runtime": {"graph_tools", "service.types"},
    "service.models": {"graph_tools", "service.types", "service.runtime", "service.explainers"},
    "service.explainers": {"graph_tools", "service.types"},
    "service.pictures": {"graph_tools", "service.types"},
    "service.resolve": {"graph_tools", "service.types", "service.runtime", "service.models", "service.explainers"},
    "service.core": {"graph_tools", "service.types", "service.runtime", "service.models", "service.explainers",
                     "service.resolve"},
    "service.client": {"graph_tools", "service.types", "service.api.pb", "service.api.codec"},
    "service.api.codec": {"graph_tools", "service.types", "service.api.pb", "service.explainers", "service.core",
                          "service.models"},
    "service.api.pb": set(),
    "service.api": {"graph_tools", "service.types", "service.runtime", "service.models", "service.explainers",
                    "service.core", "service.pictures", "service.api.pb", "service.api.codec"},
    "service.demo": {"graph_tools", "service.types", "service.client", "service.pictures", "service.api",
                     "service.core", "service.models", "service.runtime"},
    "service.commands": {"graph_tools", "service.types", "service.client", "service.pictures", "service.api",
                         "service.api.codec", "service.core", "service.models", "service.runtime",
                         "service.explainers", "service.demo"},
    "service.cli": {"service.commands", "graph_tools"},
}  # fmt: skip


def _modules() -> dict[str, Path]:
    found = {}
    for package in ("graph_tools", "service"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(path: Path) -> set[str]:
    """Absolute names of what a module imports, ``if TYPE_CHECKING`` blocks included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return found


def _room(module: str) -> str | None:
    fits = [r for r in ROOMS if module == r or module.startswith(r + ".")]
    return max(fits, key=len, default=None)


MODULES = _modules()


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    room = _room(module)
    if room is None:
        assert module == "service", f"{module} is in no room: add it to the plan"
        return
    for name in _imports(MODULES[module]):
        other = _room(name)
        assert other is None or other == room or other in ROOMS[room], f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES)
def test_only_the_runtime_imports_onnxruntime(module):
    names = {n.split(".")[0] for n in _imports(MODULES[module])}
    if "onnxruntime" in names:
        assert _room(module) == "service.runtime"
    if _room(module) in ("service.explainers", "service.core", "service.models", "service.runtime", "graph_tools"):
        assert "grpc" not in names


@pytest.mark.parametrize("module", MODULES)
def test_torch_belongs_to_training_only(module):
    if "torch" in {n.split(".")[0] for n in _imports(MODULES[module])}:
        assert module == "service.demo.train"


def test_the_client_loads_neither_onnx_nor_onnxruntime():
    heavy = ("onnx", "onnx_ir", "onnxruntime", "torch")
    code = f"import service.client, sys; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("path", [p for p in ROOT.rglob("*.py") if "pb" not in p.parts and not any(
    part.startswith(".") for part in p.relative_to(ROOT).parts)], ids=lambda p: str(p.relative_to(ROOT)))  # fmt: skip
def test_files_stay_readable(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 400, f"{lines} lines: split it by what a reader looks for"
