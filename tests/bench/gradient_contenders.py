"""The gradient with respect to the image, and ONNX Runtime's own forward: contenders of the gradient benchmarks.

Each is made from the path of a file whose batch is fixed, and returns what one run does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Once = Callable[[], object]


def image(model: Any) -> np.ndarray:
    """float32, seeded, in the shape of the model's first input."""
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def ort_forward(path: str, **_rest: object) -> Once:
    """The untouched file with ONNX Runtime's default options."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {model.graph.input[0].name: image(model)}
    return lambda: session.run(None, feeds)


def gradient(path: str, setting: str = "fast", programs: int = 1, **_rest: object) -> Once:
    """``graph_tools.gradient`` of the logits with respect to the image in a memory setting.

    ``programs`` > 1: so many programs of the model are loaded and run once; the first is timed.
    """
    import onnx

    import graph_tools
    from graph_tools import find
    from service.runtime.home import Runtime

    model = onnx.load(path)
    x = model.graph.input[0].name
    logits = find.head(graph_tools.load(model)).logits
    runtime = Runtime("cpu", memory=setting)
    feeds: dict[str, np.ndarray] = {x: image(model)}
    sessions = []
    for i in range(programs):
        program = graph_tools.gradient(model, [logits], [x], form=runtime.form)
        program.graph.name = f"program_{i}"
        session = runtime.program(program, "model", None)
        (ct,) = (v for v in session.inputs if v.name != x)
        one = np.zeros(tuple(int(d) for d in ct.shape), np.float32)
        one[:, 3] = 1
        feeds[ct.name] = one
        session.run(feeds)
        sessions.append(session)
    return lambda: sessions[0].run(feeds)


def built(path: str, **_rest: object) -> Once:
    """Building the gradient graph from the model in memory, with all that loading does."""
    import onnx

    import graph_tools
    from graph_tools import find

    model = onnx.load(path)
    logits = find.head(graph_tools.load(model)).logits
    return lambda: graph_tools.gradient(model, [logits], [model.graph.input[0].name])


KINDS = {"ort_forward": ort_forward, "gradient": gradient, "built": built}
