"""``onnx-explain serve``: a models folder over gRPC."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.commands import options


def serve(
    models: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder with NAME.onnx or NAME/VERSION/model.onnx, each with an optional card (.toml).",
            show_default=False,
        ),
    ],
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; 0.0.0.0 = every one (in containers).")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0 = any free one.")] = 8001,
    provider: options.Provider = "auto",
    threads: options.Threads = 0,
    memory: Annotated[
        Literal["fast", "shared", "low"],
        typer.Option(
            metavar="SETTING",
            help="fast: every program has its weights in the kernels' own layout. shared: the programs of a model map "
            "one copy. low: besides, memory goes back after each run.",
        ),
    ] = "fast",
    workers: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Explanations computed at a time.")] = 2,
    queue: Annotated[
        int, typer.Option(min=0, metavar="N", help="Requests that may wait; more are refused for the moment.")
    ] = 32,
    grace: Annotated[float, typer.Option(min=0, metavar="S", help="Seconds that running calls have on SIGTERM.")] = 30,
    max_message: Annotated[int, typer.Option(min=1, max=1024, metavar="MIB", help="Largest message, in MiB.")] = 32,
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the private copies of the models are kept between starts. Default: a temporary folder.",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(metavar="LEVEL", help="How much to log: debug, info, warning or error."),
    ] = "info",
) -> None:
    """Serve explanations of all models in a folder over gRPC, with health checks and reflection.

    A file that cannot be loaded is listed with the reason; the others are served.
    SIGTERM and Ctrl-C let running calls finish; a second one ends at once.

    [bold]Examples[/]
      onnx-explain serve --models models/
      onnx-explain serve --models /models --host 0.0.0.0 --provider cuda
      onnx-explain explain resnet cat.jpg -m grad_cam --server localhost:8001
    """
    from service.commands.serving import run

    run(
        models, host=host, port=port, provider=provider, threads=threads, memory=memory, workers=workers, queue=queue,
        grace=grace, most_bytes=max_message << 20, store=store, log_level=log_level,
    )  # fmt: skip
