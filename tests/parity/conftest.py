"""Each net exported once, an engine for it, and the table of distances behind the tests' own summary."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parity.ledger import LEDGER, SWITCHED

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
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """One exported net: pytest runs all tests of one before those of the next."""
    from tests.parity.subjects import export

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    net, form = request.param
    return export(net, form, tmp_path_factory.mktemp(f"{net.name}-{form}"))


@pytest.fixture(scope="session")
def ours(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Ours:
    """The whole path from a request to its maps, in process, on the CPU; the subject is in its repository."""
    from tests.parity.ours import Ours

    engine = Ours(tmp_path_factory.mktemp("store"))
    engine.add(subject)
    return engine


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The worst distance per method, oracle and net."""
    rows = LEDGER.rows()
    if rows:
        terminalreporter.section("largest distances from the oracles")
        for row in rows:
            terminalreporter.write_line(row)
    if SWITCHED:
        terminalreporter.section("units that rounding switched; autograd with exactly these agrees")
        for name, units in SWITCHED.items():
            terminalreporter.write_line(f"{name}: {'; '.join(units)}")
