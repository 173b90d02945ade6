"""Every rule of the table has a row; every row's gradient equals central differences."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest

import tests.graph_tools
from graph_tools.vjp.table import ANY, VJPS
from tests.graph_tools.harness import Case, check_case, run_ort, run_reference
from tests.graph_tools.test_sequences import OPERATORS as OF_SEQUENCES

CASES: list[Case] = [
    case
    for module in pkgutil.iter_modules(tests.graph_tools.__path__)
    if module.name.startswith("cases_")
    for case in importlib.import_module(f"tests.graph_tools.{module.name}").CASES
]


def _ids(cases: list[Case]) -> list[str]:
    return [c.label for c in cases]


REFERENCE = [c for c in CASES if c.reference and c.numeric]
ORT = [c for c in CASES if c.ort and c.numeric]
OPEN = [c for c in ORT if c.open_dims]


@pytest.mark.parametrize("case", REFERENCE, ids=_ids(REFERENCE))
def test_float64_reference(case: Case) -> None:
    check_case(case, np.float64, run_reference, step=1e-6, tolerance=1e-5)


@pytest.mark.parametrize("case", ORT, ids=_ids(ORT))
def test_float32_onnxruntime(case: Case) -> None:
    check_case(case, np.float32, run_ort, step=1e-2, tolerance=1e-2)


@pytest.mark.parametrize("case", OPEN, ids=_ids(OPEN))
def test_float32_with_unknown_dimensions(case: Case) -> None:
    check_case(case, np.float32, run_ort, step=1e-2, tolerance=1e-2, open_dims=True)


def test_every_rule_has_a_row() -> None:
    covered: set[tuple[str, int]] = set()
    for case in CASES:
        name = f"{case.domain}::{case.op}" if case.domain else case.op
        covered |= {(name, i) for i, a in enumerate(case.operands) if a is not None}
        covered.add((name, ANY))
    covered |= {key for key in VJPS if key[0] in OF_SEQUENCES}  # one node makes no tensor of a tensor
    assert sorted(set(VJPS) - covered) == []


def test_labels_are_unique() -> None:
    assert len({c.label for c in CASES}) == len(CASES)
