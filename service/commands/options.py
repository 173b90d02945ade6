"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

ProviderName = Literal["auto", "cpu", "cuda"]
PresetName = Literal["imagenet-torch", "imagenet-caffe", "minus-one-to-one", "zero-to-one", "none"]

ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="An .onnx file.", show_default=False)]

Provider = Annotated[
    ProviderName,
    typer.Option(
        metavar="auto|cpu|cuda",
        help="Where it runs. [bold]cuda[/] insists on a GPU; [bold]auto[/] takes one that works, else the CPU.",
    ),
]
Card = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Model card (TOML): labels, preprocessing, output, layer. "
        "Default: the model's .toml beside it, or card.toml where it is the only model of the folder.",
        show_default=False,
    ),
]
Preset = Annotated[
    PresetName | None,
    typer.Option(
        metavar="NAME",
        help="What the model's numbers mean, instead of what the card says: imagenet-torch, imagenet-caffe, "
        "minus-one-to-one, zero-to-one or none.",
        show_default=False,
    ),
]
Threads = Annotated[
    int, typer.Option(min=0, max=256, metavar="N", help="CPU threads; 0 = all that this process may use.")
]
