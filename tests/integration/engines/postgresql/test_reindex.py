from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from msgspec import structs
from psycopg import sql

from dbupkeep.definitions import Policy
from dbupkeep.engines.postgresql import target_of
from dbupkeep.engines.postgresql.session import PostgresqlSession
from dbupkeep.errors import Busy, Gone, Interrupted, Kind, Lost, NotPermitted, OperationError, Refused
from dbupkeep.estimates import History, Measurement
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, PlanItem, Source
from dbupkeep.testing.engine_suite import Recorder, item_of
from tests.plugins.postgresql import NEWEST, Database, Server, start
from tests.plugins.postgresql_bench import Workbench, holding, in_thread, until
from tests.plugins.postgresql_phases import PHASES, READ, SETUP, WRITE, held, invalid, lost, strangers
from tests.plugins.proxies import network_path

pytestmark = pytest.mark.engine("postgresql")

REINDEX = Operation.REINDEX
FORCE = Policy(force=True)
MIB = 1024 * 1024


def policy(*consents: str, force: bool = False, **settings: float) -> Policy:
    return Policy(thresholds={"reindex": {"min_bytes": MIB, **settings}}, consents=frozenset(consents), force=force)


def bloated(bench: Workbench) -> None:
    bench.database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text)",
        "CREATE INDEX t_a ON t (a)",
        "INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 60000) n",
        "DELETE FROM t WHERE id % 10 < 7",
        "VACUUM ANALYZE t",
    )


@pytest.fixture
def debian(postgresql: Callable[[int], Server]) -> Iterator[Workbench]:
    """A server with ICU and with the extensions."""
    database = postgresql(15).create()
    yield Workbench(database=database)
    database.drop()


def item_for(bench: Workbench, name: str, **more: float) -> PlanItem:
    (proposal,) = [each for each in bench.due(REINDEX, policy=policy(force=True, **more)) if each.object == name]
    return item_of(proposal)


def test_drift_names_an_index_that_is_gone(newest: Workbench) -> None:
    bloated(newest)
    item = item_for(newest, "public.t_a")
    assert newest.drift(item) == ""
    newest.database.execute("DROP INDEX t_a", "CREATE INDEX t_a ON t (a, id)")
    assert newest.drift(item).startswith("public.t_a is gone")


# --- what is due, and that it helps ---


def test_of_all_the_big_ones_go_first_and_the_small_beside_them(newest: Workbench) -> None:
    for name, rows in (("a", 10), ("b", 20_000), ("c", 5_000)):
        newest.database.execute(f"CREATE TABLE {name} (id int PRIMARY KEY)")
        newest.database.execute(f"INSERT INTO {name} SELECT generate_series(1, {rows})")
    forced = newest.due(REINDEX, policy=FORCE)
    assert [each.object for each in forced] == ["public.b_pkey", "public.c_pkey", "public.a_pkey"]


def test_where_there_is_no_index_that_is_said(newest: Workbench) -> None:
    newest.database.execute("CREATE TABLE t (id int)")
    for given in (Policy(), FORCE):
        (skipped,) = newest.plan(REINDEX, policy=given)
        assert (skipped.decision, skipped.evidence["indexes"]) == (Decision.SKIP, 0)
        assert skipped.reason == "none of the tables that were looked at has an index"


def test_bloat_is_found_rebuilt_verified_and_gone(bench: Workbench) -> None:
    bloated(bench)
    first, second = bench.due(REINDEX, policy=policy())
    assert (first.object, second.object) == ("public.t_a", "public.t_pkey")
    assert first.hold == second.hold, "two at a time on one table deadlock"
    assert "a rebuild would take" in first.reason
    recorder = Recorder()
    work, evidence = bench.perform(item_of(first), recorder)
    assert evidence.effective is Effective.YES
    before, after = int(evidence.before["bytes"] or 0), int(evidence.after["bytes"] or 0)
    assert after < before / 2
    assert abs((first.estimate.gain_bytes or 0) - (before - after)) < 0.15 * before
    assert int(work.values["wal_bytes"] or 0) > 0
    assert [each.object for each in bench.due(REINDEX, policy=policy())] == ["public.t_pkey"]
    (rest,) = [each for each in bench.plan(REINDEX, policy=policy()) if each.decision is Decision.SKIP]
    assert "of 3 indexes need none" in rest.reason


def test_an_index_of_a_table_that_needs_nothing_else_is_found(newest: Workbench) -> None:
    bloated(newest)
    newest.database.execute("ANALYZE", "VACUUM")
    everything = Workbench(database=newest.database, exclude=())
    assert [each.object for each in everything.due(Operation.VACUUM)] == []
    found = everything.plan(REINDEX, policy=policy())
    assert [each.object for each in found] == ["public.t_a", "public.t_pkey", ""]
    assert "1 of 3 indexes" in found[-1].reason


def test_what_cannot_be_predicted_is_said_and_is_not_due(newest: Workbench) -> None:
    newest.database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text)",
        "CREATE INDEX t_a ON t (a)",
        "INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 60000) n",
        "DELETE FROM t WHERE id % 10 < 7",
    )
    everything = Workbench(database=newest.database, exclude=())
    (skipped,) = everything.plan(REINDEX, policy=policy())
    assert "it is not known (public.t_a" in skipped.reason
    newest.database.execute("VACUUM ANALYZE t")
    assert everything.due(REINDEX, policy=policy())[0].object == "public.t_a"


def test_small_indexes_are_left_alone(bench: Workbench) -> None:
    bloated(bench)
    assert bench.due(REINDEX) == []


def test_an_invalid_index_goes_first_and_becomes_valid(bench: Workbench) -> None:
    bloated(bench)
    strangers(bench.database, "broken")
    first, *_ = bench.due(REINDEX, policy=policy())
    assert (first.object, first.estimate.gain_bytes) == ("public.broken", None)
    assert "invalid" in first.reason
    _, evidence = bench.perform(item_of(first))
    assert evidence.effective is Effective.YES
    assert invalid(bench.database) == set()


def test_the_size_after_our_own_rebuild_is_the_measure_of_the_next(newest: Workbench) -> None:
    """A GIN index tells nothing of its bloat; its own past does."""
    newest.database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a int[])",
        "INSERT INTO t SELECT n, ARRAY[n, n / 2, n % 1000] FROM generate_series(1, 60000) n",
        "CREATE INDEX t_a ON t USING gin (a)",
        "VACUUM ANALYZE t",
    )
    item = item_for(newest, "public.t_a")
    _, evidence = newest.perform(item)
    last = Measurement(
        at=datetime.now(UTC), engine="postgresql", target=newest.facts().target, object=item.object, operation=REINDEX,
        method=item.method, seconds=1.0, work_bytes=1000, bytes_before=1, bytes_after=int(evidence.after["bytes"] or 0),
        values=evidence.values,
    )  # fmt: skip
    history = History(own=[last])
    assert newest.due(REINDEX, policy=policy(), history=history) == []
    newest.database.execute("UPDATE t SET a = a || 7", "UPDATE t SET a = a || 8", "VACUUM ANALYZE t")
    (due,) = [each for each in newest.due(REINDEX, policy=policy(), history=history) if each.object == "public.t_a"]
    assert due.estimate.gain_bytes
    assert "our last rebuild" in due.reason
    _, evidence = newest.perform(item_of(due))
    assert evidence.effective is Effective.YES


def test_a_changed_collation_is_due_once(debian: Workbench) -> None:
    bloated(debian)
    debian.database.execute(
        "CREATE COLLATION german (provider = icu, locale = 'de')",
        "CREATE INDEX t_german ON t (a COLLATE german)",
        "UPDATE pg_collation SET collversion = '1' WHERE collname = 'german'",
    )
    (due,) = debian.due(REINDEX)
    assert due.object == "public.t_german"
    assert "german was version 1" in due.reason
    work, evidence = debian.perform(item_of(due))
    measured = Measurement(
        at=datetime.now(UTC), engine="postgresql", target="", object=due.object, operation=REINDEX, method="",
        seconds=work.seconds, work_bytes=1000, bytes_before=1, bytes_after=1, values=evidence.values,
    )  # fmt: skip
    assert debian.due(REINDEX, history=History(own=[measured])) == []


def test_the_index_of_a_toast_table(newest: Workbench) -> None:
    newest.database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text)",
        "ALTER TABLE t ALTER a SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT n, repeat('x', 9000) FROM generate_series(1, 20000) n",
        "DELETE FROM t WHERE id > 2000 AND id % 20 > 0",
        "VACUUM ANALYZE t",
    )
    due = next(each for each in newest.due(REINDEX, policy=policy()) if each.object.startswith("pg_toast."))
    assert due.hold == "public.t"
    _, evidence = newest.perform(item_of(due))
    assert evidence.effective is Effective.YES
    gain = int(evidence.before["bytes"] or 0) - int(evidence.after["bytes"] or 0)
    assert abs(gain - (due.estimate.gain_bytes or 0)) < 0.15 * int(evidence.before["bytes"] or 0)


def test_indexes_of_partitions_are_rebuilt_one_by_one(newest: Workbench) -> None:
    newest.database.execute(
        "CREATE TABLE p (id int, a text) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000)",
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (1000) TO (2000)",
        "CREATE INDEX p_a ON p (a)",
        "INSERT INTO p SELECT n, n FROM generate_series(0, 1999) n",
    )
    due = newest.due(REINDEX, policy=FORCE)
    assert {each.object for each in due} == {"public.p1_a_idx", "public.p2_a_idx"}
    for each in due:
        assert newest.perform(item_of(each))[1].effective is Effective.YES


def test_an_exclusion_constraint_wants_a_consent(bench: Workbench) -> None:
    bench.database.execute(
        "CREATE TABLE t (during int4range, EXCLUDE USING gist (during WITH &&))",
        "INSERT INTO t SELECT int4range(n, n + 1) FROM generate_series(1, 1000) n",
    )
    refused, *_ = bench.plan(REINDEX, policy=FORCE)
    assert refused.decision is Decision.SKIP
    assert "exclusion constraint" in refused.reason
    assert "exclusive_lock" in refused.reason
    item = bench.item(REINDEX, policy=policy("exclusive_lock", force=True))
    assert "writers wait" in item.locks
    assert bench.perform(item)[1].effective is Effective.YES


def test_a_blocking_rebuild_gives_way_to_who_holds_the_table(newest: Workbench) -> None:
    newest.database.execute("CREATE TABLE t (during int4range, EXCLUDE USING gist (during WITH &&))")
    item = newest.item(REINDEX, policy=policy("exclusive_lock", force=True, lock_wait=0.1, lock_tries=2))
    with holding(newest.database, "INSERT INTO t VALUES ('[1,2)')"), pytest.raises(Busy) as raised:
        newest.perform(item)
    assert "2 tries" in raised.value.why


# --- rights ---


def test_a_role_without_rights_fails(bench: Workbench) -> None:
    bloated(bench)
    item = item_for(bench, "public.t_a")
    bench.database.execute("CREATE ROLE nobodys LOGIN")
    try:
        with pytest.raises(NotPermitted):
            bench.perform(item, user="nobodys")
        assert invalid(bench.database) == set()
    finally:
        bench.database.execute("DROP ROLE nobodys")


def test_maintain_is_enough_but_not_for_clearing_up_which_is_said(newest: Workbench) -> None:
    bloated(newest)
    newest.database.execute("CREATE ROLE keeper LOGIN", "GRANT MAINTAIN ON t TO keeper")
    try:
        due = next(each for each in newest.due(REINDEX, policy=FORCE, user="keeper") if each.object == "public.t_a")
        assert "cannot_clean_up" in {notice.code for notice in due.notices}
        _, evidence = newest.perform(item_of(due), user="keeper")
        assert evidence.effective is Effective.YES
    finally:
        newest.database.execute("DROP OWNED BY keeper", "DROP ROLE keeper")


# --- who is in the way ---


@pytest.mark.parametrize("statement", [READ, WRITE])
def test_who_is_in_the_way_is_named_and_nothing_is_begun(bench: Workbench, statement: str) -> None:
    bench.database.execute(*SETUP)
    item = item_for(bench, "public.t_k", blocker_age=0.05)
    with holding(bench.database, f"{statement} /* 'secret' */") as holder:
        until(lambda: bench.due(REINDEX, policy=policy(force=True, blocker_age=1.0)) == [])
        (deferred, *_) = bench.plan(REINDEX, policy=policy(force=True, blocker_age=1.0))
        assert deferred.decision is Decision.DEFER
        with pytest.raises(Busy) as raised:
            bench.perform(item)
        for text in (deferred.reason, raised.value.why):
            assert f"pid {holder.info.backend_pid}" in text
            assert "postgres, the application, idle in transaction" in text
            assert "secret" not in text
    assert invalid(bench.database) == set()
    assert bench.perform(item)[1].effective is Effective.YES


def test_a_snapshot_holds_up_every_table_and_locks_only_their_own(newest: Workbench) -> None:
    newest.database.execute(*SETUP, "CREATE TABLE other (id int PRIMARY KEY)")
    wanted = policy(force=True, blocker_age=1.0)
    with holding(newest.database, "SELECT * FROM other"):
        until(lambda: len(newest.due(REINDEX, policy=wanted)) == 2)
        assert {each.object for each in newest.due(REINDEX, policy=wanted)} == {"public.t_k", "public.t_pkey"}
    with holding(newest.database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"):
        until(lambda: newest.due(REINDEX, policy=wanted) == [])


@contextmanager
def prepared(database: Database, statement: str) -> Iterator[None]:
    """A transaction that is left prepared."""
    with database.connect() as connection:
        connection.execute(f"BEGIN; {statement}; PREPARE TRANSACTION 'forgotten'")
        try:
            yield
        finally:
            connection.execute("ROLLBACK PREPARED 'forgotten'")


@pytest.mark.parametrize("statement", [READ, WRITE])
def test_a_prepared_transaction_is_in_the_way_whatever_its_age(bench: Workbench, statement: str) -> None:
    """No session ends it: waiting for it would take all the time that may be waited."""
    bench.database.execute(*SETUP, "CREATE TABLE other (id int PRIMARY KEY)")
    item, (other,) = item_for(bench, "public.t_k"), bench.due(REINDEX, policy=FORCE, table="other")
    with prepared(bench.database, statement):
        with pytest.raises(Busy) as raised:
            bench.perform(item)
        assert "prepared transaction 'forgotten' of postgres" in raised.value.why
        assert "ROLLBACK PREPARED 'forgotten'" in raised.value.hint
        assert invalid(bench.database) == set()
        (deferred, *_) = bench.plan(REINDEX, policy=FORCE, table="t")
        assert deferred.decision is Decision.DEFER
        assert "forgotten" in deferred.reason
        assert bench.perform(item_of(other))[1].effective is not Effective.NO


def test_one_that_is_prepared_to_be_committed_is_waited_for(newest: Workbench) -> None:
    newest.database.execute(*SETUP)
    item, done = item_for(newest, "public.t_k"), threading.Event()

    def commit_each_in_a_moment() -> None:
        with newest.database.connect() as connection:
            while not done.is_set():
                connection.execute(f"BEGIN; {WRITE}; PREPARE TRANSACTION 'at work'")
                connection.execute("COMMIT PREPARED 'at work'")

    running = in_thread(commit_each_in_a_moment)
    try:
        assert newest.perform(item)[1].effective is Effective.YES
    finally:
        done.set()
        running.outcome()


def test_it_does_not_wait_for_ever_and_says_for_whom(newest: Workbench) -> None:
    newest.database.execute(*SETUP)
    item = item_for(newest, "public.t_k", max_wait=1.0)
    with holding(newest.database, WRITE) as holder:
        running = in_thread(lambda: newest.perform(item))
        until(lambda: newest.database.query("SELECT FROM pg_index WHERE NOT indisvalid"))
        until(lambda: not running.thread.is_alive() or not newest.database.query(
            "SELECT FROM pg_stat_progress_create_index"))  # fmt: skip
        holder.rollback()
        with pytest.raises(Busy) as raised:
            running.outcome()
        assert f"blocked by pid {holder.info.backend_pid}" in raised.value.why
    assert invalid(newest.database) == set()


@pytest.mark.parametrize("group_from", [16, 2])
def test_no_lock_timeout_is_around_a_rebuild(
    newest: Workbench, monkeypatch: pytest.MonkeyPatch, group_from: int
) -> None:
    """It would end it in the middle of its waits, with an unfinished index in the table: alone, and in a group."""
    newest.database.execute(*SETUP)
    item = item_of(newest.due(REINDEX, policy=policy(force=True, group_from=group_from))[0])
    assert bool(item.members) == (group_from == 2)
    seen: list[str] = []
    with newest.session() as session:
        handle = cast("PostgresqlSession", session).handle
        perform = handle.connection.execute

        def look_before(statement: Any, *given: Any, **more: Any) -> Any:
            if b"REINDEX" in (statement.as_bytes(handle.connection) if isinstance(statement, sql.Composed) else b""):
                seen.append(handle.row("SELECT current_setting('lock_timeout') AS it")["it"])
            return perform(statement, *given, **more)

        monkeypatch.setattr(handle.connection, "execute", look_before)
        session.run(item, Recorder())
    assert seen == ["0"] * max(1, len(item.members))


def test_two_of_us_are_never_on_one_table(newest: Workbench) -> None:
    newest.database.execute(*SETUP)
    item, other = item_for(newest, "public.t_k"), item_for(newest, "public.t_pkey")
    with held(newest.database, "building index") as phase:
        running = in_thread(lambda: newest.perform(item))
        phase.arrive()
        with pytest.raises(Busy) as raised:
            newest.perform(other)
        assert "being maintained already" in raised.value.what
        phase.release()
        assert running.outcome()[1].effective is Effective.YES


# --- progress ---


def test_progress_names_the_phase_and_who_is_waited_for(newest: Workbench) -> None:
    newest.database.execute(*SETUP)
    item, recorder = item_for(newest, "public.t_k"), Recorder()
    with held(newest.database, "waiting for old snapshots") as phase:
        running = in_thread(lambda: newest.perform(item, recorder))
        phase.arrive()
        until(lambda: any("blocked by pid" in seen.stage for seen in recorder.seen))
        phase.release()
        work, _ = running.outcome()
    seen = [progress for progress in recorder.seen if "blocked by pid" in progress.stage]
    assert seen[-1].fraction == pytest.approx(0.97)
    assert seen[-1].source is Source.ESTIMATED
    assert float(work.values["lock_wait_seconds"] or 0) > 0
    assert "the application" in str(work.values["blocked"])


# --- stopped, lost, gone ---


@pytest.mark.parametrize("phase", PHASES)
def test_stopped_in_any_phase_it_leaves_nothing_of_ours_and_all_of_others(newest: Workbench, phase: str) -> None:
    newest.database.execute(*SETUP)
    theirs = strangers(newest.database, "t_k_ccnew", "t_k_ccold1", "t_pkey_ccnew")
    item = item_for(newest, "public.t_k")
    with newest.session() as session, held(newest.database, phase) as hold:
        running = in_thread(lambda: session.run(item, Recorder()))
        hold.arrive()
        session.interrupt()
        hold.release()
        if "readers" in phase:  # the new index is in place already: it is done, and says so
            work = running.outcome()
            assert session.verify(item, work).effective is Effective.YES
        else:
            with pytest.raises(Interrupted):
                running.outcome()
    assert invalid(newest.database) == theirs
    assert newest.database.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_k'::regclass")


def test_what_cannot_be_dropped_is_marked_and_goes_with_the_next_run(newest: Workbench) -> None:
    newest.database.execute(*SETUP)
    theirs = strangers(newest.database, "t_k_ccnew")
    item = item_for(newest, "public.t_k", cleanup_wait=0.2)
    with newest.session() as session, held(newest.database, "waiting for writers before build") as phase:
        running = in_thread(lambda: session.run(item, Recorder()))
        phase.arrive()
        session.interrupt()
        with pytest.raises(Interrupted) as raised:
            running.outcome()
        assert "t_k_ccnew1 could not be dropped" in raised.value.hint
        listed = {left.name: left.ours for left in session.leftovers()}
        assert listed == {"public.t_k_ccnew": False, "public.t_k_ccnew1": True}
    (drop, *_) = newest.due(REINDEX)
    assert (drop.object, drop.method) == ("public.t_k_ccnew1", "drop what was left")
    assert newest.perform(item_of(drop))[1].effective is Effective.YES
    assert invalid(newest.database) == theirs


def test_a_strangers_copy_is_dropped_with_consent_only(newest: Workbench) -> None:
    newest.database.execute(*SETUP)
    strangers(newest.database, "t_k_ccnew")
    refused, *_ = newest.plan(REINDEX)
    assert refused.decision is Decision.SKIP
    assert "drop_leftovers" in refused.reason
    item = newest.item(REINDEX, policy=policy("drop_leftovers"))
    with newest.session() as session, pytest.raises(Refused):
        session.clean(session.leftovers()[0])
    assert newest.perform(item)[1].effective is Effective.YES
    assert invalid(newest.database) == set()


def test_a_strangers_cancel_is_told_apart_and_cleared_up(bench: Workbench) -> None:
    bench.database.execute(*SETUP)
    item = item_for(bench, "public.t_k")
    with held(bench.database, "building index") as phase:
        running = in_thread(lambda: bench.perform(item))
        phase.arrive()
        bench.database.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index")
        with pytest.raises(OperationError) as raised:
            running.outcome()
        assert "somebody else cancelled" in raised.value.what
    assert invalid(bench.database) == set()


def test_a_deadline_ends_it(newest: Workbench) -> None:
    newest.database.execute(*SETUP)
    item = item_for(newest, "public.t_k", deadline=0.5)
    with held(newest.database, "building index") as phase:
        running = in_thread(lambda: newest.perform(item))
        phase.arrive()
        with pytest.raises(OperationError) as raised:
            running.outcome()
    assert raised.value.kind is Kind.INTERRUPTED
    assert "deadline" in raised.value.what
    assert invalid(newest.database) == set()


@pytest.mark.parametrize("phase", ["building index", "waiting for readers before dropping"])
def test_a_lost_attempt_is_recovered(bench: Workbench, phase: str) -> None:
    bench.database.execute(*SETUP)
    theirs = strangers(bench.database, "t_k_ccnew")
    item = item_for(bench, "public.t_k")
    recorder = lost(bench, item, phase)
    with bench.session(tag="dbupkeep:lost:2") as session:
        evidence = session.recover(item, "dbupkeep:lost:1", recorder.notes)
        assert invalid(bench.database) == theirs
        assert session.recover(item, "dbupkeep:lost:1", recorder.notes) == evidence
        if "readers" in phase:
            assert evidence is not None
            assert evidence.effective is Effective.YES
        else:
            assert evidence is None
            assert session.verify(item, session.run(item, recorder)).effective is Effective.YES
    assert invalid(bench.database) == theirs


def test_an_orphan_at_work_is_ended_before_anything_else(newest: Workbench) -> None:
    newest.database.execute(*SETUP)
    item, recorder = item_for(newest, "public.t_k"), Recorder()
    with (
        held(newest.database, "building index") as hold,
        newest.session(tag="dbupkeep:lost:1") as frozen,
        newest.session(tag="dbupkeep:other:1") as other,
        newest.session(tag="dbupkeep:lost:2") as session,
    ):
        running = in_thread(lambda: frozen.run(item, recorder))
        hold.arrive()
        assert session.recover(item, "dbupkeep:lost:1", recorder.notes) is None
        with pytest.raises((Lost, OperationError)):
            running.outcome()
        assert invalid(newest.database) == set()
        assert other.leftovers() == [], "a session of another attempt is not touched"
        hold.release()
        assert session.verify(item, session.run(item, recorder)).effective is Effective.YES


def test_an_answer_that_got_lost_on_the_way_is_looked_up(newest: Workbench) -> None:
    newest.database.execute(*SETUP)
    item = item_for(newest, "public.t_k")
    with network_path(newest.database.server) as path, held(newest.database, "building index") as phase:
        url = newest.database.url.replace(str(newest.database.server.port), str(path.port))
        session = newest.engine.connect(target_of(url), tag="dbupkeep:frozen:1")
        running = in_thread(lambda: session.run(item, Recorder()))
        phase.arrive()
        path.freeze()
        phase.release()
        assert session.verify(item, running.outcome()).effective is Effective.YES
        session.close()
    assert invalid(newest.database) == set()
    assert not newest.database.query("SELECT FROM pg_locks WHERE locktype = 'advisory'")


def test_behind_a_frozen_path_the_deadline_ends_it(newest: Workbench) -> None:
    newest.database.execute(*SETUP)
    item, recorder = item_for(newest, "public.t_k", deadline=1.0), Recorder()
    with network_path(newest.database.server) as path, held(newest.database, "building index") as phase:
        url = newest.database.url.replace(str(newest.database.server.port), str(path.port))
        session = newest.engine.connect(target_of(url), tag="dbupkeep:frozen:1")
        running = in_thread(lambda: session.run(item, recorder))
        phase.arrive()
        path.freeze()
        with pytest.raises((Lost, OperationError)):
            running.outcome()
        session.close()
    with newest.session(tag="dbupkeep:frozen:2") as session:
        assert session.recover(item, "dbupkeep:frozen:1", recorder.notes) is None
    assert invalid(newest.database) == set()


def test_a_server_that_goes_down_is_lost_and_recovered_when_it_is_back() -> None:
    own = start(NEWEST)
    try:
        bench = Workbench(database=own.create("mortal"))
        bench.database.execute(*SETUP)
        item, recorder = item_for(bench, "public.t_k"), Recorder()
        with bench.session(tag="dbupkeep:lost:1") as session, held(bench.database, "index validation") as phase:
            running = in_thread(lambda: session.run(item, recorder))
            phase.arrive()
            own.stop("QUIT")
            with pytest.raises(Lost):
                running.outcome()
        own.start_again()
        assert invalid(bench.database)
        with bench.session(tag="dbupkeep:lost:2") as session:
            assert session.recover(item, "dbupkeep:lost:1", recorder.notes) is None
            assert invalid(bench.database) == set()
            assert session.verify(item, session.run(item, Recorder())).effective is Effective.YES
    finally:
        own.remove()


def test_an_index_that_is_gone_or_another_one_is_not_touched(newest: Workbench) -> None:
    newest.database.execute(*SETUP)
    item = item_for(newest, "public.t_k")
    newest.database.execute("DROP INDEX t_k", "CREATE INDEX t_k ON t (k)")
    with pytest.raises(Gone):
        newest.perform(item)


def test_concurrently_is_refused_where_it_is_broken(newest: Workbench) -> None:
    newest.database.execute(*SETUP)
    facts = newest.facts(REINDEX)
    old = structs.replace(facts, values={**facts.values, "version_number": 140002})
    scope = newest._scope((REINDEX,), {}, Policy(force=True))
    proposals = newest.engine.assess(old, FORCE, History(), scope)
    assert {each.decision for each in proposals} == {Decision.SKIP}
    assert "14.2 misses rows" in proposals[0].reason
    mended = structs.replace(facts, values={**facts.values, "version_number": 140004})
    assert Decision.RUN in {each.decision for each in newest.engine.assess(mended, FORCE, History(), scope)}
