"""Rows for graph_tools/vjp/recurrent.py; every form of these operators is in test_recurrent.py."""

from __future__ import annotations

from tests.graph_tools.harness import Case

LSTM = ((4, 2, 3), (1, 8, 3), (1, 8, 2), (1, 16), None, (1, 2, 2), (1, 2, 2))
GRU = ((4, 2, 3), (1, 6, 3), (1, 6, 2), (1, 12), None, (1, 2, 2))

CASES = [
    Case("LSTM", LSTM, {"hidden_size": 2}, outputs=3, through=(0, 1, 2)),
    Case("LSTM", LSTM, {"hidden_size": 2}, id="constant-weights", outputs=3, through=(1, 2), constants=(1, 2, 3)),
    Case("GRU", GRU, {"hidden_size": 2}, outputs=2, through=(0, 1)),
    Case("GRU", GRU, {"hidden_size": 2, "linear_before_reset": 1}, id="linear", outputs=2, constants=(1, 2, 3)),
    Case("RNN", ((4, 2, 3), (1, 2, 3), (1, 2, 2), (1, 4), None, (1, 2, 2)), {"hidden_size": 2}, outputs=2),
]
