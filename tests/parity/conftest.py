"""Nets exported once per run, one engine for all, and the table of distances behind the tests' own summary."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parity.ledger import LEDGER

if TYPE_CHECKING:
    from tests.parity.ours import Ours
    from tests.parity.subjects import Subject


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "nets(*names): the nets a parity test is about; all without it")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without torch these files cannot be imported: an error where the group is asked for, no tests elsewhere."""
    asked = config.getoption("markexpr") == "parity"
    return True if not asked and importlib.util.find_spec("torch") is None else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``subject`` is every net in every form; a test narrows it with ``@pytest.mark.nets("vgg", …)``."""
    if "subject" not in metafunc.fixturenames:
        return
    from tests.parity.subjects import ALL

    marker = metafunc.definition.get_closest_marker("nets")
    names = marker.args if marker else tuple(net.name for net in ALL)
    pairs = [(net, form) for net in ALL for form in net.forms if net.name in names]
    ids = [f"{net.name}-{form}" for net, form in pairs]
    metafunc.parametrize("subject", pairs, ids=ids, indirect=True, scope="session")


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ours]:
    """The whole path from a request to its maps, in process, on the CPU."""
    from tests.parity.ours import Ours

    yield Ours(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Subject]:
    """Exports each (net, form) once."""
    from tests.parity.subjects import export

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    folder, made = tmp_path_factory.mktemp("exported"), {}

    def make(net: Any, form: str) -> Subject:
        if (net.name, form) not in made:
            made[net.name, form] = export(net, form, folder)
        return made[net.name, form]

    return make


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest, workshop: Callable[..., Subject], ours: Ours) -> Subject:
    """One exported net, added to the engine's repository."""
    made = workshop(*request.param)
    ours.add(made)
    return made


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The worst distance per method, oracle and net."""
    rows = LEDGER.rows()
    if rows:
        terminalreporter.section("largest distances from the oracles")
        for row in rows:
            terminalreporter.write_line(row)
