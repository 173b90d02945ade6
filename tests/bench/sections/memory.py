"""Section: what the settings ``shared`` and ``low`` save in memory and cost in time."""

from __future__ import annotations

from pathlib import Path

from service.runtime.threads import threads
from tests.bench import nets
from tests.bench.process import PARITY, Spec, interleave, ratio, started
from tests.bench.report import Options, against, megabytes, table

MANY = 10
MORE, SLOWER, ABOVE_TORCH = 2.0, 1.25, 1.2
"""Memory of ten programs by one's, time by that of ``fast``, memory by torch's: at most."""
SHARED_NETS = ("vgg16",)
LOW_NETS = ("resnet50", "vgg16", "vit_base")
BATCH = 8
TURNS = 3
HELD = "held: PSS after the runs; peak: most resident memory in them; above the process with its libraries imported."


def run(options: Options) -> None:
    """Print a table for ``shared`` and one for ``low``."""
    rows = [_shared(name, options) for name in options.of(SHARED_NETS)]
    if rows:
        headers = ["net", "one MB", f"{MANY} MB", f"{MANY} / one", "one in fast MB", "shared / fast time"]
        notes = [
            "Each program run once, batch 1; gradients of the image, from the second on of an interior value too.",
            HELD,
        ]
        table(f"Setting shared: memory of {MANY} gradient programs of one model", headers, rows, notes)
    rows = [_low(name, options) for name in options.of(LOW_NETS)]
    if rows:
        headers = ["net", "low held MB", "low peak MB", "torch held MB", "torch peak MB", "held / torch",
                   "peak / torch", "fast peak MB", "low / fast time"]  # fmt: skip
        notes = ["torch: eager, forward and backward to the image alone.", HELD]
        table(f"Setting low: memory of forward and gradient, batch {BATCH}", headers, rows, notes)


def _spec(path: Path, setting: str, programs: int = 1) -> Spec:
    return Spec("gradient", {"path": path, "setting": setting, "programs": programs, "threads": threads()})


def _shared(name: str, options: Options) -> list[object]:
    label = f"memory: {name} shared"
    path = nets.save_fixed(options.folder, name, 1)
    held = {}
    for setting, programs in (("shared", 1), ("shared", MANY), ("fast", 1)):  # ten in fast: over 11 GB
        with started({f"{setting} x {programs}": _spec(path, setting, programs)}, label) as contenders:
            (contender,) = contenders.values()
            held[setting, programs] = contender.memory()["held"]
    with started({s: _spec(path, s) for s in ("shared", "fast")}, label) as contenders:
        found = interleave(contenders, options.turns or TURNS, label)
    path.unlink()
    one, many = held["shared", 1], held["shared", MANY]
    return [name, megabytes(one), megabytes(many), against(many / one, MORE), megabytes(held["fast", 1]),
            against(ratio(found["shared"], found["fast"]), SLOWER)]  # fmt: skip


def _low(name: str, options: Options) -> list[object]:
    label = f"memory: {name} low"
    path = nets.save_fixed(options.folder, name, BATCH)
    specs = {s: _spec(path, s) for s in ("low", "fast")}
    if PARITY.exists():
        specs["torch"] = Spec("torch_gradient", {"net": name, "batch": BATCH, "threads": threads()}, PARITY)
    memory = {}
    with started(specs, label) as contenders:
        for key, contender in contenders.items():
            memory[key] = contender.memory(2)
        timed = {key: contenders[key] for key in ("low", "fast")}
        found = interleave(timed, options.turns or TURNS, label)
    path.unlink()
    row: list[object] = [name, megabytes(memory["low"]["held"]), megabytes(memory["low"]["peak"])]
    theirs = memory.get("torch", {"held": None, "peak": None})
    row += [megabytes(theirs["held"]), megabytes(theirs["peak"])]
    for kind in ("held", "peak"):
        ours, torch = memory["low"][kind], theirs[kind]
        row.append(None if ours is None or torch is None else against(ours / torch, ABOVE_TORCH))
    return [*row, megabytes(memory["fast"]["peak"]), against(ratio(found["low"], found["fast"]), SLOWER)]
