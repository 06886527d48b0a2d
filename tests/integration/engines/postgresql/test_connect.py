from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import cast

import psycopg
import pytest
from msgspec.structs import replace
from psycopg import sql

from dbupkeep.definitions import Policy
from dbupkeep.engine import Purpose
from dbupkeep.engines import load
from dbupkeep.engines.postgresql import introduction
from dbupkeep.engines.postgresql.faults import refusal_of
from dbupkeep.engines.postgresql.queries import query
from dbupkeep.engines.postgresql.session import PostgresqlSession
from dbupkeep.engines.postgresql.urls import target_of
from dbupkeep.engines.postgresql.versions import Version
from dbupkeep.errors import (
    Busy,
    Interrupted,
    Kind,
    Lost,
    Missing,
    NotPermitted,
    Refused,
    Unreachable,
    UpkeepError,
    UsageError,
)
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.testing.engine_suite import Recorder, item_of
from tests.plugins.postgresql import NEWEST, Database, Server, clone, start
from tests.plugins.postgresql_bench import Workbench, in_thread, until
from tests.plugins.proxies import network_path, pooler, shared_pool

pytestmark = pytest.mark.engine("postgresql")

ENGINE = load("postgresql")
CANARY = "c4n4ry-s3cr3t"


def connect(url: str, *, purpose: Purpose = Purpose.SURVEY, tag: str = "") -> PostgresqlSession:
    return cast("PostgresqlSession", ENGINE.connect(target_of(url), purpose=purpose, tag=tag))


# --- one job after another ---


def test_a_session_serves_another_job_as_if_it_were_new(newest_database: Database) -> None:
    with Workbench(database=newest_database).session(tag="dbupkeep:one:1") as session:
        handle = cast("PostgresqlSession", session).handle
        settings = "SELECT name, setting FROM pg_settings WHERE name <> 'application_name' ORDER BY name"
        before, pid = handle.rows(settings), handle.identity.pid
        handle.rows("SELECT set_config('vacuum_freeze_table_age', '0', false), set_config('work_mem', '1MB', false)")
        session.interrupt()
        assert handle.renew("dbupkeep:two:1")
        handle.check_stop()
        assert (handle.rows(settings), handle.identity.pid) == (before, pid)
        seen = newest_database.value(f"SELECT application_name FROM pg_stat_activity WHERE pid = {pid}")
        assert seen == "dbupkeep:two:1"


def test_what_a_database_sets_for_its_sessions_is_in_nobodys_way(bench: Workbench) -> None:
    """Limits of time, ways of writing and reading: all of them are set by whoever owns the database or the role."""
    bench.bloat()
    bench.slowly("10ms")
    given = {
        "statement_timeout": "300ms", "lock_timeout": "1ms", "idle_in_transaction_session_timeout": "1ms",
        "idle_session_timeout": "100ms", "datestyle": "German", "standard_conforming_strings": "off",
        "default_transaction_read_only": "on", "default_transaction_isolation": "serializable", "client_encoding": "LATIN1",
        "intervalstyle": "sql_standard", "timezone": "Asia/Kathmandu", "search_path": "nowhere",
    }  # fmt: skip
    if bench.database.server.version >= 17:
        given["transaction_timeout"] = "300ms"
    bench.database.execute(
        *[f"ALTER DATABASE {bench.database.name} SET {name} = '{value}'" for name, value in given.items()]
    )
    for operation in (Operation.VACUUM, Operation.REINDEX, Operation.ANALYZE):
        for item in map(item_of, bench.due(operation, policy=Policy(force=True), table="public.t")):
            work, evidence = bench.perform(item)
            assert evidence.effective is not Effective.NO, evidence.reason
            assert work.seconds > 0.3 or operation is not Operation.VACUUM, "else it would show nothing"


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have us introduced by a server that takes its time before it lifts any limit."""

    def late(name: str, version: Version) -> str:
        text = query(name, version)
        text = text.replace("WITH settings", "WITH late AS MATERIALIZED (SELECT pg_sleep(0.05)), settings")
        return text.replace("FROM unnest", "FROM late, unnest")

    monkeypatch.setattr(introduction, "query", late)


def test_a_limit_that_is_over_before_it_can_be_lifted(bench: Workbench, slowly: None) -> None:
    """The connection itself then has no limit, beside its own options."""
    lifted(bench, "statement_timeout")


def test_so_is_the_limit_of_transactions_which_17_brought(newest: Workbench, slowly: None) -> None:
    lifted(newest, "transaction_timeout")


def lifted(bench: Workbench, limit: str) -> None:
    server, name = bench.database.server, bench.database.name
    bench.bloat()
    bench.database.execute(f"ALTER DATABASE {name} SET {limit} = '20ms'")
    session = connect(server.url(name, options="-c%20work_mem%3D3MB"), purpose=Purpose.WORK)
    assert session.handle.row("SELECT current_setting('work_mem') AS m, pg_sleep(0.05) IS NULL")["m"] == "3MB"
    session.close()
    _, evidence = bench.perform(item_of(bench.due(Operation.VACUUM)[0]))
    assert evidence.effective is Effective.YES


def test_a_limit_that_a_pool_does_not_let_us_lift_is_told(newest_database: Database, slowly: None) -> None:
    newest_database.execute(f"ALTER DATABASE {newest_database.name} SET statement_timeout = '20ms'")
    with pooler(newest_database.server, "session") as port:
        with pytest.raises(Refused) as refused:
            connect(f"postgresql://postgres@127.0.0.1:{port}/{newest_database.name}")
        assert "statement timeout" in refused.value.why
        assert "statement_timeout = 0" in refused.value.hint


def test_what_the_server_does_not_count_is_not_known_to_have_helped(newest: Workbench) -> None:
    newest.database.execute(f"ALTER DATABASE {newest.database.name} SET track_counts = off", "CREATE TABLE t (a int)")
    _, evidence = newest.perform(newest.item(Operation.VACUUM, policy=Policy(force=True), table="t"))
    assert evidence.effective is Effective.UNKNOWN
    assert "track_counts" in evidence.reason


def test_a_stop_right_before_a_statement_is_not_lost(newest_database: Database) -> None:
    with Workbench(database=newest_database).session() as session:
        handle = cast("PostgresqlSession", session).handle
        handle.tell = lambda _: session.interrupt()
        with pytest.raises(Interrupted):
            handle.perform(sql.SQL("DO 'BEGIN ASSERT false; END'"), lock_wait=0)


def test_a_session_that_is_gone_serves_nobody(newest_database: Database) -> None:
    with Workbench(database=newest_database).session() as session:
        handle = cast("PostgresqlSession", session).handle
        newest_database.query(f"SELECT pg_terminate_backend({handle.identity.pid}, 10000)")
        assert not handle.renew("dbupkeep:two:1")
        assert not handle.renew("dbupkeep:three:1")


# --- bad input: each its own error ---


def test_no_server_is_unreachable(newest_server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(Unreachable) as raised:
        connect(f"postgresql://127.0.0.1:{port}/x")
    assert raised.value.why == "connection refused"


def test_a_host_that_is_not_known(newest_server: Server) -> None:
    with pytest.raises(Unreachable) as raised:
        connect("postgresql://no-such-host.invalid/x")
    assert "not known" in raised.value.why


def test_what_is_no_postgresql_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(4):
                with suppress(OSError), listener.accept()[0] as client:
                    client.recv(1000)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(Unreachable) as raised:
            connect(f"postgresql://127.0.0.1:{listener.getsockname()[1]}/x?sslmode=disable")
    assert "no PostgreSQL server" in raised.value.what


def test_a_missing_database_is_missing(server: Server) -> None:
    with pytest.raises(Missing):
        connect(server.url("nowhere"))


def test_a_wrong_password_is_told_apart(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS with_password")
        connection.execute("CREATE ROLE with_password LOGIN PASSWORD 'right'")
    url = server.url("postgres", user="with_password")
    for password in ("", CANARY):
        monkeypatch.setenv("PGPASSWORD", password)
        with pytest.raises(NotPermitted) as raised:
            connect(url)
        assert CANARY not in _all_of(raised.value)
    monkeypatch.setenv("PGPASSWORD", "right")
    connect(url).close()


def test_a_role_that_is_none(server: Server) -> None:
    with pytest.raises(NotPermitted):
        connect(server.url("postgres", user="nobody_at_all"))


def test_a_database_that_takes_no_connections(newest_server: Server) -> None:
    with newest_server.connect() as connection:
        connection.execute("CREATE DATABASE closed ALLOW_CONNECTIONS false")
    try:
        with pytest.raises(Unreachable):
            connect(newest_server.url("closed"))
    finally:
        with newest_server.connect() as connection:
            connection.execute("DROP DATABASE closed")


def test_a_role_that_may_not_connect(newest_database: Database) -> None:
    name = newest_database.name
    newest_database.execute(
        "DROP ROLE IF EXISTS outside", "CREATE ROLE outside LOGIN", f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"
    )
    with pytest.raises(NotPermitted):
        connect(newest_database.server.url(name, user="outside"))


# --- no secret in any error ---

MALFORMED = [
    f"postgresql:/user:{CANARY}@127.0.0.1/x",
    f"postgresql://user:{CANARY} 2@127.0.0.1/x",
    f"postgresql://user:{CANARY}%zz@127.0.0.1/x",
    f"postgresql://user:{CANARY}@[127.0.0.1/x",
    f"postgresql://user:{CANARY}@127.0.0.1:port/x",
    f"postgresql://user:{CANARY}@127.0.0.1/x?nonsense=1",
    f"postgresql://user:{CANARY}@127.0.0.1/x?sslmode=wrong",
    f"postgresql://user@127.0.0.1/x?password={CANARY}",
    f"postgresql://user@127.0.0.1/x?sslpassword={CANARY}",
    f"postgresql://user:{CANARY}@127.0.0.1:1/x",
    f"postgresql://{CANARY}:{CANARY}@/x?host=127.0.0.1&port=1",
    f"postgres://user:{CANARY}@127.0.0.1\x00/x",
    f"host=127.0.0.1 password={CANARY}",
    f"postgresql:user:{CANARY}@127.0.0.1",
    f"postgresql://user:{CANARY}/@127.0.0.1/x?application_name=%ff",
]


def _all_of(error: BaseException | None) -> str:
    if error is None:
        return ""
    own = f"{error!r} {error} {error.__dict__} {error.document() if isinstance(error, UpkeepError) else ''}"
    return own + _all_of(error.__cause__) + _all_of(error.__context__)


@pytest.mark.parametrize("url", MALFORMED, ids=range(len(MALFORMED)))
def test_no_error_tells_a_secret(url: str) -> None:
    with pytest.raises(UpkeepError) as raised:
        connect(url)
    assert CANARY not in _all_of(raised.value)
    assert raised.value.hint


def test_a_password_from_the_environment_is_in_no_error(newest_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", CANARY)
    for url in (newest_server.url("nowhere"), "postgresql://127.0.0.1:1/x", "postgresql:///x?service=none"):
        with pytest.raises(UpkeepError) as raised:
            connect(url)
        assert CANARY not in _all_of(raised.value)
    session = connect(newest_server.url("postgres"))
    session.close()
    assert CANARY not in newest_server.log


def test_a_password_in_the_url_is_refused_before_anything_is_tried() -> None:
    with pytest.raises(UsageError) as raised:
        target_of(f"postgresql://user:{CANARY}@127.0.0.1/x")
    assert ".pgpass" in raised.value.hint


def test_services_and_passfiles_are_libpqs_own(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("libpq")
    with server.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS with_password")
        connection.execute("CREATE ROLE with_password LOGIN PASSWORD 'right'")
    (folder / "services").write_text(
        f"[shop]\nhost=127.0.0.1\nport={server.port}\ndbname=postgres\nuser=with_password\n"
    )
    (folder / "pass").write_text("*:*:*:with_password:right\n")
    (folder / "pass").chmod(0o600)
    monkeypatch.setenv("PGSERVICEFILE", str(folder / "services"))
    monkeypatch.setenv("PGPASSFILE", str(folder / "pass"))
    session = connect("postgresql:///?service=shop")
    assert session.handle.identity.role == "with_password"
    assert session.handle.identity.key == f"postgresql://127.0.0.1:{server.port}/postgres"
    session.close()


# --- what stands between, and who answers ---


def test_a_pool_that_shares_sessions_is_refused_and_one_that_does_not_is_fine(newest_database: Database) -> None:
    with shared_pool(newest_database) as port:
        for purpose in (Purpose.SURVEY, Purpose.WORK):
            with pytest.raises(Refused) as raised:
                connect(f"postgresql://postgres@127.0.0.1:{port}/{newest_database.name}", purpose=purpose)
        assert raised.value.kind is Kind.CAPABILITY
        assert "pooler" in raised.value.what
    with pooler(newest_database.server, "session") as port:
        session = connect(f"postgresql://postgres@127.0.0.1:{port}/{newest_database.name}")
        assert session.handle.row("SELECT current_setting('search_path') AS path")["path"] == "pg_catalog"
        session.close()


def test_a_standby_is_looked_at_and_not_worked_on(newest: Workbench) -> None:
    newest.bloat()
    item = newest.item(Operation.VACUUM)
    standby = clone(newest.database.server)
    try:
        there = Workbench(database=Database(server=standby, name=newest.database.name))
        (skipped, *_) = there.plan(Operation.VACUUM)
        assert "standby" in skipped.reason or "none" in skipped.reason
        assert there.due(Operation.VACUUM) == []
        assert "standby" in there.engine.drift(item, there.facts(Operation.VACUUM))
        with pytest.raises(Refused) as raised:
            there.perform(item)
        assert raised.value.kind is Kind.READ_ONLY
    finally:
        standby.remove()


def test_what_a_standby_cancels_to_go_on_comes_back(newest: Workbench) -> None:
    newest.bloat()
    standby = clone(newest.database.server, max_standby_streaming_delay="0")
    try:
        there = Workbench(database=Database(server=standby, name=newest.database.name))
        with there.session(purpose=Purpose.SURVEY) as session:
            handle = cast("PostgresqlSession", session).handle
            reading = in_thread(lambda: handle.rows("SELECT pg_sleep(30) FROM (SELECT FROM public.t LIMIT 1) AS t"))
            until(lambda: there.database.query("SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
            newest.database.execute("VACUUM public.t")
            with pytest.raises(Busy) as raised:
                reading.outcome()
        assert "standby" in raised.value.what
        assert "recovery" in raised.value.why
    finally:
        standby.remove()


def test_a_replica_that_is_behind_is_waited_for(newest: Workbench) -> None:
    newest.bloat()
    policy = Policy(thresholds={"vacuum": {"max_lag_bytes": 1000, "lag_patience": 60.0}})
    item, recorder = newest.item(Operation.VACUUM, policy=policy), Recorder()
    standby = clone(newest.database.server)
    try:
        with standby.connect() as there:
            there.execute("SELECT pg_wal_replay_pause()")
            newest.database.execute("CREATE TABLE more AS SELECT generate_series(1, 10000) AS a")
            running = in_thread(lambda: newest.perform(item, recorder))
            until(lambda: any("waiting for a replica" in seen.stage for seen in recorder.seen))
            assert newest.database.value("SELECT pg_stat_get_vacuum_count('t'::regclass)") == 1
            impatient = replace(item, options={**item.options, "lag_patience": 0.1})
            with pytest.raises(Busy) as raised:
                newest.perform(impatient)
            assert "behind" in raised.value.why
            there.execute("SELECT pg_wal_replay_resume()")
        work, evidence = running.outcome()
        assert evidence.effective is Effective.YES
        assert float(work.values["replica_wait_seconds"] or 0) > 0
    finally:
        standby.remove()


def test_a_refusal_is_understood_in_any_language(newest_server: Server) -> None:
    parameters = {"host": "127.0.0.1", "port": str(newest_server.port), "user": "postgres", "dbname": "nowhere"}
    error = refusal_of(parameters, "FATAL: Datenbank »nowhere« existiert nicht", "there")
    assert isinstance(error, Missing)
    error = refusal_of({**parameters, "user": "niemand"}, "FATAL: Rolle »niemand« existiert nicht", "there")
    assert isinstance(error, NotPermitted)


def test_a_host_that_keeps_the_identifier_to_itself(newest: Workbench) -> None:
    newest.bloat()
    newest.database.execute(
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC", "DROP ROLE IF EXISTS tenant",
        "CREATE ROLE tenant LOGIN IN ROLE pg_maintain",
    )  # fmt: skip
    item = newest.item(Operation.VACUUM, user="tenant")
    assert (item.evidence["system"], newest.perform(item, user="tenant")[1].effective) == ("", Effective.YES)


def test_an_answer_that_got_lost_on_the_way_is_looked_up(newest: Workbench) -> None:
    newest.bloat(rows=60_000, dead=30_000)
    newest.slowly("20ms")
    item, recorder = newest.item(Operation.VACUUM), Recorder()
    with network_path(newest.database.server) as path:
        url = newest.database.url.replace(str(newest.database.server.port), str(path.port))
        session = connect(url, purpose=Purpose.WORK, tag="dbupkeep:frozen:1")
        with recorder.sampling():
            running = in_thread(lambda: session.run(item, recorder))
            until(lambda: any(seen.stage == "scanning heap" for seen in recorder.seen))
            path.freeze()
            newest.database.execute(f"ALTER DATABASE {newest.database.name} RESET ALL")
            work = running.outcome()
        evidence = session.verify(item, work)
        session.close()
    assert evidence.effective is Effective.YES
    assert evidence.after["dead"] == 0


def test_a_server_that_goes_down_is_lost_not_failed() -> None:
    own = start(NEWEST)
    try:
        bench = Workbench(database=own.create("mortal"))
        bench.bloat(rows=60_000, dead=30_000)
        bench.slowly()
        item = bench.item(Operation.VACUUM)
        running = in_thread(lambda: bench.perform(item))
        until(lambda: bench.database.query("SELECT FROM pg_stat_progress_vacuum"))
        own.stop("QUIT")
        with pytest.raises(Lost):
            running.outcome()
        own.start_again()
        bench.database.execute("ALTER DATABASE mortal RESET ALL")
        _, evidence = bench.perform(item)
        assert evidence.effective is Effective.YES
    finally:
        own.remove()


CLIENT = """
import sys
from dbupkeep.engines import load
from dbupkeep.engines.postgresql import introduction
from dbupkeep.engines.postgresql.urls import target_of
from dbupkeep.engines.postgresql.versions import Version
session = load("postgresql").connect(target_of(sys.argv[1]), tag="dbupkeep:killed:1")
session.handle.lock(42, "it")
print("ready", flush=True)
session.handle.rows("SELECT pg_sleep(60)")
"""


@pytest.fixture
def client(server: Server) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", CLIENT, server.url("postgres")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_a_killed_client_takes_its_session_along(server: Server, client: subprocess.Popen[str]) -> None:
    assert client.stdout is not None
    assert client.stdout.readline().strip() == "ready"
    with server.connect() as connection:
        seen = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dbupkeep:killed:1'"
        until(lambda: _one(connection, seen))
        os.kill(client.pid, signal.SIGKILL)
        until(lambda: not _one(connection, seen), seconds=5)
        assert _one(connection, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


def _one(connection: psycopg.Connection[tuple[int]], query: str) -> int:
    row = connection.execute(query).fetchone()
    return row[0] if row else 0
