"""The page of a run: rows with evidence, buttons that do what they say, and thousands of rows in pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import expect

from dbupkeep.errors import OperationError
from dbupkeep.jobs import Job
from dbupkeep.ledger import JobQuery
from tests.integration.page.served import Site, Visit

pytestmark = [pytest.mark.slow, pytest.mark.engine("chromium")]

Held = tuple[Job, Sequence[Job]]


@pytest.fixture
def held(site: Site) -> Held:
    """A run at work on its first operation, with another one waiting."""
    site.play.hold("vacuum")
    run = site.submit("app.db")
    site.begin_to_work()
    children = site.app.reader.children(run.id)
    site.await_status(children[0].id, "running")
    return run, children


def test_pause_and_resume_by_click(site: Site, held: Held, visit: Visit) -> None:
    run, (_, analyze) = held
    page = visit(site.url).comes(f"/runs/{run.id}")
    expect(page.get_by_text("Starts nothing new; what runs goes on.")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".notice")).to_contain_text("Paused: nothing new starts. 1 operation that runs goes on.")
    assert site.job(run.id).paused
    site.play.held["vacuum"].set()
    expect(page.locator(".notice")).to_contain_text("Nothing runs.")
    assert site.job(analyze.id).status == "pending"
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("h1")).to_contain_text("done")
    assert site.await_status(run.id, "completed").outcome == "done"


def test_what_is_paused_does_not_run_in_words(site: Site, visit: Visit) -> None:
    site.play.hold("vacuum")
    run = site.submit_many(["app.db"], operations="vacuum,analyze")
    site.begin_to_work()
    page = visit(site.url).comes(f"/runs/{run.id}")
    expect(page.locator(".facts").first).to_have_text("1 database: 1 running")
    page.get_by_role("button", name="Pause").click()
    site.play.held["vacuum"].set()
    expect(page.locator(".notice")).to_contain_text("Nothing runs.")
    expect(page.locator(".facts").first).to_have_text("1 database: 1 paused")
    page.goto(f"{site.url}/")
    expect(page.locator("table.runs tbody .quiet").first).to_have_text("1 paused")


def test_bars_move_at_once_though_nothing_has_happened(site: Site, held: Held, visit: Visit) -> None:
    run, (vacuum, _) = held
    page = visit(site.url).comes(f"/runs/{run.id}")
    expect(page.locator(".line")).to_have_text("live")
    row = page.locator(f"[id='{vacuum.id}']")
    expect(row.locator("progress")).to_have_js_property("value", 0.25)
    seq = page.locator("main").get_attribute("data-live")
    site.play.pages = 3
    expect(row.locator("progress")).to_have_js_property("value", 0.75)
    expect(row.locator(".percent")).to_have_text("75 %")
    assert page.locator("main").get_attribute("data-live") == seq, "progress is no event"


def test_what_only_time_changes_is_told_anew_while_something_runs(site: Site, held: Held, visit: Visit) -> None:
    run, _ = held
    page = visit(site.url).comes(f"/runs/{run.id}")
    expect(page.locator(".line")).to_have_text("live")
    seq = page.locator("main").get_attribute("data-live")
    now = page.locator("svg.timeline line.now")
    began, drawn = page.locator(".numbers time").inner_text(), now.get_attribute("x1")
    expect(page.locator(".numbers time")).not_to_have_text(began)
    expect(now).not_to_have_attribute("x1", str(drawn))
    assert page.locator("main").get_attribute("data-live") == seq, "nothing has happened"


def test_news_leave_alone_what_a_person_opened_closed_or_writes(site: Site, visit: Visit) -> None:
    site.play.tables = [f"public.t{number}" for number in range(4)]
    for table in site.play.tables:
        site.play.hold(table)
    run = site.submit("app.db", operations="vacuum")
    site.begin_to_work()
    first = site.app.reader.children(run.id)[0]
    site.await_status(first.id, "running")
    page = visit(site.url).comes(f"/runs/{run.id}")
    page.locator(f"[id='{first.id}'] > summary").click()
    page.get_by_text("Limits…").click()
    page.get_by_label("End by").fill("2h")
    for number, table in enumerate(site.play.tables[:3], start=1):  # several times over
        site.play.held[table].set()
        expect(page.locator(".facts").first).to_contain_text(f"{number} done")
        expect(page.locator(f"[id='{first.id}'] .drawer")).to_be_visible()
        expect(page.get_by_label("End by")).to_have_value("2h")
        expect(page.get_by_label("End by")).to_be_focused()
    page.locator(f"[id='{first.id}'] > summary").click()
    site.play.held[site.play.tables[3]].set()
    expect(page.locator("h1 .badge")).to_have_text("✓ done")
    expect(page.locator(f"[id='{first.id}'] .drawer")).to_be_hidden()


def test_cancel_is_asked_twice_and_says_what_becomes_of_what_is_half_done(site: Site, held: Held, visit: Visit) -> None:
    run, (vacuum, _) = held
    page = visit(site.url).comes(f"/runs/{run.id}")
    page.locator(f"[id='{vacuum.id}'] > summary").click()
    page.get_by_text("Cancel statement…").click()
    expect(page.get_by_text("what it does with what is half done is up to its engine")).to_be_visible()
    assert site.job(vacuum.id).status == "running"
    page.get_by_role("button", name="Cancel statement").click()
    site.await_status(vacuum.id, "cancelled")
    site.await_status(run.id, "completed")
    expect(page.locator("h1")).to_contain_text("partly done")
    page.get_by_role("button", name="Try again").first.click()
    site.play.held["vacuum"].set()
    assert site.await_status(vacuum.id, "completed").attempt == 2
    expect(page.locator("h1 .badge")).to_have_text("✓ done")
    story = page.locator(f"[id='{vacuum.id}'] .story")
    expect(story).to_contain_text("started, attempt 2")
    expect(story).to_contain_text("cancelled")


def test_stop_skip_and_limits_by_click(site: Site, held: Held, visit: Visit) -> None:
    run, (vacuum, analyze) = held
    page = visit(site.url).comes(f"/runs/{run.id}")
    page.get_by_text("Limits…").click()
    page.get_by_label("Operations at a time").fill("1")
    page.get_by_role("button", name="Set limits").click()
    expect(page.locator(".facts").first).to_contain_text("1 operation at a time")
    assert site.job(run.id).at_a_time == 1
    page.goto(f"{site.url}/runs/{run.id}?q=op:analyze")
    page.locator(f"[id='{analyze.id}'] > summary").click()
    page.get_by_role("button", name="Skip").click()
    expect(page.locator(f"[id='{analyze.id}']")).to_contain_text("left out")
    assert page.url.endswith("?q=op:analyze"), "back to where it was asked for"
    page.get_by_text("Stop after current…").click()
    page.get_by_role("button", name="after what runs").click()
    expect(page.locator(".notice")).to_contain_text("Stopping: what runs comes to its end")
    site.play.held["vacuum"].set()
    site.await_status(vacuum.id, "completed")
    expect(page.locator("h1")).to_contain_text("done")


def test_what_cannot_be_done_is_told_on_a_page(troubled: Site, visit: Visit) -> None:
    run = troubled.submit("late.db")
    troubled.work()
    visitor = visit(troubled.url)
    page = visitor.comes(f"/runs/{run.id}")
    token = page.locator("input[name=csrf_token]").first.input_value()
    answer = page.request.post(
        f"{troubled.url}/jobs/{run.id}/stop", form={"csrf_token": token}, headers={"Origin": troubled.url}
    )
    assert answer.status == 409
    assert "That was not done" in answer.text()
    assert page.request.get(f"{troubled.url}/runs/nothing").status == 404
    many: dict[str, str | float | bool] = {"csrf_token": token, **{f"field{number}": "1" for number in range(30)}}
    answer = page.request.post(f"{troubled.url}/jobs/{run.id}/stop", form=many, headers={"Origin": troubled.url})
    assert (answer.status, "more than 20 fields" in answer.text()) == (422, True)


ELSEWHERE = ("//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "/a\r\nb")


def test_a_button_leads_nowhere_else(site: Site, visit: Visit) -> None:
    run = site.submit("app.db")
    page = visit(site.url).comes(f"/runs/{run.id}")
    token = page.locator("input[name=csrf_token]").first.input_value()
    for back in ELSEWHERE:
        answer = page.request.post(
            f"{site.url}/jobs/{run.id}/pause", form={"csrf_token": token, "back": back}, headers={"Origin": site.url},
            max_redirects=0,
        )  # fmt: skip
        assert (answer.status, answer.headers["location"]) == (303, f"/runs/{run.id}"), back


def test_an_error_is_told_with_its_kind_and_hint_and_linked_to(troubled: Site, visit: Visit) -> None:
    page = visit(troubled.url).comes()
    page.locator(".item", has_text="full.db").get_by_role("link").click()
    row = page.locator(".operation.failed")
    expect(row.locator(".drawer")).to_be_visible()  # unfolded, since the link leads to it
    expect(row).to_contain_text("no space left on the device")
    expect(row.locator(".hint")).to_contain_text("make room")
    expect(row.locator(".pairs")).to_contain_text("engine")


def test_rows_are_grouped_by_table_and_divided_into_pages(site: Site, visit: Visit) -> None:
    site.play.tables = [f"public.t{number:03}" for number in range(90)]
    site.play.faults["public.t077"] = ValueError("torn page")
    run = site.submit("big.db", parallel=4)
    site.work()
    page = visit(site.url).comes(f"/runs/{run.id}")
    expect(page.locator(".table-group")).to_have_count(30)
    expect(page.get_by_text("page 1 of 3")).to_be_visible()
    page.get_by_role("link", name="next →").click()
    expect(page.locator(".table-group").first).to_contain_text("public.t030")
    page.goto(f"{site.url}/")
    page.locator(".item", has_text="public.t077").first.get_by_role("link").click()
    expect(page.locator(".operation:target .drawer")).to_contain_text("torn page")
    page.fill("#q", "state:failed")
    page.keyboard.press("Enter")
    expect(page.locator(".operation")).to_have_count(2)
    expect(page.locator(".operation").first).to_contain_text("torn page")


def test_a_run_over_many_databases_shows_what_is_to_be_seen_first(site: Site, visit: Visit) -> None:
    site.play.faults["vacuum"] = ValueError("torn page")
    bad = site.submit_many(["bad.db"], name="nightly")
    site.work()
    del site.play.faults["vacuum"]
    run = site.submit_many([f"tenant-{number:02}.db" for number in range(55)])
    site.work()
    page = visit(site.url).comes(f"/runs/{run.id}")
    expect(page.locator("details.database")).to_have_count(40)
    expect(page.locator(".facts").first).to_have_text("55 databases: 55 done")
    expect(page.get_by_text("page 1 of 2")).to_be_visible()
    page.goto(f"{site.url}/runs/{bad.id}")
    expect(page.locator("details.database .operation .row-why")).to_contain_text("torn page")
    page.get_by_role("link", name="Only this database").click()
    expect(page.locator("h1")).to_contain_text("bad.db")


def test_the_timeline_has_bars_ghosts_and_a_table(site: Site, held: Held, visit: Visit) -> None:
    run, _ = held
    page = visit(site.url).comes(f"/runs/{run.id}")
    expect(page.locator("svg.timeline g.running")).to_have_count(1)
    expect(page.locator("svg.timeline g.ghost")).to_have_count(1)
    expect(page.locator("svg.timeline line.now")).to_have_count(1)
    page.locator("section:has(#course) .data > summary").click()
    expect(page.locator("section:has(#course) .data tbody tr")).to_have_count(1)


def test_the_report_is_one_file_that_needs_nothing_else(troubled: Site, visit: Visit) -> None:
    page = visit(troubled.url).comes()
    page.locator(".item", has_text="full.db").get_by_role("link").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="report as one file").click()
    text = Path(download.value.path()).read_text()
    assert "no space left on the device" in text
    assert "full.db" in text
    assert 'src="' not in text


def test_a_report_breaks_no_name_in_the_middle_of_a_word(site: Site, visit: Visit, tmp_path: Path) -> None:
    names = ["tenants/core.db", "a-customer-of-whom-the-name-is-long/and_its_archive_of_all_years.sqlite3"]
    said = "a writer would have had to wait for 12 s, which is longer than max_stall allows: " + "it was put off. " * 20
    site.play.faults["vacuum"] = OperationError(said, hint="raise max_stall, or run it when nobody writes")
    for name in names:
        site.submit(name)
    site.work()
    page = visit(site.url).comes()
    for name in names:
        report = tmp_path / "report.html"
        root = next(job for job in site.app.reader.jobs(JobQuery(roots=True)).jobs if job.name == name)
        report.write_text(page.request.get(f"{site.url}/runs/{root.id}/report.html").text())
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(report.as_uri())
            cells = page.locator("td.database:visible")
            assert cells.count() == 2
            lines = [cell.evaluate(LINES) for cell in cells.all()]
            assert all(re.fullmatch(r".*[-/_.]", line) for each in lines for line in each[:-1]), lines
            assert max(map(len, lines)) <= len(name) // 12, "a narrow column of many lines"
            assert page.evaluate("document.documentElement.scrollWidth") <= width


LINES = """cell => {  // what stands on each of its lines, as it is drawn
  const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), range = document.createRange(), lines = [];
  let last = null;
  while (texts.nextNode()) {
    const text = texts.currentNode;
    for (let place = 0; place < text.length; place++) {
      range.setStart(text, place);
      range.setEnd(text, place + 1);
      const at = range.getBoundingClientRect().top;
      if (last === null || Math.abs(at - last) > 4) lines.push("");
      last = at;
      lines[lines.length - 1] += text.data[place];
    }
  }
  return lines;
}"""
