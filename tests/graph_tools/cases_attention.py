"""Rows for the bodies in graph_tools/lowering/attention.py, with every dimension unknown too."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graph_tools.harness import Case

Q, K, V = (2, 4, 3, 6), (2, 2, 5, 6), (2, 2, 5, 4)  # batch, heads, sequence, head
FLAT = ((2, 3, 24), (2, 5, 12), (2, 5, 8))
HEADS = {"q_num_heads": 4, "kv_num_heads": 2}
PAST = ((2, 2, 2, 6), (2, 2, 2, 4))
BOOLS = np.array([[True, False, True, True, False], [True, True, False, False, False], [False] * 5])
LENGTHS = np.array([3, 5])
EDGE = np.where(BOOLS, 0.3, -np.inf)  # its last row takes every key away
STATES: dict[str, Any] = {"outputs": 3, "through": (0, 1, 2)}


def _attention(
    label: str, operands: tuple[Any, ...], attrs: dict[str, Any] | None = None, opset: int = 23, **kwargs: Any
) -> Case:
    kernel = opset < 25 and kwargs.pop("ort", True)
    return Case("Attention", operands, attrs or {}, id=label, opset=opset, ort=kernel, **kwargs)


CASES = [
    _attention("", (Q, K, V)),
    _attention("same-heads", (Q, (2, 4, 5, 6), (2, 4, 5, 4)), {"scale": 0.6}),
    _attention("one-kv-head", (Q, (2, 1, 5, 6), (2, 1, 5, 4)), {"is_causal": 1}),
    _attention("flat", FLAT, HEADS),
    _attention("flat-causal", FLAT, {**HEADS, "is_causal": 1, "softcap": 0.5}),
    _attention("softcap", (Q, K, V), {"softcap": 0.4}),
    _attention("mask-2d", (Q, K, V, (3, 5))),
    _attention("mask-3d", (Q, K, V, (4, 3, 5)), {"is_causal": 1}),
    _attention("mask-4d", (Q, K, V, (2, 1, 3, 5)), {"softcap": 0.4}),
    _attention("mask-infinite", (Q, K, V, EDGE), wrt=(0, 1, 2), constants=(3,), ort=False),
    _attention("mask-bool", (Q, K, V, BOOLS), ort=False),
    _attention("mask-bool-fed", (Q, K, V, BOOLS), {"is_causal": 1}, opset=24, runtime=(3,), ort=False),
    _attention("mask-bool-4d", (Q, K, V, np.stack([BOOLS[:2], ~BOOLS[:2]])[:, None, [0, 1, 0]])),
    _attention("mask-short", (Q, K, V, (3, 4)), opset=24, ort=False),
    _attention("past", (Q, K, V, None, *PAST), {"is_causal": 1}, opset=24, **STATES),
    _attention("past-mask", (Q, K, V, (3, 7), *PAST), **STATES),
    _attention("past-flat", (*FLAT, None, *PAST), HEADS, **STATES),
    _attention("lengths", (Q, K, V, None, None, None, LENGTHS), opset=24, runtime=(6,), ort=False),
    _attention("lengths-causal", (Q, K, V, (3, 5), None, None, LENGTHS), {"is_causal": 1}, opset=24, ort=False),
    *(
        _attention(f"scores-{mode}", (Q, K, V, (3, 5)), {"qk_matmul_output_mode": mode, **cap}, outputs=4,
                   through=(0, 3))
        for mode, cap in ((0, {}), (1, {"softcap": 0.4}), (2, {}), (3, {}))
    ),
    _attention("precision", (Q, K, V), {"softmax_precision": 11}),
    _attention("window", (Q, K, V), {"is_causal": 1, "left_window_size": 1}, opset=25, open_dims=False),
    _attention("window-both", (Q, K, V), {"left_window_size": 1, "right_window_size": 0}, opset=25),
    _attention("window-past", (Q, K, V, None, *PAST), {"left_window_size": 2, "is_causal": 1}, opset=25, **STATES),
    Case("RotaryEmbedding", ((2, 2, 3, 4), (7, 2), (7, 2), np.array([[0, 3, 1], [5, 2, 2]])), opset=23),
    Case("RotaryEmbedding", ((2, 3, 8), (7, 2), (7, 2), np.array([[0, 3, 1], [5, 2, 2]])), {"num_heads": 2},
         id="flat", opset=23),
    Case("RotaryEmbedding", ((2, 2, 3, 4), (2, 3, 2), (2, 3, 2)), {"interleaved": 1}, id="no-ids", opset=23),
    Case("RotaryEmbedding", ((2, 2, 3, 6), (7, 2), (7, 2), np.array([[0, 3, 1], [5, 2, 2]])),
         {"rotary_embedding_dim": 4}, id="partial", opset=23),
    Case("RotaryEmbedding", ((2, 3, 12), (2, 3, 2), (2, 3, 2)),
         {"rotary_embedding_dim": 4, "num_heads": 2, "interleaved": 1}, id="partial-interleaved", opset=23),
    Case("TensorScatter", ((2, 3, 5, 2), (2, 3, 2, 2), np.array([1, 3])), opset=24, ort=False),
    Case("TensorScatter", ((2, 3, 5, 2), (2, 3, 2, 2), np.array([1, 4])), {"mode": "circular"}, id="circular",
         opset=24, ort=False),
    Case("TensorScatter", ((2, 5, 2), (2, 3, 2)), {"axis": 1}, id="from-the-start", opset=24, ort=False),
]  # fmt: skip
