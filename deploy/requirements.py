"""What the images install, from pyproject.toml: ``python deploy/requirements.py`` writes the two lists anew.

pyproject.toml chooses the runtime by platform; an image chooses it by target. The two runtimes share one package
folder, so each list names exactly one of them.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
HEADER = "# Written by `python deploy/requirements.py` from pyproject.toml; tests/test_deploy.py holds them equal.\n"


def lists(pyproject: Path = DEPLOY.parent / "pyproject.toml") -> dict[str, list[str]]:
    """Requirements by target, the runtime first.

    ``gpu`` takes the runtime of the extra ``cuda`` (it brings CUDA and cuDNN as wheels), ``cpu`` the plain one
    without its platform marker.

    Args:
        pyproject: the project's metadata.

    Raises:
        ValueError: a runtime is not named once on each side, or has no one place to be taken from.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    shared = [r for r in project["dependencies"] if name(r) not in RUNTIMES]
    plain = [r.split(";")[0].strip() for r in project["dependencies"] if name(r) == "onnxruntime"]
    cuda = project["optional-dependencies"]["cuda"]
    if len(plain) != 1 or [name(r) for r in cuda] != ["onnxruntime-gpu"]:
        raise ValueError("pyproject.toml: one onnxruntime in dependencies, one onnxruntime-gpu in the extra cuda")
    return {"cpu": plain + shared, "gpu": cuda + shared}


def name(requirement: str) -> str:
    """The distribution of a requirement, without extras, versions and marker."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def path(target: str) -> Path:
    """The list of ``target``: ``cpu`` or ``gpu``."""
    return DEPLOY / f"requirements-{target}.txt"


def text(requirements: list[str]) -> str:
    """The file's content."""
    return HEADER + "".join(f"{requirement}\n" for requirement in requirements)


if __name__ == "__main__":
    for made, requirements in lists().items():
        path(made).write_text(text(requirements), encoding="utf-8")
        sys.stdout.write(f"{path(made).name}: {len(requirements)} requirements\n")
