"""The routes of the API: what each gives and does, over a real socket."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from dbupkeep.app import App
from dbupkeep.codec import rfc3339
from dbupkeep.config import Config
from dbupkeep.documents import job_document, run_document
from dbupkeep.errors import OperationError
from dbupkeep.events import JobCancelled, JobCompleted, JobFailed
from dbupkeep.jobs import JobStatus
from dbupkeep.ledger import JobQuery
from dbupkeep.testing.pair_kit import done, family, next_delivery
from dbupkeep.testing.scripted import ScriptedEngine
from dbupkeep.views.web.cursors import cursor_of
from dbupkeep.worker import Ended
from tests.integration.http.api.conftest import Client, found, run_of

API = "/api/v1"


def as_json(document: Any) -> Any:
    return json.loads(json.dumps(document))


def test_a_run_of_a_job_is_accepted_and_found_where_it_says(client: Client, app: App) -> None:
    accepted = client.post(f"{API}/runs", {"definition": "nightly"})
    assert accepted.status == 202
    run = accepted.json
    assert accepted.headers["location"] == f"{API}/runs/{run['id']}"
    assert (run["type"], run["name"], run["status"]) == ("maintenance_run", "nightly", "running")
    app.drain()
    tree = client.get(accepted.headers["location"]).json
    assert tree["outcome"] == "done"
    databases = found(tree["jobs"], type="database_maintenance_parent")
    assert [each["name"] for each in databases] == ["a", "b"]
    assert [job["config"] for each in databases for job in each["jobs"]] == [
        {"operation": name} for name in ("vacuum", "reindex", "analyze")
    ] * 2
    kept = app.reader.get("definition", run["id"]) or {}
    assert kept["requested_by"] == "token test"


def test_a_run_of_targets_takes_operations_and_a_policy(client: Client, app: App) -> None:
    asked = {"targets": ["b", "b"], "operations": ["analyze", "vacuum"], "force": True, "consents": ["stall"]}
    run = client.post(f"{API}/runs", asked).json
    app.drain()
    tree = client.get(f"{API}/runs/{run['id']}").json
    (database,) = found(tree["jobs"], type="database_maintenance_parent")
    assert [job["config"]["operation"] for job in database["jobs"]] == ["vacuum", "analyze"]
    plan = client.get(f"{API}/jobs/{database['id']}").json
    assert plan["target"] == "scripted:///b"
    (step,) = (app.reader.get("definition", run["id"]) or {})["steps"]
    assert step["policy"]["force"] is True
    assert step["policy"]["consents"] == ["stall"]


@pytest.mark.parametrize(
    ("asked", "status", "kind"),
    [
        ({"definition": "nightyl"}, 404, "unknown_name"),
        ({"targets": ["c"]}, 404, "unknown_name"),
        ({"targets": ["a"], "policy": "none"}, 404, "unknown_name"),
        ({"plan": "none"}, 404, "unknown_name"),
        ({"targets": []}, 422, "usage"),
        ({"targets": ["a"], "operations": ["vaccum"]}, 422, "usage"),
        ({"targets": ["a"], "definition": "one"}, 422, "usage"),
        ({"targets": ["a"], "url": "scripted:///c"}, 422, "usage"),
        ({"targets": ["../../etc/passwd"]}, 404, "unknown_name"),
        ({"targets": ["sqlite:///etc/passwd"]}, 404, "unknown_name"),
        ({}, 422, "usage"),
        ([], 422, "usage"),
    ],
)
def test_what_the_configuration_does_not_name_is_refused(
    client: Client, app: App, asked: Any, status: int, kind: str
) -> None:
    for path in (f"{API}/runs", f"{API}/plans"):
        answer = client.post(path, asked)
        wanted = (422, "usage") if path.endswith("plans") and "plan" in asked else (status, kind)
        assert (answer.status, answer.json["kind"]) == wanted
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["type"].endswith(f"/{wanted[1]}")
    assert not app.reader.jobs(JobQuery()).jobs


def test_a_plan_is_saved_and_exactly_it_is_applied(client: Client, app: App) -> None:
    made = client.post(f"{API}/plans", {"targets": ["a"], "operations": ["vacuum"]})
    assert made.status == 201
    plan = made.json
    assert made.headers["location"] == f"{API}/plans/{plan['id']}"
    assert client.get(made.headers["location"]).json == plan
    assert [(item["operation"], item["decision"]) for item in plan["jobs"]] == [("vacuum", "run")]
    assert not app.reader.jobs(JobQuery()).jobs
    run = client.post(f"{API}/runs", {"plan": plan["id"]}).json
    app.drain()
    tree = client.get(f"{API}/runs/{run['id']}").json
    assert [job["config"] for job in tree["jobs"]] == [{"operation": "vacuum"}]
    assert tree["outcome"] == "done"


def test_a_plan_of_several_databases_is_applied_as_one_run(client: Client, app: App) -> None:
    plan = client.post(f"{API}/plans", {"definition": "nightly"}).json
    assert [each["target"] for each in plan["jobs"]] == ["scripted:///a", "scripted:///b"]
    run = client.post(f"{API}/runs", {"plan": plan["id"]}).json
    assert run["type"] == "maintenance_run"
    app.drain()
    assert client.get(f"{API}/jobs/{run['id']}").json["children"]["completed"] == 2


def test_a_plan_that_its_database_no_longer_fits_is_refused_and_what_changed_is_named(
    client: Client, app: App, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = client.post(f"{API}/plans", {"targets": ["a"]}).json
    monkeypatch.setattr(engine, "drift", lambda item, facts: "the file was replaced")
    refused = client.post(f"{API}/runs", {"plan": plan["id"]}, Idempotency_Key="again")
    assert (refused.status, refused.json["kind"]) == (409, "drift")
    assert "the file was replaced" in refused.json["detail"]
    assert not app.reader.jobs(JobQuery()).jobs
    monkeypatch.undo()
    assert client.post(f"{API}/runs", {"plan": plan["id"]}, Idempotency_Key="again").status == 202  # nothing was made


def test_jobs_are_told_as_everywhere(client: Client, app: App, config: Config) -> None:
    run_id = run_of(app, config)
    root = app.reader.job(run_id)
    assert root is not None
    assert client.get(f"{API}/runs/{run_id}").json == as_json(run_document(root, app.reader.children))
    assert client.get(f"{API}/jobs/{run_id}").json == as_json(job_document(root))
    assert client.get(f"{API}/runs").json == {"jobs": [as_json(job_document(root))], "cursor": None}
    children = client.get(f"{API}/jobs/{run_id}/children").json["jobs"]
    assert children == [as_json(job_document(child)) for child in app.reader.children(run_id)]


def test_jobs_are_filtered(client: Client, app: App, config: Config, engine: ScriptedEngine) -> None:
    def act(session: Any, item: Any, report: Any) -> None:
        if item.operation == "reindex":
            raise OperationError("it broke")

    engine.act = act
    first, second = run_of(app, config), run_of(app, config, "nightly")

    def ids(query: str) -> set[str]:
        jobs = client.get(f"{API}/jobs?{query}").json["jobs"]
        return {job["id"] for job in jobs}

    everything = app.reader.jobs(JobQuery(), limit=500).jobs
    assert ids("limit=500") == {job.id for job in everything}
    assert ids("status=failed&type=database_maintenance_operation") == {
        job.id for job in everything if job.config.get("operation") == "reindex"
    }
    assert ids("status=failed&status=completed&type=database_discovery") == {
        job.id for job in everything if job.type == "database_discovery"
    }
    assert ids("target=scripted:///b") == {job.id for job in everything if job.target.endswith("scripted:///b")}
    assert ids(f"run={first}") == {job.id for job in everything if job.correlation_id == first}
    assert ids(f"parent={second}") == {job.id for job in app.reader.children(second)}
    refused = client.get(f"{API}/jobs?statsu=failed")
    assert (refused.status, refused.json["errors"][0]["at"]) == (422, "query/statsu")


def test_pages_of_a_list_hold_each_job_once_while_others_are_added(client: Client, app: App) -> None:
    before = [family("a", "b") for _ in range(6)]
    for new in before:
        app.lifecycle.submit(new.submission)
    wanted = [job.id for new in before for job in (new.parent, *new.children)]
    seen: list[str] = []
    path = f"{API}/jobs?limit=4&status=running&status=pending"
    while path:
        page = client.get(path)
        seen += [job["id"] for job in page.json["jobs"]]
        app.lifecycle.submit(family("c").submission)  # newer: before the first page
        assert bool(page.link) == bool(page.json["cursor"])
        path = page.link
    assert seen == sorted(wanted, reverse=True)


def test_children_come_in_order_page_by_page(client: Client, app: App) -> None:
    new = family(*(f"{n}" for n in range(7)))
    app.lifecycle.submit(new.submission)
    seen: list[str] = []
    path = f"{API}/jobs/{new.parent.id}/children?limit=3"
    while path:
        page = client.get(path)
        seen += [job["id"] for job in page.json["jobs"]]
        path = page.link
    assert seen == [child.id for child in new.children]


@pytest.mark.parametrize(
    "cursor", ["x", "WyJqb2JzIl0", "WyJvdGhlciIsIngiXQ", "WyJoaXN0b3J5IiwiYSIsMV0", "é", "a" * 400, "W1tbW1tb"]
)
def test_a_cursor_of_another_list_is_refused(client: Client, cursor: str) -> None:
    from urllib.parse import quote

    refused = client.get(f"{API}/jobs?cursor={quote(cursor)}")
    assert (refused.status, refused.json["kind"]) == (422, "usage")


def test_what_has_not_changed_is_not_sent_again(client: Client, app: App, config: Config) -> None:
    run_id = run_of(app, config)
    for path in (
        "runs", "jobs", f"runs/{run_id}", f"jobs/{run_id}", f"jobs/{run_id}/children", f"jobs/{run_id}/logs",
        f"runs/{run_id}/events", f"runs/{run_id}/report", "events", "history", "targets", "targets/a", "definitions",
        "definitions/one", "workers",
    ):  # fmt: skip
        first = client.get(f"{API}/{path}")
        assert first.status == 200, path
        again = client.get(f"{API}/{path}", If_None_Match=f'"other", {first.headers["etag"]}')
        assert (again.status, again.body) == (304, b""), path
        assert again.headers["etag"] == first.headers["etag"]
        assert client.get(f"{API}/{path}", If_None_Match='"other"').status == 200
    listed = client.get(f"{API}/runs").headers["etag"]
    run_of(app, config)
    assert client.get(f"{API}/runs", If_None_Match=listed).status == 200


def test_a_verb_is_refused_where_the_job_is_not_as_it_was_seen(client: Client, app: App) -> None:
    new = family("a", "b", slots=2)
    app.lifecycle.submit(new.submission)
    run = f"{API}/jobs/{new.parent.id}"
    seen = client.get(run).headers["etag"]
    assert app.lifecycle.begin(next_delivery(new.children[0]), "w")  # work goes on: nothing was decided
    assert client.get(run).headers["etag"] != seen
    paused = client.post(f"{run}/pause", If_Match=seen)
    assert (paused.status, paused.json["job"]["control"]["paused"]) == (200, True)
    late = client.post(f"{run}/cancel", If_Match=seen)
    assert (late.status, late.json["kind"]) == (412, "precondition_failed")
    assert client.post(f"{run}/cancel", If_Match=f"W/{client.get(run).headers['etag']}").status == 412
    assert not app.reader.jobs(JobQuery(statuses=(JobStatus.CANCELLED,))).jobs
    assert client.post(f"{run}/cancel", If_Match=client.get(run).headers["etag"]).status == 200
    assert client.post(f"{run}/cancel", If_Match="*").status == 200


def test_a_key_makes_one_run_however_often_it_is_sent(client: Client, app: App) -> None:
    first = client.post(f"{API}/runs", {"definition": "one"}, Idempotency_Key="k-1")
    again = client.post(f"{API}/runs", {"definition": "one"}, Idempotency_Key="k-1")
    assert (first.status, again.status) == (202, 202)
    assert first.json["id"] == again.json["id"]
    assert first.headers["location"] == again.headers["location"]
    other = client.post(f"{API}/runs", {"definition": "nightly"}, Idempotency_Key="k-1")
    assert (other.status, other.json["kind"]) == (422, "idempotency_key_reused")
    plan = client.post(f"{API}/plans", {"definition": "one"}, Idempotency_Key="k-1")
    assert (plan.status, plan.json["kind"]) == (422, "idempotency_key_reused")
    assert client.post(f"{API}/runs", {"definition": "one"}, Idempotency_Key="k-2").json["id"] != first.json["id"]
    assert len(app.reader.jobs(JobQuery(roots=True)).jobs) == 2
    assert client.post(f"{API}/runs", {"definition": "one"}, Idempotency_Key="a b").status == 422


def test_a_key_makes_one_plan_and_one_run_of_it(client: Client, app: App) -> None:
    plans = [client.post(f"{API}/plans", {"targets": ["a"]}, Idempotency_Key="p").json for _ in range(2)]
    assert plans[0] == plans[1]
    both = client.post(f"{API}/plans", {"targets": ["a", "b"]}).json
    for number, plan in enumerate((plans[0], both), 1):
        runs = [client.post(f"{API}/runs", {"plan": plan["id"]}, Idempotency_Key=plan["id"]) for _ in range(2)]
        assert [run.status for run in runs] == [202, 202]
        assert runs[0].json["id"] == runs[1].json["id"]
        assert len(app.reader.jobs(JobQuery(roots=True)).jobs) == number


def test_keys_are_forgotten_with_old_runs(client: Client, app: App) -> None:
    first = client.post(f"{API}/runs", {"definition": "one"}, Idempotency_Key="k").json
    app.drain()
    app.ledger.prune(app.clock.now() + timedelta(days=1))
    again = client.post(f"{API}/runs", {"definition": "one"}, Idempotency_Key="k")
    assert again.status == 202
    assert again.json["id"] != first["id"]


def test_verbs_say_what_they_did_and_what_goes_on(client: Client, app: App) -> None:
    new = family("a", "b", slots=1)
    app.lifecycle.submit(new.submission)
    begun = app.lifecycle.begin(next_delivery(new.children[0]), "w")
    assert begun is not None

    def said(verb: str, job_id: str = new.parent.id, body: Any = None) -> str:
        answer = client.post(f"{API}/jobs/{job_id}/{verb}", body)
        assert answer.status == 200, answer.body
        assert answer.json["job"]["id"] == new.parent.id or verb in ("skip", "cancel")
        text: str = answer.json["said"]
        return text

    assert said("pause", begun.id) == "Paused a: nothing new starts in it; what runs (1 job) goes on to its end."
    assert said("resume") == "a goes on. No worker process is there for it now, so nothing starts until one is."
    assert said("limits", body={"at_a_time": 2}).startswith("Limits of a: 2 operations at a time.")
    assert said("skip", new.children[1].id) == f"{new.children[1].name} is left out."
    assert said("stop") == "a ends after what runs now (1 job); what had not started is given up."
    assert said("cancel", begun.id).startswith(f"{begun.name} is told to stop")
    assert said("cancel") == "Cancelling a: what waited has ended, what runs (1 job) is told to stop."
    app.lifecycle.end(begun, Ended(event=done()))
    assert said("cancel") == "Cancelled a."
    assert said("pause") == "a had ended before: cancelled."
    by = {getattr(each.event, "by", "") for each in app.reader.events(correlation_id=new.parent.id)}
    assert by == {"", "token test"}


def test_what_failed_is_tried_again(client: Client, app: App, config: Config, engine: ScriptedEngine) -> None:
    def broken(session: Any, item: Any, report: Any) -> None:
        raise OperationError("it broke")

    engine.act, works = broken, engine.act
    run_id = run_of(app, config)
    engine.act = works
    (parent,) = (job for job in app.reader.children(run_id) if job.type == "database_maintenance_parent")
    again = client.post(f"{API}/jobs/{parent.id}/retry").json
    assert [job["status"] for job in again["jobs"]] == ["pending"] * 3
    assert again["said"].startswith("3 operations will be tried again.")
    app.drain()
    assert client.get(f"{API}/runs/{run_id}").json["outcome"] == "done"
    refused = client.post(f"{API}/jobs/{run_id}/retry")
    assert (refused.status, refused.json["kind"]) == (409, "illegal")
    assert "nothing to retry" in refused.json["detail"]


def test_limits_are_checked(client: Client, app: App) -> None:
    new = family("a")
    app.lifecycle.submit(new.submission)
    path = f"{API}/jobs/{new.parent.id}/limits"
    until = rfc3339(app.clock.now() + timedelta(hours=1))
    job = client.post(path, {"at_a_time": 3, "until": until}).json["job"]
    assert (job["control"]["at_a_time"], job["control"]["until"]) == (3, until)
    assert client.post(path, {"open_end": True}).json["job"]["control"]["until"] is None
    past = client.post(path, {"until": "2001-01-01T00:00:00Z"})
    assert (past.status, past.json["kind"]) == (422, "usage")
    for wrong in ({"at_a_time": 0}, {"at_a_time": 10**400}, {"until": "2099-01-01T00:00:00"}, {"at_atime": 3}):
        assert client.post(path, wrong).status == 422


def test_logs_are_sentences_with_the_products_own_words(
    client: Client, app: App, config: Config, engine: ScriptedEngine
) -> None:
    run_id = run_of(app, config)
    log = client.get(f"{API}/jobs/{run_id}/logs").json
    texts = [line["text"] for line in log["lines"]]
    assert "a vacuum: started" in texts
    assert "a vacuum: done: as scripted" in texts
    assert texts[-1] == "one: done"
    (parent,) = (job for job in app.reader.children(run_id) if job.type == "database_maintenance_parent")
    child = app.reader.children(parent.id)[0]
    own = client.get(f"{API}/jobs/{child.id}/logs").json["lines"]
    assert own == found(log["lines"], job_id=child.id)
    below = client.get(f"{API}/jobs/{parent.id}/logs").json["lines"]
    assert {line["job_id"] for line in below} == {parent.id, *(job.id for job in app.reader.children(parent.id))}
    paged: list[Any] = []
    path = f"{API}/jobs/{run_id}/logs?limit=2"
    while path:
        page = client.get(path)
        paged += page.json["lines"]
        path = page.link
    assert paged == log["lines"]


@pytest.mark.parametrize("event", [JobCompleted, JobFailed, JobCancelled])
def test_the_products_own_words_are_in_the_log_however_it_ended(client: Client, app: App, event: Any) -> None:
    new = family("a")
    app.lifecycle.submit(new.submission)
    begun = app.lifecycle.begin(next_delivery(new.children[0]), "w")
    assert begun is not None
    app.lifecycle.end(begun, Ended(event=event(result={"messages": ["INFO: 3 pages", "it was busy"]})))
    (line,) = found(client.get(f"{API}/jobs/{begun.id}/logs").json["lines"], event=event.name)
    assert line["output"] == ["INFO: 3 pages", "it was busy"]


def test_events_are_read_from_a_number_on(client: Client, app: App, config: Config) -> None:
    first, second = run_of(app, config), run_of(app, config)
    everything = [event["seq"] for event in client.get(f"{API}/events?limit=1000").json["events"]]
    assert everything == sorted(everything)
    seen: list[int] = []
    path = f"{API}/events?limit=7"
    while path:
        page = client.get(path)
        seen += [event["seq"] for event in page.json["events"]]
        path = page.link
    assert seen == everything
    of_run = client.get(f"{API}/runs/{second}/events?limit=1000").json["events"]
    assert {event["correlation_id"] for event in of_run} == {second}
    assert client.get(f"{API}/events?run={second}&limit=1000").json["events"] == of_run
    assert client.get(f"{API}/events?after={everything[-1]}").json == {"events": [], "after": everything[-1]}
    child = app.reader.children(first)[0]
    assert client.get(f"{API}/events?run={child.id}").status == 404


def test_a_run_is_reported(client: Client, app: App, config: Config) -> None:
    run_id = run_of(app, config)
    report = client.get(f"{API}/runs/{run_id}/report").json
    assert report["given_back"] == 3
    assert [each["database"] for each in report["done"]] == ["a"] * 3
    assert report["not_done"] == []


def test_history_goes_back_page_by_page(client: Client, app: App, config: Config) -> None:
    for _ in range(3):
        run_of(app, config, "nightly")
    whole = client.get(f"{API}/history?limit=500").json["measurements"]
    assert len(whole) == 18
    seen: list[Any] = []
    path = f"{API}/history?limit=4"
    while path:
        page = client.get(path)
        seen += page.json["measurements"]
        path = page.link
    assert seen == whole
    mine = client.get(f"{API}/history?target=b&limit=500").json["measurements"]
    assert mine == found(whole, target="scripted:///b")
    assert client.get(f"{API}/history?database=scripted:///b&limit=500").json["measurements"] == mine
    assert client.get(f"{API}/history?target=none").status == 404


@pytest.mark.parametrize(
    "place", [["x", 1], ["2026-01-01", -1], ["2026-01-01", 10**9], ["0001-01-01T00:00+14:00", 0], ["", 0], ["2026-01-01", True]]
)  # fmt: skip
def test_a_made_up_place_in_history_is_refused(client: Client, place: Any) -> None:
    refused = client.get(f"{API}/history?cursor={cursor_of('history', *place)}")
    assert (refused.status, refused.json["kind"]) == (422, "usage")


def test_a_run_too_big_for_one_answer_is_read_page_by_page(
    client: Client, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = family(*(f"{n}" for n in range(5)))
    app.lifecycle.submit(new.submission)
    monkeypatch.setattr("dbupkeep.views.web.desk.MOST_IN_TREE", 4)
    for path in (f"{API}/runs/{new.parent.id}", f"{API}/runs/{new.parent.id}/report"):
        refused = client.get(path)
        assert (refused.status, refused.json["kind"]) == (422, "too_big")
        assert "/children" in refused.json["hint"]
    assert len(client.get(f"{API}/jobs?run={new.parent.id}").json["jobs"]) == 6


def test_definitions_targets_schedule_workers_and_health(client: Client, app: App, config: Config) -> None:
    run_id = run_of(app, config)
    told = client.get(f"{API}/definitions").json
    assert [each["name"] for each in told["definitions"]] == ["nightly", "one"]
    one = client.get(f"{API}/definitions/one").json
    assert one["steps"] == [
        {
            "name": "a", "action": "database_maintenance", "targets": ["a"], "policy": "default", "on_error": "continue",
            "operations": ["vacuum", "reindex", "analyze"],
        }
    ]  # fmt: skip
    assert one["last"]["id"] == run_id
    assert client.get(f"{API}/definitions/two").status == 404
    assert client.get(f"{API}/definitions/one/next").json["next"] == []
    assert [each["name"] for each in client.get(f"{API}/schedule").json["jobs"]] == ["nightly", "one"]
    listed = client.get(f"{API}/targets").json["targets"]
    assert [(each["name"], each["runs"], each["last_status"]) for each in listed] == [
        ("a", 1, "completed"),
        ("b", 0, None),
    ]
    assert client.get(f"{API}/targets/a").json["known"][0]["url"] == "scripted:///a"
    assert client.get(f"{API}/workers").json["workers"] == []
    health = client.get(f"{API}/health").json
    assert health["status"] in ("ok", "warning")
    assert client.get("/healthz").json == {"status": "ok"}
