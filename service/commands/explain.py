"""``onnx-explain explain``: a method on a model over inputs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.commands import options
from service.commands.group import Command


class Explain(Command):
    """``explain`` with the methods named in its help; they are looked up only there."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Fill in the methods."""
        from service.explainers.registry import EXPLAINERS

        for option in self.params:
            if option.name == "method":
                option.help = f"{getattr(option, 'help', '')} One of: {', '.join(sorted(EXPLAINERS))}."  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def explain(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An .onnx file, run in this process; with --server the name of a served model.",
            show_default=False,
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Pictures, folders of pictures, .npy or .npz tensors (fed as they are; a missing batch axis is "
            "added), rows as .json or .csv.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", "-m", metavar="NAME", help="How to explain.", show_default=False)
    ] = ...,  # type: ignore[assignment]
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            metavar="CLASS",
            help="Class to explain: an index, a label, or top3 for the three strongest. May be repeated. "
            "Default: the strongest class.",
            show_default=False,
        ),
    ] = None,
    minus: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="Class subtracted from the target: what speaks for one rather than the other?",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VALUE",
            help="Layer, by value name; `inspect --layers` lists them. Default: the last one with space.",
            show_default=False,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Parameter of the method; `inspect --parameters` lists them. May be repeated.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A .png (picture), .npy (raw map, not normalised) or .json (everything); a folder or a pattern with "
            "{name} writes a file per input. May be repeated. Default: INPUT.METHOD.png in the current folder.",
            show_default=False,
        ),
    ] = None,
    card: options.Card = None,
    preset: options.Preset = None,
    top_k: Annotated[
        int, typer.Option(min=0, max=1000, metavar="N", help="How many of the strongest classes to show.")
    ] = 5,
    seed: Annotated[int, typer.Option(metavar="N", help="For methods that draw at random; 0 or more.")] = 0,
    max_seconds: Annotated[
        float | None,
        typer.Option(metavar="S", help="Give the best result that S seconds allow, per input.", show_default=False),
    ] = None,
    provider: options.Provider = "auto",
    threads: options.Threads = 0,
    server: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Ask a running server instead of loading a file.", show_default=False),
    ] = None,
) -> None:
    """Explain what a model did with an input.

    Prints the strongest classes and writes a picture, raw numbers, or everything as JSON.

    [bold]Examples[/]
    Why this class? A heatmap over the photo, cat.grad_cam.png:
      onnx-explain explain resnet.onnx cat.jpg -m grad_cam
    Two classes; what speaks for one rather than the other:
      onnx-explain explain resnet.onnx cat.jpg -m occlusion -t tabby -t 207
      onnx-explain explain resnet.onnx cat.jpg -m grad_cam -t tabby --minus 207
    Raw numbers of a folder, a file per picture:
      onnx-explain explain resnet.onnx photos/ -m saliency -o 'maps/{name}.npy'
    A row of a table, one column covered at a time:
      onnx-explain explain churn.onnx row.json -m occlusion --set patch=1
    On a server:
      onnx-explain explain resnet cat.jpg -m grad_cam --server localhost:8001
    """
    from service.commands.explaining import Order, run

    run(
        Order(
            model=model,
            inputs=tuple(inputs or ()),
            method=method,
            targets=tuple(target or ()),
            minus=tuple(minus or ()),
            layers=tuple(layer or ()),
            settings=tuple(set_ or ()),
            outputs=tuple(output or ()),
            card=card,
            preset=preset,
            top_k=top_k,
            seed=seed,
            max_seconds=max_seconds,
            provider=provider,
            threads=threads,
            server=server,
        )
    )
