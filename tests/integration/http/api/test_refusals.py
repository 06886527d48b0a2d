"""What is refused, and how that is told: always as a problem document, never with anything from inside."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from dbupkeep.app import App
from dbupkeep.errors import LedgerError
from dbupkeep.ledger import JobQuery
from dbupkeep.testing.pair_kit import together
from dbupkeep.testing.scripted import ScriptedEngine
from dbupkeep.views.web.desk import SURVEYS, Desk
from tests.integration.http.api.conftest import Answer, Client

API = "/api/v1"


def assert_problem(answer: Answer, status: int, kind: str) -> None:
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (answer.json["status"], answer.json["kind"]) == (status, kind)
    assert answer.json["type"] == f"https://dbupkeep.invalid/problems/{kind}"


def at_once(*asks: Callable[[], Answer]) -> list[Answer]:
    answers = together(*asks)
    assert all(isinstance(answer, Answer) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Answer)]


def raising(error: Exception) -> Any:
    def broken(*_arguments: object, **_named: object) -> NoReturn:
        raise error

    return broken


def test_what_nobody_expected_is_told_without_anything_from_inside(
    client: Client, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.reader, "jobs", raising(RuntimeError("the secret of /etc/passwd")))
    answer = client.get(f"{API}/jobs")
    assert_problem(answer, 500, "bug")
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body


def test_a_ledger_that_cannot_be_used_is_told_as_such(
    client: Client, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.reader, "newest", raising(LedgerError("the ledger cannot be used", hint="free some space")))
    for path in ("/healthz", f"{API}/events/stream"):
        answer = client.get(path)
        assert_problem(answer, 503, "ledger")
        assert answer.json["hint"] == "free some space"


def test_a_path_or_a_method_that_is_not_there(client: Client) -> None:
    assert_problem(client.get(f"{API}/nothing"), 404, "not_found")
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        answer = client(method, f"{API}/jobs")
        assert_problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "GET"
    assert client("HEAD", f"{API}/jobs").status == 405


@pytest.mark.parametrize("beginning", [b"[", b'{"targets":', b'{"a":[{"b":'])
def test_a_body_nested_deeply_is_refused_at_once(client: Client, beginning: bytes) -> None:
    began = time.monotonic()
    answer = client.post(f"{API}/runs", beginning * (60_000 // len(beginning)), Content_Type="application/json")
    assert answer.status in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("body", [
    b"", b"{", b"\xff", b'"text"', b"12", b"null", b"NaN", b'{"targets": "a"}', b'{"targets": [1]}', b'{"targets": ["\\ud800"]}',
    b'{"targets": ["' + b"a" * 65 + b'"]}', b'{"targets": ' + b"9" * 50_000 + b"}", b'{"targets": [' + b'"a",' * 101 + b'"a"]}',
])  # fmt: skip
def test_a_body_that_is_no_request_is_refused(client: Client, app: App, body: bytes) -> None:
    answer = client.post(f"{API}/runs", body, Content_Type="application/json")
    assert answer.status in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert not app.reader.jobs(JobQuery()).jobs


def test_a_parameter_that_comes_twice_is_refused_unless_any_of_them_is_meant(client: Client) -> None:
    refused = client.get(f"{API}/runs?limit=1&limit=2")
    assert (refused.status, refused.json["detail"]) == (422, "the parameter 'limit' came 2 times")
    assert client.get(f"{API}/runs?status=running&status=failed").status == 200


def test_titles_are_those_of_http(client: Client) -> None:
    assert client.get(f"{API}/nothing").json["title"] == "Not Found"
    assert client.post(f"{API}/runs", {}).json["title"] == "Unprocessable Content"


def test_a_form_is_no_request(client: Client) -> None:
    """So no other site can have a browser send one."""
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        assert client.post(f"{API}/runs", b'{"definition": "one"}', Content_Type=kind).status == 422


@pytest.mark.parametrize("body", [b'{"definition": "one"}', b'{"targets": ["a"]}'])
def test_of_requests_with_one_key_that_come_at_once_one_makes_a_run(client: Client, app: App, body: bytes) -> None:
    def ask() -> Answer:
        return client.post(f"{API}/runs", body, Content_Type="application/json", Idempotency_Key="at-once")

    answers = at_once(*(ask for _ in range(12)))
    assert [answer.status for answer in answers] == [202] * 12
    assert len({answer.json["id"] for answer in answers}) == 1
    assert len(app.reader.jobs(JobQuery(roots=True)).jobs) == 1


def test_of_different_requests_with_one_key_that_come_at_once_one_is_carried_out(client: Client, app: App) -> None:
    def ask(name: str) -> Callable[[], Answer]:
        return lambda: client.post(f"{API}/runs", {"targets": [name]}, Idempotency_Key="at-once")

    answers = at_once(*(ask("ab"[number % 2]) for number in range(12)))
    assert sorted(answer.status for answer in answers) == [202] * 6 + [422] * 6
    assert {answer.json["kind"] for answer in answers if answer.status == 422} == {"idempotency_key_reused"}
    assert len(app.reader.jobs(JobQuery(roots=True)).jobs) == 1


def test_of_plans_with_one_key_that_are_made_at_once_one_is_kept_and_one_run_made_of_it(
    client: Client, app: App
) -> None:
    plans = at_once(
        *(lambda: client.post(f"{API}/plans", {"targets": ["a"]}, Idempotency_Key="p") for _ in range(SURVEYS))
    )
    assert [plan.status for plan in plans] == [201] * SURVEYS
    (plan_id,) = {plan.json["id"] for plan in plans}
    runs = at_once(
        *(lambda: client.post(f"{API}/runs", {"plan": plan_id}, Idempotency_Key="r") for _ in range(SURVEYS))
    )
    assert [run.status for run in runs] == [202] * SURVEYS
    assert len(app.reader.jobs(JobQuery(roots=True)).jobs) == 1


def test_few_look_at_databases_at_a_time(client: Client, desk: Desk, engine: ScriptedEngine) -> None:
    from contextlib import ExitStack

    with ExitStack() as others:
        for _ in range(SURVEYS):
            others.enter_context(desk.surveying())
        answer = client.post(f"{API}/plans", {"targets": ["a"]})
        assert_problem(answer, 503, "busy")
        assert answer.headers["retry-after"] == "5"
    assert client.post(f"{API}/plans", {"targets": ["a"]}).status == 201


def test_a_body_that_is_not_understood_is_told_in_one_sentence(client: Client) -> None:
    assert_problem(client("POST", f"{API}/runs", b"{", Content_Type="application/json"), 400, "bad_request")
    unsaid = client("POST", f"{API}/runs", b'{"definition": "x"}')
    assert_problem(unsaid, 422, "usage")
    assert "Content-Type: application/json" in unsaid.json["hint"]
    empty = client("POST", f"{API}/runs", {})
    assert empty.json["errors"] == [
        {"at": "body", "detail": "it does not say what to do: give `definition` or `targets` or `plan`"}
    ]
    wrong = client("POST", f"{API}/runs", {"targets": "a"})
    assert [fault["at"] for fault in wrong.json["errors"]] == ["body/targets"]


def test_what_has_a_tag_is_kept_by_nobody_else_and_asked_for_anew(client: Client) -> None:
    answer = client("GET", f"{API}/jobs")
    assert answer.headers["etag"]
    assert answer.headers["cache-control"] == "private, no-cache"
