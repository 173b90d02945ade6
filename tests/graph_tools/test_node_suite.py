"""The gradient on ONNX's own backend node suite: every case, both forms, both runtimes; the count is printed."""

from __future__ import annotations

import collections
import warnings

import numpy as np
import pytest

from tests.graph_tools.suite import SuiteCase, suite
from tests.graph_tools.suite_judge import FORMS, RUNTIMES, Verdict, judge

# Cases without a gradient: start of the name -> (reason, words that the refusal must hold).
NO_GRADIENT = {
    "test_adagrad": ("an optimiser's step, ai.onnx.preview.training", "ai.onnx.preview.training"),
    "test_adam": ("an optimiser's step, ai.onnx.preview.training", "ai.onnx.preview.training"),
    "test_momentum": ("an optimiser's step, ai.onnx.preview.training", "ai.onnx.preview.training"),
    "test_nesterov_momentum": ("an optimiser's step, ai.onnx.preview.training", "ai.onnx.preview.training"),
    "test_ai_onnx_ml": ("ai.onnx.ml: trees, binarisers, feature pickers", "ai.onnx.ml"),
    "test_bernoulli": ("random numbers do not depend smoothly on the probability", "random numbers"),
}
# Cases that a runtime cannot run as ONNX Runtime reads them: start of the name -> reason.
NOT_RUN = {
    "test_affine_grid_2d": "ONNX Runtime refuses the body's Range of one-element vectors where shapes are known",
}

TALLY: dict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(collections.Counter)
EVIDENCE: dict[tuple[str, str], set[str]] = collections.defaultdict(set)


def _reason(name: str) -> tuple[str, str] | None:
    return next((why for start, why in NO_GRADIENT.items() if name.startswith(start)), None)


def report() -> list[str]:
    """What passed, as counts of the denominator."""
    lines = [f"{len(suite())} cases with a float input and a float output"]
    for (form, runtime), counts in sorted(TALLY.items()):
        told = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
        lines.append(f"{form:9} {runtime:11}: {told}")
    lines += [f"{form:9} right in at least one runtime: {len(EVIDENCE[form, 'pass'])}, "
              f"no gradient: {len(EVIDENCE[form, 'refused'])}" for form in FORMS]  # fmt: skip
    return lines


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", suite(), ids=lambda c: c.name)
def test_gradient(case: SuiteCase, form: str) -> None:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        verdicts = {runtime: judge(case, form, runtime) for runtime in RUNTIMES}
    for runtime, verdict in verdicts.items():
        TALLY[form, runtime][verdict.outcome] += 1
        EVIDENCE[form, verdict.outcome].add(case.name)
    reason = _reason(case.name)
    for runtime, verdict in verdicts.items():
        _check(case, runtime, verdict, reason)
    if reason is None:
        assert any(v.outcome == "pass" for v in verdicts.values()), f"no runtime can show this gradient: {verdicts}"


def _check(case: SuiteCase, runtime: str, verdict: Verdict, reason: tuple[str, str] | None) -> None:
    if reason is not None:
        assert verdict.outcome == "refused", f"{runtime}: {verdict.detail}"
        assert reason[1] in verdict.detail
        return
    if runtime == "onnxruntime" and any(case.name.startswith(start) for start in NOT_RUN):
        return
    assert verdict.outcome in ("pass", "no kernel"), f"{runtime}: {verdict.outcome}: {verdict.detail}"


def test_the_tables_name_cases_of_the_suite() -> None:
    names = [c.name for c in suite()]
    for start in (*NO_GRADIENT, *NOT_RUN):
        assert any(name.startswith(start) for name in names), start
