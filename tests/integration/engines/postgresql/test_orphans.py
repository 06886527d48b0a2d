"""The session of a lost attempt is waited for where its work is worth it, and cancelled else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from msgspec.structs import replace

from dbupkeep.definitions import Policy
from dbupkeep.engine import Session
from dbupkeep.engines.postgresql import orphans
from dbupkeep.errors import Interrupted, OperationError
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.testing.engine_suite import Recorder, item_of
from tests.plugins.postgresql_bench import Running, Workbench, in_thread, until
from tests.plugins.postgresql_phases import invalid

pytestmark = pytest.mark.engine("postgresql")

FORCE = Policy(force=True, consents=frozenset({"exclusive_lock"}))
SLOW = """CREATE FUNCTION slow(k int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
          PERFORM pg_catalog.pg_sleep(current_setting('test.slow', true)::float8); RETURN k; END $$"""
BIG = 1 << 30


def slow_table(bench: Workbench, rows: int = 100) -> None:
    """An index that takes long to build, for sessions that begin later."""
    bench.database.execute(
        SLOW, "CREATE TABLE t (id int PRIMARY KEY, k int)", f"INSERT INTO t SELECT n, n FROM generate_series(1, {rows}) n",
        "CREATE INDEX t_k ON t (slow(k))", "VACUUM ANALYZE t", f"ALTER DATABASE {bench.database.name} SET test.slow = '0.002'",
    )  # fmt: skip


def item_for(bench: Workbench, operation: Operation, name: str, **evidence: int) -> PlanItem:
    item = next(item_of(each) for each in bench.due(operation, policy=FORCE) if each.object == name)
    return replace(item, evidence={**item.evidence, **evidence})


@contextmanager
def lost(bench: Workbench, item: PlanItem, view: str) -> Iterator[tuple[Running, Session, Recorder]]:
    """An attempt that is at work and frozen, for all that the next one knows; and the session of the next one."""
    recorder = Recorder()
    with bench.session(tag="dbupkeep:lost:1") as frozen, bench.session(tag="dbupkeep:lost:2") as session:
        running = in_thread(lambda: frozen.run(item, recorder))
        until(lambda: bench.database.query(f"SELECT FROM {view}"))
        yield running, session, recorder


@pytest.mark.parametrize(
    ("operation", "name", "view"),
    [
        (Operation.REINDEX, "public.t_k", "pg_stat_progress_create_index"),
        (Operation.OPTIMIZE, "public.t", "pg_stat_progress_cluster"),
    ],
)
def test_what_would_cost_much_to_do_again_is_waited_for(
    newest: Workbench, operation: Operation, name: str, view: str
) -> None:
    slow_table(newest)
    with lost(newest, item_for(newest, operation, name, bytes=BIG), view) as (running, session, recorder):
        evidence = session.recover(item_for(newest, operation, name, bytes=BIG), "dbupkeep:lost:1", recorder.notes)
        assert evidence is not None, "it was done by the lost attempt"
        assert evidence.effective is Effective.YES
        running.outcome()
    assert invalid(newest.database) == set()


def test_what_is_cheap_and_not_far_is_cancelled(newest: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "NEARLY", 0.95)  # a slow machine gets far while it is waited for
    slow_table(newest, rows=1500)
    item = item_for(newest, Operation.REINDEX, "public.t_k")
    with lost(newest, item, "pg_stat_progress_create_index") as (running, session, recorder):
        assert session.recover(item, "dbupkeep:lost:1", recorder.notes) is None
        with pytest.raises(OperationError):
            running.outcome()
    assert invalid(newest.database) == set()


def test_a_vacuum_that_is_nearly_done_is_waited_for(newest: Workbench) -> None:
    newest.bloat(rows=60_000, dead=30_000)
    newest.slowly("20ms")
    item = newest.item(Operation.VACUUM)
    with lost(newest, item, "pg_stat_progress_vacuum") as (running, session, recorder):
        far = "SELECT FROM pg_stat_progress_vacuum WHERE heap_blks_scanned > 0.6 * heap_blks_total"
        until(lambda: newest.database.query(far))
        evidence = session.recover(item, "dbupkeep:lost:1", recorder.notes)
        assert evidence is not None
        assert "the attempt before had done it" in evidence.reason
        running.outcome()


def test_a_stop_cancels_what_is_waited_for(newest: Workbench) -> None:
    slow_table(newest, rows=1500)
    item = item_for(newest, Operation.REINDEX, "public.t_k", bytes=BIG)
    with lost(newest, item, "pg_stat_progress_create_index") as (running, session, recorder):
        waiting = in_thread(lambda: session.recover(item, "dbupkeep:lost:1", recorder.notes))
        session.interrupt()
        assert waiting.outcome() is None
        with pytest.raises(OperationError):
            running.outcome()
        with pytest.raises(Interrupted):
            session.run(item, recorder)
    assert invalid(newest.database) == set()
