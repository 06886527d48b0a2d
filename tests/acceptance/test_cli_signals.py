"""What Ctrl-C, SIGTERM and kill -9 do to a run, shown on operations that last until the test says so, and on real files."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.acceptance.conftest import Cli, Script, Started

LEASE = {"DBUPKEEP_LEASE": "1"}


def begun(cli: Cli, *arguments: str) -> Started:
    started = cli.start("run", *arguments, "--events", **LEASE)
    started.await_event("job_started")
    return started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_after_what_runs(cli: Cli, script: Script, number: int) -> None:
    started = begun(cli, "scripted://db")
    started.signal(number)
    started.await_event("run_paused")
    script.let("vacuum", "reindex", "analyze")
    done = started.end()
    assert done.code == 3
    assert "Paused with 2 jobs to go" in done.err
    run = cli("show", "--json").json
    assert [job["status"] for job in run["jobs"]] == ["completed", "pending", "pending"]
    assert "paused" in cli("jobs").out

    command = done.err.rpartition("dbupkeep run --resume ")[2].split()[0]
    resumed = cli("run", "--resume", command, "--json")
    assert resumed.code == 0
    assert [job["status"] for job in resumed.json["jobs"]] == ["completed"] * 3
    assert [job["attempt"] for job in resumed.json["jobs"]] == [1, 1, 1]


def test_the_second_signal_cancels_what_runs(cli: Cli, script: Script) -> None:
    started = begun(cli, "scripted://db")
    started.signal(signal.SIGINT)
    started.await_event("run_paused")
    started.signal(signal.SIGINT)
    done = started.end()
    assert done.code == 130
    run = cli("show", "--json").json
    assert run["outcome"] == "cancelled"
    assert {job["status"] for job in run["jobs"]} == {"cancelled"}


def test_a_stop_after_the_last_operation_is_no_stop(cli: Cli, script: Script) -> None:
    started = begun(cli, "scripted://db", "--operations", "vacuum")
    started.signal(signal.SIGINT)
    started.await_event("run_paused")
    script.let("vacuum")
    assert started.end().code == 0
    assert cli("show", "--json").json["outcome"] == "done"


def test_a_run_whose_process_was_killed_is_resumed(cli: Cli, script: Script) -> None:
    started = begun(cli, "scripted://db")
    started.signal(signal.SIGKILL)
    assert started.end().code == -signal.SIGKILL
    assert cli("show", "--json").json["jobs"][0]["status"] == "running"
    script.let("vacuum", "reindex", "analyze")
    resumed = cli("run", "--resume", **LEASE)
    assert resumed.code == 0
    assert "taken over within 1 s" in resumed.err
    run = cli("show", "--json").json
    assert run["outcome"] == "done"
    assert [job["attempt"] for job in run["jobs"]] == [2, 1, 1]
    assert "attempt 1 lost" in cli("logs").out


def test_a_run_that_has_ended_is_not_resumed(cli: Cli, bloated: Path) -> None:
    assert cli("run", "app.db").code == 0
    assert "there is no run to resume" in cli("run", "--resume").err
    done = cli("run", "--resume", "last")
    assert done.code == 2
    assert "has ended: done" in done.err


def test_a_signal_while_databases_are_found_fails_nothing(cli: Cli, fleet: Path, script: Script) -> None:
    # All of the terminal's processes get a Ctrl-C, so the one that scans the folder does as well.
    process = subprocess.Popen(
        [sys.executable, "-m", "dbupkeep", "run", "srv/*.db", "--events"], cwd=cli.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if '"job_started"' in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (0, 3)
    assert cli("run", "--resume").code in (0, 2)
    run = cli("show", "--json").json
    assert run["outcome"] == "done"
    assert {job["status"] for job in run["jobs"]} == {"completed"}


@pytest.fixture
def big(big_template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(big_template, tmp_path / "big.db"))


def sound(path: Path) -> bool:
    return bool(sqlite3.connect(path).execute("pragma integrity_check").fetchall() == [("ok",)])


@pytest.mark.slow
def test_a_real_vacuum_is_cancelled_and_the_file_is_sound(cli: Cli, big: Path) -> None:
    size = big.stat().st_size
    started = cli.start("run", "big.db", "--operations", "vacuum", "--events")
    started.await_event("job_started")
    started.signal(signal.SIGINT)
    started.signal(signal.SIGINT)
    done = started.end()
    # Two signals before the first was looked at are two all the same; past the point of return it finishes.
    assert done.code in (0, 130)
    shown = cli("show", "--json").json
    assert shown["outcome"] == ("cancelled" if done.code == 130 else "done")
    # A run may be cancelled whose only operation could not be stopped any more: that one says so itself.
    assert (big.stat().st_size == size) is (shown["jobs"][0]["status"] == "cancelled")
    assert sound(big)


@pytest.mark.slow
def test_a_real_vacuum_is_killed_and_done_by_the_next_process(cli: Cli, big: Path) -> None:
    size = big.stat().st_size
    started = cli.start("run", "big.db", "--operations", "vacuum", "--events", **LEASE)
    started.await_event("job_started")
    started.signal(signal.SIGKILL)
    started.end()
    resumed = cli("run", "--resume", **LEASE)
    assert resumed.code == 0
    assert big.stat().st_size < size / 2
    assert sound(big)
    assert sorted(path.name for path in big.parent.iterdir() if path.name.startswith("big.db")) == ["big.db"]


@pytest.mark.slow
def test_a_real_vacuum_that_outlasts_the_grace_of_a_stop_is_done_by_the_next_worker(cli: Cli, big: Path) -> None:
    cli("run", "big.db", "--operations", "vacuum", "--detach")
    watching = cli.start("watch", "--json")
    worker = cli.start("worker", "--grace", "0")
    watching.await_event("stage_reached")
    worker.signal(signal.SIGTERM)
    assert worker.end().code == 0
    (vacuum,) = cli("show", "--json").json["jobs"]
    assert vacuum["status"] in ("pending", "completed")  # past the point of return it finishes
    attempts = 2 if vacuum["status"] == "pending" else 1
    assert cli("worker", "--drain").code == 0
    (vacuum,) = cli("show", "--json").json["jobs"]
    assert (vacuum["status"], vacuum["attempt"]) == ("completed", attempts)
    watching.await_event("parent_settled", outcome="done")
    assert sound(big)


def test_a_run_takes_over_from_one_whose_process_is_gone(cli: Cli, script: Script) -> None:
    lost = begun(cli, "scripted://db", "--operations", "vacuum")
    lost.signal(signal.SIGKILL)
    lost.end()
    script.let("vacuum", "reindex", "analyze")
    done = cli("run", "scripted://db", **LEASE)
    assert done.code == 0
    assert "it is finished first" in done.err
    assert [job["outcome"] for job in cli("jobs", "--json").json["jobs"]] == ["done", "done"]


def test_a_run_says_for_whom_it_waits(cli: Cli, script: Script) -> None:
    first = begun(cli, "scripted://db", "--operations", "vacuum")
    second = cli.start("run", "scripted://db", "--operations", "vacuum")
    assert second.process.stderr is not None
    for line in second.process.stderr:
        if f"Waiting: the run {first.seen[0]['job_id'][:13]} is on scripted://db" in line:
            break
    script.let("vacuum")
    assert first.end().code == 0
    assert second.process.wait(60) == 0
