"""The README says what is: its tables come from the registries, its commands and links exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from graph_tools.lowering.table import BODIES
from graph_tools.vjp.table import SCOPED, VJPS
from service.cli import app
from service.commands.operator_table import operators
from service.commands.tables import rewrite

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_generated_blocks_are_fresh():
    assert rewrite(README) == README, "run `make readme`"


def test_every_rule_and_body_is_in_the_table():
    table = operators()
    listed = set(re.findall(r"^\| ([\w.:]+) \|", table, re.MULTILINE))
    named = listed | set(re.findall(r"\w+", table[table.rindex("Derivative zero") :]))
    assert {op for op, _ in VJPS} | set(BODIES) | set(SCOPED) <= named


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_commands_exist():
    commands = get_command(app).commands
    for name in set(re.findall(r"onnx-explain (\w+)", README)) - {"explains"}:
        assert name in commands, f"the README names `onnx-explain {name}`"


def test_make_targets_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = README + (ROOT / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"\bmake (\w+)(?= +#|`)", text)) <= targets
