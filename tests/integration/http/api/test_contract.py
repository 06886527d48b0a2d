"""The models of the API against the documents that it gives: each has all that the other has, and what was promised stays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from msgspec.structs import replace

from dbupkeep.app import App
from dbupkeep.config import Config
from dbupkeep.engine import Scope
from dbupkeep.errors import Busy, OperationError
from dbupkeep.facts import DatabaseFacts, Notice
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, Estimate, PlanItem, Proposal, Source, SpaceNeed
from dbupkeep.progress import measured
from dbupkeep.testing.pair_kit import next_delivery
from dbupkeep.testing.scripted import ScriptedEngine
from tests.integration.http.api.conftest import Client

API = "/api/v1"

DOCUMENT = Path(__file__).parents[4] / "docs" / "reference" / "openapi.json"

PROMISES = Path(__file__).with_name("promises.txt")


def closed(node: Any) -> Any:
    """A schema to which nothing may be added but where it says so."""
    if isinstance(node, dict):
        made = {name: closed(each) for name, each in node.items()}
        if "properties" in node and node.get("type") == "object":
            made.setdefault("additionalProperties", False)
        return made
    return [closed(each) for each in node] if isinstance(node, list) else node


@pytest.fixture(scope="module")
def document() -> Mapping[str, Any]:
    return json.loads(DOCUMENT.read_text(encoding="utf-8"))  # type: ignore[no-any-return] # what a test says is up to date


@pytest.fixture(scope="module")
def strict(document: Mapping[str, Any]) -> Mapping[str, Any]:
    made: Mapping[str, Any] = closed(document)
    return made


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """What programs may count on, a line each: routes with what they take and give, fields with their types."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"{method.upper()} {path}: {operation['operationId']}"
            for parameter in operation.get("parameters", ()):
                yield f"{method.upper()} {path} takes {parameter['in']} {parameter['name']}"
            for status, response in operation["responses"].items():
                for kind, content in response.get("content", {}).items():
                    yield f"{method.upper()} {path} gives {status} {kind} {name_of(content['schema'])}"
    for name, schema in document["components"]["schemas"].items():
        for field, about in schema.get("properties", {}).items():
            yield f"{name}.{field}: {name_of(about)}"
        for value in schema.get("enum", ()):
            yield f"{name} = {value}"


def name_of(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(name_of(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"[{name_of(schema['items'])}]"
    found: str = schema.get("$ref", schema.get("format", schema.get("type", "any")))
    return found.rpartition("/")[2]


def test_the_document_is_one_of_openapi(document: Mapping[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for name, schema in document["components"]["schemas"].items():
        whole = {**schema, "components": document["components"]}
        jsonschema_rs.validator_for(whole)  # raises for what is no schema
        assert schema.get("description") or "enum" in schema, f"{name} says nothing of itself"


def test_what_was_promised_is_kept_and_what_is_new_is_promised(document: Mapping[str, Any]) -> None:
    promised, now = PROMISES.read_text(encoding="utf-8").splitlines(), sorted(set(lines(document)))
    broken = sorted(set(promised) - set(now))
    assert not broken, "routes and fields are only ever added: programs count on these"
    new = sorted(set(now) - set(promised))
    assert not new, f"new: add these lines to {PROMISES.name}, and tell it in CHANGELOG.md"
    assert promised == now, "one line each, sorted"


class Contract:
    """Asks, and holds each answer against what the document says of it."""

    def __init__(self, client: Client, strict: Mapping[str, Any]) -> None:
        self.client = client
        self.strict = strict
        self.asked: set[str] = set()

    def __call__(self, method: str, path: str, body: Any = None, **values: str) -> Any:
        answer = self.client(method, path.format(**values), body)
        route = path.partition("?")[0]
        self.asked.add(f"{method} {route}")
        told = self.strict["paths"][route][method.lower()]["responses"][str(answer.status)]
        schema = {**told["content"]["application/json"]["schema"], "components": self.strict["components"]}
        errors = [f"{each.instance_path}: {each.message}" for each in jsonschema_rs.iter_errors(schema, answer.json)]
        assert not errors, (method, path, errors)
        return answer.json


def proposals(facts: DatabaseFacts, scope: Scope) -> Sequence[Proposal]:
    """One of each kind, with all that a plan can say."""
    notice = Notice(code="long_reader", message="somebody reads", hint="wait")
    estimate = Estimate(
        seconds=1.5, seconds_source=Source.HISTORY, gain_bytes=1, gain_source=Source.ESTIMATED, stall_seconds=0.1
    )
    need = SpaceNeed(purpose="journal", folder="/tmp", needed=1, available=None)  # noqa: S108 - a word
    whole = Proposal(
        operation=Operation.VACUUM, decision=Decision.RUN, reason="bloated", method="in place", estimate=estimate,
        space=(need,), notices=(notice,), evidence={"free": 0.5}, members=("t",), locks="writers wait",
    )  # fmt: skip
    return [
        whole,
        replace(whole, operation=Operation.REINDEX, object="i", decision=Decision.SKIP),
        replace(whole, operation=Operation.REINDEX, object="j"),
        replace(whole, operation=Operation.ANALYZE, decision=Decision.DEFER),
        replace(whole, operation=Operation.CHECK, object="t"),
    ]


def act(session: Any, item: PlanItem, report: Any) -> None:
    if item.operation is Operation.REINDEX:
        raise OperationError("it broke", why="badly", hint="mend it")
    if item.operation is Operation.CHECK:
        raise Busy("somebody holds a lock", hint="come again")


def test_answers_have_all_that_the_models_have_and_nothing_else(
    client: Client, app: App, config: Config, engine: ScriptedEngine, strict: Mapping[str, Any]
) -> None:
    engine._proposals, engine.act = proposals, act
    ask = Contract(client, strict)
    plan = ask("POST", f"{API}/plans", {"targets": ["a"]})
    ask("GET", f"{API}/plans/{{plan_id}}", plan_id=plan["id"])
    both = ask("POST", f"{API}/plans", {"definition": "nightly"})
    ask("GET", f"{API}/plans/{{plan_id}}", plan_id=both["id"])
    ended = ask("POST", f"{API}/runs", {"definition": "nightly"})["id"]
    app.drain()
    running = ask("POST", f"{API}/runs", {"plan": plan["id"]})["id"]
    child = next(job for job in app.reader.children(running) if job.released)
    begun = app.lifecycle.begin(next_delivery(child), "w")
    assert begun is not None
    app.ledger.report(begun.id, 1, measured(1, 2, "pages", stage="copying"))
    for run in (ended, running):
        ask("GET", f"{API}/runs/{{run_id}}", run_id=run)
        ask("GET", f"{API}/runs/{{run_id}}/events", run_id=run)
        ask("GET", f"{API}/runs/{{run_id}}/report", run_id=run)
        ask("GET", f"{API}/jobs/{{job_id}}/children", job_id=run)
        ask("GET", f"{API}/jobs/{{job_id}}/logs", job_id=run)
        ask("GET", f"{API}/jobs/{{job_id}}", job_id=run)
    for job in ask("GET", f"{API}/jobs?limit=500")["jobs"]:
        ask("GET", f"{API}/jobs/{{job_id}}", job_id=job["id"])
    _do_all(ask, running=running, ended=ended)
    told = {
        f"{method.upper()} {path}"
        for path, operations in strict["paths"].items()
        for method, operation in operations.items()
        if any("application/json" in each.get("content", {}) for each in operation["responses"].values())
    }
    assert told - ask.asked == set(), "routes that nobody held against the document"


def _do_all(ask: Contract, *, running: str, ended: str) -> None:
    """The verbs, and what there is beside jobs."""
    ask("POST", f"{API}/jobs/{{job_id}}/limits", {"at_a_time": 1, "until": "2999-01-01T00:00:00Z"}, job_id=running)
    for verb in ("pause", "resume", "skip", "stop", "cancel"):
        ask("POST", f"{API}/jobs/{{job_id}}/{verb}", job_id=running)
    ask("POST", f"{API}/jobs/{{job_id}}/retry", job_id=ended)
    for name in ("runs", "events", "history", "targets", "definitions", "schedule", "workers", "health", "audit"):
        ask("GET", f"{API}/{name}")
    ask("GET", f"{API}/audit/verification")
    ask("GET", f"{API}/targets/{{name}}", name="a")
    ask("GET", f"{API}/definitions/{{name}}", name="nightly")
    ask("GET", f"{API}/definitions/{{name}}/next", name="nightly")
    ask("GET", "/healthz")


def test_refusals_have_all_that_their_model_has(client: Client, strict: Mapping[str, Any]) -> None:
    schema = {**strict["components"]["schemas"]["Problem"], "components": strict["components"]}
    for method, path, body in (
        ("GET", f"{API}/jobs/none", None),
        ("GET", f"{API}/nowhere", None),
        ("PUT", f"{API}/jobs", None),
        ("POST", f"{API}/runs", {"targets": []}),
        ("POST", f"{API}/runs", b"{"),
    ):
        answer = client(method, path, body)
        assert answer.headers["content-type"] == "application/problem+json"
        assert json.loads(answer.body)["status"] == answer.status >= 400
        assert not list(jsonschema_rs.iter_errors(schema, answer.json))
