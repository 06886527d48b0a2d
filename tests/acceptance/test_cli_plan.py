from __future__ import annotations

import shlex
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.acceptance.conftest import Cli

REQUEST_FIELDS = {"operation", "object", "decision", "reason", "estimate", "locks", "space"}


def digests(*paths: Path) -> str:
    """Checksums by another process, so that this one opens nothing."""
    return subprocess.run(["sha256sum", *map(str, paths)], capture_output=True, text=True, check=True).stdout


def test_it_says_what_why_and_at_what_cost(cli: Cli, bloated: Path) -> None:
    done = cli("plan", "app.db")
    assert done.code == 0
    assert done.err == ""
    for said in ("nothing has been changed", "vacuum", "is free (", "back", "(estimated)", "locks", "space", "reindex", "skipped", "min_share 25 %"):  # fmt: skip
        assert said in done.out


def test_its_document_has_an_entry_for_each_child(cli: Cli, bloated: Path) -> None:
    document = cli("plan", "app.db", "--json").json
    assert [job["operation"] for job in document["jobs"]] == ["vacuum", "reindex", "analyze"]
    for job in document["jobs"]:
        assert set(job) >= REQUEST_FIELDS
    vacuum = document["jobs"][0]
    assert vacuum["decision"] == "run"
    assert vacuum["estimate"]["gain_bytes"] > 1024 * 1024
    assert vacuum["estimate"]["seconds_source"] in ("estimated", "history")
    assert document["settings"]["vacuum"]["min_share"] == 0.25


@pytest.fixture
def open_writer(tmp_path: Path, database: Callable[..., Path]) -> Iterator[Path]:
    """A WAL database with a -wal beside it that another connection keeps there."""
    path = database(tmp_path / "live.db", wal=True)
    connection = sqlite3.connect(path)
    connection.execute("insert into t (a) values ('in the wal')")
    connection.commit()
    yield path
    connection.close()


def test_it_changes_no_byte(cli: Cli, open_writer: Path) -> None:
    files = (open_writer, Path(f"{open_writer}-wal"))
    before, names = digests(*files), sorted(open_writer.parent.iterdir())
    assert cli("plan", "live.db", "--operations", "vacuum,analyze,reindex,optimize,check").code == 0
    assert digests(*files) == before
    assert sorted(open_writer.parent.iterdir()) == names


def test_the_command_it_prints_does_it(cli: Cli, bloated: Path) -> None:
    done = cli("plan", "app.db", "--operations", "vacuum")
    command = shlex.split(done.out.rpartition("Do it:")[2])
    assert command == ["dbupkeep", "run", "app.db", "--operations", "vacuum"]
    assert cli(*command[1:]).code == 0
    assert "Nothing is due" in cli("plan", "app.db", "--operations", "vacuum").out


def test_the_exit_code_can_say_whether_something_is_due(cli: Cli, bloated: Path) -> None:
    assert cli("plan", "app.db").code == 0
    assert cli("plan", "app.db", "--exit-code").code == 5
    assert cli("run", "app.db").code == 0
    assert cli("plan", "app.db", "--exit-code").code == 0


def test_a_threshold_can_be_set(cli: Cli, bloated: Path) -> None:
    vacuum: dict[str, Any] = cli("plan", "app.db", "--set", "vacuum.min_share=99%", "--json").json["jobs"][0]
    assert vacuum["decision"] == "skip"
    assert "99 %" in vacuum["reason"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "vacuum.min_shar=1"], 'did you mean "min_share"?'),
        (["--set", "vaccum.min_share=1"], "unknown operation: vaccum"),
        (["--set", "min_share"], "is no setting"),
        (["--operations", "vaccum"], "unknown operation: vaccum"),
        (["--operations", ""], "no operation was asked for"),
        (["--operations", "vacuum,,check"], "no operation was asked for"),
        (["--policy", "gentle"], "unknown policy: gentle"),
        (["--max-stall", "soon"], "must be a duration"),
        (["--stop-after", "2", "--on-error", "fail"], "--stop-after is for --on-error stop"),
        (["--nonsense"], "No such option"),
    ],
)
def test_a_wrong_request_is_refused_before_anything(cli: Cli, bloated: Path, arguments: list[str], said: str) -> None:
    done = cli("plan", "app.db", *arguments)
    assert done.code == 2
    assert said in done.err
    assert done.out == ""


def test_operations_that_are_named_twice_are_one(cli: Cli, bloated: Path) -> None:
    jobs = cli("plan", "app.db", "--operations", "analyze,vacuum,vacuum", "--json").json["jobs"]
    assert [job["operation"] for job in jobs] == ["vacuum", "analyze"]


def test_a_saved_plan_is_applied_exactly(cli: Cli, bloated: Path) -> None:
    saved = cli("plan", "app.db", "--operations", "vacuum", "--save")
    command = shlex.split(saved.out.rpartition("Apply exactly this:")[2])
    assert command[:3] == ["dbupkeep", "run", "--plan"]
    document = cli(*command[1:], "--json")
    assert document.code == 0
    (job,) = document.json["jobs"]
    assert job["config"] == {"operation": "vacuum"}
    assert job["status"] == "completed"


def test_a_saved_plan_is_refused_once_its_database_is_another(
    cli: Cli, bloated: Path, database: Callable[..., Path]
) -> None:
    plan_id = cli("plan", "app.db", "--save", "--json").json["id"]
    bloated.rename(bloated.with_name("old.db"))
    database(bloated, rows=12_000)
    done = cli("run", "--plan", plan_id)
    assert done.code == 13
    assert "no longer fits" in done.err
    assert cli("jobs", "--json").json["jobs"] == []


def test_a_plan_that_was_not_saved_is_unknown(cli: Cli, bloated: Path) -> None:
    plan_id = cli("plan", "app.db", "--json").json["id"]
    done = cli("run", "--plan", plan_id, "--json")
    assert done.code == 2
    assert done.json["error"]["kind"] == "unknown_name"


def test_a_pattern_is_a_plan_for_each_database(cli: Cli, fleet: Path) -> None:
    document = cli("plan", "srv/*.db", "--json").json
    assert [plan["name"] for plan in document["jobs"]] == [f"srv/tenant-{n}.db" for n in range(3)]
    text = cli("plan", "srv/*.db").out
    assert "3 databases" in text
    assert "tenant-2.db" in text


def test_a_plan_of_a_fleet_is_saved_and_applied(cli: Cli, fleet: Path) -> None:
    plan_id = cli("plan", "srv", "--pattern", "*.db", "--save", "--json").json["id"]
    document = cli("run", "--plan", plan_id, "--json").json
    assert document["type"] == "maintenance_run"
    assert document["children"]["completed"] == 3


def test_a_folder_is_searched_with_all_below_it(cli: Cli, fleet: Path, database: Callable[..., Path]) -> None:
    (fleet / "deep" / "er").mkdir(parents=True)
    database(fleet / "deep" / "er" / "d.db")
    assert len(cli("plan", "srv", "--pattern", "*.db", "--json").json["jobs"]) == 3
    assert len(cli("plan", "srv", "--recursive", "--json").json["jobs"]) == 4
    assert len(cli("plan", "srv/**/*.db", "--json").json["jobs"]) == 4


def test_a_database_that_cannot_be_planned_does_not_hide_the_others(cli: Cli, fleet: Path) -> None:
    done = cli("plan", "srv/tenant-0.db", "srv/none.db", "--json")
    assert done.code == 10
    document = done.json
    assert [plan["name"] for plan in document["jobs"]] == ["srv/tenant-0.db"]
    assert "none.db" in document["notices"][0]["message"]
    assert "none.db" in cli("plan", "srv/tenant-0.db", "srv/none.db").out


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_consent_that_no_engine_asks_for_is_refused(cli: Cli, bloated: Path, command: str) -> None:
    refused = cli(command, "app.db", "--consent", "long_stal")
    assert refused.code == 2
    assert 'did you mean "long_stall"?' in refused.err
    assert cli("plan", "app.db", "--consent", "long_stall").code == 0


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("drop table t; create table q (a)", "table t, index t_a are gone, table q is new"),
        ("alter table t add column later", "table t is not what it was"),
        ("create index of_a on t (a)", "index of_a is new"),
    ],
)
def test_a_plan_for_another_schema_is_refused(cli: Cli, bloated: Path, script: str, said: str) -> None:
    plan_id = cli("plan", "app.db", "--operations", "vacuum", "--save", "--json").json["id"]
    connection = sqlite3.connect(bloated)
    connection.executescript(script)
    connection.close()
    before = digests(bloated)
    refused = cli("run", "--plan", plan_id)
    assert refused.code == 13
    assert said in refused.err
    assert digests(bloated) == before


def test_a_plan_holds_when_rows_came_and_went(cli: Cli, bloated: Path) -> None:
    plan_id = cli("plan", "app.db", "--operations", "vacuum", "--save", "--json").json["id"]
    connection = sqlite3.connect(bloated)
    connection.executescript("insert into t (a) values ('new'); delete from t where rowid = 1; analyze; reindex")
    connection.close()
    assert cli("run", "--plan", plan_id).code == 0
