"""Who has to wait for us is counted, however long the work takes, and what costs others too much is stopped or not begun."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from msgspec.structs import replace

from dbupkeep.definitions import Policy
from dbupkeep.engines.postgresql.blocking import Toll
from dbupkeep.errors import Busy
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem
from dbupkeep.testing.engine_suite import Recorder, item_of
from tests.plugins.postgresql import Database
from tests.plugins.postgresql_bench import Running, Workbench, holding, in_thread, until
from tests.plugins.postgresql_phases import BUILD, SETUP

pytestmark = pytest.mark.engine("postgresql")

CONSENT = frozenset({"exclusive_lock"})


def rewrite_of(bench: Workbench, **options: float) -> PlanItem:
    """A VACUUM FULL that the test can hold up in its middle, by a lock for which the timeout counts as well."""
    bench.database.execute(*SETUP)
    policy = Policy(force=True, consents=CONSENT)
    item = next(item_of(each) for each in bench.due(Operation.OPTIMIZE, policy=policy) if each.object == "public.t")
    return replace(item, options={**item.options, "lock_wait": 30.0, **options})


@contextmanager
def held_up(database: Database) -> Iterator[ExitStack]:
    """What builds an index of `t` stays at it until this is closed."""
    with ExitStack() as stack:
        gate = stack.enter_context(database.connect())
        gate.execute("SELECT pg_advisory_lock(%s)", [BUILD])
        yield stack


def reader(database: Database) -> Running:
    """Somebody who wants to read, and has to wait."""

    def read() -> object:
        with database.connect(application_name="the application") as connection:
            return connection.execute("SELECT count(*) FROM t").fetchone()

    return in_thread(read)


def holds_the_table(database: Database) -> bool:
    found = "SELECT FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessExclusiveLock' AND granted"
    return bool(database.query(found))


def test_the_seconds_that_others_wait_are_counted(bench: Workbench) -> None:
    item, recorder = rewrite_of(bench), Recorder()
    with held_up(bench.database) as gate:
        running = in_thread(lambda: bench.perform(item, recorder))
        until(lambda: holds_the_table(bench.database))
        waiting = [reader(bench.database), reader(bench.database)]
        until(lambda: recorder.blocked > 0.5)
        gate.close()
        work, _ = running.outcome()
        assert [each.outcome() for each in waiting] == [(2000,), (2000,)]
    assert 0.5 < recorder.blocked < 5, "seconds on the clock, not of each who waits"
    assert float(work.values["longest_blocking_seconds"]) > 0.4
    assert work.values["blocked_sessions"] == 2


def test_who_queues_behind_a_lock_that_we_wait_for_counts_too(newest: Workbench) -> None:
    item, recorder = rewrite_of(newest, lock_wait=1.0, lock_tries=1), Recorder()
    with holding(newest.database, "SELECT count(*) FROM t"):
        running = in_thread(lambda: newest.perform(item, recorder))
        until(lambda: newest.database.query("SELECT FROM pg_locks WHERE relation = 't'::regclass AND NOT granted"))
        waiting = reader(newest.database)
        with pytest.raises(Busy):
            running.outcome()
        assert waiting.outcome() == (2000,)
    assert 0.3 < recorder.blocked < 1.6


def test_what_costs_more_than_the_budget_is_stopped(bench: Workbench) -> None:
    item, recorder = rewrite_of(bench, blocking_budget=20.0), Recorder()
    recorder.spent = 19.7
    with held_up(bench.database):
        running = in_thread(lambda: bench.perform(item, recorder))
        until(lambda: holds_the_table(bench.database))
        assert reader(bench.database).outcome() == (2000,), "the application goes on while the gate is still shut"
        with pytest.raises(Busy) as raised:
            running.outcome()
    assert "others wait for it" in raised.value.what
    assert "its budget is 20.0 s" in raised.value.why
    assert bench.database.value("SELECT count(*) FROM t") == 2000


def test_what_could_block_is_not_begun_when_the_budget_is_used_up(newest: Workbench) -> None:
    item, recorder = rewrite_of(newest), Recorder()
    recorder.spent = 60.0
    truncating = Policy(force=True, thresholds={"vacuum": {"truncate": True}})
    vacuum = next(item_of(each) for each in newest.due(Operation.VACUUM, policy=truncating))
    for each in (item, vacuum):
        assert "stopped when others have waited for the run for 1 min in all" in each.locks
        with pytest.raises(Busy) as raised:
            newest.perform(each, recorder)
        assert "is not begun" in raised.value.what
        assert "for 1 min" in raised.value.why
    plain = next(item_of(each) for each in newest.due(Operation.VACUUM, policy=Policy(force=True)))
    assert "others have waited" not in plain.locks
    newest.perform(plain, recorder)


def test_a_plain_vacuum_that_somebody_waits_for_counts_and_gives_way(newest: Workbench) -> None:
    newest.bloat(rows=60_000, dead=30_000)
    newest.slowly()
    item, recorder = newest.item(Operation.VACUUM), Recorder()
    item = replace(item, options={**item.options, "blocking_budget": 0.4})
    running = in_thread(lambda: newest.perform(item, recorder))
    until(lambda: newest.database.query("SELECT FROM pg_stat_progress_vacuum"))
    with holding(newest.database, "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE"), pytest.raises(Busy) as raised:
        running.outcome()
    assert "its budget is 400 ms" in raised.value.why
    assert recorder.blocked > 0.4


def test_a_vacuum_that_is_due_by_age_goes_on_and_is_counted(newest: Workbench) -> None:
    newest.bloat(rows=60_000, dead=30_000)
    newest.slowly("20ms")
    item, recorder = newest.item(Operation.VACUUM), Recorder()
    due_by_age = {"aggressive": True, "freeze_min_age": 1, "blocking_budget": 0.1}
    running = in_thread(lambda: newest.perform(replace(item, options={**item.options, **due_by_age}), recorder))
    until(lambda: newest.database.query("SELECT FROM pg_stat_progress_vacuum"))
    with holding(newest.database, "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE"):
        running.outcome()
    assert recorder.blocked > 0.1


def test_one_who_waits_long_and_one_who_waits_shortly() -> None:
    toll = Toll()
    assert not toll.count([], 10.0)
    assert toll.count([0.5], 11.0)
    assert toll.count([1.5, 0.2], 12.0)
    assert toll.seconds == pytest.approx(1.5)
    assert not toll.count([], 12.1)
    assert toll.count([None], 20.0), "before PostgreSQL 14 nobody says since when"
    assert toll.count([None], 20.5)
    assert toll.end(20.6)
    assert not toll.end(30.0)
    assert toll.seconds == pytest.approx(1.5 + 0.6)
    assert (toll.longest, toll.sessions) == (1.5, 2)
