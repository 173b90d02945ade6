"""Graphs with bodies, written in ONNX's text form, and how their gradients are judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

import graph_tools
from tests.graph_tools.harness import run_ort

RNG = np.random.default_rng(5)


def parsed(text: str, opset: int = 18) -> onnx.ModelProto:
    """A graph from ONNX's text form; nodes named by operator and place."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}, "acme" : 1]> {text}')
    for i, node in enumerate(proto.graph.node):
        node.name = f"node_{i}_{node.op_type}"
    return proto


def draw(*shape: int) -> np.ndarray:
    """Uniform in [-1, 1], float64."""
    return RNG.uniform(-1, 1, shape)


def program(proto: onnx.ModelProto, output: str, wrt: list[str]) -> onnx.ModelProto:
    """The checked gradient program."""
    made = ir.to_proto(graph_tools.gradient(proto, [output], wrt))
    onnx.checker.check_model(made)
    return made


def gradients(proto: onnx.ModelProto, output: str, wrt: list[str], ct: Any, runner: Any = run_ort, **feeds: Any) -> Any:
    """The program's outputs by name."""
    return runner(program(proto, output, wrt), {**feeds, f"cotangent_{output}": ct})


def agrees(
    proto: onnx.ModelProto,
    output: str,
    wrt: list[str],
    runner: Any = run_ort,
    *,
    second: bool = False,
    **feeds: Any,
) -> onnx.ModelProto:
    """Assert that every element of the gradient equals its central difference, and own outputs stay; the program.

    ``second``: the same of the program's first gradient, with respect to ``wrt`` and the cotangent.
    """
    made = program(proto, output, wrt)
    own = runner(proto, feeds)
    ct = draw(*own[output].shape).astype(own[output].dtype)
    got = runner(made, {**feeds, f"cotangent_{output}": ct})
    for name, a in own.items():
        np.testing.assert_allclose(got[name], a, rtol=1e-5, atol=1e-6, err_msg="the model's own output changed")
    for name in wrt:
        gradient = got[returned(proto, name)]
        assert gradient.dtype == feeds[name].dtype
        numeric = differences(proto, output, name, ct, runner, feeds)
        tolerance = 1e-5 if feeds[name].dtype == np.float64 else 3e-2
        np.testing.assert_allclose(gradient, numeric, rtol=tolerance, atol=tolerance, err_msg=name)
    if second:
        seed = f"cotangent_{output}"
        agrees(made, returned(proto, wrt[0]), [*wrt, seed], runner, **feeds, **{seed: ct})
    return made


def returned(proto: onnx.ModelProto, name: str) -> str:
    """What the gradient with respect to ``name`` is called."""
    taken = {v.name for v in proto.graph.output}
    found = f"grad_{name}"
    while found in taken:
        found = f"grad_{found}"
    return found


def differences(
    proto: onnx.ModelProto, output: str, name: str, ct: np.ndarray, runner: Any, feeds: dict[str, Any]
) -> np.ndarray:
    """Central differences of <ct, output>, element by element."""
    x = feeds[name]
    step = 1e-6 if x.dtype == np.float64 else 1e-2
    found = np.zeros(x.shape)
    for at in np.ndindex(*x.shape):
        ends = []
        for s in (step, -step):
            moved = x.copy()
            moved[at] += s
            ends.append(runner(proto, {**feeds, name: moved})[output].astype(np.float64))
        found[at] = ((ends[0] - ends[1]) * ct).sum() / (2 * step)
    return found
