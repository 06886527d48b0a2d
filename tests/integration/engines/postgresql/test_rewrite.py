from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

import pytest
from msgspec import structs
from psycopg import sql

from dbupkeep.definitions import Policy
from dbupkeep.engine import Purpose, Scope
from dbupkeep.engines.postgresql import repack, volumes
from dbupkeep.engines.postgresql.session import PostgresqlSession
from dbupkeep.engines.postgresql.versions import Version
from dbupkeep.errors import Busy, Interrupted, Kind, Lost, Refused
from dbupkeep.estimates import History
from dbupkeep.facts import ObjectFacts, Value
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.planner import lay_out
from dbupkeep.plans import Decision, Proposal
from dbupkeep.testing.engine_suite import Recorder, item_of
from tests.plugins.postgresql import Server
from tests.plugins.postgresql_bench import Workbench, holding, in_thread, until

pytestmark = pytest.mark.engine("postgresql")

OPTIMIZE = Operation.OPTIMIZE
MIB = 1024 * 1024
READ = "SELECT count(*) FROM t"


@pytest.fixture
def debian(postgresql: Callable[[int], Server]) -> Iterator[Workbench]:
    """A server that has pg_repack and pgstattuple."""
    database = postgresql(15).create()
    yield Workbench(database=database)
    database.drop()


def policy(*consents: str, force: bool = False, **settings: float) -> Policy:
    return Policy(thresholds={"optimize": {"min_bytes": MIB, **settings}}, consents=frozenset(consents), force=force)


def bloated(bench: Workbench, *extensions: str) -> None:
    bench.database.execute(
        *[f"CREATE EXTENSION {name}" for name in extensions],
        "CREATE TABLE t (id int PRIMARY KEY, a text)",
        "INSERT INTO t SELECT n, repeat('x', 200) || n FROM generate_series(1, 60000) n",
        "DELETE FROM t WHERE id % 10 < 7",
        "VACUUM ANALYZE t",
    )


def gained(evidence: Mapping[str, Value], after: Mapping[str, Value]) -> int:
    return int(evidence["bytes"] or 0) - int(after["bytes"] or 0)


# --- with pg_repack ---


def test_a_bloated_table_is_rewritten_online_and_verified(debian: Workbench) -> None:
    bloated(debian, "pg_repack", "pgstattuple")
    (due,) = debian.due(OPTIMIZE, policy=policy())
    assert due.method == "pg_repack"
    assert "by its pages" in due.reason
    assert "cancels nobody" in due.locks
    recorder = Recorder()
    _, evidence = debian.perform(item_of(due), recorder)
    assert evidence.effective is Effective.YES
    table = int(evidence.before["bytes"] or 0) - int(evidence.before["index_bytes"] or 0)
    left = int(evidence.after["bytes"] or 0) - int(evidence.after["index_bytes"] or 0)
    assert abs((due.estimate.gain_bytes or 0) - (table - left)) < 0.15 * table
    assert all(seen.fraction is None for seen in recorder.seen), "nobody counts how far pg_repack is"
    assert debian.due(OPTIMIZE, policy=policy()) == []
    assert debian.database.value(READ) == 18_000


def test_statistics_alone_predict_the_gain_too(debian: Workbench) -> None:
    bloated(debian, "pg_repack")
    (due,) = debian.due(OPTIMIZE, policy=policy())
    assert "by statistics" in due.reason
    _, evidence = debian.perform(item_of(due))
    gain = gained(evidence.before, evidence.after)
    assert abs((due.estimate.gain_bytes or 0) - gain) < 0.15 * int(evidence.before["bytes"] or 0)


def test_what_it_makes_redundant_is_not_planned(debian: Workbench) -> None:
    bloated(debian, "pg_repack")
    operations = (Operation.VACUUM, Operation.REINDEX, OPTIMIZE, Operation.ANALYZE)
    forced = policy(force=True)
    scope = Scope(operations=operations, now=datetime.now(UTC), policy=forced)
    items = lay_out(debian.engine.assess(debian.facts(*operations, force=True), forced, History(), scope))
    decided = {item.operation: item.decision for item in items if item.object in {"public.t", "public.t_pkey"}}
    assert decided == {
        Operation.VACUUM: Decision.SKIP, Operation.REINDEX: Decision.SKIP, OPTIMIZE: Decision.RUN,
        Operation.ANALYZE: Decision.RUN,
    }  # fmt: skip


def test_it_never_cancels_the_application_and_leaves_nothing(debian: Workbench) -> None:
    bloated(debian, "pg_repack")
    item = item_of(debian.due(OPTIMIZE, policy=policy(blocker_age=0))[0])
    with holding(debian.database, READ) as reader:
        with pytest.raises(Busy) as raised:
            debian.perform(item)
        assert "nobody was cancelled" in raised.value.hint
        assert reader.execute(READ).fetchone() == (18_000,), "the application's transaction is as it was"
    with debian.session() as session:
        assert session.leftovers() == []
    assert debian.perform(item)[1].effective is Effective.YES


def test_who_is_in_the_way_is_named_and_nothing_is_begun(debian: Workbench) -> None:
    bloated(debian, "pg_repack")
    item = item_of(debian.due(OPTIMIZE, policy=policy(blocker_age=0.05))[0])
    with holding(debian.database, READ) as reader:
        until(lambda: debian.due(OPTIMIZE, policy=policy(blocker_age=1.0)) == [])
        with pytest.raises(Busy) as raised:
            debian.perform(item)
        assert f"pid {reader.info.backend_pid}" in raised.value.why


def test_it_can_be_stopped_while_it_waits_and_clears_up(debian: Workbench) -> None:
    bloated(debian, "pg_repack")
    item, recorder = item_of(debian.due(OPTIMIZE, policy=policy(blocker_age=0))[0]), Recorder()
    with (
        holding(debian.database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"),
        debian.session() as session,
    ):
        running = in_thread(lambda: session.run(item, recorder))
        until(lambda: any("waiting for older transactions" in seen.stage for seen in recorder.seen))
        session.interrupt()
        with pytest.raises(Interrupted):
            running.outcome()
        assert session.leftovers() == []
    assert debian.perform(item)[1].effective is Effective.YES


def test_a_lost_attempt_is_recovered(debian: Workbench) -> None:
    bloated(debian, "pg_repack")
    item, recorder = item_of(debian.due(OPTIMIZE, policy=policy(blocker_age=0))[0]), Recorder()
    with (
        holding(debian.database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"),
        debian.session(tag="dbupkeep:lost:1") as session,
    ):
        running = in_thread(lambda: session.run(item, recorder))
        until(lambda: debian.database.query("SELECT FROM pg_trigger WHERE tgname = 'repack_trigger'"))
        debian.database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dbupkeep:lost:1'"
        )
        with pytest.raises(Lost):
            running.outcome()
    with debian.session(tag="dbupkeep:lost:2") as session:
        assert session.recover(item, "dbupkeep:lost:1", recorder.notes) is None
        assert session.leftovers() == []
    assert debian.perform(item)[1].effective is Effective.YES


def test_what_another_pg_repack_left_is_told_and_not_touched(debian: Workbench) -> None:
    bloated(debian, "pg_repack")
    item = item_of(debian.due(OPTIMIZE, policy=policy())[0])
    oid = debian.database.value("SELECT 't'::regclass::oid::bigint")
    debian.database.execute(f"CREATE TABLE repack.log_{oid} (id int)")
    with debian.session() as session:
        assert [(left.name, left.ours) for left in session.leftovers()] == [(f"repack.log_{oid}", False)]
        with pytest.raises(Busy) as raised:
            session.run(item, Recorder())
        assert f"log_{oid}" in raised.value.why
        with pytest.raises(Refused):
            session.clean(session.leftovers()[0])
    assert debian.database.query(f"SELECT * FROM repack.log_{oid}") == []


def test_a_hostile_name_reaches_the_client_whole(debian: Workbench) -> None:
    name = 'x"; DROP TABLE victim; -- %s'
    debian.database.execute("CREATE EXTENSION pg_repack", "CREATE TABLE victim (a int)")
    with debian.database.connect() as connection:
        connection.execute(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY)").format(sql.Identifier(name)))
    due = [each for each in debian.due(OPTIMIZE, policy=policy(force=True)) if "DROP" in each.object]
    assert debian.perform(item_of(due[0]))[1].effective is Effective.YES
    assert debian.database.query("SELECT * FROM victim") == []


def test_the_client_is_told_to_cancel_nobody_and_no_secret_is_in_its_arguments() -> None:
    arguments = repack.arguments("pg_repack", "public.t", superuser=False)
    assert "--no-kill-backend" in arguments
    assert "--wait-timeout=0" in arguments
    assert "--no-superuser-check" in arguments
    given, around_us = (
        {"host": "db1", "user": "u", "dbname": "d", "options": "-c a=1"},
        {"PGPASSWORD": "secret", "PGHOST": "x"},
    )
    around = repack.environment(given, around_us, "tag", Version(150013))
    assert around["PGOPTIONS"] == "-c a=1 -c statement_timeout=0"
    assert (
        repack.environment(given, around_us, "tag", Version(170001))["PGOPTIONS"]
        == "-c a=1 -c statement_timeout=0 -c transaction_timeout=0"
    )
    assert around["PGHOST"] == "db1"
    assert around["PGAPPNAME"] == "tag"
    assert not any("db1" in part for part in arguments)


# --- without ---


def test_without_a_gentle_way_it_is_skipped_with_the_reason(newest: Workbench, debian: Workbench) -> None:
    for bench, lack in ((newest, "pg_repack is not on this server"), (debian, "CREATE EXTENSION pg_repack")):
        bloated(bench)
        skipped, *_ = bench.plan(OPTIMIZE, policy=policy())
        assert skipped.decision is Decision.SKIP
        assert lack in skipped.reason
        assert "exclusive_lock" in skipped.reason


def test_vacuum_full_wants_consent_and_gives_way(newest: Workbench) -> None:
    bloated(newest)
    (due,) = newest.due(OPTIMIZE, policy=policy("exclusive_lock", lock_wait=0.1, lock_tries=2))
    assert due.method == "VACUUM FULL"
    assert "nobody reads or writes" in due.locks
    with holding(newest.database, READ), pytest.raises(Busy) as raised:
        newest.perform(item_of(due))
    assert "2 tries of 0.1 s" in raised.value.why
    work, evidence = newest.perform(item_of(due))
    assert evidence.effective is Effective.YES
    assert work.stall_seconds
    assert newest.due(OPTIMIZE, policy=policy("exclusive_lock")) == []


def test_too_little_room_is_refused_with_both_figures(newest: Workbench) -> None:
    bloated(newest)
    chosen = policy("exclusive_lock", space_declared=1)
    facts = newest.facts(OPTIMIZE)
    scope = Scope(operations=(OPTIMIZE,), now=datetime.now(UTC))
    blind = structs.replace(facts, values={**facts.values, "free_bytes": "{}"})
    (deferred, *_) = newest.engine.assess(blind, chosen, History(), scope)
    assert deferred.decision is Decision.DEFER
    assert "and 1 are free" in deferred.reason
    full = structs.replace(facts, values={**facts.values, "free_bytes": '{"0": 1000}'})
    (deferred, *_) = newest.engine.assess(full, policy("exclusive_lock"), History(), scope)
    assert "1,000 are free" in deferred.reason


def test_room_is_known_where_the_server_is_proved_to_be_on_this_machine(
    newest: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bloated(newest)
    item = newest.item(OPTIMIZE, policy=policy("exclusive_lock"))
    assert (item.space[0].available or 0) > item.space[0].needed > 0
    monkeypatch.setattr(volumes, "free", lambda _: '{"0": 1000}')
    with pytest.raises(Refused) as raised:
        newest.perform(item)
    assert raised.value.kind is Kind.SPACE
    assert "1,000 are free" in raised.value.why
    monkeypatch.undo()
    with newest.session(purpose=Purpose.SURVEY) as session:
        assert isinstance(session, PostgresqlSession)
        assert volumes.on_this_machine(session.handle)


# --- decisions that no server here can show ---


def decided(bench: Workbench, heap: ObjectFacts, chosen: Policy, **values: Value) -> Proposal:
    facts = bench.facts()
    known = {"free_bytes": "{}", "pg_repack": "pg_repack is not on this server", **values}
    faked = structs.replace(facts, objects=(heap,), values={**facts.values, **known})
    return bench.engine.assess(faked, chosen, History(), Scope(operations=(OPTIMIZE,), now=datetime.now(UTC)))[0]


def heap(size: int = 2 << 30, **values: Value) -> ObjectFacts:
    known: dict[str, Value] = {
        "oid": 1, "persistence": "p", "relation_kind": "r", "identity": True, "keyed": True, "gain": 0.5, "how": "by its pages",
        "source": "measured", "main_bytes": size, "index_bytes": 0, "tablespace": 0, "age": 1, "permitted": True,
    }  # fmt: skip
    return ObjectFacts(name="public.big", kind="heap", bytes=size, values={**known, **values})


def test_repack_of_19_is_the_first_choice(newest: Workbench) -> None:
    chosen = decided(newest, heap(), Policy(), version_number=190000, pg_repack="ready")
    assert (chosen.decision, chosen.method) == (Decision.RUN, "REPACK (CONCURRENTLY)")
    unlogged = decided(newest, heap(persistence="u"), Policy(), version_number=190000, pg_repack="ready")
    assert unlogged.method == "pg_repack"
    keyless = decided(newest, heap(identity=False, keyed=False), Policy(), version_number=190000, pg_repack="ready")
    assert keyless.decision is Decision.SKIP
    assert "primary key" in keyless.reason


def test_big_rewrites_want_their_room_declared_where_it_cannot_be_seen(newest: Workbench) -> None:
    big = heap(20 << 30)
    refused = decided(newest, big, Policy(), pg_repack="ready")
    assert refused.decision is Decision.SKIP
    assert "space_declared" in refused.reason
    declared = Policy(thresholds={"optimize": {"space_declared": 100 << 30}})
    assert decided(newest, big, declared, pg_repack="ready").decision is Decision.RUN
    assert decided(newest, big, Policy(), pg_repack="ready", free_bytes='{"0": 100000000000}').decision is Decision.RUN


def test_old_rows_are_frozen_before_anything_is_rewritten(newest: Workbench) -> None:
    for name in ("age", "multixact_age"):
        old = decided(newest, heap(**{name: 1_200_000_000}), Policy(), pg_repack="ready")
        assert old.decision is Decision.DEFER
        assert "freezes them first" in old.reason
