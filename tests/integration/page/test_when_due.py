"""What the page says of a job that starts when something is due: what its last look found, and when it looks next."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from dbupkeep.clock import SystemClock
from dbupkeep.codec import to_json
from dbupkeep.config import Config
from dbupkeep.definitions import JobDefinition, Schedule, Step, Target
from dbupkeep.schedules import Looked, Standing, rule_of
from tests.integration.page.served import TOKEN, Visit, site_on

pytestmark = [pytest.mark.slow, pytest.mark.engine("chromium")]


def test_a_look_is_told_and_draws_no_run(tmp_path: Path, visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUPKEEP_TOKEN", TOKEN)
    app = Target(name="app", url="scripted:///app.db")
    schedule = Schedule(when_due=timedelta(hours=6))
    job = JobDefinition(name="packing", steps=(Step(name="tidy", targets=(app,)),), schedule=schedule)
    now = SystemClock().now()
    with site_on(tmp_path, Config(targets={"app": app}, jobs={"packing": job})) as site:
        looked = Looked(at=now, databases=1, faults=("db1 does not answer",))
        known = Standing(rule=rule_of(schedule), since=now, looked=looked)
        site.app.lifecycle.keep("schedule", "packing", to_json(known))
        page = visit(site.url).comes("/schedule")
        item = page.locator("[data-key='job-packing']")
        expect(item).to_contain_text("when something is due, looked at every 6 h at most")
        expect(item).to_contain_text("looks next")
        expect(item).to_contain_text("nothing was due: 1 database; not looked at: db1 does not answer")
        assert page.locator("figure td", has_text="packing").count() == 0
        page.goto(f"{site.url}/")
        expect(page.locator("[data-key='next-packing']")).to_contain_text("looks in")
