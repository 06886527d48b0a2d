"""The shared ledger where it meets trouble: lost connections, others' locks, secrets in its url, and whole runs on it."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dbupkeep.app import App, ledger_file, open_pair
from dbupkeep.clock import SystemClock
from dbupkeep.definitions import JobDefinition, Step, Target
from dbupkeep.engine import Report
from dbupkeep.errors import LedgerError, Refused
from dbupkeep.jobs import Delivery, JobStatus
from dbupkeep.ledger import JobQuery
from dbupkeep.ledgers.postgresql import PostgresqlLedger
from dbupkeep.ledgers.postgresql.sessions import Address
from dbupkeep.ledgers.postgresql.statements import PostgresqlSql, in_psycopg
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.testing.pair_kit import PATIENCE, Handles, Log, eventually, family, serving, together
from dbupkeep.testing.scripted import ScriptedEngine, ScriptedSession
from tests.plugins.postgresql import Database
from tests.plugins.proxies import pooler, shared_pool

pytestmark = pytest.mark.engine("postgresql")

LEASE = 1.0
OTHERS = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


@pytest.fixture
def pair(newest_database: Database) -> Iterator[Handles]:
    handles = Handles(lambda: open_pair(newest_database.url, SystemClock(), LEASE))
    yield handles
    handles.close()


# --- What stands between ---


def test_a_pool_that_shares_sessions_is_refused_and_keeps_nothing_of_ours(newest_database: Database) -> None:
    with shared_pool(newest_database) as port:
        with pytest.raises(LedgerError) as refused:
            open_pair(f"postgresql://postgres@127.0.0.1:{port}/{newest_database.name}", SystemClock(), LEASE)
        assert "pooler" in refused.value.what
        assert "session mode" in refused.value.hint
    assert not newest_database.query("select from pg_namespace where nspname = 'dbupkeep'")


def test_a_pool_that_keeps_sessions_apart_is_as_good_as_the_server(newest_database: Database) -> None:
    with pooler(newest_database.server, "session") as port:
        handles = Handles(
            lambda: open_pair(f"postgresql://postgres@127.0.0.1:{port}/{newest_database.name}", SystemClock(), LEASE)
        )
        handles.life.submit(family().submission)
        assert len(handles.everything()) == 2
        handles.close()


# --- Connections that are lost ---


def test_transaction_is_run_again_when_its_connection_is_lost(pair: Handles, newest_database: Database) -> None:
    turns: list[int] = []

    def work(tx: Any) -> str:
        turns.append(1)
        assert pair.ledger.put(tx, "kind", "key", {"turn": len(turns)}, version=0)
        if len(turns) == 1:
            newest_database.execute(OTHERS)
            tx.get("kind", "key")
        return "done"

    assert pair.ledger.transact(work) == "done"
    assert pair.reader.get("kind", "key") == {"turn": 2}


@pytest.mark.parametrize("arrived", [True, False])
def test_commit_whose_answer_is_lost_is_done_once(
    pair: Handles, monkeypatch: pytest.MonkeyPatch, arrived: bool
) -> None:
    """Whether the commit arrived is asked of the server: neither lost nor done twice."""
    commit, lost, turns = PostgresqlSql.commit, list[int](), list[int]()

    def break_off(sql: PostgresqlSql) -> None:
        if lost:
            commit(sql)
            return
        lost.append(1)
        if arrived:
            commit(sql)
        sql.connection.close()
        raise psycopg.OperationalError("the network is gone")

    def work(tx: Any) -> int:
        turns.append(1)
        pair.ledger.put(tx, "kind", "key", {"turn": len(turns)})
        return len(turns)

    monkeypatch.setattr(PostgresqlSql, "commit", break_off)
    assert pair.ledger.transact(work) == len(turns) == (1 if arrived else 2)
    assert pair.reader.get("kind", "key") == {"turn": len(turns)}


def test_reads_outlive_a_restart(pair: Handles, newest_database: Database) -> None:
    pair.life.submit(family().submission)
    assert len(pair.everything()) == 2
    newest_database.execute(OTHERS)
    assert len(pair.everything()) == 2


def test_deadlock_is_run_again(pair: Handles) -> None:
    first = threading.Barrier(2)

    def work(mine: str, other: str) -> Callable[[], str]:
        turns: list[int] = []

        def both(tx: Any) -> str:
            turns.append(1)
            pair.ledger.put(tx, "kind", mine, {})
            if len(turns) == 1:
                first.wait(PATIENCE)
            pair.ledger.put(tx, "kind", other, {"by": mine})
            return mine

        return lambda: pair.ledger.transact(both)

    assert together(work("a", "b"), work("b", "a")) == ["a", "b"]


def test_serving_outlives_lost_connections(pair: Handles, newest_database: Database) -> None:
    """What is handled stays with its handler, and new deliveries are taken."""
    begun, go = threading.Event(), threading.Event()

    def handle(delivery: Delivery, worker: str) -> None:
        if delivery.job_id == "long":
            begun.set()
            go.wait(PATIENCE)

    def deliver(name: str) -> None:
        pair.ledger.transact(lambda tx: pair.queue.enqueue(tx, [Delivery(job_id=name, attempt=1)]))

    rival = Handles(lambda: open_pair(newest_database.url, SystemClock(), LEASE))
    mine, theirs, clock = Log(handle), Log(), SystemClock()
    deliver("long")
    with serving(pair.queue, mine, slots=2):
        assert begun.wait(PATIENCE)
        newest_database.execute(OTHERS)
        deliver("next")
        eventually("it takes deliveries again", lambda: len(mine.got) == 2)
        with serving(rival.queue, theirs):
            end = clock.monotonic() + 2 * LEASE
            eventually("some leases have passed", lambda: clock.monotonic() > end)
        go.set()
        eventually("what was handled is gone", lambda: len(pair.queue.missing(["long/1", "next/1"])) == 2)
    rival.close()
    assert (mine.keys, theirs.keys) == (["long/1", "next/1"], [])


def test_stopping_does_not_wait_for_a_server_that_is_gone(pair: Handles, newest_database: Database) -> None:
    # It may see that the server is gone before it is told to stop, and say so.
    with suppress(LedgerError), serving(pair.queue, Log()) as stop:
        eventually("it is there", pair.queue.workers)
        with newest_database.server.connect() as connection:
            connection.execute(f"alter database {newest_database.name} allow_connections false")
        try:
            newest_database.server.connect().execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [newest_database.name]
            ).connection.close()
            stop.set()
        finally:
            eventually("it stopped", lambda: not [t for t in threading.enumerate() if t.name == "serving"])
            with newest_database.server.connect() as connection:
                connection.execute(f"alter database {newest_database.name} allow_connections true")


# --- Secrets ---

SECRET = "s3cr3tword"  # noqa: S105 - a canary


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:{}@127.0.0.1:1/db",
        "postgresql://me:{}@localhost:nonumber/db",
        "postgresql://me:x@{}@localhost/db",
        "postgresql://me:x/{}@localhost/db",
        "postgresql://me:{}%zz@localhost/db",
        "postgresql://me:x@localhost/db?{}=1",
        "postgresql://me:x@localhost/db?connect_timeout={}",
        "postgresql://me:{}@[::1/db",
        "postgresql://me:{}@127.0.0.1,/db?target_session_attrs={}",
        "postgresql://me@127.0.0.1:1/db?password={}",
    ],
)
def test_secrets_are_in_no_error(url: str) -> None:
    with pytest.raises(LedgerError) as caught:
        open_pair(url.replace("{}", SECRET), SystemClock(), LEASE)
    said = [*map(str, caught.value.document().values()), *traceback.format_exception(caught.value), repr(caught.value)]
    assert not [text for text in said if SECRET in text]
    assert caught.value.hint


def test_refused_password_is_not_repeated(newest_database: Database) -> None:
    with newest_database.connect() as connection:
        connection.execute("drop role if exists with_password")
        connection.execute("create role with_password login password 'right'")
    url = newest_database.server.url(newest_database.name, user=f"with_password:{SECRET}")
    try:
        with pytest.raises(LedgerError) as caught:
            open_pair(url, SystemClock(), LEASE)
    finally:
        newest_database.execute("drop role with_password")
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert "refuses the password" in caught.value.why


def test_location_is_shown_without_its_secret(newest_database: Database) -> None:
    url = newest_database.server.url(newest_database.name, user=f"postgres:{SECRET}")
    handles = Handles(lambda: open_pair(url, SystemClock(), LEASE))
    location = handles.reader.health().location
    handles.close()
    assert SECRET not in location
    assert newest_database.name in location


# --- What it stands on ---


def test_statements_in_the_form_of_the_driver() -> None:
    assert in_psycopg("select :a::text, ':b', '100 %' -- :c 'd\nfrom t where x like '%' and y = :e_1") == (
        "select %(a)s::text, ':b', '100 %%' -- :c 'd\nfrom t where x like '%%' and y = %(e_1)s"
    )


def test_tables_of_a_newer_pgqueuer_are_left_alone(pair: Handles, newest_database: Database) -> None:
    newest_database.execute("comment on table dbupkeep.pgqueuer is 'pgqueuer 99.1.0'")
    with pytest.raises(LedgerError) as caught:
        pair.queue.migrate()
    assert "upgrade" in caught.value.hint
    assert newest_database.value("select obj_description('dbupkeep.pgqueuer'::regclass)") == "pgqueuer 99.1.0"


def test_nothing_is_made_outside_of_its_schema(pair: Handles, newest_database: Database) -> None:
    made = "select count(*) from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = 'public'"
    assert newest_database.value(made) == 0


def test_results_are_on_disk_though_the_server_says_otherwise(newest_database: Database) -> None:
    newest_database.execute(f"alter database {newest_database.name} set synchronous_commit = off")
    ledger = PostgresqlLedger(newest_database.url)
    ledger.migrate()
    [row] = ledger.query("select current_setting('synchronous_commit') as it", {})
    ledger.close()
    assert row["it"] == "on"


# --- Whole runs ---

STEP = Step(
    name="step", targets=(Target(name="a", url="scripted:///a"),), operations=(Operation.VACUUM, Operation.ANALYZE)
)
DEFINITION = JobDefinition(name="job", steps=(STEP,))


def test_parent_with_children_completes(newest_database: Database) -> None:
    engine = ScriptedEngine()
    app = App(newest_database.url, load_engine=lambda _: engine, isolate=False, lease=LEASE)
    parent_id = app.databases.create_parent_job(STEP, DEFINITION)
    app.drain(slots=2)
    parent = app.reader.job(parent_id)
    assert parent is not None
    assert (parent.status, parent.stats.completed) == (JobStatus.COMPLETED, 2)
    assert [effect.operation for effect in engine.effects if effect.when == "done"] == ["vacuum", "analyze"]
    assert [event.event.name for event in app.orchestrator.follow(parent_id)][-1] == "parent_settled"
    assert [sample.operation for sample in app.reader.measurements()] == [Operation.ANALYZE, Operation.VACUUM]
    app.close()


def work_until_killed(url: str, pipe: Any) -> None:
    def act(session: ScriptedSession, item: PlanItem, report: Report) -> None:
        pipe.send(item.operation.value)
        threading.Event().wait()

    app = App(url, load_engine=lambda _: ScriptedEngine(act=act), isolate=False, lease=LEASE)
    app.drain()


def test_killed_worker_process_is_rescued(newest_database: Database) -> None:
    engine = ScriptedEngine()
    app = App(newest_database.url, load_engine=lambda _: engine, isolate=False, lease=LEASE)
    parent_id = app.databases.create_parent_job(STEP, DEFINITION)
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    victim = context.Process(target=work_until_killed, args=(newest_database.url, theirs), daemon=True)
    victim.start()
    assert mine.poll(PATIENCE)
    assert mine.recv() == "vacuum"
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    victim.join(PATIENCE)
    app.drain(slots=2)
    children = app.reader.children(parent_id)
    assert [(child.status, child.attempt) for child in children] == [(JobStatus.COMPLETED, 2), (JobStatus.COMPLETED, 1)]
    names = [event.event.name for event in app.orchestrator.follow(parent_id)]
    assert names.count("attempt_lost") == 1
    app.close()


def test_told_commands_copy_the_ledger_and_put_it_back(newest_database: Database, tmp_path: Path) -> None:
    """What `ledger backup` and `restore` say is to be done with a ledger on a server, done."""
    app = App(newest_database.url, load_engine=lambda _: ScriptedEngine(), isolate=False, lease=LEASE)
    parent_id = app.databases.create_parent_job(STEP, DEFINITION)
    (vacuum, _) = app.reader.children(parent_id)
    assert app.lifecycle.begin(Delivery(job_id=vacuum.id, attempt=1), "gone")
    _as_told(newest_database, tmp_path, to="back up")
    app.drain(slots=2)
    assert app.reader.jobs(JobQuery(statuses=(JobStatus.COMPLETED,))).jobs
    app.close()
    _as_told(newest_database, tmp_path, to="restore")
    restored = App(newest_database.url, load_engine=lambda _: ScriptedEngine(), isolate=False, lease=LEASE)
    assert [child.status for child in restored.reader.children(parent_id)] == [JobStatus.RUNNING, JobStatus.PENDING]
    eventually("what ran is taken up again", lambda: _has_ended(restored, parent_id))
    assert [(child.status, child.attempt) for child in restored.reader.children(parent_id)] == [
        (JobStatus.COMPLETED, 2),
        (JobStatus.COMPLETED, 1),
    ]
    restored.close()


def _has_ended(app: App, job_id: str) -> bool:
    app.drain(slots=2)
    job = app.reader.job(job_id)
    return job is not None and job.status.ended


def _as_told(database: Database, folder: Path, *, to: str) -> None:
    """Run the command of the hint with the programs of the server's own version."""
    with pytest.raises(Refused) as refused:
        ledger_file(database.url, to=to)
    program, *arguments = shlex.split(refused.value.hint.partition("use: ")[2])
    own = [
        argument.replace(str(Address(database.url)), database.url) for argument in arguments
    ]  # the test's needs sslmode
    command = [str(database.server.bin / program), *own]
    subprocess.run(command, cwd=folder, check=True)
