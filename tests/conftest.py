"""What holds for every test: a state folder of its own, and how hard the fault tests hit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Machines differ in speed, so an example has no deadline; a failure prints what reproduces it.
settings.register_profile("dbupkeep", deadline=None, print_blob=True)
settings.load_profile("dbupkeep")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills", type=int, default=200, help="how often the fault tests kill a worker process (make fault: 1000)"
    )


@pytest.fixture(scope="session")
def kills(request: pytest.FixtureRequest) -> int:
    count: int = request.config.getoption("--kills")
    return count


@pytest.fixture(autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test, and what it starts, away from the user's own ledger and settings."""
    for name in [name for name in os.environ if name.startswith("DBUPKEEP_")]:
        monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("DBUPKEEP_STATE", str(folder))
    return folder
