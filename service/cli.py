"""The command ``onnx-explain``. Commands live in ``service.commands`` and import the rest only when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from service.commands.demo import demo
from service.commands.explain import Explain, explain
from service.commands.group import Command, Commands
from service.commands.inspect import inspect
from service.commands.serve import serve

app = typer.Typer(
    name="onnx-explain",
    cls=Commands,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=Explain)(explain)
app.command(cls=Command)(inspect)
app.command(cls=Command)(serve)
app.command(cls=Command)(demo)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"onnx-explain {version('onnx-explain')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Explain what an exported ONNX model did, on the file itself: no framework, no source.

    [bold]Start here[/]
    Everything at once, with an embedded model:
      onnx-explain demo
    What is in a file, and which methods it supports:
      onnx-explain inspect model.onnx
    A heatmap over a photo:
      onnx-explain explain model.onnx cat.jpg -m grad_cam
    The same over gRPC:
      onnx-explain serve --models models/
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """The entry point."""
    app(prog_name="onnx-explain")


if __name__ == "__main__":
    main()
