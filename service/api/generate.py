"""Regenerate the stubs in ``service/api/pb`` from ``protos``: ``python -m service.api.generate [FOLDER]``.

Needs grpcio-tools (dependency group ``dev``). The stubs are committed; a test fails when they are stale.
"""

from __future__ import annotations

import re
import sys
from importlib import resources
from pathlib import Path

PACKAGE = "service.api.pb"
ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
STUBS = ROOT / "service" / "api" / "pb"


def generate(target: Path = STUBS) -> list[Path]:
    """Write stubs of all of our protos below ``target``, and take away those whose proto is gone.

    protoc writes imports absolute from the proto root; they are rewritten to live inside ``service.api.pb``.

    Returns:
        The files written.

    Raises:
        ImportError: grpcio-tools is not installed.
        RuntimeError: protoc refused a file; its words are on stderr.
    """
    from grpc_tools import protoc  # type: ignore[import-untyped]

    sources = sorted(PROTOS.rglob("*.proto"))
    target.mkdir(parents=True, exist_ok=True)
    for old in target.rglob("*_pb2*.py*"):
        old.unlink()
    include = [f"-I{PROTOS}", f"-I{resources.files('grpc_tools') / '_proto'}"]
    with_service = [p for p in sources if re.search(r"^service ", p.read_text(), re.MULTILINE)]
    for kinds, files in ((("python", "pyi"), sources), (("grpc_python",), with_service)):
        outputs = [f"--{kind}_out={target}" for kind in kinds]
        if protoc.main(["protoc", *include, *outputs, *(str(p.relative_to(PROTOS)) for p in files)]):
            raise RuntimeError("protoc failed")
    for folder in {
        target,
        *(p.parents[i] for p in target.rglob("*_pb2.py") for i in range(_depth(p, target))),
    }:
        (folder / "__init__.py").touch()
    written = sorted(p for p in target.rglob("*.py*") if p.suffix in (".py", ".pyi"))
    for path in written:
        path.write_text(_inside_package(path.read_text()))
    return written


def _depth(path: Path, root: Path) -> int:
    return len(path.relative_to(root).parts) - 1


def _inside_package(text: str) -> str:
    return re.sub(r"^(from|import) onnx_explain\b", rf"\1 {PACKAGE}.onnx_explain", text, flags=re.MULTILINE)


if __name__ == "__main__":
    for file in generate(*map(Path, sys.argv[1:2])):
        sys.stdout.write(f"{file}\n")
