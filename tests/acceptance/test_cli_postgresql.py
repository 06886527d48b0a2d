"""The real command on real PostgreSQL servers: planned, run in parallel, told in one document, and refused with its own code."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from dbupkeep.operations import Operation
from tests.plugins.postgresql import Database, Server, clone
from tests.plugins.postgresql_bench import Workbench, holding, until
from tests.plugins.postgresql_phases import BUILD, SETUP

if TYPE_CHECKING:
    from tests.acceptance.conftest import Cli

pytestmark = pytest.mark.engine("postgresql")

BOTH = ("--operations", "vacuum,analyze", "--exclude", "pg_catalog.*", "--exclude", "information_schema.*")


def test_planned_then_run_then_nothing_left(cli: Cli, server: Server) -> None:
    bench = Workbench(database=server.create())
    for name in ("a", "b"):
        bench.bloat(name)
    for number in range(30):
        bench.bloat(f"s{number}", rows=200, dead=100)
    plan = cli("plan", bench.database.url, *BOTH, "--json")
    assert plan.code == 0, plan.err
    run = [job["decision"] for job in plan.json["jobs"]].count("run")
    done = cli("run", bench.database.url, *BOTH, "-j2", "--json")
    assert done.code == 0, done.err
    document = done.json
    assert document["outcome"] == "done"
    assert document["children"]["completed"] == run
    for job in document["jobs"]:
        if job["status"] == "completed":
            assert job["result"]["effective"] == "yes"
            assert set(job["result"]["before"]) == set(job["result"]["after"])
    again = cli("run", bench.database.url, *BOTH, "--json")
    assert again.code == 0
    assert again.json["children"]["completed"] == 0
    assert again.json["children"]["skipped"] == 2
    assert "public.a" in cli("history", bench.database.url).out
    bench.database.drop()


def test_the_jobs_of_a_run_share_sessions(cli: Cli, newest: Workbench) -> None:
    for name in ("a", "b", "c", "d"):
        newest.bloat(name)
    opened = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
    before = newest.database.value(opened)
    done = cli("run", newest.database.url, *BOTH, "--json")
    assert done.json["children"]["completed"] == 8
    assert newest.database.value(opened) - before <= 4, "one to survey, one to work, and those that ask here"


def test_a_saved_plan_is_applied_as_it_is_and_refused_when_it_no_longer_fits(cli: Cli, newest: Workbench) -> None:
    newest.bloat()
    saved = cli("plan", newest.database.url, *BOTH, "--save", "--json").json["id"]
    newest.database.execute("VACUUM t", "ANALYZE t")
    refused = cli("run", "--plan", saved)
    assert refused.code == 13
    assert "public.t" in refused.err
    newest.database.execute("DELETE FROM t WHERE id <= 15000")
    saved = cli("plan", newest.database.url, *BOTH, "--save", "--json").json["id"]
    assert cli("run", "--plan", saved).code == 0


def test_what_was_planned_cannot_be_narrowed_afterwards(cli: Cli, newest: Workbench) -> None:
    newest.bloat("a")
    newest.bloat("b")
    saved = cli("plan", newest.database.url, *BOTH, "--save", "--json").json["id"]
    for arguments in (("-t", "a"), ("--operations", "vacuum"), ("--force",), ("--exclude", "b")):
        done = cli("run", "--plan", saved, *arguments)
        assert done.code == 2, done.err
        assert arguments[0] in done.err
    assert len(newest.due(Operation.VACUUM)) == 2, "nothing was done"
    assert cli("run", "--resume", "-t", "a").code == 2
    assert cli("run", "--plan", saved, "-j2").code == 0


def test_a_locked_table_is_deferred(cli: Cli, newest: Workbench) -> None:
    newest.bloat()
    with holding(newest.database, "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE"):
        done = cli(
            "run", newest.database.url, *BOTH, "--set", "vacuum.lock_wait=200ms", "--set", "analyze.lock_wait=200ms"
        )
    assert done.code == 4, done.err


def test_of_a_group_the_locked_member_alone_comes_back(cli: Cli, newest: Workbench) -> None:
    for number in range(40):
        newest.bloat(f"s{number}", rows=200, dead=100)
    with holding(newest.database, "LOCK TABLE s0 IN SHARE UPDATE EXCLUSIVE MODE"):
        done = cli("run", newest.database.url, "--operations", "vacuum", "--set", "vacuum.lock_wait=200ms", "--json")
    assert done.code == 4, done.err
    assert newest.database.value("SELECT count(*) FROM pg_stat_user_tables WHERE vacuum_count > 1") == 39
    (put_off,) = [job for job in done.json["jobs"] if job["status"] == "deferred"]
    assert list(put_off["result"]["put_off"]) == ["public.s0"]
    assert "1 of" in put_off["reason"]
    assert "the others are done" in put_off["reason"]
    assert put_off["result"]["after"]["dead"] == 0
    again = cli("run", newest.database.url, "--operations", "vacuum", "--json").json
    assert [job["config"]["object"] for job in again["jobs"] if job["status"] == "completed"] == ["public.s0"]


def test_it_can_be_cancelled_from_elsewhere(cli: Cli, newest: Workbench) -> None:
    newest.bloat(rows=60_000, dead=30_000)
    newest.slowly()
    running = cli.start("run", newest.database.url, *BOTH, "--events")
    running.await_event("job_started")
    until(lambda: newest.database.query("SELECT FROM pg_stat_progress_vacuum"))
    cli("cancel", running.seen[0]["correlation_id"])
    running.end()
    assert newest.database.query("SELECT FROM pg_stat_progress_vacuum") == []


def test_a_whole_server_but_what_is_excluded(cli: Cli, newest: Workbench) -> None:
    newest.bloat()
    prefix = newest.database.name
    done = cli("run", newest.database.url, *BOTH, "-a", "--pattern", f"{prefix}*", "--json")
    assert done.code == 0, done.err
    assert newest.due(Operation.VACUUM) == newest.due(Operation.ANALYZE) == []


def test_what_is_chosen_may_be_in_some_databases_and_has_to_be_in_one(cli: Cli, newest: Workbench) -> None:
    newest.bloat()
    empty = newest.database.server.create()
    server = newest.database.server.url("postgres")
    chosen = ["-a", "--operations", "vacuum", "-t", "t"]
    for command in ("plan", "run"):
        only_empty = cli(command, server, *chosen, "--pattern", empty.name)
        assert only_empty.code == 10, only_empty.err
        assert "is in none of 1 databases" in only_empty.out + only_empty.err
        nothing = cli(command, server, *chosen, "--pattern", "no_such_*")
        assert nothing.code == 10, nothing.err
        assert "none is called no_such_*" in nothing.out + nothing.err
        both = cli(command, server, *chosen, "--pattern", "test_*")
        assert both.code == 0, both.err
    assert newest.due(Operation.VACUUM) == []
    empty.drop()


def test_a_server_that_is_away_does_not_keep_the_others(cli: Cli, newest: Workbench) -> None:
    newest.bloat()
    server = newest.database.server.url("postgres")
    done = cli("plan", "postgresql://127.0.0.1:1", server, "-a", *BOTH, "--pattern", newest.database.name)
    assert done.code == 10
    assert "public.t" in done.out
    assert "connection refused" in done.out


def test_of_a_whole_server_what_may_not_be_entered_fails_and_what_takes_no_connections_is_left_out(
    cli: Cli, newest: Workbench
) -> None:
    newest.bloat()
    server, name = newest.database.server, newest.database.name
    with server.connect() as admin:
        for suffix in ("private", "closed"):
            admin.execute(f"CREATE DATABASE {name}_{suffix}")
        admin.execute("DROP ROLE IF EXISTS visitor")
        admin.execute("CREATE ROLE visitor LOGIN IN ROLE pg_maintain")
        admin.execute(f"REVOKE CONNECT ON DATABASE {name}_private FROM public")
        admin.execute(f"ALTER DATABASE {name}_closed ALLOW_CONNECTIONS false")
    url = server.url("postgres", user="visitor")
    arguments = [url, *BOTH, "-a", "--pattern", f"{name}*"]
    try:
        planned = cli("plan", *arguments)
        assert planned.code == 12, planned.err
        assert "lacks CONNECT" in planned.out
        done = cli("run", *arguments, "--json")
        assert done.code == 12, done.err
        ended = {job["name"]: job["status"] for job in done.json["jobs"] if job["phase"] == "orchestration"}
        assert {key.rpartition("/")[2]: status for key, status in ended.items()} == {
            name: "completed", f"{name}_private": "failed",
        }  # fmt: skip
        assert cli("run", *arguments, "--exclude", "*_private").code == 0
    finally:
        with server.connect() as admin:
            admin.execute(f"DROP DATABASE {name}_private")
            admin.execute(f"DROP DATABASE {name}_closed")
            admin.execute("DROP ROLE visitor")


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("postgresql://127.0.0.1:1/x", 10, "connection refused"),
        ("postgresql://no-such-host.invalid/x", 10, "not known"),
        ("{server}/nowhere", 10, "no such database"),
        ("{stranger}/{database}", 12, "credentials"),
        ("postgresql://u:c4n4ry@127.0.0.1/x", 2, "password"),
        ("postgresql:/u:c4n4ry@127.0.0.1/x", 2, "password"),
        ("postgresql://127.0.0.1/x?nonsense=1", 2, "cannot be read"),
        ("{guarded}/{database}", 12, "wrong or missing password"),
        ("postgresql://127.0.0.1:{website}/x", 10, "is no PostgreSQL server"),
    ],
    ids=["refused", "host", "database", "role", "password", "malformed", "nonsense", "wrong-password", "website"],
)
def test_bad_input_has_its_own_words_and_code(
    cli: Cli, newest_database: Database, website: int, url: str, code: int, words: str
) -> None:
    port = newest_database.server.port
    url = url.format(
        server=f"postgresql://postgres@127.0.0.1:{port}",
        stranger=f"postgresql://nobody_at_all@127.0.0.1:{port}",
        guarded=f"postgresql://with_password@127.0.0.1:{port}",
        database=newest_database.name,
        website=website,
    )
    with newest_database.connect() as connection:
        if not connection.execute("SELECT FROM pg_roles WHERE rolname = 'with_password'").fetchall():
            connection.execute("CREATE ROLE with_password LOGIN PASSWORD 'right'")
    done = cli("run", url, *BOTH, PGPASSWORD="wr0ng-c4n4ry")
    assert done.code == code, done.err
    assert words in done.err
    assert "c4n4ry" not in done.out + done.err
    assert cli("jobs", "--json").json == {"jobs": [], "cursor": None}, "nothing was begun"


class Website(socketserver.StreamRequestHandler):
    """What takes a greeting of libpq for a bad request."""

    @override
    def handle(self) -> None:
        """Answer and hang up."""
        self.request.recv(1024)
        self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


@pytest.fixture
def website() -> Iterator[int]:
    """The port of something that is no database server."""
    with socketserver.TCPServer(("127.0.0.1", 0), Website) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_ledger_that_cannot_be_opened_is_told_while_the_server_is_still_silent(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        url = f"postgresql://someone@127.0.0.1:{silent.getsockname()[1]}/app"
        done = cli("run", url, "--ledger", str(tmp_path / "file" / "ledger.db"))
    assert done.code == 1, done.err
    assert "cannot make the ledger" in done.err


def test_a_standby_is_refused_and_can_be_checked(cli: Cli, newest: Workbench) -> None:
    newest.bloat()
    standby = clone(newest.database.server)
    try:
        url = standby.url(newest.database.name)
        done = cli("run", url, *BOTH)
        assert done.code == 13, done.err
        assert "is on a standby" in done.err
        assert "maintain its primary" in done.err
        assert cli("jobs", "--json").json["jobs"] == [], "nothing was begun"
        assert cli("plan", url, *BOTH).code == 0
        assert cli("run", url, "--operations", "vacuum,check").code == 0
    finally:
        standby.remove()


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["-t", "nothing"], 10),
        (["-t", "nothing*"], 10),
        (["-t", "t", "-t", "nothing"], 10),
        (["-n", "public", "-n", "nothing"], 10),
        (["-i", "t_pkey"], 2),
        (["--no-process-main", "--no-process-toast"], 2),
        (["--no-index-cleanup", "--force-index-cleanup"], 2),
        (["--buffer-usage-limit", "12'; DROP TABLE t"], 2),
        (["-t", "a", "-n", "b"], 2),
        (["--min-xid-age", "-1"], 2),
    ],
    ids=["table", "pattern", "second", "schema", "index", "nothing", "cleanup", "size", "both", "age"],
)
def test_bad_flags_are_refused(cli: Cli, newest: Workbench, flags: list[str], code: int) -> None:
    newest.bloat()
    done = cli("run", newest.database.url, "--operations", "vacuum", *flags)
    assert done.code == code, done.err
    assert newest.database.value("SELECT count(*) FROM t") == 10_000


def test_a_pattern_that_fits_nothing_beside_others_is_told(cli: Cli, newest: Workbench) -> None:
    newest.bloat()
    done = cli(
        "plan", newest.database.url, "--operations", "vacuum", "-t", "t", "-t", "tmp_*", "-T", "x", "-T", "old_*"
    )
    assert done.code == 0, done.err
    assert "nothing is chosen by tmp_*" in done.out
    assert "nothing is left out by x:" in done.out
    assert "by old_" not in done.out, "an exclusion by pattern may be one for another day"


def test_what_is_chosen_and_too_young_is_no_error(cli: Cli, newest: Workbench) -> None:
    newest.bloat()
    newest.database.execute("CREATE SCHEMA empty")
    done = cli("run", newest.database.url, "--operations", "vacuum", "-t", "t", "--min-xid-age", "1000000000")
    assert done.code == 0, done.err
    assert "no table is as old as was asked for" in done.out
    assert cli("plan", newest.database.url, "--operations", "vacuum", "-n", "empty").code == 0


def test_one_index_is_rebuilt_and_no_other(cli: Cli, newest: Workbench) -> None:
    newest.bloat()
    newest.database.execute("CREATE INDEX other ON t (a)")
    files = "SELECT relname::text, relfilenode FROM pg_class WHERE relname IN ('t_pkey', 'other')"
    before = dict(newest.database.query(files))
    done = cli("run", newest.database.url, "--operations", "reindex", "-i", "t_pkey", "--force", "--json")
    assert done.code == 0, done.err
    after = dict(newest.database.query(files))
    assert (after["t_pkey"] != before["t_pkey"], after["other"] == before["other"]) == (True, True)
    assert cli("plan", newest.database.url, "--operations", "reindex", "-i", "nothing").code == 10


def test_toast_tables_alone(cli: Cli, newest: Workbench) -> None:
    newest.bloat()
    arguments = ["--operations", "vacuum", "-t", "t", "--force", "--no-process-main", "-P", "0", "--no-truncate"]
    counts = "SELECT pg_stat_get_vacuum_count(oid), pg_stat_get_vacuum_count(reltoastrelid) FROM pg_class WHERE relname = 't'"
    before = newest.database.query(counts)[0]
    done = cli("run", newest.database.url, *arguments)
    assert done.code == 0, done.err
    after = newest.database.query(counts)[0]
    assert (after[0] - before[0], after[1] - before[1]) == (0, 1)
    assert "PROCESS_MAIN FALSE" in newest.database.server.log
    assert "PARALLEL 0" in newest.database.server.log


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("-z", "--operations vacuum,analyze"), ("--analyze-only", "--operations analyze"), ("--full", "optimize"),
        ("--dry-run", "dbupkeep plan"), ("--echo", "dbupkeep plan"), ("-W", ".pgpass"), ("--dbname=x", "URL"),
        ("--maintenance-db=x", "-a"), ("--all", "-a takes all"), ("-S", "-n"), ("--system", "reindexdb --system"),
        ("--concurrently", "always"), ("--tablespace=x", "ALTER INDEX"),
    ],
)  # fmt: skip
def test_an_option_of_the_servers_tools_that_is_none_of_ours_says_what_is(cli: Cli, option: str, instead: str) -> None:
    done = cli("run", "postgresql://127.0.0.1:1/x", option)
    assert done.code == 2
    assert instead in done.err


def test_all_of_a_single_database_is_no_whole_server(cli: Cli) -> None:
    done = cli("plan", "postgresql://127.0.0.1:1/x", "--all")
    assert done.code == 2
    assert "-a takes all databases" in done.err


def test_flags_of_servers_are_refused_for_files(cli: Cli) -> None:
    assert cli("plan", "app.db", "-t", "x").code == 2
    assert cli("plan", "app.db", "-a").code == 2


def test_a_role_without_rights_ends_with_its_own_code(cli: Cli, newest: Workbench) -> None:
    newest.bloat()
    newest.database.execute("DROP ROLE IF EXISTS poor", "CREATE ROLE poor LOGIN")
    url = newest.database.server.url(newest.database.name, user="poor")
    done = cli("run", url, "--operations", "vacuum", "--json")
    assert done.code == 12, done.err
    (failed,) = [job for job in done.json["jobs"] if job["status"] == "failed"]
    assert failed["error"]["kind"] == "permission"
    assert "GRANT MAINTAIN" in failed["error"]["hint"]


def test_a_run_keeps_its_budget_of_blocking_and_tells_it(cli: Cli, newest: Workbench) -> None:
    newest.database.execute(*SETUP, "CREATE TABLE u AS SELECT n AS id FROM generate_series(1, 10) n", "ANALYZE u")
    arguments = [newest.database.url, "--operations", "optimize", "--force", "--consent", "exclusive_lock"]
    limits = ["--set", "optimize.lock_wait=30s", "--blocking-budget", "300ms"]
    with newest.database.connect() as gate:
        gate.execute("SELECT pg_advisory_lock(%s)", [BUILD])
        running = cli.start("run", *arguments, *limits, "--events")
        until(lambda: newest.database.query("SELECT FROM pg_stat_progress_cluster WHERE phase LIKE 'rebuilding%'"))
        assert newest.database.value("SELECT count(*) FROM t") == 2000
        running.await_event("parent_settled")
        assert running.end().code == 4
    document = cli("show", running.seen[0]["correlation_id"], "--json").json
    assert document["status"] == "deferred"
    stopped = next(job for job in document["jobs"] if job["config"].get("object") == "public.t")
    assert stopped["status"] == "deferred"
    assert "its budget is 300 ms" in stopped["reason"]
    assert 0.3 <= stopped["result"]["blocking_seconds"] == document["blocking_seconds"] < 3
    other = next(job for job in document["jobs"] if job["config"].get("object") == "public.u")
    assert (other["status"], "is not begun" in other["reason"]) == ("deferred", True)
    assert "others waited" in cli("show", document["id"]).out


def test_where_nobody_waited_that_is_told(cli: Cli, newest: Workbench) -> None:
    newest.bloat()
    document = cli("run", newest.database.url, "--operations", "vacuum", "--force", "-t", "t", "--json").json
    (done,) = [job for job in document["jobs"] if job["status"] == "completed"]
    assert done["result"]["blocking_seconds"] == 0
    assert document["blocking_seconds"] == 0
    assert "<dt>others waited</dt><dd>0 ms</dd>" in cli("report", "--html").out
