"""Rewrite the generated tables of the README: ``python -m service.commands.tables [README.md]``."""

from __future__ import annotations

import re
import sys
from importlib import resources
from pathlib import Path

from service.commands.operator_table import operators
from service.explainers.base import EXPLAINERS, Explainer
from service.explainers.registry import find  # noqa: F401  fills the registry


def methods() -> str:
    """The methods with their parameters, from the registry."""
    rows = [f"| `{e.name}` | {e.kind} | {e.summary} | {_parameters(e) or '—'} |" for e in EXPLAINERS.values()]
    return "\n".join(["| method | kind | what it shows | parameters and defaults |", "|---|---|---|---|", *rows])


def example() -> str:
    """The client example, as it runs."""
    source = resources.files("service.client").joinpath("example.py").read_text(encoding="utf-8")
    return f"```python\n{source.strip()}\n```"


def rewrite(text: str) -> str:
    """``text`` with the blocks between ``<!-- name -->`` and ``<!-- /name -->`` made anew."""
    for name, make in (("methods", methods), ("operators", operators), ("example", example)):
        block = f"<!-- {name} -->\n{make()}\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, b=block: b, text, flags=re.DOTALL)  # type: ignore[misc]
    return text


def _parameters(explainer: Explainer) -> str:
    return ", ".join(f"`{p.name}={_shown(p.default)}`" for p in explainer.parameter_infos())


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return str(default).lower() if isinstance(default, bool) else str(default)


def main() -> None:
    """Rewrite the file in place."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "README.md")
    path.write_text(rewrite(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
