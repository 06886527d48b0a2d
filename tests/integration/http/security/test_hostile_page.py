"""C7, C8: what a page of somebody else can do with a real browser that is logged in here: nothing, not even look.

The hostile page is on another port of the same machine, which is the worst case: for a browser that is the same site, so it
sends the session's cookie along, whatever `SameSite` says.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from dbupkeep.app import App
from tests.integration.http.security.conftest import Client, Serve

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not here")]

ATTACK = """
async ([site, run]) => {
  const found = [];
  const tell = (what) => found.push(what);
  const form = (body) => ({method: "POST", credentials: "include", mode: "no-cors", body: new URLSearchParams(body)});
  for (const verb of ["cancel", "pause", "stop", "skip"]) {
    await fetch(`${site}/jobs/${run}/${verb}`, form({csrf_token: "guess"})).catch(() => {});
    await fetch(`${site}/api/v1/jobs/${run}/${verb}`, form({})).catch(() => {});
    navigator.sendBeacon(`${site}/jobs/${run}/${verb}`, new URLSearchParams({csrf_token: ""}));
  }
  await fetch(`${site}/api/v1/runs`, {...form({}), body: new Blob(['{"definition": "one"}'], {type: "text/plain"})}).catch(() => {});
  await fetch(`${site}/logout`, form({csrf_token: "guess"})).catch(() => {});
  for (const path of ["/", "/api/v1/jobs", "/audit", "/metrics", "/healthz", "/login"]) {
    await fetch(site + path, {credentials: "include"}).then(async (answer) => tell(`read ${path} ${await answer.text()}`), () => {});
  }
  for (const options of [{}, {headers: {"X-CSRF-Token": "guess"}}, {headers: {Authorization: "Bearer x"}}]) {
    await fetch(`${site}/api/v1/jobs/${run}/cancel`, {method: "POST", credentials: "include", ...options})
      .then(() => tell("answered"), () => {});
  }
  const loaded = (tag, attribute, path) => new Promise((done) => {
    const element = document.createElement(tag);
    element.onload = () => { tell(`${tag} loaded ${path}`); done(); };
    element.onerror = () => done();
    element[attribute] = site + path;
    document.body.append(element);
  });
  for (const path of ["/api/v1/jobs", "/favicon.ico", "/static/page.js"]) {
    await loaded("img", "src", path);
    await loaded("script", "src", path);
  }
  await new Promise((done) => {
    const stream = new EventSource(`${site}/api/v1/events/stream`, {withCredentials: true});
    stream.onopen = () => { tell("stream opened"); done(); };
    stream.onerror = () => { stream.close(); done(); };
  });
  const frame = document.createElement("iframe");
  frame.src = site + "/";
  document.body.append(frame);
  await new Promise((done) => { frame.onload = done; });
  try { if (frame.contentDocument && frame.contentDocument.body.innerText) tell("framed"); } catch { }
  return found;
}
"""


class Hostile(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><body>win a prize</body>")

    def log_message(self, *arguments: Any) -> None:  # type: ignore[explicit-override] # says nothing
        pass


@pytest.fixture
def hostile() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(30_000)
        yield page
        browser.close()


def log_in(page: Page, client: Client, role: str = "admin") -> None:
    """As a person does, with the form."""
    page.goto(f"{client.origin}/")
    page.fill("[name=token]", client.tokens[role])
    page.locator("form:has([name=token]) button").click()
    page.wait_for_url(f"{client.origin}/")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_page_of_somebody_else_does_nothing_and_sees_nothing(
    client: Client, app: App, run: str, page: Page, hostile: int, name: str
) -> None:
    log_in(page, client)
    before = app.reader.job(run)
    runs = len(app.reader.targets())
    page.goto(f"http://{name}:{hostile}/")
    assert page.evaluate(ATTACK, [client.origin, run]) == []
    assert app.reader.job(run) == before
    assert len(app.reader.targets()) == runs
    verbs = {entry.what for entry in app.ledger.acts() if entry.outcome == "done"}
    assert verbs <= {"token_create", "log_in"}
    page.goto(f"{client.origin}/audit")
    assert "Log in" not in page.title(), "the session goes on"


def test_a_form_of_somebody_else_that_is_sent_off_does_nothing(
    client: Client, app: App, run: str, page: Page, hostile: int
) -> None:
    log_in(page, client)
    before = app.reader.job(run)
    page.goto(f"http://127.0.0.1:{hostile}/")
    page.set_content(
        f'<form method=post action="{client.origin}/jobs/{run}/cancel"><input name=csrf_token value=x></form>'
    )
    with page.expect_response(f"**/jobs/{run}/cancel") as sent:
        page.evaluate("document.forms[0].submit()")
    assert sent.value.status == 403
    assert app.reader.job(run) == before


def test_a_name_that_leads_here_is_turned_away_by_the_name(serve: Serve, app: App) -> None:
    """As after DNS rebinding: the browser thinks that it is on the hostile site, and its requests come here."""
    client = serve()
    with sync_playwright() as playwright:
        rules = "--host-resolver-rules=MAP rebound.example 127.0.0.1"
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", rules])
        page = browser.new_page()
        answer = page.goto(f"http://rebound.example:{client.port}/healthz")
        assert answer is not None
        assert answer.status == 421
        read = "async (token) => (await fetch('/api/v1/jobs', {headers: {Authorization: 'Bearer ' + token}})).status"
        assert page.evaluate(read, client.tokens["admin"]) == 421
        browser.close()


def test_what_a_person_wants_works_with_a_real_browser(client: Client, app: App, run: str, page: Page) -> None:
    log_in(page, client, "operator")
    page.goto(f"{client.origin}/runs/{run}")
    form = page.locator("form[action$='/pause']").first
    with page.expect_navigation():  # its address is that of the page before, so only that says that it came back
        form.evaluate("form => form.submit()")
    deadline = threading.Event()
    for _ in range(200):
        job = app.reader.job(run)
        if job is not None and job.paused:
            break
        deadline.wait(0.05)
    assert job is not None
    assert job.paused
    page.goto(f"{client.origin}/")
    page.locator("form[action$='/logout']").first.evaluate("form => form.submit()")
    page.wait_for_url(f"{client.origin}/login")
    page.goto(f"{client.origin}/audit")
    assert page.url.startswith(f"{client.origin}/login")


def test_scripts_of_the_page_cannot_see_the_session(client: Client, page: Page) -> None:
    log_in(page, client)
    assert "dbupkeep_session" not in page.evaluate("document.cookie")
    inline = "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s); }"
    page.evaluate(inline)
    assert page.evaluate("window.ran") is None
