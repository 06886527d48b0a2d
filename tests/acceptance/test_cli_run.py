from __future__ import annotations

import hashlib
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.acceptance.conftest import Cli, Script

JOB_FIELDS = (
    "id parent_id type phase name status reason config target correlation_id attempt progress estimate result error"
    " created_at started_at finished_at"
).split()


def test_one_database_is_a_parent_with_a_child_for_each_operation(cli: Cli, bloated: Path) -> None:
    size = bloated.stat().st_size
    done = cli("run", "app.db", "--json")
    assert done.code == 0
    parent = done.json
    assert set(parent) >= {*JOB_FIELDS, "outcome", "children", "jobs"}
    assert (parent["type"], parent["phase"]) == ("database_maintenance_parent", "orchestration")
    assert parent["parent_id"] == parent["id"] == parent["correlation_id"]
    assert (parent["status"], parent["outcome"]) == ("completed", "done")
    assert parent["children"] == {
        "total": 3, "pending": 0, "running": 0, "completed": 2, "failed": 0, "cancelled": 0, "skipped": 1, "deferred": 0,
    }  # fmt: skip
    for child in parent["jobs"]:
        assert set(child) >= set(JOB_FIELDS)
        assert child["parent_id"] == parent["id"]
        assert list(child["config"]) == ["operation"]
    vacuum = parent["jobs"][0]
    assert vacuum["result"]["effective"] == "yes"
    assert vacuum["result"]["before"]["bytes"] == size
    assert vacuum["result"]["after"]["bytes"] < size / 2
    assert bloated.stat().st_size < size / 2


def test_the_report_says_what_was_given_back(cli: Cli, bloated: Path) -> None:
    done = cli("run", "app.db")
    assert done.code == 0
    assert "→" in done.out
    verdict = done.out.rstrip().rpartition("\n")[2]
    assert verdict.startswith("✓ ")
    assert "given back in" in verdict
    assert "2 done, 1 skipped" in verdict


def test_a_second_run_has_nothing_to_do(cli: Cli, bloated: Path) -> None:
    assert cli("run", "app.db").code == 0
    before = hashlib.sha256(bloated.read_bytes()).digest()
    again = cli("run", "app.db", "--json")
    assert again.code == 0
    assert again.json["outcome"] == "nothing_to_do"
    assert {job["status"] for job in again.json["jobs"]} == {"skipped"}
    assert all(job["reason"] for job in again.json["jobs"])
    assert hashlib.sha256(bloated.read_bytes()).digest() == before
    assert "nothing to do" in cli("run", "app.db").out


def test_force_runs_what_is_asked_for(cli: Cli, bloated: Path) -> None:
    assert cli("run", "app.db").code == 0
    job = cli("run", "app.db", "--operations", "vacuum", "--force", "--json").json["jobs"][0]
    assert job["status"] == "completed"


def test_every_operation_can_be_run(cli: Cli, bloated: Path) -> None:
    jobs = cli("run", "app.db", "--operations", "check,vacuum,reindex,optimize,analyze", "--force", "--json").json[
        "jobs"
    ]
    assert {job["status"] for job in jobs} == {"completed"}
    assert sqlite3.connect(bloated).execute("pragma integrity_check").fetchall() == [("ok",)]


def test_a_backup_can_be_kept_until_the_check_has_passed(cli: Cli, bloated: Path) -> None:
    done = cli("run", "app.db", "--operations", "vacuum", "--backup-first", "--json")
    assert done.code == 0
    assert done.json["jobs"][0]["status"] == "completed"


def a_text(path: Path) -> None:
    path.write_text("Dear diary, this is no database, although it is long enough to be one.\n" * 99)


def noise(path: Path) -> None:
    path.write_bytes(random.Random(7).randbytes(40_960))


def hard_linked(path: Path, make: Callable[..., Path]) -> None:
    os.link(make(path), path.with_name("second-name.db"))


def read_only(path: Path, make: Callable[..., Path]) -> None:
    make(path).chmod(0o444)


Make = Callable[[Path, Callable[..., Path]], object]

WRONG: dict[str, tuple[Make, int, str | None, str]] = {
    "missing": (lambda path, make: None, 10, "missing", "there is no file"),
    "empty": (lambda path, make: path.touch(), 13, "not_a_database", "is empty"),
    "folder": (lambda path, make: path.mkdir(), 13, "not_a_database", "is a folder"),
    "text": (lambda path, make: a_text(path), 13, "not_a_database", ""),
    "encrypted": (lambda path, make: noise(path), 13, None, ""),
    "hard-linked": (hard_linked, 13, "hard_linked", "hard links"),
    "dangling symlink": (lambda path, make: path.symlink_to("nowhere"), 10, "missing", "there is no file"),
    "symlink to itself": (lambda path, make: path.symlink_to(path.name), 10, "missing", "cannot be reached"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_wrong_file_is_refused_and_left_alone(
    cli: Cli, tmp_path: Path, database: Callable[..., Path], wrong: str, command: str
) -> None:
    make, code, kind, said = WRONG[wrong]
    path = tmp_path / "wrong.db"
    make(path, database)
    before = (sorted(tmp_path.iterdir()), path.is_file() and path.read_bytes())
    done = cli(command, "wrong.db", "--json")
    assert done.code == code
    error = done.json["error"]
    assert done.json["exit_code"] == code
    assert error["message"]
    assert error["hint"]
    assert said in error["message"]
    if kind:
        assert error["kind"] == kind
    assert "error:" in done.err
    assert "hint:" in done.err
    assert (sorted(tmp_path.iterdir()), path.is_file() and path.read_bytes()) == before
    assert cli("jobs", "--all", "--json").json["jobs"] == []


def test_a_read_only_file_is_refused(cli: Cli, bloated: Path) -> None:
    bloated.chmod(0o444)
    before = bloated.read_bytes()
    done = cli("run", "app.db", "--json")
    assert done.code == 13
    assert bloated.read_bytes() == before


def test_a_symlink_is_followed_and_shown(cli: Cli, bloated: Path) -> None:
    bloated.with_name("link.db").symlink_to(bloated)
    done = cli("run", "link.db", "--json")
    assert done.code == 0
    assert done.json["target"] == f"sqlite://{bloated}"


@pytest.mark.parametrize(
    "written", ["app.db", "./app.db", "sqlite:app.db", "sqlite:///{path}", "sqlite://{path}", "{path}"]
)
def test_a_database_can_be_named_in_several_ways(cli: Cli, bloated: Path, written: str) -> None:
    assert cli("run", written.format(path=bloated), "--json").json["target"] == f"sqlite://{bloated}"


def test_a_run_over_a_pattern_is_a_tree(cli: Cli, fleet: Path) -> None:
    done = cli("run", "srv/*.db", "--json")
    assert done.code == 0
    root = done.json
    assert (root["type"], root["outcome"]) == ("maintenance_run", "done")
    parents = [job for job in root["jobs"] if job["type"] == "database_maintenance_parent"]
    assert sorted(job["name"] for job in parents) == [f"srv/tenant-{n}.db" for n in range(3)]
    for parent in parents:
        assert parent["parent_id"] == root["id"]
        assert {job["correlation_id"] for job in parent["jobs"]} == {root["id"]}
        assert "vacuum" in [job["config"]["operation"] for job in parent["jobs"]]
    text = cli("show").out
    assert "3 maintained" in text
    assert "srv/tenant-1.db" in text
    again = cli("run", "srv/*.db")
    assert "nothing to do · 3 needed nothing" in again.out


def test_a_pattern_without_a_match_is_told(cli: Cli, fleet: Path) -> None:
    done = cli("run", "srv/*.sqlite")
    assert done.code == 0
    assert "nothing to do · no database was found" in done.out


def test_several_databases_are_one_run_and_a_missing_one_is_told(cli: Cli, fleet: Path) -> None:
    done = cli("run", "srv/tenant-0.db", "srv/tenant-1.db", "srv/none.db", "--json")
    assert done.code == 10
    parents = {job["name"]: job["status"] for job in done.json["jobs"] if job["phase"] == "orchestration"}
    assert parents == {"srv/tenant-0.db": "completed", "srv/tenant-1.db": "completed", "srv/none.db": "failed"}
    assert "there is no file" in cli("show").out


def test_what_happens_is_written_as_it_happens(cli: Cli, bloated: Path) -> None:
    started = cli.start("run", "app.db", "--events")
    first = started.await_event("job_submitted")
    assert set(first) == {"seq", "at", "event", "job_id", "parent_id", "correlation_id", "data"}
    started.await_event("job_started")
    started.await_event("job_completed")
    started.await_event("parent_settled", outcome="done")
    assert started.end().code == 0
    numbers = [event["seq"] for event in started.seen]
    assert numbers == sorted(set(numbers))


def test_a_run_is_left_to_a_worker(cli: Cli, bloated: Path) -> None:
    submitted = cli("run", "app.db", "--detach")
    job_id = submitted.out.strip()
    assert cli("show", job_id, "--json").json["children"]["pending"] == 2
    elsewhere = cli("worker", "--drain", "--lane", "elsewhere", "--json")
    assert elsewhere.json["ended_by"] == "drain"
    assert cli("show", job_id, "--json").json["children"]["pending"] == 2
    assert cli("worker", "--drain").code == 0
    assert cli("show", job_id, "--json").json["outcome"] == "done"


def test_a_run_does_no_work_but_its_own(cli: Cli, fleet: Path) -> None:
    waiting = cli("run", "srv/tenant-0.db", "--detach").out.strip()
    assert cli("run", "srv/tenant-1.db").code == 0
    assert cli("show", waiting, "--json").json["status"] == "running"
    assert cli("run", "--resume", waiting).code == 0
    assert cli("show", waiting, "--json").json["outcome"] == "done"


CONFIG = """
version = 1
[targets.one]
url = "sqlite://{folder}/tenant-0.db"
[targets.all]
dir = "{folder}"
[policies.keen]
vacuum = {{ min_share = "1%", min_bytes = "1KiB" }}
[jobs.nightly]
policy = "keen"
[[jobs.nightly.steps]]
name = "first look"
action = "database_maintenance"
targets = ["one"]
operations = ["check"]
[[jobs.nightly.steps]]
name = "then all"
targets = ["all"]
operations = ["vacuum", "analyze"]
"""


def test_a_job_of_the_configuration_runs_its_steps_in_order(cli: Cli, fleet: Path, tmp_path: Path) -> None:
    config = tmp_path / "upkeep.toml"
    config.write_text(CONFIG.format(folder=fleet))
    planned = cli("plan", "nightly", "--config", config, "--json")
    assert planned.code == 0
    assert planned.json["name"] == "nightly"
    assert [plan["step"] for plan in planned.json["jobs"]] == ["first look", "then all", "then all", "then all"]
    done = cli("run", "nightly", "--config", config, "--json")
    assert done.code == 0
    parents = [job for job in done.json["jobs"] if job["type"] == "database_maintenance_parent"]
    assert [job["config"]["step"] for job in parents] == ["first look", "then all", "then all", "then all"]
    assert min(job["started_at"] for job in parents[1:]) >= parents[0]["finished_at"]
    assert cli("run", "one", "--config", config, "--json").json["target"] == f"sqlite://{fleet}/tenant-0.db"
    assert cli("run", "nightly", "srv/tenant-0.db", "--config", config).code == 2
    assert 'did you mean "nightly"' in cli("run", "nightli", "--config", config).err


@pytest.mark.parametrize(
    "arguments", [[], ["app.db", "--resume"], ["app.db", "--plan", "x"], ["--resume"], ["--resume", "01"]]
)
def test_a_run_wants_one_thing_to_do(cli: Cli, bloated: Path, arguments: list[str]) -> None:
    done = cli("run", *arguments)
    assert done.code == 2
    assert "hint:" in done.err


CANARY = "hunter2-canary"


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", f"postgresql://me:{CANARY}@db/shop"],
        ["run", f"mysql://me:{CANARY}@db/shop"],
        ["jobs", "--ledger", f"postgresql://me:{CANARY}@db/ledger"],
        ["run", "app.db", f"--ledger=postgresql://me:{CANARY}@db/ledger"],
        ["history", f"postgresql://db/shop?password={CANARY}"],
    ],
)
def test_a_password_on_the_command_line_is_refused_and_not_repeated(cli: Cli, arguments: list[str]) -> None:
    done = cli(*arguments, "--json")
    assert done.code == 2
    assert "a password may not be given on the command line" in done.err
    assert ".pgpass" in done.err
    assert CANARY not in done.out + done.err


def test_a_failed_operation_is_exit_1_and_holds_up_no_sibling(cli: Cli, script: Script) -> None:
    script.let("vacuum", said="the disk is on fire")
    script.let("analyze", "reindex")
    done = cli("run", "scripted://db")
    assert done.code == 1
    assert "the disk is on fire" in done.out
    assert "hint: mend it" in done.out
    assert "2 done, 1 failed" in done.out


def test_failures_within_the_tolerance_are_exit_3(cli: Cli, script: Script) -> None:
    script.let("vacuum", said="the disk is on fire")
    script.let("analyze", "reindex")
    assert cli("run", "scripted://db", "--error-tolerance", "1").code == 3


def test_nothing_is_started_after_a_failure_when_that_is_asked_for(cli: Cli, script: Script) -> None:
    script.let("vacuum", said="the disk is on fire")
    done = cli("run", "scripted://db", "--on-error", "fail", "--json")
    assert done.code == 1
    assert [job["status"] for job in done.json["jobs"]] == ["failed", "skipped", "skipped"]


def test_a_busy_database_is_exit_4(cli: Cli, script: Script) -> None:
    script.let("vacuum", said="busy")
    script.let("analyze", "reindex")
    done = cli("run", "scripted://db")
    assert done.code == 4
    assert "somebody holds a lock" in done.out
    assert "hint: come again" in done.out


def test_an_unknown_engine_is_told(cli: Cli) -> None:
    done = cli("plan", "oracle://db/x")
    assert done.code == 2
    assert "no engine for 'oracle'" in done.err


def test_old_runs_are_forgotten_once_a_day(cli: Cli, bloated: Path, tmp_path: Path) -> None:
    config = tmp_path / "upkeep.toml"
    config.write_text('version = 1\nretention = "1ms"\n')
    assert cli("run", "app.db").code == 0
    first = cli("jobs", "--json").json["jobs"][0]["id"]
    assert cli("run", "app.db", "--config", config).code == 0
    # The first run without the setting has tidied today, so that nothing is forgotten before tomorrow.
    assert first in [job["id"] for job in cli("jobs", "--json").json["jobs"]]
    fresh = tmp_path / "other-ledger.db"
    assert cli("run", "app.db", "--ledger", fresh, "--config", config).code == 0
    assert cli("jobs", "--ledger", fresh, "--json").json["jobs"] == []
