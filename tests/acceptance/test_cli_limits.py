"""A run is stopped after what runs, and given other limits, from other processes than those that work on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from dbupkeep.testing.pair_kit import eventually

if TYPE_CHECKING:
    from tests.acceptance.conftest import Cli, Script, Started

SOON = timedelta(seconds=2)


@pytest.fixture
def running(cli: Cli, script: Script) -> Started:
    started = cli.start("run", "scripted://db", "--events")
    started.await_event("job_started")
    return started


def test_it_is_stopped_after_what_runs(cli: Cli, script: Script, running: Started) -> None:
    said = cli("stop", "last", "--after-current")
    assert (said.code, said.out) == (
        0,
        "scripted://db ends after what runs now (1 job); what had not started is given up.\n",
    )
    document = cli("show", "--json").json
    assert document["control"]["stopping"]
    assert [job["status"] for job in document["jobs"]] == ["running", "cancelled", "cancelled"]
    assert "stopping" in cli("jobs").out
    assert cli("stop", "last").code == 0
    script.let("vacuum")
    assert running.end().code == 3
    document = cli("show", "--json").json
    assert (document["status"], document["outcome"]) == ("cancelled", "stopped")
    assert [job["status"] for job in document["jobs"]] == ["completed", "cancelled", "cancelled"]
    assert "stopped" in cli("show").out
    again = cli("stop", "last")
    assert again.code == 2
    assert "has ended: stopped" in again.err


def test_its_end_is_taken_up_by_what_runs(cli: Cli, script: Script, running: Started) -> None:
    said = cli("limit", "last", "--until", "1500ms", "--json")
    assert said.code == 0
    until = datetime.fromisoformat(said.json["control"]["until"])
    assert running.end().code == 4
    document = cli("show", "--json").json
    assert [job["status"] for job in document["jobs"]] == ["deferred"] * 3
    assert "the run was to end by then" in document["jobs"][0]["reason"]
    assert timedelta(0) <= datetime.fromisoformat(document["jobs"][0]["finished_at"]) - until < SOON
    assert cli("limit", "last", "--until", "1h").code == 2


def test_its_end_is_taken_back(cli: Cli, script: Script, running: Started) -> None:
    assert "end by" in cli("limit", "last", "--until", "1h").out
    assert cli("limit", "last", "--until", "none").out == "Limits of scripted://db: none.\n"
    script.let("vacuum", "reindex", "analyze")
    assert running.end().code == 0


def test_operations_at_a_time_are_taken_up_by_a_worker_process(cli: Cli, script: Script) -> None:
    submitted = cli("run", *(f"scripted://db{n}" for n in range(4)), "--operations", "vacuum", "--detach")
    assert cli("limit", "last", "--jobs", "2").out == "Limits of scripted://db0 and 3 more: 2 operations at a time.\n"
    cli.start("worker", "--jobs", "8", "-q")
    eventually("two run", lambda: _started(cli) == 2)
    assert cli("show", "--json").json["control"]["at_a_time"] == 2
    assert cli("limit", "last", "--jobs", "3").code == 0
    eventually("a third one runs", lambda: _started(cli) == 3)
    assert cli("limit", "last", "--jobs", "4").code == 0
    eventually("all run", lambda: _started(cli) == 4)
    changes = _times(cli, "limits_changed")
    starts = _times(cli, "job_started", lambda event: "vacuum" in event["name"])
    assert len(changes) == 3
    assert starts[2] - changes[1] < SOON
    assert starts[3] - changes[2] < SOON
    script.let("vacuum")
    assert cli("watch", submitted.out.strip()).code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no limit was given"),
        (("--jobs", "0"), "--jobs"),
        (("--until", "soon"), "soon is no moment"),
        (("--until", "2020-01-01"), "cannot end in the past"),
    ],
)
def test_what_is_no_limit(cli: Cli, script: Script, arguments: tuple[str, ...], said: str) -> None:
    cli("run", "scripted://db", "--detach")
    refused = cli("limit", "last", *arguments)
    assert refused.code == 2
    assert said in refused.err


def _started(cli: Cli) -> int:
    return len(_times(cli, "job_started", lambda event: "vacuum" in event["name"]))


def _times(cli: Cli, name: str, wanted: Callable[[Any], bool] = lambda _event: True) -> list[datetime]:
    """When such events happened; each event with the name of its job."""
    names = {job["id"]: job["name"] for job in cli("jobs", "--all", "--limit", "100", "--json").json["jobs"]}
    lines = [json.loads(line) for line in cli("logs", "last", "--json").out.splitlines()]
    events = [{**line, "name": names.get(line["job_id"], "")} for line in lines if line["event"] == name]
    return [datetime.fromisoformat(event["at"]) for event in events if wanted(event)]
