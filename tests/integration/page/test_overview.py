"""The first page: how things are, what was not done and why, what comes next; and what a filter leaves of the runs."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from playwright.sync_api import Page, expect

from dbupkeep.definitions import Schedule
from dbupkeep.testing.pair_kit import eventually
from dbupkeep.views.page import overview
from tests.integration.page.served import TOKEN, Site, Visit, configuration, site_on

pytestmark = [pytest.mark.slow, pytest.mark.engine("chromium")]


def test_an_empty_ledger_says_what_to_do(site: Site, visit: Visit) -> None:
    page = visit(site.url).comes()
    expect(page.locator("h1")).to_contain_text("No database was maintained yet.")
    expect(page.locator("#runs")).to_be_visible()
    expect(page.get_by_text("dbupkeep run path/to/app.db")).to_be_visible()
    expect(page.locator(".line")).to_have_text("live")


def test_what_was_not_done_is_told_with_why_and_what_to_do(troubled: Site, visit: Visit) -> None:
    page = visit(troubled.url).comes()
    expect(page.locator("h1")).to_contain_text("2 of 3 databases need a look.")
    items = page.locator("section:has(#troubles) .item")
    expect(items).to_have_count(2)
    expect(items.nth(0)).to_contain_text("full.db reindex failed")
    expect(items.nth(0)).to_contain_text("no space left on the device")
    expect(items.nth(0).locator("code")).to_have_text("dbupkeep retry")
    expect(items.nth(1)).to_contain_text("busy.db check deferred")
    expect(page.locator("section:has(#next) .item")).to_have_count(2)
    assert re.search(r"(ago|now) Try again", " ".join((items.nth(0).text_content() or "").split()))


def test_what_was_not_done_can_be_tried_again_from_there(troubled: Site, visit: Visit) -> None:
    page = visit(troubled.url).comes()
    troubled.play.faults.clear()
    troubled.begin_to_work()
    item = page.locator(".item", has_text="full.db")
    item.get_by_role("button", name="Try again").click()
    expect(page.locator(".item", has_text="full.db")).to_have_count(0)
    expect(page.locator("h1")).to_contain_text("1 of 3 databases needs another run.")


def test_a_third_deferral_in_a_row_says_so(troubled: Site, visit: Visit) -> None:
    for _ in range(2):
        troubled.submit("busy.db", operations="check")
        troubled.work()
    page = visit(troubled.url).comes()
    expect(page.locator(".item", has_text="busy.db")).to_contain_text("deferred 3 runs in a row")


def names(page: Page) -> list[str]:
    return page.locator("table.runs tbody a").all_inner_texts()


def test_the_filter_stands_in_the_address(troubled: Site, visit: Visit) -> None:
    page = visit(troubled.url).comes()
    assert names(page) == ["busy.db", "full.db", "fine.db"]
    page.fill("#q", "state:failed")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**/?q=state%3Afailed")
    assert names(page) == ["full.db"]
    page.goto(f"{troubled.url}/?q=state:completed+fine")
    assert names(page) == ["fine.db"]
    page.get_by_role("link", name="show all").click()
    eventually("all are shown", lambda: len(names(page)) == 3)


def test_a_filter_that_fits_nothing_new_leads_to_older_runs(
    troubled: Site, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "SEARCHED", 2)
    page = visit(troubled.url).comes("/?q=fine")
    expect(page.get_by_text("No run fits the filter.")).to_be_visible()
    page.get_by_role("link", name="older runs").click()
    eventually("the older run is found", lambda: names(page) == ["fine.db"])


def test_what_happens_comes_by_itself(site: Site, visit: Visit) -> None:
    page = visit(site.url).comes()
    expect(page.locator(".line")).to_have_text("live")
    page.evaluate("window.unchanged = true")
    site.play.hold("vacuum")
    run = site.submit("app.db")
    site.begin_to_work()
    card = page.locator(".card", has_text="app.db")
    expect(card).to_contain_text("running")
    expect(card).to_contain_text("scanning the heap")
    expect(card.locator("progress").first).to_have_js_property("value", 0.125)
    site.play.held["vacuum"].set()
    site.await_status(run.id, "completed")
    expect(card).to_have_count(0)
    expect(page.locator("h1")).to_contain_text("The one database is healthy.")
    assert page.evaluate("window.unchanged"), "the page was loaded anew"


HIDDEN = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_page_that_nobody_sees_has_no_stream(site: Site, visit: Visit) -> None:
    page = visit(site.url).comes()
    expect(page.locator(".line")).to_have_text("live")
    with page.expect_event("requestfailed", lambda request: "/events/stream" in request.url):
        page.evaluate(HIDDEN, True)
    expect(page.locator(".line")).to_have_text("resting")
    site.submit("app.db")
    site.work()
    page.evaluate(HIDDEN, False)
    expect(page.locator(".line")).to_have_text("live")
    expect(page.locator("table.runs")).to_contain_text("app.db")


def test_a_job_by_the_minute_is_a_band_over_all_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visit: Visit
) -> None:
    monkeypatch.setenv("DBUPKEEP_TOKEN", TOKEN)
    config = configuration()
    often = replace(config.jobs["by hand"], name="often", schedule=Schedule(every=timedelta(minutes=2)))
    with site_on(tmp_path, replace(config, jobs={**config.jobs, "often": often})) as site:
        page = visit(site.url).comes("/schedule")
        expect(page.locator(".calendar .band")).to_have_count(14)
        expect(page.locator("section:has(#days)")).to_contain_text("over all days: often every 2 min")
        expect(page.locator(".calendar .small")).to_have_count(0)


def test_a_second_start_says_that_a_run_goes_on_already(site: Site, visit: Visit) -> None:
    page = visit(site.url).comes("/schedule")
    item = page.locator(".item", has_text="by hand")
    expect(item).not_to_contain_text("goes on already")
    item.get_by_role("button", name="Start now").click()
    page.wait_for_url("**/runs/**")
    first = page.url
    assert page.locator(".notice").count() == 0
    page.goto(f"{site.url}/schedule")
    expect(item).to_contain_text("a run of it goes on already")
    item.get_by_role("button", name="Start now").click()
    page.wait_for_url("**/runs/**")
    expect(page.locator(".notice")).to_contain_text("goes on already: this one waits where they meet.")
    assert page.locator(".notice a").evaluate("it => it.href") == first
    site.work()
    expect(page.locator(".notice")).to_have_count(0)
    page.goto(f"{site.url}/schedule")
    expect(item.locator(".why").first).to_have_text(re.compile("^takes about"))
