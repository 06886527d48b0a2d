"""Looking at a run and steering it, from other processes than the one that works on it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.acceptance.conftest import Cli, Script, Started


@pytest.fixture
def running(cli: Cli, script: Script) -> Started:
    started = cli.start("run", "scripted://db", "--events")
    started.await_event("job_started")
    return started


def test_it_is_cancelled_from_another_process(cli: Cli, running: Started) -> None:
    run_id = running.seen[0]["correlation_id"]
    assert "what runs (1 job) is told to stop" in cli("cancel", run_id).out
    assert running.end().code == 3
    assert cli("show", run_id, "--json").json["outcome"] == "cancelled"
    again = cli("cancel", run_id)
    assert again.code == 0
    assert "cancelled" in again.out.lower()


def test_one_operation_is_cancelled_alone(cli: Cli, script: Script, running: Started) -> None:
    assert cli("cancel", "last/1").code == 0
    script.let("reindex", "analyze")
    assert running.end().code == 3
    statuses = [job["status"] for job in cli("show", "--json").json["jobs"]]
    assert statuses == ["cancelled", "completed", "completed"]


def test_it_is_paused_and_goes_on(cli: Cli, script: Script, running: Started) -> None:
    assert "Paused" in cli("pause", "last").out
    script.let("vacuum", "reindex", "analyze")
    running.await_event("job_completed")
    assert [job["status"] for job in cli("show", "--json").json["jobs"]] == ["completed", "pending", "pending"]
    assert cli("resume", "last", "--json").json["status"] == "running"
    assert running.end().code == 0


def test_it_is_watched_from_another_process(cli: Cli, script: Script, running: Started) -> None:
    watching = cli.start("watch", "--json")
    watching.await_event("job_started")
    script.let("vacuum", "reindex", "analyze")
    watching.await_event("parent_settled", outcome="done")
    assert watching.end().code == 0
    assert running.end().code == 0
    text = cli("watch", "last")
    assert text.code == 0
    assert "scripted://db vacuum: done" in text.err
    assert "done" in text.out


def test_what_failed_is_tried_again(cli: Cli, script: Script) -> None:
    script.let("vacuum", said="no luck today")
    script.let("reindex", "analyze")
    assert cli("run", "scripted://db").code == 1
    script.let("vacuum")
    done = cli("retry", "last", "--run", "--json")
    assert done.code == 0
    assert [job["attempt"] for job in done.json["jobs"]] == [2, 1, 1]
    assert cli("retry", "last").code == 2


def test_a_retry_can_be_left_to_a_worker(cli: Cli, script: Script) -> None:
    script.let("vacuum", said="no luck today")
    assert cli("run", "scripted://db", "--operations", "vacuum").code == 1
    script.let("vacuum")
    assert "1 operation will be tried again" in cli("retry", "last/1").out
    assert cli("worker", "--drain").code == 0
    assert cli("show", "--json").json["outcome"] == "done"


def test_jobs_are_listed_filtered_and_paged(cli: Cli, fleet: Path, script: Script) -> None:
    for number in range(3):
        assert cli("run", f"srv/tenant-{number}.db").code == 0
    script.let("vacuum", said="no luck today")
    assert cli("run", "scripted://db", "--operations", "vacuum").code == 1
    listed = cli("jobs", "--json").json
    assert [job["name"] for job in listed["jobs"]] == ["scripted://db", *(f"srv/tenant-{n}.db" for n in (2, 1, 0))]
    assert listed["cursor"] is None
    first = cli("jobs", "--json", "--limit", "3").json
    second = cli("jobs", "--json", "--limit", "3", "--cursor", first["cursor"]).json
    assert first["jobs"] + second["jobs"] == listed["jobs"]
    assert [job["name"] for job in cli("jobs", "--json", "--status", "failed").json["jobs"]] == ["scripted://db"]
    assert [job["name"] for job in cli("jobs", "--json", "--target", "tenant-1.db").json["jobs"]] == ["srv/tenant-1.db"]
    assert len(cli("jobs", "--json", "--all").json["jobs"]) > 4
    text = cli("jobs").out
    assert text.startswith("   ID ")
    assert "srv/tenant-1.db" in text


def test_an_empty_ledger_says_how_to_begin(cli: Cli) -> None:
    done = cli("jobs")
    assert done.code == 0
    assert done.out == ""
    assert "dbupkeep plan" in done.err


def test_a_job_is_named_by_the_beginning_of_its_id(cli: Cli, bloated: Path) -> None:
    run = cli("run", "app.db", "--json").json
    short = cli("jobs").out.splitlines()[1].split()[1]
    assert len(short) < 20
    assert cli("show", short, "--json").json["id"] == run["id"]
    assert cli("show", f"{short}/1", "--json").json["id"] == run["jobs"][0]["id"]
    assert cli("show", run["jobs"][1]["id"], "--json").json["id"] == run["jobs"][1]["id"]
    operation = cli("show", f"{short}/1")
    assert "effective yes" in " ".join(operation.out.split())
    for unknown in ("ffff", f"{short}/9", "nonsense"):
        done = cli("show", unknown)
        assert done.code == 2
        assert "hint:" in done.err


def test_a_log_has_a_line_for_everything_that_happened(cli: Cli, bloated: Path) -> None:
    run = cli("run", "app.db", "--json").json
    lines = cli("logs").out.splitlines()
    assert any("app.db vacuum: started" in line for line in lines)
    assert any("app.db vacuum: done" in line for line in lines)
    of_one = cli("logs", run["jobs"][0]["id"]).out
    assert "vacuum" in of_one
    assert "analyze" not in of_one
    events = [json.loads(line) for line in cli("logs", "--json").out.splitlines()]
    assert events[0]["event"] == "job_submitted"
    assert events[-1]["event"] == "parent_settled"


def test_a_log_is_followed_to_the_end(cli: Cli, script: Script, running: Started) -> None:
    following = cli.start("logs", "--follow", "--json")
    following.await_event("job_started")
    script.let("vacuum", "reindex", "analyze")
    following.await_event("parent_settled")
    assert following.end().code == 0


def test_history_keeps_what_was_predicted_and_what_came(cli: Cli, bloated: Path) -> None:
    assert cli("run", "app.db").code == 0
    samples = cli("history", "app.db", "--json").json["measurements"]
    (vacuum,) = [sample for sample in samples if sample["operation"] == "vacuum"]
    assert vacuum["gain"] > 1024 * 1024
    assert vacuum["predicted_gain"] > 1024 * 1024
    assert vacuum["seconds"] > 0
    text = cli("history").out
    assert "PREDICTED" in text
    assert "app.db" in text
    assert cli("history", "other.db", "--json").json == {"measurements": []}


def test_prune_forgets_runs_but_not_what_was_measured(cli: Cli, bloated: Path) -> None:
    assert cli("run", "app.db").code == 0
    assert cli("prune", "--json").json == {"removed": 0}
    assert cli("prune", "--older-than", "0s", "--json").json == {"removed": 4}
    assert cli("jobs", "--json").json["jobs"] == []
    assert cli("history", "--json").json["measurements"]


def test_a_worker_ends_after_what_runs(cli: Cli, script: Script) -> None:
    run_id = cli("run", "scripted://db", "--detach").out.strip()
    worker = cli.start("worker")
    watching = cli.start("watch", run_id, "--json")
    watching.await_event("job_started")
    worker.process.terminate()
    assert worker.process.stderr is not None
    for line in worker.process.stderr:
        if "Ending after 1 operation" in line:
            break
    script.let("vacuum", "reindex", "analyze")
    assert worker.process.wait(60) == 0
    assert [job["status"] for job in cli("show", run_id, "--json").json["jobs"]] == ["completed", "pending", "pending"]


def test_an_operation_that_waits_is_left_out(cli: Cli, bloated: Path) -> None:
    cli("run", bloated, "--detach", "--operations", "vacuum,analyze")
    skipped = cli("skip", "last/2")
    assert skipped.code == 0
    assert "analyze" in skipped.out
    assert "is left out" in skipped.out
    again = cli("skip", "last/2")
    assert again.code == 2
    assert "there is nothing to skip" in again.err
    cli("worker", "--drain")
    operations = cli("show", "last", "--json").json["jobs"]
    assert [job["status"] for job in operations] == ["completed", "skipped"]


def planned(cli: Cli, folder: Path) -> None:
    """A run over the databases of a folder, by a plan: they are there at once, and nobody works on them."""
    made = cli("plan", *sorted(folder.glob("*.db")), "--operations", "analyze", "--save", "--json")
    done = cli("run", "--plan", made.json["id"], "--detach")
    assert done.code == 0, done.err


def test_a_database_of_which_nothing_runs_waits(cli: Cli, fleet: Path) -> None:
    planned(cli, fleet)
    for text in (cli("jobs").out, cli("show").out):
        assert "3 waiting" in text
        assert "3 running" not in text


def test_what_a_person_left_out_is_not_what_was_not_needed(cli: Cli, fleet: Path) -> None:
    """A whole database of a run is left out: the run says so, and the report has its operations among what was not done."""
    planned(cli, fleet)
    assert cli("skip", "last/1").code == 0
    cli("worker", "--drain")
    shown = cli("show", "last").out
    assert "1 left out" in shown
    assert "2 maintained" in shown
    assert "needed nothing" not in shown
    report = cli("report", "--json").json
    assert [each["status"] for each in report["not_done"]] == ["skipped"]
    assert all(each["why"].startswith("left out by") for each in report["not_done"])
    assert report["not_needed"] == []
    text = cli("report").out
    assert re.search(r"Not done, and why\n.*analyze: skipped\n +left out by", text), text
    assert "Not needed" not in text
    assert "<dt>not done</dt><dd>1</dd>" in cli("report", "--html").out


def test_a_survey_that_a_person_left_out_is_told(cli: Cli, fleet: Path) -> None:
    one, two, _ = sorted(fleet.glob("*.db"))
    cli("run", one, two, "--detach", "--operations", "analyze")
    assert cli("skip", "last/1").code == 0
    cli("worker", "--drain")
    assert "left out by" in cli("show", "last").out
    (withheld,) = cli("report", "--json").json["not_done"]
    assert withheld["why"].startswith("left out by")
