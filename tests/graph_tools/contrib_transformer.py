"""Operators of ONNX Runtime's transformer fusions in every form that has a body; rows of test_contrib_transformer."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.graph_tools.harness import Case

H = (2, 3, 8)  # batch, sequence, hidden
EIGHT = (8,)
FILTER = -4.0  # small enough a mask that what it does to the rest shows


def _i(values: Any) -> np.ndarray:
    return np.array(values, np.int32)


def _ms(op: str, operands: tuple[Any, ...], attrs: dict[str, Any] | None = None, **kwargs: Any) -> Case:
    return Case(op, operands, attrs or {}, domain="com.microsoft", **kwargs)


POINTWISE = [
    # The reference evaluator computes Erf in float32.
    _ms("Gelu", (H,), reference=False),
    _ms("Gelu", (H,), opset=20, id="20", reference=False),
    _ms("BiasGelu", (H, EIGHT), reference=False),
    _ms("FastGelu", (H,)),
    _ms("FastGelu", (H, EIGHT), id="bias"),
    _ms("FastGelu", (H, EIGHT), opset=21, id="21"),
    _ms("QuickGelu", (H,)),
    _ms("QuickGelu", (H,), {"alpha": 1.0}, id="silu"),
    _ms("QuickGelu", (H,), {"alpha": -0.7}, id="alpha"),
    _ms("BiasSplitGelu", (H, EIGHT), ort=False, reference=False),
    _ms("BiasAdd", (H, EIGHT, H), ort=False),
    _ms("BiasSoftmax", ((2, 2, 3, 3), (2, 1, 1, 3)), {"axis": 3, "is_inner_broadcast": 1}, ort=False),
    _ms("BiasSoftmax", ((2, 2, 3, 3), (3, 3)), {"axis": 2, "is_inner_broadcast": 0}, ort=False, id="two-axes"),
]
NORMALIZATIONS = [
    _ms("SkipLayerNormalization", (H, H, EIGHT, EIGHT)),
    _ms("SkipLayerNormalization", (H, H, EIGHT), {"epsilon": 0.1}, id="no-beta"),
    _ms("SkipLayerNormalization", (H, (3, 8), EIGHT, EIGHT, EIGHT), id="bias"),
    _ms("SkipLayerNormalization", (H, (1, 3, 8), EIGHT, EIGHT, EIGHT), id="sum", outputs=4, through=(0, 3)),
    _ms("SkipSimplifiedLayerNormalization", (H, H, EIGHT)),
    _ms("SkipSimplifiedLayerNormalization", (H, H, EIGHT, EIGHT), {"epsilon": 0.1}, id="sum", outputs=4,
        through=(0, 3)),
    Case("SimplifiedLayerNormalization", (H, EIGHT)),
    Case("SimplifiedLayerNormalization", (H, EIGHT), {"axis": -1, "epsilon": 0.1}, id="inverse", outputs=2,
         through=(0, 1)),
    Case("SimplifiedLayerNormalization", (H, (3, 8)), {"axis": 1}, id="axis"),
    _ms("EmbedLayerNormalization", (_i([[0, 2, 1], [1, 1, 3]]), None, (5, 8), (4, 8), None, EIGHT, EIGHT),
        {"epsilon": 1e-5}, id="no-segments", outputs=2, open_dims=False),
    _ms("EmbedLayerNormalization", (_i([[0, 2, 1], [1, 1, 3]]), _i([[0, 1, 1], [0, 0, 1]]), (5, 8), (4, 8), (2, 8),
        EIGHT, EIGHT, _i([[1, 1, 0], [1, 1, 1]])), {"epsilon": 1e-5}, id="mask", outputs=3, through=(0, 2),
        runtime=(0, 1, 7), open_dims=False),
    _ms("EmbedLayerNormalization", (_i([[0, 2, 1], [1, 1, 3]]), _i([[0, 1, 1], [0, 0, 1]]), (5, 8), (4, 8), (2, 8),
        EIGHT, EIGHT, None, _i([[3, 2, 1]])), {"epsilon": 1e-5}, id="positions", outputs=2, open_dims=False),
    _ms("GroupNorm", ((2, 3, 2, 4), (4,), (4,)), {"groups": 2, "activation": 1}, ort=False),
    _ms("GroupNorm", ((2, 4, 3, 2), (4,), (4,)), {"groups": 2, "activation": 0, "channels_last": 0}, ort=False,
        id="channels-first"),
    _ms("SkipGroupNorm", ((2, 3, 2, 4), (4,), (4,), (2, 3, 2, 4), (4,)), {"groups": 2, "activation": 1}, ort=False,
        outputs=2, through=(0, 1)),
    _ms("GatedRelativePositionBias", (H, EIGHT, (1, 2, 3, 3), (4, 6), (6,), (1, 2, 1, 1)), {"num_heads": 2},
        ort=False),
]  # fmt: skip
CACHES = ((10, 2), (10, 2))
ROTARY = [
    _ms("RotaryEmbedding", (H, np.array([[0, 3, 1], [5, 2, 2]]), *CACHES), {"num_heads": 2}),
    _ms("RotaryEmbedding", (H, np.array([4]), *CACHES), id="no-heads"),
    _ms("RotaryEmbedding", (H, np.array([4]), *CACHES), {"interleaved": 1}, id="interleaved", runtime=(1,)),
    _ms("RotaryEmbedding", (H, np.array([1]), (10, 1), (10, 1)), {"num_heads": 2, "rotary_embedding_dim": 2},
        id="partial"),
    _ms("RotaryEmbedding", ((2, 2, 3, 4), np.array([[0, 3, 1], [5, 2, 2]]), *CACHES), id="heads-apart"),
    _ms("RotaryEmbedding", ((2, 2, 3, 4), np.array([1]), *CACHES), {"interleaved": 1}, id="heads-apart-interleaved"),
    _ms("GemmaRotaryEmbedding", ((2, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4)), ort=False,
        outputs=2, through=(0, 1)),
]  # fmt: skip

PROJECTED = (H, (8, 24), (24,))
TWO = {"num_heads": 2}
MASKED = {"num_heads": 2, "mask_filter_value": FILTER}
PAST = (2, 2, 2, 2, 4)
ATTENTION = [
    _ms("Attention", PROJECTED, TWO),
    _ms("Attention", PROJECTED, {**TWO, "scale": 0.7}, id="scale"),
    _ms("Attention", (H, (8, 24)), TWO, id="no-bias", ort=False),  # the kernel crashes without a bias
    _ms("Attention", (H, (8, 20), (20,)), {**TWO, "qkv_hidden_sizes": [8, 8, 4]}, id="sizes"),
    _ms("Attention", (*PROJECTED, _i([2, 3])), MASKED, id="ends"),
    _ms("Attention", (*PROJECTED, _i([2, 3])), MASKED, id="ends-fed", runtime=(3,)),
    _ms("Attention", (*PROJECTED, _i([2, 3, 1, 0])), MASKED, id="ends-starts"),
    _ms("Attention", (*PROJECTED, _i([2, 3, 1, 0])), MASKED, id="ends-starts-fed", runtime=(3,)),
    _ms("Attention", (*PROJECTED, _i([[1, 1, 0], [1, 0, 1]])), MASKED, id="raw", runtime=(3,)),
    _ms("Attention", (*PROJECTED, np.tile(_i([[1, 1, 0], [1, 0, 1], [0, 1, 1]]), (2, 1, 1))), MASKED, id="raw-3d"),
    _ms("Attention", PROJECTED, {**MASKED, "unidirectional": 1}, id="causal"),
    _ms("Attention", (*PROJECTED, _i([[1, 1, 0], [1, 0, 1]])), {**MASKED, "unidirectional": 1}, id="causal-raw"),
    _ms("Attention", (*PROJECTED, None, PAST), {**TWO, "unidirectional": 1}, id="past", outputs=2, through=(0, 1)),
    _ms("Attention", (*PROJECTED, _i([[1, 1, 0, 1, 1], [1, 0, 1, 1, 1]]), PAST), MASKED, id="past-raw", outputs=2,
        through=(0, 1)),
    _ms("Attention", (*PROJECTED, None, None, (2, 2, 3, 3)), TWO, id="bias"),
    _ms("Attention", (*PROJECTED, _i([2, 3]), None, (1, 1, 3, 3)), MASKED, id="bias-broadcast"),
    _ms("Attention", PROJECTED, TWO, id="present", outputs=2, through=(0, 1)),
]  # fmt: skip
CROSS = (H, (2, 5, 8), (2, 5, 8))
MULTI_HEAD = [
    _ms("MultiHeadAttention", (H, H, H), TWO),
    _ms("MultiHeadAttention", CROSS, {**TWO, "scale": 0.3}, id="cross"),
    _ms("MultiHeadAttention", (H, (2, 5, 8), (2, 5, 4)), TWO, id="value-size"),
    _ms("MultiHeadAttention", (*CROSS, (24,)), TWO, id="bias"),
    _ms("MultiHeadAttention", (*CROSS, None, _i([3, 5])), MASKED, id="ends", runtime=(4,)),
    _ms("MultiHeadAttention", (*CROSS, None, _i([[1, 1, 0, 1, 1], [1, 0, 1, 1, 0]])), MASKED, id="raw", runtime=(4,)),
    _ms("MultiHeadAttention", (*CROSS, None, None, (1, 2, 3, 5)), TWO, id="attention-bias"),
    _ms("MultiHeadAttention", (H, H, H), {**MASKED, "unidirectional": 1}, id="causal"),
    _ms("MultiHeadAttention", (H, H, H, None, None, None, (2, 2, 2, 4), (2, 2, 2, 4)), TWO, id="past", outputs=3,
        through=(0, 1, 2)),
    _ms("MultiHeadAttention", (H, H, H, None, None, None, (2, 2, 2, 4), (2, 2, 2, 4)),
        {**MASKED, "unidirectional": 1}, id="past-causal", outputs=3, through=(0, 1, 2)),
    _ms("MultiHeadAttention", (H, (2, 2, 5, 4), (2, 2, 5, 4)), TWO, id="heads-apart"),
    _ms("MultiHeadAttention", ((2, 3, 2, 3, 4),), TWO, id="packed", ort=False),
    _ms("MultiHeadAttention", (H, (2, 5, 2, 2, 4)), TWO, id="packed-kv", ort=False),
    _ms("MultiHeadAttention", (*CROSS, (24,)), TWO, id="scores", outputs=4, through=(0, 3)),
]  # fmt: skip


def _bytes(kind: type, *shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 100, shape).astype(kind)


SCALES = (np.array(0.02), np.array(0.03))
COLUMNS = np.linspace(0.01, 0.05, 24)
TOKENS, MATRIX = _bytes(np.uint8, 2, 3, 8), _bytes(np.int8, 8, 24)
QUANTISED: dict[str, Any] = {"constants": (3, 4), "runtime": (0,), "wrt": (2,)}
Q_ATTENTION = [
    _ms("QAttention", (TOKENS, MATRIX, (24,), *SCALES), TWO, **QUANTISED),
    _ms("QAttention", (TOKENS, MATRIX, (24,), *SCALES, _i([2, 3]), np.array(50, np.uint8), np.array(9, np.int8)),
        MASKED, id="zero-points", **QUANTISED),
    _ms("QAttention", (TOKENS, MATRIX, (24,), SCALES[0], COLUMNS, None, np.array(50, np.uint8),
        _bytes(np.int8, 24)), TWO, id="per-column", **QUANTISED),
    _ms("QAttention", (TOKENS, MATRIX, (24,), *SCALES, None, np.array(50, np.uint8), np.array(9, np.int8), PAST),
        {**TWO, "unidirectional": 1}, id="past", outputs=2, through=(0, 1), constants=(3, 4), runtime=(0,),
        wrt=(2, 8)),
]  # fmt: skip
TURNS = ((10, 8), (10, 8))
GROUPED = {"num_heads": 4, "kv_num_heads": 2}


def _queries(batch: int, sequence: int, head: int, cache: int | None, last: Any, total: int) -> tuple[Any, ...]:
    q, kv = (batch, sequence, 4 * head), (batch, sequence, 2 * head)
    past = None if cache is None else (batch, 2, cache, head)
    return (q, kv, kv, past, past, _i(last), _i(total))


PROMPT, WIDE_PROMPT = (_queries(2, 3, head, None, [2, 2], 3) for head in (8, 16))
STEP, WIDE_STEP = (_queries(2, 1, head, 4, [4, 2], 5) for head in (8, 16))
MORE, WIDE_MORE = (_queries(1, 2, head, 4, [5], 6) for head in (8, 16))
FIXED: dict[str, Any] = {"outputs": 3, "through": (0, 1, 2), "open_dims": False}
STATES: dict[str, Any] = {"outputs": 3, "through": (0, 1, 2)}
GROUP_QUERY = [
    _ms("GroupQueryAttention", PROMPT, GROUPED, **STATES),
    _ms("GroupQueryAttention", PROMPT, {**GROUPED, "scale": 0.9, "softcap": 0.8}, id="softcap", **STATES),
    _ms("GroupQueryAttention", STEP, GROUPED, id="step", **STATES),
    _ms("GroupQueryAttention", STEP, GROUPED, id="step-fed", runtime=(5, 6), **STATES),
    _ms("GroupQueryAttention", MORE, GROUPED, id="second-prompt", **STATES),
    _ms("GroupQueryAttention", (*WIDE_MORE, *TURNS), {**GROUPED, "do_rotary": 1}, id="second-prompt-rotary", **FIXED),
    _ms("GroupQueryAttention", (*WIDE_PROMPT, *TURNS), {**GROUPED, "do_rotary": 1}, id="rotary", **FIXED),
    _ms("GroupQueryAttention", (*WIDE_PROMPT, (10, 4), (10, 4)), {**GROUPED, "do_rotary": 1}, id="partial-rotary",
        ort=False, **FIXED),
    _ms("GroupQueryAttention", (*WIDE_STEP, *TURNS), {**GROUPED, "do_rotary": 1, "rotary_interleaved": 1},
        id="step-rotary", **FIXED),
    _ms("GroupQueryAttention", PROMPT, {**GROUPED, "local_window_size": 2}, id="window", **STATES),
    _ms("GroupQueryAttention", STEP, {**GROUPED, "local_window_size": 2}, id="step-window", **STATES),
    _ms("GroupQueryAttention", PROMPT, {**GROUPED, "smooth_softmax": 1}, id="smooth", **STATES),
    _ms("GroupQueryAttention", (*PROMPT, None, None, None, None, (4,)), GROUPED, id="sink", **STATES),
    _ms("GroupQueryAttention", (*PROMPT, None, None, None, (2, 1, 3, 3)), {**GROUPED, "softcap": 0.8},
        id="attention-bias", **STATES),
    _ms("GroupQueryAttention", ((2, 3, 128), None, None, None, None, _i([2, 2]), _i(3), *TURNS),
        {**GROUPED, "do_rotary": 1}, id="packed", **FIXED),
    _ms("GroupQueryAttention", (*WIDE_PROMPT, *TURNS, np.array([[2, 3, 4], [2, 3, 4]])), {**GROUPED, "do_rotary": 1},
        id="positions", **FIXED),
    _ms("GroupQueryAttention", (*WIDE_STEP, *TURNS, np.array([[7], [3]])), {**GROUPED, "do_rotary": 1},
        id="step-positions", **FIXED),
    _ms("GroupQueryAttention", PROMPT, {**GROUPED, "causal": 0}, id="bidirectional", **STATES),
    _ms("GroupQueryAttention", (*PROMPT[:3], (2, 2, 4, 8), (2, 2, 4, 8), *PROMPT[5:]), GROUPED, id="prompt-cache",
        **STATES),
    _ms("GroupQueryAttention", (*PROMPT, *(None,) * 7, (8,), (8,)), GROUPED, id="normalised", ort=False, **STATES),
]  # fmt: skip
WAVE, TAPS = (2, 4, 5), (4, 1, 3)
STATE: dict[str, Any] = {"outputs": 2, "through": (0, 1)}
CAUSAL_CONV = [
    _ms("CausalConvWithState", (WAVE, TAPS), open_dims=False, **STATE),
    _ms("CausalConvWithState", (WAVE, TAPS, (4,), (2, 4, 2)), {"activation": "silu"}, id="state", open_dims=False,
        **STATE),
    _ms("CausalConvWithState", (WAVE, TAPS, None, (2, 4, 4)), {"dilation": 2, "activation": "swish"}, id="dilated",
        open_dims=False, **STATE),
]  # fmt: skip
CASES = [*POINTWISE, *NORMALIZATIONS, *ROTARY, *ATTENTION, *MULTI_HEAD, *Q_ATTENTION, *CAUSAL_CONV, *GROUP_QUERY]
