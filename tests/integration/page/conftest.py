"""A browser, and the site on a ledger of the test; whatever a page complains of fails its test."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from dbupkeep.errors import Busy, OperationError
from tests.integration.page.served import CONFIG, PATIENCE, TOKEN, Service, Site, Visit, Visitor, configuration, site_on

CHROMIUM = Path("/usr/bin/chromium")

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Not for longer than a module: meanwhile its event loop keeps all others out of this thread."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not here; scripts/packages installs it")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Makes visitors of a site; in the end none of their pages may have complained."""
    visitors: list[Visitor] = []

    def made(url: str) -> Visitor:
        visitors.append(Visitor(browser, url))
        return visitors[-1]

    yield made
    for visitor in visitors:
        visitor.leave()
    assert [said for visitor in visitors for said in visitor.complaints] == []


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The site with a configuration of two jobs, and nobody who works yet."""
    monkeypatch.setenv("DBUPKEEP_TOKEN", TOKEN)
    with site_on(tmp_path, configuration()) as made:
        yield made


@pytest.fixture
def troubled(site: Site) -> Site:
    """With runs that did not all go well: one failed, one was deferred, one was fine."""
    site.submit("fine.db")
    site.play.faults["reindex"] = OperationError("no space left on the device", hint="make room, then `dbupkeep retry`")
    site.submit("full.db", operations="vacuum,reindex")
    site.play.faults["check"] = Busy("the nightly export holds a lock", hint="let it finish")
    site.submit("busy.db", operations="check")
    site.work()
    return site


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    from dbupkeep.engines.sqlite import sample

    sample.make(tmp_path / "app.db", 8 * 1024 * 1024)
    (tmp_path / "config.toml").write_text(CONFIG.format(folder=tmp_path))
    made = Service(tmp_path)
    made.start()
    yield made
    made.end(signal.SIGKILL)
