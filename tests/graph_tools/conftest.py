"""The node suite's counts at the end of a run."""

from __future__ import annotations

import sys

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    module = sys.modules.get("tests.graph_tools.test_node_suite")
    if module is not None and module.TALLY:
        terminalreporter.section("gradients on ONNX's node suite")
        for line in module.report():
            terminalreporter.line(line)
