"""What holds of every page: hostile names stay names, keys, a phone's width, no script, dark and light, contrast."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from msgspec.structs import replace
from playwright.sync_api import Page, Route, expect

from dbupkeep.access import Access, Role
from dbupkeep.config import Config
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.errors import OperationError
from tests.integration.page.served import HOSTILE, TOKEN, Site, Visit, configuration, site_on

pytestmark = [pytest.mark.slow, pytest.mark.engine("chromium")]


@pytest.fixture
def hostile_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site on which everything that has a name has one that would be a script."""
    monkeypatch.setenv("DBUPKEEP_TOKEN", TOKEN)
    with site_on(tmp_path, hostile()) as site:
        site.play.tables = [
            f"public.{HOSTILE}",
            "javascript:window.ran=1",
            "</title></svg><script>window.ran=1</script>",
        ]
        site.play.faults[f"public.{HOSTILE}"] = OperationError(f"index {HOSTILE} is broken", hint=f"`{HOSTILE}`")
        yield site


def test_hostile_names_run_no_script(hostile_site: Site, visit: Visit) -> None:
    hostile_site.submit(f"{HOSTILE}.db", parallel=3)
    hostile_site.submit_many([f"{HOSTILE}.db", "javascript:window.ran=1"], name=HOSTILE)
    hostile_site.work()
    page = visit(hostile_site.url).comes()
    for place in [*hostile_site.places(), f"/?q={HOSTILE}"]:
        page.goto(f"{hostile_site.url}{place}")
        for fold in page.locator("main details:not(.ask) > summary").all():
            if fold.is_visible() and not fold.locator("xpath=..").evaluate("it => it.open"):
                fold.click()
        assert page.evaluate("window.ran") is None, place
        assert page.locator("main img, main script, [href^='javascript:']").count() == 0, place
    expect(page.locator("#q")).to_have_value(" ".join(HOSTILE.split()))
    page.goto(f"{hostile_site.url}/")
    assert HOSTILE in page.locator("table.runs").inner_text()


def test_hostile_names_that_come_by_the_stream_run_no_script(hostile_site: Site, visit: Visit) -> None:
    page = visit(hostile_site.url).comes("/schedule")
    page.get_by_role("button", name="Start now").click()
    page.wait_for_url("**/runs/**")
    expect(page.locator("h1")).to_contain_text("<img src=x")
    hostile_site.work()
    page.goto(f"{hostile_site.url}/")
    hostile_site.play.hold("vacuum")
    run = hostile_site.submit(f"{HOSTILE}-live.db", operations="vacuum")
    hostile_site.begin_to_work()
    expect(page.locator(".card")).to_contain_text("<img src=x")
    page.goto(f"{hostile_site.url}/runs/{run.id}")
    hostile_site.play.held["vacuum"].set()
    hostile_site.await_status(run.id, "failed")
    expect(page.locator("h1 .badge")).to_contain_text("failed")
    assert page.evaluate("window.ran") is None


def hostile() -> Config:
    config = configuration()
    job = replace(config.jobs["nightly"], name=HOSTILE)
    target = Target(name=HOSTILE, url=f"scripted:///{HOSTILE}", pattern="*.db")
    return replace(config, jobs={HOSTILE: job}, targets={HOSTILE: target})


def test_the_way_in_and_out(site: Site, visit: Visit) -> None:
    visitor = visit(site.url)
    page = visitor.stranger()
    page.goto(f"{site.url}/schedule")
    expect(page.locator("h1")).to_have_text("Log in")
    page.fill("#token", "a wrong one")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("That is no valid token.")
    page.fill("#token", TOKEN)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("h1")).to_have_text("Schedule")
    page.get_by_role("button", name="Log out").click()
    expect(page.locator("h1")).to_have_text("Log in")
    visitor.complaints.clear()  # a browser notes the status of a wrong token


def test_who_may_only_look_has_no_buttons(troubled: Site, visit: Visit) -> None:
    app = troubled.app
    access = Access(reader=app.reader, lifecycle=app.lifecycle, clock=app.clock)
    visitor = visit(troubled.url)
    visitor.token = access.create("maria", Role.VIEWER, by="the tests")
    page = visitor.comes()
    for place in [place for place in troubled.places() if place != "/audit"]:
        page.goto(f"{troubled.url}{place}")
        expect(page.locator("h1")).to_be_visible()
        assert page.locator("main form[method=post]").count() == 0, place
    assert page.get_by_role("link", name="Audit").count() == 0
    assert page.request.get(f"{troubled.url}/audit").status == 403


def test_the_trail_names_databases_without_their_way(site: Site, visit: Visit) -> None:
    target = Target(name="srv", url="scripted:///srv/tenants", pattern="*.db")
    run_id = site.app.runs.create_run(JobDefinition(name="nightly", steps=(Step(name="all", targets=(target,)),)))
    (discovery,) = site.app.reader.children(run_id)
    site.app.lifecycle.skip(discovery.id, by="maria")
    page = visit(site.url).comes("/audit")
    cell = page.locator("tr", has_text="skip").locator("td.name").last
    expect(cell).to_have_text(f"{discovery.id} · survey of tenants")
    expect(cell).to_have_attribute("title", "discovery:scripted:///srv/tenants")


def test_a_page_that_is_turned_away_for_now_comes_again(site: Site, visit: Visit) -> None:
    visitor = visit(site.url)
    page = visitor.comes()
    expect(page.locator(".line")).to_have_text("live")
    left = {"eventsource": 1, "fetch": 4}  # a stream, and more looks than one change alone gives reason for

    def turn_away(route: Route) -> None:
        kind = route.request.resource_type
        if left.get(kind):
            left[kind] -= 1
            route.fulfill(status=429, headers={"Retry-After": "1"})
        else:
            route.continue_()

    page.route("**", turn_away)
    page.reload()
    expect(page.locator(".line")).to_have_text("connection lost; trying again")
    expect(page.locator(".line")).to_have_text("live")
    site.submit("late.db")
    expect(page.locator("table.runs")).to_contain_text("late.db")
    assert not any(left.values())
    assert all("429" in said for said in visitor.complaints)
    visitor.complaints.clear()  # a browser notes what it was refused


def test_keys(troubled: Site, visit: Visit) -> None:
    page = visit(troubled.url).comes()
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type("jk?")
    expect(page.locator("#q")).to_have_value("jk?")
    page.locator("h1").click()
    page.keyboard.press("j")
    expect(page.locator("main .row-link").first).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("k")
    first = page.locator("main .row-link").first
    expect(first).to_be_focused()
    assert first.evaluate("it => getComputedStyle(it).outlineStyle") == "solid"
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/**")
    page.keyboard.press("j")
    expect(page.locator("summary.row").first).to_be_focused()
    before = page.locator("details.operation").first.evaluate("it => it.open")
    page.keyboard.press("Enter")
    assert page.locator("details.operation").first.evaluate("it => it.open") is not before
    page.keyboard.press("g")
    page.keyboard.press("h")
    page.wait_for_url("**/history")


def test_the_history_says_what_its_line_of_sizes_counts(troubled: Site, visit: Visit) -> None:
    page = visit(troubled.url).comes("/history")
    expect(page.locator("figcaption").first).to_contain_text("what was not maintained yet counts as big as")


def test_keys_go_over_the_squares_of_databases(troubled: Site, visit: Visit) -> None:
    page = visit(troubled.url).comes("/databases")
    page.keyboard.press("j")
    expect(page.locator(".heatmap a").first).to_be_focused()
    page.keyboard.press("j")
    expect(page.locator(".heatmap a").nth(1)).to_be_focused()


def test_buttons_stay_in_their_row_while_one_is_asked_once_more(site: Site, visit: Visit) -> None:
    run = site.submit("app.db")
    page = visit(site.url).comes(f"/runs/{run.id}")
    row = [page.get_by_role("button", name="Pause"), page.get_by_text("Cancel…"), page.get_by_text("Limits…")]
    before = [each.bounding_box() for each in row]
    page.get_by_text("Cancel…").click()
    expect(page.get_by_role("button", name="Cancel this run")).to_be_visible()
    assert [each.bounding_box() for each in row] == before
    asked, pause = page.locator(".ask[open] .sure").bounding_box(), before[0]
    assert asked
    assert pause
    assert asked["y"] >= pause["y"] + pause["height"], "below them"


def test_a_phone_has_room_for_reasons_and_says_where_a_picture_goes_on(troubled: Site, visit: Visit) -> None:
    page = visit(troubled.url).comes(viewport={"width": 375, "height": 800}, has_touch=True)
    places = page.locator(".top nav a").evaluate_all("all => new Set(all.map(each => each.offsetTop)).size")
    assert places == 1, "one row of places"
    assert page.locator(".item .why").first.evaluate("it => it.clientWidth") > 280
    page.goto(f"{troubled.url}/schedule")
    said = page.locator("figcaption").first.evaluate("it => getComputedStyle(it, '::before').content")
    assert "push it to the side" in said
    names = page.locator("section:has(#targets) td.name:first-child")
    assert names.evaluate_all("all => all.map(each => each.getClientRects()[0].height < 60)") == [True, True]


def test_a_phone_needs_no_scrolling_to_the_side(troubled: Site, visit: Visit) -> None:
    troubled.submit("a-database-with-a-very-long-name-that-has-no-place-to-break-at-all-in-it.db")
    troubled.work()
    page = visit(troubled.url).comes(viewport={"width": 380, "height": 800}, has_touch=True)
    for place in troubled.places():
        page.goto(f"{troubled.url}{place}")
        for fold in page.locator("details.operation > summary").all():
            fold.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= 380, place


def test_without_script_everything_is_there_and_buttons_work(site: Site, visit: Visit) -> None:
    site.play.hold("vacuum")
    run = site.submit("app.db")
    site.begin_to_work()
    page = visit(site.url).comes(f"/runs/{run.id}", java_script_enabled=False)
    expect(page.locator(".line")).to_have_text("read once; reload for news")
    expect(page.locator("#theme")).to_be_hidden()
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".notice")).to_contain_text("Paused")
    page.get_by_text("Cancel…").click()
    page.get_by_role("button", name="Cancel this run").click()
    site.await_status(run.id, "cancelled")
    for place in site.places():
        page.goto(f"{site.url}{place}")
        expect(page.locator("h1")).to_be_visible()


def test_dark_and_light_by_the_system_and_by_choice(troubled: Site, visit: Visit) -> None:
    page = visit(troubled.url).comes(color_scheme="dark")
    assert _paper(page) < 0.1
    page.get_by_role("button", name="Dark or light colours").click()
    assert _paper(page) > 0.9
    page.reload()
    assert _paper(page) > 0.9, "the choice is kept"
    assert page.locator("html").get_attribute("data-theme") == "light", "by the server, so that nothing flashes"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_all_text_is_at_least_that_of_wcag_aa(troubled: Site, visit: Visit, scheme: str) -> None:
    page = visit(troubled.url).comes(color_scheme=scheme)
    for place in troubled.places():
        page.goto(f"{troubled.url}{place}")
        assert page.evaluate(CONTRAST) == [], place


def test_all_addresses_are_below_the_path_that_a_proxy_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUPKEEP_TOKEN", TOKEN)
    config = configuration()
    config = replace(config, server=replace(config.server, root_path="/upkeep"))
    with site_on(tmp_path, config) as site:
        run = site.submit("app.db")
        site.work()
        for place in ("/", f"/runs/{run.id}", "/schedule", "/history", "/databases"):
            asked = Request(f"{site.url}{place}", headers={"Authorization": f"Bearer {TOKEN}"})  # noqa: S310 - our own
            with urlopen(asked) as answer:  # noqa: S310 - our own
                text = answer.read().decode()
            assert addresses(text), place
            assert [each for each in addresses(text) if not each.startswith(("/upkeep/", "#", "?"))] == [], place


def addresses(html: str) -> list[str]:
    return re.findall(r'(?:href|src|action|data-root)="([^"]*)"', html)


def test_pages_print_without_what_only_a_screen_can_do(troubled: Site, visit: Visit) -> None:
    page = visit(troubled.url).comes(color_scheme="dark")
    page.emulate_media(media="print")
    assert _paper(page) == 1, "paper is white"
    expect(page.locator(".filter")).to_be_hidden()
    expect(page.locator("h1")).to_be_visible()


def _paper(page: Page) -> float:
    """How light the page is, 0 to 1."""
    red, green, blue = page.evaluate(
        "getComputedStyle(document.documentElement).backgroundColor.match(/[0-9]+/g).map(Number)"
    )[:3]
    return float(red + green + blue) / 765


CONTRAST = """() => {
  const numbers = (text) => { const n = text.match(/[0-9.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = ([r, g, b]) => { const c = [r, g, b].map((v) => v / 255).map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * c[0] + .7152 * c[1] + .0722 * c[2]; };
  const behind = (it) => { for (let at = it; at; at = at.parentElement) { const c = numbers(getComputedStyle(at).backgroundColor); if (c[3] === 1) return c; }
    return [255, 255, 255, 1]; };
  const bad = [];
  for (const it of document.querySelectorAll("body *")) {
    const own = [...it.childNodes].some((child) => child.nodeType === 3 && child.nodeValue.trim());
    if (!own || !it.checkVisibility() || it.closest("option, datalist, title, :disabled")) continue;
    const style = getComputedStyle(it);
    const ink = numbers(it.closest("svg") ? style.fill : style.color);
    const [one, two] = [light(ink), light(behind(it))].sort((a, b) => b - a);
    const ratio = (one + .05) / (two + .05);
    if (ratio < 4.5) bad.push(`${it.tagName}.${it.getAttribute("class")} "${it.textContent.trim().slice(0, 30)}" ${ratio.toFixed(2)}`);
  }
  return [...new Set(bad)];
}"""
