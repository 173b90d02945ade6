"""``onnx-explain inspect``: what is in a file, and what can be done with it."""

from __future__ import annotations

from typing import Annotated

import typer

from service.commands import options


def inspect(
    model: options.ModelFile,
    card: options.Card = None,
    preset: options.Preset = None,
    parameters: Annotated[bool, typer.Option("--parameters", help="List the parameters of the methods.")] = False,
    layers: Annotated[bool, typer.Option("--layers", help="List the layers with their shapes.")] = False,
    values: Annotated[bool, typer.Option("--values", help="List every value of the graph.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    provider: options.Provider = "auto",
) -> None:
    """Show what an ONNX file is: inputs, outputs, labels, preprocessing, layers, and the methods it supports.

    [bold]Examples[/]
      onnx-explain inspect model.onnx
      onnx-explain inspect model.onnx --layers      names for explain --layer
      onnx-explain inspect model.onnx --parameters  names for explain --set
      onnx-explain inspect model.onnx --preset imagenet-torch --json
    """
    from service.commands.inspecting import run

    run(model, card, preset, provider, parameters=parameters, layers=layers, values=values, as_json=json)
