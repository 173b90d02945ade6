"""``onnx-explain demo``: everything at once, with the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.commands import options


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the contact sheet and the scenes.")
    ] = Path("demo-out"),
    provider: options.Provider = "auto",
) -> None:
    """Start a server with an embedded model, explain three scenes over gRPC, and draw a contact sheet.

    Nothing is downloaded: the model is a small CNN that this project trained on scenes that it draws itself, so that
    where every object is is known. Takes a few seconds.
    """
    from service.commands.demonstrating import run

    run(output, provider)
