"""Groups of small indexes by the real command: what is left over comes back alone, and what is done is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.postgresql import Database, Server
from tests.plugins.postgresql_bench import Workbench, holding, until

if TYPE_CHECKING:
    from tests.acceptance.conftest import Cli

pytestmark = pytest.mark.engine("postgresql")

REINDEX = ("--operations", "reindex", "--exclude", "pg_catalog.*", "--exclude", "information_schema.*", "--json")


@pytest.fixture
def german(postgresql: Callable[[int], Server]) -> Iterator[Database]:
    """40 small tables, each with an index whose collation is another version now."""
    database = postgresql(15).create()
    database.execute("CREATE COLLATION german (provider = icu, locale = 'de')")
    with database.connect() as connection:
        for number in range(40):
            connection.execute(f"CREATE TABLE s{number} (a text COLLATE german UNIQUE)")
            connection.execute(f"INSERT INTO s{number} VALUES ('ä'), ('z')")
    database.execute("UPDATE pg_collation SET collversion = '1' WHERE collname = 'german'")
    yield database
    database.drop()


def ended(document: Any, status: str) -> set[str]:
    """The objects of the jobs that ended so."""
    return {job["config"]["object"] for job in document["jobs"] if job["status"] == status}


def test_groups_are_planned_told_and_done_once(cli: Cli, german: Database) -> None:
    plan = cli("plan", german.url, *REINDEX).json
    members = [name for job in plan["jobs"] for name in job["members"]]
    assert sorted(members) == sorted(f"public.s{number}_a_key" for number in range(40))
    done = cli("run", german.url, *REINDEX)
    assert done.code == 0, done.err
    names = {f"small tables {number}" for number in (1, 2, 3, 4)}
    assert ended(done.json, "completed") == names
    results = [job["result"] for job in done.json["jobs"] if job["status"] == "completed"]
    assert {result["effective"] for result in results} == {"yes"}
    assert sorted(name for result in results for name in json.loads(result["values"]["members"])) == sorted(members)
    assert german.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
    again = cli("run", german.url, *REINDEX).json
    assert again["children"] == {**again["children"], "completed": 0, "skipped": 1}


def test_what_is_in_the_way_of_one_brings_that_one_back(cli: Cli, german: Database) -> None:
    with holding(german, "UPDATE s7 SET a = 'ö' WHERE a = 'ä'"):
        done = cli(
            "run", german.url, *REINDEX, "--set", "reindex.max_wait=500ms", "--set", "reindex.cleanup_wait=200ms"
        )
    assert done.code == 4, done.err
    (put_off,) = [job for job in done.json["jobs"] if job["status"] == "deferred"]
    assert list(put_off["result"]["put_off"]) == ["public.s7_a_key"]
    assert "1 of" in put_off["reason"]
    assert "the others are done" in put_off["reason"]
    again = cli("run", german.url, *REINDEX)
    assert again.code == 0, again.err
    assert ended(again.json, "completed") == {"public.s7_a_key", "public.s7_a_key_ccnew"}
    assert german.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


def test_a_member_that_fails_is_named_and_the_others_are_not_done_again(cli: Cli, german: Database) -> None:
    german.execute(
        "UPDATE pg_index SET indisunique = false WHERE indexrelid = 's7_a_key'::regclass",
        "INSERT INTO s7 VALUES ('ä')",
        "UPDATE pg_index SET indisunique = true WHERE indexrelid = 's7_a_key'::regclass",
    )
    done = cli("run", german.url, *REINDEX)
    assert done.code == 1, done.err
    (failed,) = [job for job in done.json["jobs"] if job["status"] == "failed"]
    assert "1 of" in failed["error"]["message"]
    assert "public.s7_a_key: " in failed["error"]["message"]
    assert failed["result"]["effective"] == "yes"
    again = cli("run", german.url, *REINDEX)
    assert ended(again.json, "failed") == {"public.s7_a_key"}
    assert again.json["children"]["completed"] == 0
    assert german.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0


def test_a_cancelled_group_leaves_nothing(cli: Cli, newest: Workbench) -> None:
    for number in range(40):
        newest.database.execute(f"CREATE TABLE s{number} (id int PRIMARY KEY)")
    with holding(newest.database, "INSERT INTO s7 VALUES (1)"):
        command = ("run", newest.database.url, *REINDEX[:-1], "--set", "reindex.cleanup_wait=200ms")
        running = cli.start(*command, "--force", "--events")
        until(lambda: newest.database.query("SELECT FROM pg_stat_progress_create_index WHERE lockers_total > 0"))
        cli("cancel", running.await_event("job_started")["correlation_id"])
        running.end()
    cli("run", newest.database.url, *REINDEX)
    assert newest.database.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 0
