from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import psycopg
import pytest

from dbupkeep.definitions import Policy
from dbupkeep.engine import Finding, Purpose
from dbupkeep.errors import Busy, UnknownName
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from tests.plugins.postgresql import clone
from tests.plugins.postgresql_bench import Workbench, holding, in_thread, until
from tests.plugins.postgresql_phases import strangers

pytestmark = pytest.mark.engine("postgresql")


def findings(bench: Workbench, name: str, *, user: str = "") -> list[Finding]:
    with bench.session(purpose=Purpose.SURVEY, user=user) as session:
        return list(bench.engine.why(session, name))


def bad(bench: Workbench, name: str, *, user: str = "") -> list[Finding]:
    return [each for each in findings(bench, name, user=user) if not each.ok and each.subject != "autovacuum"]


def test_nothing_in_the_way_is_said(bench: Workbench) -> None:
    bench.bloat()
    assert bad(bench, "public.t") == []
    state = findings(bench, "t")[-1]
    assert "10,000 live and 10,000 dead rows" in state.message
    assert bad(bench, "t_pkey") == [], "an index stands for its table"
    assert findings(bench, "")


def test_a_lock_comes_first_and_an_old_snapshot_next(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("dbupkeep.engines.postgresql.why"), "_OPEN", 0.0)
    bench.bloat()
    with (
        holding(bench.database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1") as old,
        holding(bench.database, "LOCK TABLE t IN SHARE MODE") as locker,
    ):
        found = bad(bench, "t")
        old_pid, pid = old.info.backend_pid, locker.info.backend_pid
    assert [each.subject for each in found][:2] == ["locks", "dead rows"]
    assert f"pid {pid} (postgres, the application" in found[0].message
    assert "ShareLock" in found[0].message
    assert f"pg_cancel_backend({pid})" in found[0].hint
    assert f"pid {old_pid}" in found[1].message
    assert "10,000 here" in found[1].message
    waited = [each for each in found if each.subject == "REINDEX"]
    assert {pid, old_pid} <= {
        int(each.message.split()[1]) for each in waited
    }  # fmt: skip


def test_prepared_transactions_and_slots_are_named_with_what_ends_them(newest: Workbench) -> None:
    newest.bloat()
    with newest.database.connect() as connection:
        connection.execute("SELECT pg_create_logical_replication_slot('stale', 'pgoutput')")
        connection.execute("BEGIN; INSERT INTO t VALUES (-1, 'x'); PREPARE TRANSACTION 'forgotten'")
        try:
            hints = " ".join(each.hint for each in bad(newest, "t"))
        finally:
            connection.execute("ROLLBACK PREPARED 'forgotten'")
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'stale'"
            )
    assert "ROLLBACK PREPARED 'forgotten'" in hints
    assert "pg_drop_replication_slot('stale')" in hints


def test_a_prepared_transaction_that_has_the_table_locked_is_named(bench: Workbench) -> None:
    """It has no process that could be asked, and none that could be cancelled."""
    bench.bloat()
    with bench.database.connect() as connection:
        connection.execute("BEGIN; LOCK TABLE t IN SHARE MODE; PREPARE TRANSACTION 'forgotten'")
    try:
        (lock,) = [each for each in bad(bench, "t") if each.subject == "locks"]
        assert "prepared transaction 'forgotten' of postgres" in lock.message
        assert "ROLLBACK PREPARED 'forgotten'" in lock.hint
        policy = Policy(thresholds={"vacuum": {"lock_wait": 1.0}})
        with pytest.raises(Busy) as raised:
            bench.perform(bench.item(Operation.VACUUM, policy=policy))
        assert "blocked by prepared transaction 'forgotten'" in raised.value.message
    finally:
        bench.database.execute("ROLLBACK PREPARED 'forgotten'")


def test_invalid_indexes_and_what_removes_them(newest: Workbench) -> None:
    newest.bloat()
    strangers(newest.database, "t_pkey_ccnew", "broken")
    hints = {each.message.split()[0]: each.hint for each in bad(newest, "t")}
    assert hints == {
        "public.t_pkey_ccnew": "DROP INDEX CONCURRENTLY public.t_pkey_ccnew", "public.broken": "REINDEX rebuilds it",
    }  # fmt: skip


def test_rights_and_settings_of_the_table(newest: Workbench) -> None:
    newest.bloat()
    newest.database.execute("ALTER TABLE t SET (autovacuum_enabled = false)", "CREATE ROLE looker LOGIN")
    try:
        first = bad(newest, "t", user="looker")[0]
        assert (first.subject, first.hint) == (
            "rights",
            "GRANT MAINTAIN ON public.t TO looker; and USAGE on its schema",
        )
    finally:
        newest.database.execute("DROP ROLE looker")
    newest.database.execute("CREATE TABLE p (id int) PARTITION BY RANGE (id)")
    assert "autovacuum never analyzes it" in bad(newest, "p")[0].message


def test_who_waits_behind_a_lock_is_told_too(newest: Workbench) -> None:
    newest.bloat()
    with (
        holding(newest.database, "SELECT count(*) FROM t"),
        newest.database.connect(application_name="migration") as waiting,
    ):
        running = in_thread(lambda: waiting.execute("ALTER TABLE t ADD b int"))
        until(lambda: newest.database.query("SELECT FROM pg_locks WHERE NOT granted"))
        first = bad(newest, "t")[0]
        assert "migration" in first.message
        assert "waits for AccessExclusiveLock" in first.message
        waiting.cancel()
        with pytest.raises(psycopg.errors.QueryCanceled):
            running.outcome()


def test_what_is_not_there_is_said(newest: Workbench) -> None:
    with pytest.raises(UnknownName):
        findings(newest, 'no such"; DROP TABLE victim; --')


TIME_PASSES = """DO $$ BEGIN FOR n IN 1..11000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"""


def test_a_standby_that_keeps_dead_rows_by_its_feedback_is_named(newest: Workbench) -> None:
    newest.bloat(dead=0)
    standby = clone(newest.database.server, hot_standby_feedback="on", wal_receiver_status_interval=1)
    try:
        there = replace(newest.database, server=standby)
        until(lambda: there.value("SELECT pg_last_wal_replay_lsn() IS NOT NULL"))
        with holding(there, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t"):
            until(lambda: newest.database.value("SELECT count(backend_xmin) FROM pg_stat_replication"))
            newest.database.execute("DELETE FROM t WHERE id <= 19000", TIME_PASSES)
            first = next(each for each in bad(newest, "t") if each.subject == "dead rows")
            assert "standby walreceiver by its feedback keeps dead rows, of which there are" in first.message
            assert "end the long query there, or set hot_standby_feedback = off" in first.hint
            _, evidence = newest.perform(newest.item(Operation.VACUUM))
            assert evidence.effective is Effective.NO
            assert "kept by standby walreceiver by its feedback" in evidence.reason
        until(lambda: not any(each.subject == "dead rows" for each in bad(newest, "t")))
        _, evidence = newest.perform(newest.item(Operation.VACUUM, policy=Policy(force=True), table="t"))
        assert evidence.effective is Effective.YES
    finally:
        standby.remove()


def test_of_those_that_keep_as_much_the_one_that_is_open_for_longest_is_named(bench: Workbench) -> None:
    """A snapshot is as old as the oldest transaction that was open then: to end it alone would help nobody."""
    bench.bloat(dead=0)
    bench.database.execute("CREATE TABLE u (a int)")
    with bench.database.connect() as other:
        for statement in ("BEGIN", "INSERT INTO u VALUES (1)", "PREPARE TRANSACTION 'forgotten'"):
            other.execute(statement)
    try:
        with holding(bench.database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ") as reader:
            reader.execute("SELECT count(*) FROM u")
            bench.database.execute("DELETE FROM t WHERE id <= 10000")
            _, evidence = bench.perform(bench.item(Operation.VACUUM))
        assert evidence.effective is Effective.NO
        assert "kept by prepared transaction 'forgotten'" in evidence.reason
    finally:
        bench.database.execute("ROLLBACK PREPARED 'forgotten'")
