"""A real service on a real SQLite file: a run from its start by a click to its end, and over a kill of the service."""

from __future__ import annotations

import re
import signal

import pytest
from playwright.sync_api import expect

from tests.integration.page.served import Service, Visit

pytestmark = [pytest.mark.slow, pytest.mark.engine("chromium")]


def test_a_run_from_start_to_end_and_over_a_kill_of_the_service(service: Service, visit: Visit) -> None:
    visitor = visit(service.url)
    page = visitor.comes("/schedule")
    page.get_by_role("button", name="Start now").click()
    page.wait_for_url(re.compile("/runs/"))
    expect(page.locator("h1")).to_contain_text("done")
    expect(page.locator(".numbers")).to_contain_text(re.compile(r"Given back\s*[3-6]\.\d MiB"))
    vacuum = page.locator(".operation", has_text="vacuum").first
    expect(vacuum).to_contain_text("→")
    vacuum.locator("summary").click()
    expect(vacuum.locator(".figures")).to_contain_text("free pages")
    expect(page.locator("svg.timeline .completed").first).to_be_visible()

    page.goto(f"{service.url}/")
    expect(page.locator(".line")).to_have_text("live")
    before = page.locator("table.runs").inner_text()
    service.end(signal.SIGKILL)
    expect(page.locator(".line")).to_have_text("connection lost; trying again")
    service.start()
    expect(page.locator(".line")).to_have_text("live")
    assert words(page.locator("table.runs").inner_text()) == words(before)
    page.evaluate("window.unchanged = true")
    other = page.context.new_page()
    other.goto(f"{service.url}/schedule")
    other.get_by_role("button", name="Start now").click()
    expect(page.locator("table.runs tbody tr")).to_have_count(2)
    expect(page.locator("table.runs tbody tr").first).to_contain_text("done")
    assert page.evaluate("window.unchanged"), "the page was loaded anew"
    lost = [said for said in visitor.complaints if "ERR_" in said]
    visitor.complaints[:] = [said for said in visitor.complaints if said not in lost]  # that the line was lost


def words(text: str) -> str:
    """Without what time changes."""
    return re.sub(r"just now|\d+ (s|min) ago", "", text)
