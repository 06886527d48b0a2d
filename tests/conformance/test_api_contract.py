"""The API against its own OpenAPI document: whatever is sent, the answer is one that the document tells of."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from msgspec.structs import replace
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from typing_extensions import override

from dbupkeep.app import App
from dbupkeep.config import Config
from dbupkeep.definitions import JobDefinition, Schedule, Step, Target, Window
from dbupkeep.testing.scripted import ScriptedEngine
from dbupkeep.views.site import guarded, make_site
from dbupkeep.views.web.desk import Desk
from dbupkeep.views.web.limits import Limits
from dbupkeep.views.web.server import Server, listen
from dbupkeep.views.web.tokens import first_gate

TOKEN = "the-token-of-this-test"  # noqa: S105 - as it says

HEADERS = {"Authorization": f"Bearer {TOKEN}"}

BODIES: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "/api/v1/runs": [{"definition": "nightly"}, {"targets": ["a"], "operations": ["vacuum"]}, {"plan": "none"}],
    "/api/v1/plans": [{"definition": "nightly"}, {"targets": ["b", "a"], "force": True, "any_time": True}],
}
"""Requests that the configuration of the test fits; what is made up never names anything in it."""


class NoLimits(Limits):
    """As often as a test likes."""

    @override
    def request(self, caller: str) -> float:
        return 0.0

    @override
    def stranger(self, address: str) -> float:
        return 0.0


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    engine = ScriptedEngine()
    made = App(str(tmp_path_factory.mktemp("contract") / "ledger.db"), load_engine=lambda _: engine, isolate=False)
    yield made
    made.close()


@pytest.fixture(scope="module")
def config() -> Config:
    targets = {name: Target(name=name, url=f"scripted:///{name}") for name in ("a", "b")}
    steps = (Step(name="all", targets=tuple(targets.values())),)
    window = Window(name="night", open="0 2 * * *", lasts=timedelta(hours=2))
    jobs = {
        "nightly": JobDefinition(name="nightly", steps=steps, schedule=Schedule(cron="0 2 * * *"), window=window),
        "hourly": JobDefinition(name="hourly", steps=steps, schedule=Schedule(every=timedelta(hours=1))),
    }
    return Config(targets=targets, jobs=jobs)


@pytest.fixture(scope="module")
def url(app: App, config: Config) -> Iterator[str]:
    desk = Desk(app=app, config=lambda: config)
    desk.close()  # so that event streams end at once
    site = make_site(desk, first_gate(app, print, {"DBUPKEEP_TOKEN": TOKEN}))
    place = listen(socket.AF_INET, "127.0.0.1", 0)
    server = Server(guarded(site, clock=app.clock, limits=NoLimits(app.clock.monotonic)), place)
    yield server.url
    server.close()


@pytest.fixture(scope="module")
def known(app: App, config: Config) -> Mapping[str, Mapping[str, str]]:
    """Names and ids that are there, by the beginning of a path: a run that has ended, one that waits, their jobs."""
    ended = app.runs.create_run(replace(config.job("hourly"), window=None))
    app.drain()
    app.runs.create_run(config.job("nightly"))
    plan = app.databases.plan(
        replace(config.job("hourly").steps[0], targets=(config.target("a"),)), config.job("hourly")
    )
    app.save(plan)
    return {
        "/api/v1/runs": {"run_id": ended},
        "/api/v1/jobs": {"job_id": app.runs.create_run(config.job("hourly"))},
        "/api/v1/plans": {"plan_id": plan.id},
        "/api/v1/definitions": {"name": "nightly"},
        "/api/v1/targets": {"name": "a"},
    }


SCHEMA = schemathesis.openapi.from_path(Path(__file__).parents[2] / "docs" / "reference" / "openapi.json")
OPERATIONS: Mapping[str, Any] = {each.ok().label: each.ok() for each in SCHEMA.get_all_operations()}  # type: ignore[union-attr] # none is wrong


def examples(count: int) -> settings:
    return settings(
        max_examples=count, derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def cases(operation: Any, known: Mapping[str, str]) -> st.SearchStrategy[Any]:
    """Requests that fit the document and such that do not, on what is there and on what is not."""
    fixed = {"query": {"cursor": ""}} if "cursor" in {each.name for each in operation.query} else {}
    made = [operation.as_strategy(mode, **fixed) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)]
    if known:
        made.append(operation.as_strategy(path_parameters=known, **fixed))
    bodies = BODIES.get(operation.path, ()) if operation.method == "post" else ()
    return st.one_of(*made, *(operation.as_strategy(body=body, **fixed) for body in bodies))


def refused_by_sense(response: Any) -> bool:
    """Whether a request was refused by what no document can tell: a moment gone by, a key used before, another state."""
    return response.status_code == 412 or (response.status_code == 422 and "errors" not in response.json())


def check(name: str, url: str, known: Mapping[str, Mapping[str, str]], count: int) -> None:
    operation, session = OPERATIONS[name], requests.Session()
    there = next((each for path, each in known.items() if operation.path.startswith(f"{path}/{{")), {})

    @examples(count)
    @given(case=cases(operation, there))
    def holds(case: Any) -> None:
        response = case.call(base_url=url, session=session, headers=HEADERS)
        case.validate_response(
            response, excluded_checks=[positive_data_acceptance] if refused_by_sense(response) else []
        )

    holds()
    session.close()


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_whatever_is_sent_the_answer_is_as_the_document_says(
    name: str, url: str, known: Mapping[str, Mapping[str, str]]
) -> None:
    check(name, url, known, 15)


@pytest.mark.fault
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_much_is_sent(name: str, url: str, known: Mapping[str, Mapping[str, str]], kills: int) -> None:
    if kills <= 200:
        pytest.skip("the long exploration belongs to `make fault`")
    check(name, url, known, 200)


def test_what_is_made_can_be_used_where_the_document_links_to(url: str, known: Mapping[str, Mapping[str, str]]) -> None:
    class Machine(SCHEMA.as_state_machine()):  # type: ignore[misc] # made of the document
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"base_url": url, "headers": HEADERS}

    run_state_machine_as_test(Machine, settings=settings(examples(4), stateful_step_count=5))
