"""What holds for every test: a state folder of its own, how hard the fault tests hit, and no silent skip in CI."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

# Machines differ in speed, so an example has no deadline; a failure prints what reproduces it.
settings.register_profile("dbupkeep", deadline=None, print_blob=True)
settings.load_profile("dbupkeep")

# Real servers; each is started when a test first asks for it.
pytest_plugins = ["tests.plugins.postgresql", "tests.plugins.postgresql_bench", "tests.plugins.receivers"]

# The conformance suites assert too, and are no test modules.
pytest.register_assert_rewrite("dbupkeep.testing")


# What a person or CI set for its own terminal must not decide what a test sees.
COLOUR = {"NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills", type=int, default=200, help="how often the fault tests kill a worker process (make fault: 1000)"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail in CI what skips for want of a database product: a silent skip is how an engine rots."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if skipped and os.environ.get("CI") and item.get_closest_marker("engine"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CI does not allow an engine's test to be skipped: {reason}"
    return report


@pytest.fixture(scope="session")
def kills(request: pytest.FixtureRequest) -> int:
    count: int = request.config.getoption("--kills")
    return count


@pytest.fixture(autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test, and what it starts, away from the user's own ledger and settings."""
    for name in [name for name in os.environ if name.startswith("DBUPKEEP_") or name in COLOUR]:
        monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("DBUPKEEP_STATE", str(folder))
    return folder
