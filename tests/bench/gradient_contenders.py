"""The gradient with respect to the image, ONNX Runtime's own forward, and building: contenders.

Each is made from the path of a file whose batch is fixed; a maker returns what one run does, and facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Made = tuple[Callable[[], object], dict[str, Any]]


def libraries(kind: str) -> None:
    """Import what the contenders need, so that memory is counted from there."""
    import onnx  # noqa: F401

    import graph_tools  # noqa: F401
    import service.runtime.home  # noqa: F401


def seeded(shape: Any, seed: int) -> np.ndarray:
    """float32 noise of this shape: image (seed 0) and cotangent (seed 1) of every contender."""
    return np.random.default_rng(seed).standard_normal([int(d) for d in shape]).astype(np.float32)


def image(model: Any) -> np.ndarray:
    """float32, seeded, in the shape of the model's first input."""
    return seeded([d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim], 0)


def count(nodes: Iterable[Any]) -> int:
    """Nodes that compute: all but Constant."""
    return sum(n.op_type != "Constant" for n in nodes)


def ort_forward(path: str, threads: int = 0) -> Made:
    """The untouched file with ONNX Runtime's own defaults, but for the number of threads."""
    import onnx

    from service.runtime import ort

    model = onnx.load(path)
    options = ort.api.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.api.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {model.graph.input[0].name: image(model)}
    return lambda: session.run(None, feeds), {"nodes": count(model.graph.node)}


def gradient(
    path: str, setting: str = "fast", programs: int = 1, threads: int = 0, output: str = "", save: str = ""
) -> Made:
    """``graph_tools.gradient`` with respect to the image in a memory setting.

    Args:
        path: the file.
        setting: ``fast``, ``shared`` or ``low``.
        programs: so many programs of the model are loaded and run once, the second and later ones with the gradient
            of an interior value besides; the first is timed.
        threads: of each session; 0 = what this process may use.
        output: value that is differentiated; "": the logits.
        save: file for the gradient (``.npy``).
    """
    import onnx

    import graph_tools
    from graph_tools import find
    from service.runtime.home import Runtime

    model = onnx.load(path)
    x = model.graph.input[0].name
    output = output or find.head(graph_tools.load(model)).logits
    runtime = Runtime("cpu", memory=setting, threads=threads)
    interior = [n.output[0] for n in model.graph.node if n.op_type in ("Conv", "MatMul")]
    feeds = {x: image(model)}
    sessions, counts = [], []
    for i in range(programs):
        wanted = [x] if i == 0 else [x, interior[i % len(interior)]]
        program = graph_tools.gradient(model, [output], wanted, form=runtime.form)
        session = runtime.program(program, "model", None)
        (ct,) = (v for v in session.inputs if v.name != x)
        feeds[ct.name] = seeded(ct.shape, 1)
        found = session.run(feeds)
        if save and i == 0:
            np.save(save, found[f"grad_{x}"])
        sessions.append(session)
        counts.append(count(program.graph))

    def once(_owner: Runtime = runtime) -> object:  # it owns the folder that the weights are mapped from
        return sessions[0].run(feeds)

    return once, {"nodes": counts[0]}


def built(path: str, threads: int = 0) -> Made:
    """Building the gradient graph from the model in memory, with all that loading does."""
    import onnx

    import graph_tools
    from graph_tools import find

    model = onnx.load(path)
    logits, x = find.head(graph_tools.load(model)).logits, model.graph.input[0].name
    program = graph_tools.gradient(model, [logits], [x])
    facts = {"forward": count(model.graph.node), "nodes": count(program.graph)}
    return lambda: graph_tools.gradient(model, [logits], [x]), facts


KINDS = {"ort_forward": ort_forward, "gradient": gradient, "built": built}
