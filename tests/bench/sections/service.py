"""Section: compiled programs of the service, a gRPC round trip, a cancelled run."""

from __future__ import annotations

import statistics

from tests.bench import nets
from tests.bench.process import Spec, interleave, ratio, started
from tests.bench.report import Options, ms, progress, table

NETS = ("mobilenet_v2", "resnet50")
KINDS = ("forward", "grad_cam", "saliency", "grpc")
TURNS = 7
CANCELS = 20


def run(options: Options) -> None:
    """Print one table."""
    names = options.of(NETS)
    if not names:
        return
    nets.save(options.folder, names)
    rows = [_measure(name, options) for name in names]
    headers = ["net", "forward ms", "grad_cam / fwd", "saliency / fwd", "gRPC adds ms", "gRPC adds %",
               "cancel worst ms", "cancel ms"]  # fmt: skip
    notes = [
        "grad_cam, saliency: the compiled program fed with a ready batch; gRPC: JPEG in, map of the layer's size out, "
        "by the Grad-CAM program;",
        f"cancel: from the cancel of an occlusion to the end of all computing, {CANCELS} times.",
    ]
    table("Service, 224 x 224, batch 1", headers, rows, notes)


def _measure(name: str, options: Options) -> list[object]:
    label = f"service: {name}"
    arguments = {"model": name, "folder": options.folder}
    with started({kind: Spec(kind, arguments) for kind in KINDS}, label) as contenders:
        found = interleave(contenders, options.turns or TURNS, label)
    progress(f"{label}: cancelling")
    with started({"cancel": Spec("cancel", arguments)}, label) as contenders:
        stopped = contenders["cancel"].run(CANCELS)
    added = statistics.median(g - p for g, p in zip(found["grpc"], found["grad_cam"], strict=True))
    return [
        name, ms(statistics.median(found["forward"])), ratio(found["grad_cam"], found["forward"]),
        ratio(found["saliency"], found["forward"]), ms(added), 100 * (ratio(found["grpc"], found["grad_cam"]) - 1),
        ms(max(stopped)), ms(statistics.median(stopped)),
    ]  # fmt: skip
