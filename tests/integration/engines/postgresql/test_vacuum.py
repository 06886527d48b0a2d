from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dbupkeep.definitions import Policy
from dbupkeep.engine import Purpose
from dbupkeep.engines.postgresql import orphans
from dbupkeep.errors import Busy, Gone, Interrupted, Kind, NotPermitted, OperationError, Refused
from dbupkeep.jobs import Effective
from dbupkeep.logs import bound
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision
from dbupkeep.testing.engine_suite import Recorder, item_of
from tests.plugins.postgresql_bench import Workbench, holding, in_thread, until

pytestmark = pytest.mark.engine("postgresql")

VACUUM = Operation.VACUUM


def quick(**settings: float | str) -> Policy:
    return Policy(thresholds={"vacuum": settings, "analyze": settings})


# --- what is due, and that it helps ---


def test_dead_rows_are_vacuumed_and_verified(bench: Workbench) -> None:
    bench.bloat()
    item = bench.item(VACUUM)
    assert item.object == item.hold == "public.t"
    assert "10,000 dead rows" in item.reason
    work, evidence = bench.perform(item)
    assert evidence.effective is Effective.YES
    assert (evidence.before["dead"], evidence.after["dead"]) == (10_000, 0)
    assert int(work.values["wal_bytes"] or 0) > 0
    assert bench.due(VACUUM) == []


def test_it_is_due_before_autovacuum_would_start(bench: Workbench) -> None:
    # autovacuum: 50 + 0.2 x 10,000 = 2,050; half of it is 1,025
    bench.bloat(rows=10_000, dead=1_020)
    assert bench.due(VACUUM) == []
    bench.database.execute("DELETE FROM t WHERE id <= 1030")
    assert "1,030 dead rows" in bench.item(VACUUM).reason
    assert bench.due(VACUUM, policy=quick(threshold_share=1.0)) == []


def test_a_tables_own_settings_go_before_the_servers(bench: Workbench) -> None:
    bench.bloat(rows=10_000, dead=1_500)
    bench.database.execute("ALTER TABLE t SET (autovacuum_vacuum_scale_factor = 0.5)")
    assert bench.due(VACUUM) == []


def test_inserted_rows_are_due_too(bench: Workbench) -> None:
    bench.bloat(dead=0)
    bench.database.execute("INSERT INTO t SELECT n, 'x' FROM generate_series(30001, 36000) n")
    item = bench.item(VACUUM)
    assert "6,000 rows inserted" in item.reason
    bench.perform(item)
    assert bench.due(VACUUM) == []


BURN = """DO $$ BEGIN FOR i IN 1..60000 LOOP
    BEGIN INSERT INTO burnt VALUES (1); EXCEPTION WHEN OTHERS THEN NULL; END;
END LOOP; END $$"""


def test_age_goes_first_and_is_really_lowered(bench: Workbench) -> None:
    bench.bloat("busy", dead=10_000)
    bench.bloat("old", dead=0)
    bench.database.execute(
        "ALTER TABLE old SET (autovacuum_freeze_max_age = 100000)", "CREATE TABLE burnt (a int)", BURN,
        "DROP TABLE burnt",
    )  # fmt: skip
    first, second = bench.due(VACUUM)
    assert (first.object, second.object) == ("public.old", "public.busy")
    assert "oldest transaction ids are" in first.reason
    _, evidence = bench.perform(item_of(first))
    assert evidence.effective is Effective.YES
    assert int(evidence.after["age"] or 0) < 50_000 < int(evidence.before["age"] or 0)
    assert [each.object for each in bench.due(VACUUM)] == ["public.busy"]


def test_the_age_of_a_toast_table_is_lowered_and_seen(newest: Workbench) -> None:
    with_toast(newest)
    newest.database.execute(
        "VACUUM t", "ALTER TABLE t SET (toast.autovacuum_freeze_max_age = 100000)", "CREATE TABLE burnt (a int)", BURN,
        "DROP TABLE burnt", "VACUUM (FREEZE, PROCESS_TOAST FALSE) t",
    )  # fmt: skip
    item = newest.item(VACUUM)
    assert "oldest transaction ids of its TOAST table are" in item.reason
    _, evidence = newest.perform(item)
    assert evidence.effective is Effective.YES, evidence.reason
    assert int(evidence.after["age"] or 0) < 50_000 < int(evidence.before["age"] or 0)


def test_a_toast_table_alone_can_be_due(bench: Workbench) -> None:
    bench.database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text)",
        "ALTER TABLE t ALTER a SET STORAGE EXTERNAL",
        "ALTER TABLE t SET (autovacuum_vacuum_threshold = 10000, toast.autovacuum_vacuum_threshold = 50)",
        "INSERT INTO t SELECT n, repeat('x', 9000) FROM generate_series(1, 1000) n",
        "VACUUM ANALYZE t",
        "UPDATE t SET a = repeat('y', 9000) WHERE id <= 300",
    )
    item = bench.item(VACUUM)
    assert "TOAST" in item.reason
    _, evidence = bench.perform(item)
    assert evidence.effective is Effective.YES
    assert bench.due(VACUUM) == []


def with_toast(bench: Workbench, name: str = "t") -> None:
    """A table with dead rows of its own, and with as many in its TOAST table."""
    bench.database.execute(
        f"CREATE TABLE {name} (id int PRIMARY KEY, a text)",
        f"ALTER TABLE {name} ALTER a SET STORAGE EXTERNAL",
        f"INSERT INTO {name} SELECT n, repeat('x', 9000) FROM generate_series(1, 1000) n",
        f"VACUUM ANALYZE {name}",
        f"UPDATE {name} SET a = repeat('y', 9000) WHERE id <= 600",
    )


COUNTED = """SELECT pg_stat_get_vacuum_count(oid), pg_stat_get_vacuum_count(reltoastrelid),
pg_stat_get_dead_tuples(oid), pg_stat_get_dead_tuples(reltoastrelid) FROM pg_class WHERE relname = 't'"""


def test_toast_tables_alone(bench: Workbench) -> None:
    with_toast(bench)
    bench.bloat("plain")
    before = bench.database.query(COUNTED)[0]
    if bench.database.server.version < 16:
        (skipped,) = bench.plan(VACUUM, process_main=False)
        assert skipped.decision is Decision.SKIP
        assert "from PostgreSQL 16 on" in skipped.reason
        return
    item = bench.item(VACUUM, process_main=False)
    assert item.object == "public.t", "the other table has no TOAST table that is due"
    assert "TOAST" in item.reason
    assert "TOAST tables alone" in item.method
    _, evidence = bench.perform(item)
    after = bench.database.query(COUNTED)[0]
    assert (after[0] - before[0], after[1] - before[1]) == (0, 1), "the table itself is left alone"
    assert (after[2], after[3]) == (before[2], 0)
    assert evidence.effective is Effective.YES, evidence.reason
    assert (evidence.before["dead"], evidence.after["dead"]) == (before[3], 0)
    assert bench.due(VACUUM, process_main=False) == []
    assert "public.t" in [each.object for each in bench.due(VACUUM)]


def test_toast_tables_of_small_tables_are_vacuumed_once(newest: Workbench) -> None:
    """Whether they were done is told by their own counters: by those of the tables, all would be done again one by one."""
    names = small(newest, 20)
    for item in newest.due(VACUUM, policy=Policy(force=True), process_main=False):
        newest.perform(item_of(item))
    counted = "SELECT relname::text, pg_stat_get_vacuum_count(reltoastrelid) FROM pg_class WHERE relname = ANY (%s)"
    assert {count for _, count in newest.database.query(counted, names)} == {2}, "once to set it up, and once by us"


def test_no_toast_tables(bench: Workbench) -> None:
    with_toast(bench)
    before = bench.database.query(COUNTED)[0]
    _, evidence = bench.perform(bench.item(VACUUM, process_toast=False))
    after = bench.database.query(COUNTED)[0]
    assert (after[0] - before[0], after[1] - before[1]) == (1, 0)
    assert (after[2], after[3]) == (0, before[3])
    assert evidence.effective is Effective.YES, evidence.reason
    assert bench.due(VACUUM, process_toast=False) == []


def test_a_toast_table_alone_that_is_locked_is_put_off(newest: Workbench) -> None:
    with_toast(newest)
    item = newest.item(VACUUM, process_main=False, skip_locked=True)
    with holding(newest.database, "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE"), pytest.raises(Busy):
        newest.perform(item)


def test_force_vacuums_what_is_not_due(bench: Workbench) -> None:
    bench.bloat(dead=0)
    assert bench.due(VACUUM) == []
    assert "by force" in bench.item(VACUUM, policy=Policy(force=True)).reason


def test_catalogs_are_maintained_as_well(newest: Workbench) -> None:
    newest.database.execute(*[f"CREATE TABLE t{n} ()" for n in range(100)], *[f"DROP TABLE t{n}" for n in range(100)])
    everything = Workbench(database=newest.database, exclude=())
    named = {name for each in everything.due(VACUUM) for name in (each.members or (each.object,))}
    assert "pg_catalog.pg_class" in named


# --- small tables ---


def small(bench: Workbench, count: int = 40) -> list[str]:
    names = [f"s{n}" for n in range(count)]
    for name in names:
        bench.bloat(name, rows=200, dead=100)
    return names


def test_small_tables_share_statements_with_evidence_for_each(newest: Workbench) -> None:
    names = small(newest)
    proposals = newest.due(VACUUM)
    assert len(proposals) < 10
    assert sorted(name for each in proposals for name in each.members) == sorted(f"public.{name}" for name in names)
    assert all(each.hold == each.object for each in proposals)
    for each in proposals:
        work, evidence = newest.perform(item_of(each))
        assert evidence.effective is Effective.YES
        assert work.values["tables"] == len(each.members)
        members = json.loads(str(evidence.values["members"]))
        assert set(members) == set(each.members)
        assert all((before[0], after[0]) == (100, 0) for before, after in members.values())
    assert newest.due(VACUUM) == []


def test_a_small_table_has_the_same_hold_alone_and_in_a_group(newest: Workbench) -> None:
    newest.bloat("s0", rows=200, dead=100)
    alone = newest.item(VACUUM)
    for name in (f"s{n}" for n in range(1, 40)):
        newest.bloat(name, rows=200, dead=100)
    (group,) = [each for each in newest.due(VACUUM) if "public.s0" in each.members]
    assert alone.object == "public.s0"
    assert alone.hold == group.hold


def test_a_locked_member_does_not_keep_the_others(newest: Workbench) -> None:
    small(newest)
    first = next(each for each in newest.due(VACUUM, policy=quick(lock_wait=0.2)) if "public.s0" in each.members)
    with holding(newest.database, "LOCK TABLE s0 IN SHARE UPDATE EXCLUSIVE MODE"):
        work, evidence = newest.perform(item_of(first))
    assert set(work.put_off) == {"public.s0"}
    assert evidence.effective is Effective.YES
    assert (evidence.before["dead"], evidence.after["dead"]) == (100 * (len(first.members) - 1), 0)
    left = {name for each in newest.due(VACUUM) for name in (each.members or (each.object,))}
    assert left & set(first.members) == {"public.s0"}


def test_a_locked_member_is_waited_for_when_the_others_are_done(newest: Workbench) -> None:
    small(newest)
    first = next(each for each in newest.due(VACUUM) if "public.s0" in each.members)
    with holding(newest.database, "LOCK TABLE s0 IN SHARE UPDATE EXCLUSIVE MODE") as application:
        running = in_thread(lambda: newest.perform(item_of(first)))
        waits = "SELECT FROM pg_stat_activity WHERE application_name = 'dbupkeep:test:1' AND wait_event_type = 'Lock'"
        until(lambda: newest.database.query(waits))
        done = "SELECT count(*) FROM pg_stat_user_tables WHERE vacuum_count > 1"
        assert newest.database.value(done) == len(first.members) - 1
        application.rollback()
        _, evidence = running.outcome()
    assert evidence.effective is Effective.YES
    assert newest.database.value(done) == len(first.members)


def test_a_dropped_member_does_not_keep_the_others(newest: Workbench) -> None:
    small(newest)
    first = next(each for each in newest.due(VACUUM) if "public.s0" in each.members)
    newest.database.execute("DROP TABLE s0")
    work, evidence = newest.perform(item_of(first))
    assert work.values["tables"] == len(first.members) - 1
    assert evidence.effective is Effective.YES


# --- a success tag is no success ---


def test_dead_rows_that_an_old_snapshot_keeps_are_told_with_its_holder(bench: Workbench) -> None:
    bench.bloat(dead=0)
    with holding(bench.database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ") as reader:
        reader.execute("SELECT 1")
        bench.database.execute("DELETE FROM t WHERE id <= 10000")
        _, evidence = bench.perform(bench.item(VACUUM))
        assert evidence.effective is Effective.NO
        assert f"pid {reader.info.backend_pid}" in evidence.reason
        assert "the application" in evidence.reason
    _, evidence = bench.perform(bench.item(VACUUM))
    assert evidence.effective is Effective.YES


def test_a_role_without_rights_fails_and_is_told_the_grant(bench: Workbench) -> None:
    bench.bloat()
    with bench.database.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS stranger")
        connection.execute("CREATE ROLE stranger LOGIN")
    item = bench.item(VACUUM, user="stranger")
    assert item.notices[0].code == "not_permitted"
    with pytest.raises(NotPermitted) as raised:
        bench.perform(item, user="stranger")
    assert raised.value.kind is Kind.PERMISSION
    assert ("GRANT MAINTAIN" in raised.value.hint) == (bench.database.server.version >= 17)
    assert bench.due(VACUUM) != []


def test_a_role_with_maintain_needs_no_more(newest: Workbench) -> None:
    newest.bloat()
    newest.database.execute("DROP ROLE IF EXISTS keeper", "CREATE ROLE keeper LOGIN", "GRANT MAINTAIN ON t TO keeper")
    try:
        item = newest.item(VACUUM, user="keeper")
        assert not item.notices
        _, evidence = newest.perform(item, user="keeper")
        assert evidence.effective is Effective.YES
    finally:
        newest.database.execute("REVOKE ALL ON t FROM keeper", "DROP ROLE keeper")


def test_skip_locked_is_deferred_not_done(bench: Workbench) -> None:
    bench.bloat()
    item = bench.item(VACUUM, skip_locked=True)
    with holding(bench.database, "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE"), pytest.raises(Busy):
        bench.perform(item)


def test_a_lock_is_waited_for_and_then_named(bench: Workbench) -> None:
    bench.bloat()
    item = bench.item(VACUUM, policy=quick(lock_wait=1.5))
    recorder = Recorder()
    with holding(bench.database, "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE") as application:
        with pytest.raises(Busy) as raised:
            bench.perform(item, recorder)
        blocked = f"blocked by pid {application.info.backend_pid}"
    assert blocked in raised.value.why
    assert any(blocked in seen.stage for seen in recorder.seen)


@pytest.mark.parametrize("operation", [VACUUM, Operation.ANALYZE])
@pytest.mark.parametrize("lock_wait", [0.4, 6.0])
def test_a_table_that_is_locked_altogether_names_who_locks_it(
    newest: Workbench, operation: Operation, lock_wait: float
) -> None:
    newest.bloat()
    item = newest.item(operation, policy=quick(lock_wait=lock_wait))
    recorder = Recorder()
    with holding(newest.database, "LOCK TABLE t IN ACCESS EXCLUSIVE MODE") as application:
        with recorder.sampling(), pytest.raises(Busy) as raised:
            newest.perform(item, recorder)
        blocked = f"blocked by pid {application.info.backend_pid} ("
    assert blocked in raised.value.why
    assert "the application" in raised.value.why
    assert any(seen.stage.startswith(blocked) for seen in recorder.seen)
    assert raised.value.waited is not None
    assert lock_wait / 2 < raised.value.waited < lock_wait + 2


def test_waiting_for_a_table_that_is_locked_altogether_can_be_stopped(newest: Workbench) -> None:
    newest.bloat()
    item = newest.item(VACUUM, policy=quick(lock_wait=60.0))
    recorder = Recorder()
    with (
        holding(newest.database, "LOCK TABLE t IN ACCESS EXCLUSIVE MODE"),
        newest.session() as session,
        recorder.sampling(),
    ):
        running = in_thread(lambda: session.run(item, recorder))
        until(lambda: any(seen.stage.startswith("blocked by") for seen in recorder.seen))
        session.interrupt()
        with pytest.raises(Interrupted):
            running.outcome()


def test_a_dropped_table_is_gone_and_one_of_the_same_name_is_not_touched(bench: Workbench) -> None:
    bench.bloat()
    item = bench.item(VACUUM)
    bench.database.execute("DROP TABLE t")
    with pytest.raises(Gone):
        bench.perform(item)
    bench.bloat()
    with pytest.raises(Gone):
        bench.perform(item)


def test_a_renamed_database_is_still_itself_and_another_is_refused(bench: Workbench) -> None:
    bench.bloat()
    item = bench.item(VACUUM)
    other = bench.database.server.create()
    try:
        with pytest.raises(Refused) as raised:
            Workbench(database=other).perform(item)
        assert raised.value.kind is Kind.REPLACED
    finally:
        other.drop()


# --- while it runs ---


def test_progress_comes_from_the_server(bench: Workbench) -> None:
    bench.bloat(rows=60_000, dead=30_000)
    bench.slowly("20ms")
    item, recorder = bench.item(VACUUM), Recorder()
    bench.perform(item, recorder)
    stages = {seen.stage for seen in recorder.seen}
    assert "scanning heap" in stages
    assert any(0 < (seen.fraction or 0) < 1 for seen in recorder.seen)


def test_it_can_be_stopped_in_the_middle_and_what_was_done_stays(bench: Workbench) -> None:
    bench.bloat(rows=60_000, dead=30_000)
    bench.slowly()
    item = bench.item(VACUUM)
    with bench.session() as session:
        running = in_thread(lambda: session.run(item, Recorder()))
        until(lambda: bench.database.query("SELECT FROM pg_stat_progress_vacuum WHERE heap_blks_scanned > 0"))
        session.interrupt()
        with pytest.raises(Interrupted):
            running.outcome()
    assert bench.database.query("SELECT FROM pg_stat_progress_vacuum") == []


def test_a_deadline_ends_it(newest: Workbench) -> None:
    newest.bloat(rows=60_000, dead=30_000)
    newest.slowly()
    item = newest.item(VACUUM, policy=quick(deadline=0.5))
    with pytest.raises(OperationError) as raised:
        newest.perform(item)
    assert "deadline" in str(raised.value)


def test_a_stranger_who_cancels_it_is_no_wish_of_ours(newest: Workbench) -> None:
    newest.bloat(rows=60_000, dead=30_000)
    newest.slowly()
    item = newest.item(VACUUM)
    running = in_thread(lambda: newest.perform(item))
    until(lambda: newest.database.query("SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum"))
    with pytest.raises(OperationError) as raised:
        running.outcome()
    assert not isinstance(raised.value, Interrupted)


def test_the_server_sees_the_tag_and_the_full_ids(newest: Workbench) -> None:
    newest.bloat(rows=60_000, dead=30_000)
    newest.slowly()
    item = newest.item(VACUUM)
    with newest.session(tag="dbupkeep:cafe:2") as session:

        def run() -> object:
            with bound(correlation_id="run-1", parent_id="parent-2", job_id="job*/ 3", attempt=2):
                return session.run(item, Recorder())

        running = in_thread(run)
        seen = "SELECT query FROM pg_stat_activity WHERE application_name = 'dbupkeep:cafe:2' AND query ~ 'VACUUM [(]'"
        until(lambda: newest.database.query(seen))
        assert "run=run-1 parent=parent-2 job=job3 attempt=2 */ VACUUM" in newest.database.value(seen)
        session.interrupt()
        with pytest.raises(Interrupted):
            running.outcome()


def test_two_of_us_are_never_on_one_table(newest: Workbench) -> None:
    newest.bloat(rows=60_000, dead=30_000)
    newest.slowly()
    item = newest.item(VACUUM)
    with newest.session() as session:
        running = in_thread(lambda: session.run(item, Recorder()))
        until(lambda: newest.database.query("SELECT FROM pg_stat_progress_vacuum"))
        with pytest.raises(Busy) as raised:
            newest.perform(item)
        assert "already" in str(raised.value)
        session.interrupt()
        with pytest.raises(Interrupted):
            running.outcome()
        newest.database.execute(f"ALTER DATABASE {newest.database.name} RESET ALL")
        newest.perform(newest.item(VACUUM))  # the lock went with the statement, not with the session


@pytest.mark.parametrize("operation", [VACUUM, Operation.ANALYZE])
def test_the_application_goes_on_beside_an_idle_reader(bench: Workbench, operation: Operation) -> None:
    """Readers and writers never queue behind it: neither while it works, nor while it waits for its own lock."""
    bench.bloat()
    item = bench.item(operation, policy=quick(lock_wait=2.0))
    with (
        holding(bench.database, "SELECT count(*) FROM t"),
        holding(bench.database, "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE") as other,
        bench.database.connect() as application,
    ):
        application.execute("SET lock_timeout = '100ms'")
        running = in_thread(lambda: bench.perform(item))
        waits = "SELECT FROM pg_stat_activity WHERE application_name = 'dbupkeep:test:1' AND wait_event_type = 'Lock'"
        until(lambda: bench.database.query(waits))
        for number in range(20):
            application.execute("SELECT a FROM t WHERE id = 15000")
            application.execute("UPDATE t SET a = 'z' WHERE id = %s", (15000 + number,))
        other.rollback()
        _, evidence = running.outcome()
    assert evidence.effective is Effective.YES


def test_the_tail_is_given_back_only_when_asked_for(newest: Workbench) -> None:
    newest.bloat(rows=60_000, dead=0)
    newest.database.execute("DELETE FROM t WHERE id > 10000")
    before = newest.database.value("SELECT pg_relation_size('t')")
    newest.perform(newest.item(VACUUM))
    assert newest.database.value("SELECT pg_relation_size('t')") == before
    (item,) = newest.due(VACUUM, policy=Policy(force=True), truncate=True)
    assert "ACCESS EXCLUSIVE" in item.locks
    newest.perform(item_of(item))
    assert newest.database.value("SELECT pg_relation_size('t')") < before


# --- after a lost attempt ---


@pytest.mark.parametrize("operation", [VACUUM, Operation.ANALYZE])
def test_what_a_lost_attempt_had_done_is_not_done_again(bench: Workbench, operation: Operation) -> None:
    bench.bloat()
    item = bench.item(operation)
    with bench.session(tag="dbupkeep:later:2") as session:
        assert session.recover(item, "dbupkeep:later:1") is None
        bench.perform(item)
        found = session.recover(item, "dbupkeep:later:1")
    assert found is not None
    assert found.effective is Effective.YES
    assert set(found.before) == set(found.after)


def test_the_session_of_a_lost_attempt_is_ended_first(newest: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "NEARLY", 2.0)  # however far it is: what is waited for has tests of its own
    newest.bloat(rows=60_000, dead=30_000)
    newest.slowly()
    item = newest.item(VACUUM)
    with newest.session(tag="dbupkeep:lost:1") as lost, newest.session(tag="dbupkeep:lost:2") as session:
        running = in_thread(lambda: lost.run(item, Recorder()))
        until(lambda: newest.database.query("SELECT FROM pg_stat_progress_vacuum"))
        assert session.recover(item, "dbupkeep:lost:1") is None
        assert newest.database.query("SELECT FROM pg_stat_progress_vacuum") == []
        with pytest.raises(OperationError):
            running.outcome()
    newest.database.execute(f"ALTER DATABASE {newest.database.name} RESET ALL")
    newest.perform(item)


# --- a plan that no longer fits ---


def test_drift_names_what_changed(bench: Workbench) -> None:
    bench.bloat()
    item = bench.item(VACUUM)
    assert bench.drift(item) == ""
    bench.database.execute("VACUUM t")
    assert "maintained since" in bench.drift(item)
    bench.database.execute("DROP TABLE t")
    assert "gone" in bench.drift(item)


def test_drift_tells_of_a_group_which_tables_are_gone_and_not_which_need_nothing(newest: Workbench) -> None:
    bench = replace(newest, exclude=())  # where something is chosen, all tables are looked at anyway
    for name in ("t0", "t2", "t9"):  # that are of one group by their names
        bench.bloat(name, rows=1000, dead=500)
    small = quick(group_from=2)
    (item,) = [each for p in bench.due(VACUUM, policy=small) if "public.t2" in (each := item_of(p)).members]
    bench.database.execute("VACUUM ANALYZE t0")
    assert bench.drift(item) == ""
    bench.database.execute("DROP TABLE t2", "CREATE TABLE t2 ()")
    assert bench.drift(item).startswith("public.t2 is gone")


def test_a_survey_cannot_write(newest: Workbench) -> None:
    with newest.session(purpose=Purpose.SURVEY) as session, pytest.raises(Refused):
        session.handle.rows("CREATE TABLE x ()")  # type: ignore[attr-defined] # of this engine's session


def test_tables_are_read_from_the_thresholds_of_the_policy_on(newest: Workbench) -> None:
    bench = replace(newest, exclude=())  # where something is chosen, all tables are looked at anyway
    bench.bloat(rows=10_000, dead=450)  # autovacuum waits for 2,050
    assert "public.t" not in {each.name for each in bench.facts(VACUUM, Operation.ANALYZE).objects}
    eager = Policy(thresholds={"vacuum": {"threshold_share": 0.2}})
    assert "public.t" in {each.name for each in bench.facts(VACUUM, Operation.ANALYZE, policy=eager).objects}
    assert "public.t" not in {each.object for each in bench.due(VACUUM)}
    assert "public.t" in {each.object for each in bench.due(VACUUM, policy=eager)}


def test_what_is_not_due_is_counted_on_one_skipped_item(newest: Workbench) -> None:
    newest.bloat(dead=0)
    (idle,) = newest.plan(VACUUM)
    assert idle.decision is Decision.SKIP
    assert "1 of 1 tables" in idle.reason
