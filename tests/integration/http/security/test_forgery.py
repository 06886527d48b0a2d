"""C8: another site, on another machine or another port of this one, changes and reads nothing with a browser's cookie."""

from __future__ import annotations

import pytest

from dbupkeep.app import App
from tests.integration.http.security.conftest import Client, Header, Serve

OUT = "/logout"
"""A change that any role may make with a session: what guards it guards all of them."""


def fetched(site: str, mode: str = "cors", dest: str = "empty") -> list[Header]:
    return [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", dest)]


def test_a_change_that_the_page_wants_is_made(client: Client) -> None:
    by_form, by_script = client.log_in(), client.log_in()
    origin = ("Origin", client.origin)
    assert client.post(OUT, by_form.cookie, origin, csrf_token=by_form.csrf).status == 303
    token = ("X-CSRF-Token", by_script.csrf)
    assert client.ask("POST", OUT, by_script.cookie, origin, token, *fetched("same-origin")).status == 303


ORIGINS = [
    None, "null", "", "https://evil.example", "http://127.0.0.1", "http://127.0.0.1:1", "http://localhost:{port}",
    "https://127.0.0.1:{port}", "http://127.0.0.1:{port}.evil.example", "http://127.0.0.1:{port}/",
    "http://user@127.0.0.1:{port}", "file://", "http://127.0.0.1:{port} http://evil.example",
]  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_change_from_elsewhere_is_refused_whatever_else_it_knows(client: Client, origin: str | None) -> None:
    browser = client.log_in()
    said = [] if origin is None else [("Origin", origin.format(port=client.port))]
    answer = client.post(OUT, browser.cookie, *said, csrf_token=browser.csrf)
    assert answer.status == 403, answer
    assert client.get("/api/v1/jobs/none", browser.cookie).status == 404, "the session goes on"


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none-such"])
def test_a_change_that_the_browser_calls_foreign_is_refused(client: Client, site: str) -> None:
    browser = client.log_in()
    headers = (browser.cookie, ("Origin", client.origin), *fetched(site))
    assert client.post(OUT, *headers, csrf_token=browser.csrf).status == 403


@pytest.mark.parametrize("token", ["", "x", "0" * 64, "\u00e9", "{other}"])
def test_a_change_without_the_token_of_this_session_is_refused(client: Client, token: str) -> None:
    browser, other = client.log_in(), client.log_in("viewer")
    given = token.format(other=other.csrf)
    assert client.post(OUT, browser.cookie, ("Origin", client.origin), csrf_token=given).status == 403


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/json", ""])
def test_a_token_in_another_kind_of_body_is_none(client: Client, kind: str) -> None:
    browser = client.log_in()
    headers = (browser.cookie, ("Origin", client.origin), ("Content-Type", kind))
    assert client.ask("POST", OUT, *headers, body=f"csrf_token={browser.csrf}".encode()).status == 403


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_is_changed_by_reading(client: Client, method: str) -> None:
    browser = client.log_in()
    assert client.ask(method, OUT, browser.cookie).status == 405
    assert client.get("/api/v1/jobs/none", browser.cookie).status == 404


@pytest.mark.parametrize(
    ("mode", "dest"), [("no-cors", "script"), ("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe"),
                       ("navigate", "object"), ("websocket", "websocket")],
)  # fmt: skip
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_nothing_is_read_into_another_site(client: Client, site: str, mode: str, dest: str) -> None:
    browser = client.log_in()
    for path in ("/api/v1/jobs/none", "/api/v1/events/stream", "/static/page.css"):
        assert client.get(path, browser.cookie, *fetched(site, mode, dest)).status == 403


def test_a_link_from_anywhere_may_be_followed(client: Client) -> None:
    answer = client.get("/login", *fetched("cross-site", "navigate", "document"))
    assert answer.status == 200


def test_a_bearer_token_needs_no_page_but_a_foreign_page_cannot_lend_it(client: Client, app: App) -> None:
    assert client.post(OUT, role="viewer").status == 303
    assert client.post(OUT, ("Origin", "https://evil.example"), role="viewer").status == 403


def test_nobody_is_logged_in_by_another_site(client: Client) -> None:
    for origin in ([], [("Origin", "https://evil.example")], [("Origin", "null")]):
        answer = client.post("/login", *origin, token=client.tokens["admin"])
        assert answer.status == 403
        assert not answer.header("set-cookie")


def test_headers_that_say_two_things_are_refused(client: Client) -> None:
    browser = client.log_in()
    twice = (browser.cookie, ("Origin", client.origin), ("Origin", "https://evil.example"))
    assert client.post(OUT, *twice, csrf_token=browser.csrf).status == 400


def test_behind_a_proxy_the_origin_is_https(serve: Serve) -> None:
    client = serve(https=True)
    token = client.tokens["admin"]
    assert client.post("/login", ("Origin", client.origin), token=token).status == 403
    answer = client.post("/login", ("Origin", client.origin.replace("http:", "https:")), token=token)
    assert answer.status == 303
    assert {"Secure", "HttpOnly", "SameSite=strict"} <= set(answer.header("set-cookie").split("; "))
    assert answer.header("strict-transport-security")
