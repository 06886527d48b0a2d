from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from dbupkeep.definitions import Policy
from dbupkeep.engine import Evidence, Purpose
from dbupkeep.engines.postgresql import maintain
from dbupkeep.errors import Interrupted, Missing, NotPermitted, UsageError
from dbupkeep.estimates import History, Measurement
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.testing.engine_suite import Recorder, item_of
from tests.plugins.postgresql import Server
from tests.plugins.postgresql_bench import Workbench, holding

pytestmark = pytest.mark.engine("postgresql")

ANALYZE = Operation.ANALYZE


def test_changed_rows_are_analyzed(bench: Workbench) -> None:
    bench.bloat()
    item = bench.item(ANALYZE)
    assert "10,000 rows changed" in item.reason
    _, evidence = bench.perform(item)
    assert evidence.effective is Effective.YES
    assert evidence.after["modified"] == 0
    assert bench.due(ANALYZE) == []


def test_a_table_without_statistics_is_due_however_small(bench: Workbench) -> None:
    bench.database.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS a")
    assert "statistics are missing" in bench.item(ANALYZE).reason
    bench.perform(bench.item(ANALYZE))
    assert bench.due(ANALYZE) == []


def test_a_new_column_an_expression_index_and_extended_statistics_are_missed(bench: Workbench) -> None:
    bench.bloat(dead=0)
    for change in (
        "ALTER TABLE t ADD b int DEFAULT 1",
        "CREATE INDEX ON t (lower(a))",
        "CREATE STATISTICS extended ON id, a FROM t",
    ):
        assert bench.due(ANALYZE) == []
        bench.database.execute(change)
        assert "statistics are missing (1 of" in bench.item(ANALYZE, missing_stats_only=True).reason
        bench.perform(bench.item(ANALYZE))


def test_empty_tables_are_not_due_for_ever(bench: Workbench) -> None:
    bench.database.execute("CREATE TABLE never (a int)", "CREATE TABLE emptied (a int)", "ANALYZE emptied")
    assert bench.due(ANALYZE) == []


def test_partitioned_tables_are_analyzed_which_autovacuum_never_does(bench: Workbench) -> None:
    bench.database.execute(
        "CREATE TABLE p (id int, a text) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000)",
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (1000) TO (3000)",
        "INSERT INTO p SELECT n, 'x' FROM generate_series(0, 2999) n",
        "ANALYZE p1",
        "ANALYZE p2",
    )
    item = bench.item(ANALYZE)
    assert item.object == "public.p"
    _, evidence = bench.perform(item)
    assert evidence.effective is Effective.YES
    assert bench.due(ANALYZE) == []
    bench.database.execute("UPDATE p SET a = 'y' WHERE id < 500")
    assert "public.p" in {each.object for each in bench.due(ANALYZE)}


def test_stages_leave_full_statistics_in_the_end(newest: Workbench) -> None:
    newest.bloat("a", dead=0)
    newest.bloat("b", dead=0)
    item, recorder = newest.item(ANALYZE, analyze_in_stages=True), Recorder()
    work, evidence = newest.perform(item, recorder)
    assert evidence.effective is Effective.YES
    assert work.values["stages"] == 3
    assert [stage for stage in recorder.stages if "target" in stage] == [
        "statistics target 1", "statistics target 10", "statistics target default",
    ]  # fmt: skip
    buckets = "SELECT max(array_length(histogram_bounds, 1)) FROM pg_stats WHERE tablename = 'b'"
    assert newest.database.value(buckets) == 101


def test_stages_of_a_single_table(newest: Workbench) -> None:
    newest.bloat(dead=0)
    item = newest.item(ANALYZE, analyze_in_stages=True)
    work, evidence = newest.perform(item)
    assert (item.object, work.values["stages"], evidence.effective) == ("public.t", 3, Effective.YES)


def test_a_role_without_rights_fails(bench: Workbench) -> None:
    bench.bloat()
    bench.database.execute("DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN")
    with pytest.raises(NotPermitted):
        bench.perform(bench.item(ANALYZE, user="reader"), user="reader")


def test_many_small_tables_at_once_and_a_stop_between(newest: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintain, "BATCH", 32)
    newest.database.execute(*[f"CREATE TABLE s{n} AS SELECT generate_series(1, 10) AS a" for n in range(200)])
    proposals = newest.due(ANALYZE)
    assert len(proposals) <= 4
    first = item_of(proposals[0])
    with newest.session() as session:

        class Stops(Recorder):
            def progress(self, progress: object) -> None:  # type: ignore[explicit-override] # a stop after the first batch
                session.interrupt()

        with pytest.raises(Interrupted):
            session.run(first, Stops())
    left = {name for each in newest.due(ANALYZE) for name in (each.members or (each.object,))}
    assert len(left) == 200 - 32
    for each in newest.due(ANALYZE):
        newest.perform(item_of(each))
    assert newest.due(ANALYZE) == []


# --- what a survey says ---


def test_chosen_tables_only(newest: Workbench) -> None:
    newest.database.execute("CREATE SCHEMA sales")
    for name in ("orders", "sales.orders", "sales.items"):
        newest.bloat(name)
    assert {each.object for each in newest.due(ANALYZE, table="sales.*")} == {"sales.orders", "sales.items"}
    assert {each.object for each in newest.due(ANALYZE, table="orders")} == {"public.orders", "sales.orders"}
    assert {each.object for each in newest.due(ANALYZE, exclude_schema="sales")} == {"public.orders"}
    narrow = Workbench(database=newest.database, exclude=("pg_catalog.*", "information_schema.*", "*.items"))
    assert {each.object for each in narrow.due(ANALYZE)} == {"public.orders", "sales.orders"}


def test_a_named_table_that_is_not_there_is_missing(newest: Workbench) -> None:
    from dbupkeep.errors import Missing

    with pytest.raises(Missing):
        newest.due(ANALYZE, table="nothing")


def test_ages_choose_as_in_vacuumdb(newest: Workbench) -> None:
    newest.bloat("t", dead=0)
    assert newest.due(Operation.VACUUM, min_xid_age=2_000_000_000) == []
    assert [each.object for each in newest.due(Operation.VACUUM, min_xid_age=1)] == ["public.t"]


def test_who_holds_back_dead_rows_is_in_the_plan(bench: Workbench) -> None:
    bench.database.execute("CREATE TABLE t (a int)")
    with bench.database.connect() as connection:
        connection.autocommit = False
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("PREPARE TRANSACTION 'forgotten'")
        connection.rollback()
    try:
        facts = bench.facts(Operation.VACUUM)
        (notice,) = [each for each in facts.notices if each.code == "holds_back_dead_rows"]
        assert "prepared transaction 'forgotten'" in notice.message
    finally:
        bench.database.execute("ROLLBACK PREPARED 'forgotten'")
    with holding(bench.database, "SELECT txid_current()") as other:
        assert f"pid {other.info.backend_pid}" in str(bench.facts(Operation.VACUUM).values["horizon_holder"])


def test_a_slot_that_holds_back_is_seen(newest: Workbench) -> None:
    newest.database.execute("SELECT pg_create_logical_replication_slot('lazy', 'pgoutput')")
    try:
        values = newest.facts(Operation.VACUUM).values
        assert "slot lazy" in str(values["horizon_holder"])
        assert int(values["slot_bytes"] or 0) >= 0
    finally:
        newest.database.execute("SELECT pg_drop_replication_slot('lazy')")


def test_two_urls_of_one_database_have_one_key(newest: Workbench) -> None:
    port, name = newest.database.server.port, newest.database.name
    keys = set()
    for url in (newest.database.url, f"postgresql:///{name}?host=127.0.0.1&port={port}&user=postgres"):
        from dbupkeep.engines.postgresql.session import PostgresqlSession
        from dbupkeep.engines.postgresql.urls import target_of

        session = PostgresqlSession(target_of(url), purpose=Purpose.SURVEY)
        keys.add(session.handle.identity.key)
        session.close()
    assert keys == {f"postgresql://127.0.0.1:{port}/{name}"}


def test_doctor_tells_rights_and_lacks(bench: Workbench) -> None:
    bench.bloat()
    bench.database.execute("DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN")
    with bench.session(purpose=Purpose.SURVEY, user="guest") as session:
        found = {each.subject: each for each in bench.engine.doctor(session)}
    assert not found["rights on tables"].ok
    assert "0 of 1 tables" in found["rights on tables"].message
    assert "pg_monitor" in found["sight of sessions"].hint
    assert found["version"].ok
    with bench.session(purpose=Purpose.SURVEY) as session:
        assert {each.subject: each for each in bench.engine.doctor(session)}["rights on tables"].ok


def test_a_limited_role_plans_and_works_with_pg_maintain(newest: Workbench) -> None:
    newest.bloat()
    newest.database.execute("DROP ROLE IF EXISTS janitor", "CREATE ROLE janitor LOGIN IN ROLE pg_maintain, pg_monitor")
    for operation in (Operation.VACUUM, ANALYZE):
        item = newest.item(operation, user="janitor")
        assert not item.notices
        _, evidence = newest.perform(item, user="janitor")
        assert evidence.effective is Effective.YES
    newest.database.execute("DROP ROLE janitor")


def test_a_whole_server_is_found_but_what_is_excluded(newest: Workbench) -> None:
    from datetime import UTC, datetime

    from msgspec.structs import replace

    from dbupkeep.engine import Scope

    place = replace(newest.target, pattern="test_*", exclude=("template*", "public.secret*"))
    found = list(newest.engine.discover(place, Scope(operations=(ANALYZE,), now=datetime.now(UTC))))
    (own,) = [each for each in found if newest.database.name in each.target.name]
    assert own.due
    assert own.target.exclude == ("public.secret*",)
    session = newest.engine.connect(own.target, purpose=Purpose.SURVEY)
    session.close()
    assert all("template" not in each.target.name for each in found)


def test_force_and_history_do_not_meet_in_an_idle_database(newest: Workbench) -> None:
    newest.bloat(dead=0)
    assert newest.due(ANALYZE) == []
    assert [each.object for each in newest.due(ANALYZE, policy=Policy(force=True))] == ["public.t"]


def test_columns_are_chosen_as_in_vacuumdb(bench: Workbench) -> None:
    bench.database.execute(
        'CREATE TABLE t (a int, "Odd, (one)" int, c int)',
        "INSERT INTO t SELECT n, n, n FROM generate_series(1, 5000) n",
    )
    chosen = 't(a, "Odd, (one)")'
    item = bench.item(ANALYZE, table=chosen)
    assert item.method == "columns a, 'Odd, (one)'"
    _, evidence = bench.perform(item)
    assert evidence.effective is Effective.YES
    known = "SELECT attname::text FROM pg_stats WHERE tablename = 't' ORDER BY 1"
    assert [row[0] for row in bench.database.query(known)] == ["Odd, (one)", "a"]
    bench.database.execute("UPDATE t SET a = a + 1")
    item = bench.item(ANALYZE, table=chosen)
    _, evidence = bench.perform(item)
    assert evidence.values["modified"] == 10_000, "the server goes on counting"
    done = measured(item, evidence)
    assert bench.due(ANALYZE, table=chosen, history=History(own=(done,))) == []
    assert bench.due(ANALYZE, table="t(c)", history=History(own=(done,)))
    assert bench.due(ANALYZE, history=History(own=(done,))), "the whole table is another matter"


def test_no_name_of_a_column_harms_anybody(newest: Workbench) -> None:
    evil = 'x"); DROP TABLE victim; --'
    quoted = '"' + evil.replace('"', '""') + '"'
    newest.database.execute(
        "CREATE TABLE victim (a int)", f"CREATE TABLE t ({quoted} int)", "INSERT INTO t SELECT generate_series(1, 1000)"
    )
    _, evidence = newest.perform(newest.item(ANALYZE, table=f"t({quoted})"))
    assert evidence.effective is Effective.YES
    assert newest.database.value("SELECT attname::text FROM pg_stats WHERE tablename = 't'") == evil
    assert newest.database.value("SELECT count(*) FROM victim") == 0


def measured(item: PlanItem, evidence: Evidence) -> Measurement:
    return Measurement(
        at=datetime.now(UTC), engine="postgresql", target="", object=item.object, operation=item.operation,
        method=item.method, seconds=1.0, work_bytes=1, bytes_before=1, bytes_after=1, values=evidence.values,
    )  # fmt: skip


def test_columns_that_are_none_or_of_no_analyze_are_refused(newest: Workbench) -> None:
    newest.database.execute("CREATE TABLE t (a int)")
    with pytest.raises(Missing) as raised:
        newest.plan(ANALYZE, table="t(b)")
    assert "no column b" in raised.value.what
    with pytest.raises(UsageError):
        newest.plan(Operation.VACUUM, table="t(a)")
    with pytest.raises(UsageError):
        newest.plan(ANALYZE, exclude_table="t(a)")


def test_statistics_of_all_that_inherits_are_missed(bench: Workbench) -> None:
    bench.database.execute(
        "CREATE TABLE above (a int)", "CREATE TABLE below () INHERITS (above)", "CREATE TABLE empty () INHERITS (above)",
        "INSERT INTO below SELECT generate_series(1, 1000)", "ANALYZE below",
    )  # fmt: skip
    item = bench.item(ANALYZE, missing_stats_only=True)
    assert item.object == "public.above"
    bench.perform(item)
    assert bench.due(ANALYZE, missing_stats_only=True) == []


def test_what_a_version_does_not_have_is_told_and_not_sent(postgresql: Callable[[int], Server]) -> None:
    old = Workbench(database=postgresql(15).create())
    old.bloat()
    item = old.item(Operation.VACUUM, buffer_usage_limit="1MB")
    assert [notice.code for notice in item.notices] == ["not_on_this_version"]
    assert "buffer_usage_limit (from PostgreSQL 16 on) is left out" in item.notices[0].message
    assert old.perform(item)[1].effective is Effective.YES
    old.database.drop()
