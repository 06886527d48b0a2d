"""C9: no route but a few answers who is not known, none who may less; and what every answer tells the browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from dbupkeep.access import Role
from dbupkeep.app import App
from dbupkeep.views.site import make_site
from dbupkeep.views.web.desk import Desk
from dbupkeep.views.web.paths import PUBLIC
from tests.integration.http.security.conftest import Client

OPEN_TO_ALL_WHO_ARE_KNOWN = {"/logout"}
"""Whoever is logged in may leave; a form of one's own session is asked for."""


@pytest.fixture
def site(desk: Desk) -> FastAPI:
    return make_site(desk, None)  # type: ignore[arg-type] # only looked at


def routes(site: FastAPI) -> Iterator[tuple[str, str, Role | None]]:
    """Method, path and role of every route."""
    found = 0
    for route in iter_route_contexts(site.routes):
        dependant = getattr(route, "dependant", None)
        for method in (route.methods or ()) if dependant else ():
            found += 1
            yield method, route.path or "", role_of(dependant)
    assert found > 5, "the routes are not where they are looked for"


def role_of(dependant: Any) -> Role | None:
    """The role that a route wants, found among what it depends on."""
    own = getattr(dependant.call, "role", None)
    found = [own] if own is not None else []
    found += [role for each in dependant.dependencies if (role := role_of(each)) is not None]
    return max(found) if found else None


def concrete(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "x", path)


def test_every_route_names_a_role(site: FastAPI) -> None:
    nameless = {path for _, path, role in routes(site) if role is None}
    assert nameless - PUBLIC - OPEN_TO_ALL_WHO_ARE_KNOWN <= {path for path in nameless if path.startswith("/static/")}


def test_no_route_answers_who_is_not_known(site: FastAPI, client: Client) -> None:
    wrong = ("Authorization", "Bearer wrong"), ("Authorization", f"Basic {client.tokens['admin']}"), ("X", "y")
    for method, path, _ in routes(site):
        if path in PUBLIC or path.startswith("/static/"):
            continue
        for header in wrong:
            assert client.ask(method, concrete(path), header).status == 401, (method, path, header)
    for path in ("/api/v1/openapi.json", "/api/v1/nowhere", "/nowhere", "/docs", "/redoc", "/static", "/healthz/x"):
        assert client.get(path).status == 401, path


def test_no_route_answers_who_may_less(site: FastAPI, client: Client) -> None:
    refused = 0
    for method, path, wanted in routes(site):
        for role in Role:
            if wanted is not None and role < wanted:
                answer = client.ask(method, concrete(path), role=role.word)
                assert answer.status == 403, (method, path, role, answer)
                assert method == "HEAD" or f"wants the role {wanted.word}" in answer.body.decode()
                refused += 1
    assert refused >= 2, "there is no route for operators or administrators, so nothing was shown"


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post", "QUERY"]
TRICKS = [
    ("X-HTTP-Method-Override", "POST"), ("X-Original-URL", "/audit"), ("X-Rewrite-URL", "/audit"), ("X-Forwarded-User", "admin"),
    ("X-Role", "admin"), ("Cookie", "role=admin; dbupkeep_session=x"),
]  # fmt: skip


def test_a_viewer_changes_nothing_whatever_they_try(site: FastAPI, client: Client, app: App, run: str) -> None:
    before = app.reader.job(run)
    browser = client.log_in("viewer")
    form = ("Content-Type", "application/x-www-form-urlencoded"), ("Origin", client.origin)
    for path in sorted({path for _, path, _ in routes(site)} - {"/logout", "/api/v1/events/stream"}):
        there = re.sub(r"\{(job_id|run_id)\}", run, path).replace("{verb}", "cancel").replace("{name}", "one")
        for method in METHODS:
            client.ask(method, concrete(there), *TRICKS[:-1], role="viewer")
            fields = f"csrf_token={browser.csrf}&_method=POST&at_a_time=3&role=admin".encode()
            client.ask(method, concrete(there), browser.cookie, *form, body=fields)
    for path in (
        "/audit/",
        "//audit",
        "/AUDIT",
        "/audit%2f",
        "/./audit",
        "/static/../audit",
        "/audit;x",
        "/audit%00",
        "/api/v1/audit/",
    ):
        for header in TRICKS:
            answer = client.get(path, header, role="viewer")
            assert answer.status in (307, 400, 403, 404), (path, header, answer)
    assert app.reader.job(run) == before
    done = {(entry.who, entry.what) for entry in app.ledger.acts(limit=1000) if entry.outcome == "done"}
    assert done - {("test", "token_create")} == {("token viewer", "log_in")}


def test_every_method_that_changes_something_wants_an_operator(site: FastAPI) -> None:
    changing = [(method, path, role) for method, path, role in routes(site) if method not in ("GET", "HEAD", "OPTIONS")]
    weak = [
        (method, path) for method, path, role in changing
        if (role is None or role < Role.OPERATOR) and path not in {"/login", *OPEN_TO_ALL_WHO_ARE_KNOWN}
    ]  # fmt: skip
    assert not weak


@pytest.mark.parametrize("path", ["/login", "/api/v1/jobs/none", "/nowhere", "/static/none", "/healthz", "/metrics"])
@pytest.mark.parametrize("host", [None, "evil.example"])
def test_every_answer_protects_what_it_shows(client: Client, path: str, host: str | None) -> None:
    answer = client.get(path, ("Origin", client.origin), role="admin", host=host)
    policy = dict(part.strip().partition(" ")[::2] for part in answer.header("content-security-policy").split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("x-frame-options") == "DENY"
    assert answer.header("referrer-policy") == "same-origin"
    assert not [name for name, _ in answer.headers if name.startswith("access-control")]
    if not path.startswith(("/login", "/static", "/healthz")):
        assert answer.header("cache-control") == "no-store"


def test_no_other_site_is_invited(client: Client) -> None:
    asking = (("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST"))
    answer = client.ask("OPTIONS", "/api/v1/jobs/x", *asking, role="admin")
    assert answer.status in (403, 405)
    assert not [name for name, _ in answer.headers if name.startswith("access-control")]


def test_a_person_is_led_to_the_form_and_a_program_is_told(client: Client) -> None:
    person = client.get("/runs/1?x=2", ("Accept", "text/html,*/*"))
    assert (person.status, person.header("location")) == (303, "/login?next=%2Fruns%2F1%3Fx%3D2")
    late = client.ask("POST", "/runs/1/pause", ("Accept", "text/html,*/*"), ("Origin", client.origin))
    assert (late.status, late.header("location")) == (303, "/login?next=%2F")
    program = client.get("/api/v1/jobs/1", ("Accept", "text/html,*/*"))
    assert (program.status, program.header("www-authenticate")) == (401, "Bearer")


def test_what_is_not_there_is_a_page_for_people_and_a_problem_for_programs(client: Client) -> None:
    person = client.get("/nope", ("Accept", "text/html,*/*"), role="viewer")
    assert (person.status, person.header("content-type")) == (404, "text/html; charset=utf-8")
    assert b"There is nothing here" in person.body
    for path, accept in (("/nope", "application/json"), ("/api/v1/nope", "text/html")):
        program = client.get(path, ("Accept", accept), role="viewer")
        assert (program.status, program.header("content-type")) == (404, "application/problem+json")
    method = client.ask("PUT", "/history", ("Accept", "text/html"), ("Origin", client.origin), role="viewer")
    assert (method.status, method.header("content-type")) == (405, "text/html; charset=utf-8")
    assert "GET" in method.header("allow")


@pytest.mark.parametrize("path", ["/login", "/", "/history", "/schedule", "/nope"])
def test_a_page_is_answered_by_head_as_by_get_without_its_body(client: Client, path: str) -> None:
    told = [client.ask(method, path, role="viewer") for method in ("GET", "HEAD")]
    assert told[0].status == told[1].status
    assert told[0].header("content-type") == told[1].header("content-type")
    assert told[1].body == b""
