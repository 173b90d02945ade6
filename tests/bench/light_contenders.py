"""onnx-ad's gradient with respect to the image: its contender, run by the parity environment's Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.bench.gradient_contenders import count, image, seeded

Made = tuple[Callable[[], object], dict[str, Any]]


def libraries(kind: str) -> None:
    """Import what the contender needs."""
    import onnx_ad  # noqa: F401

    import service.runtime.ort  # noqa: F401


def onnx_ad(path: str, threads: int = 0, save: str = "") -> Made:
    """``onnx_ad.reverse`` in ONNX Runtime with its defaults, one seed.

    Args:
        path: the file, of opset 16 or newer.
        threads: of the session.
        save: file for the gradient (``.npy``).
    """
    import numpy as np
    import onnx
    from onnx_ad import reverse

    from service.runtime import ort

    model = onnx.load(path)
    x, y = model.graph.input[0].name, model.graph.output[0]
    program = reverse(model, inputs=[x], outputs=[y.name], layout="onnx")
    options = ort.api.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = ort.ERRORS_ONLY
    session = ort.api.InferenceSession(program.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ct = seeded([d.dim_value for d in y.type.tensor_type.shape.dim], 1)[..., None]  # the last axis counts seeds
    (seed,) = (v.name for v in session.get_inputs() if v.name != x)
    feeds = {x: image(model), seed: ct}
    if save:
        np.save(save, session.run([session.get_outputs()[-1].name], feeds)[0][..., 0])
    return lambda: session.run(None, feeds), {"nodes": count(program.graph.node)}


KINDS = {"onnx_ad": onnx_ad}
