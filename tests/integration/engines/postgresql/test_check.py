from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from dbupkeep.definitions import Policy
from dbupkeep.engine import Scope
from dbupkeep.errors import Damaged, NotPermitted, Refused
from dbupkeep.estimates import History, Measurement
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.planner import lay_out
from dbupkeep.plans import Decision
from dbupkeep.testing.engine_suite import Recorder, item_of
from tests.plugins.postgresql import Database, Server, clone, start
from tests.plugins.postgresql_bench import Workbench, holding

pytestmark = pytest.mark.engine("postgresql")

CHECK = Operation.CHECK
PAGE = 8192


@pytest.fixture
def debian(postgresql: Callable[[int], Server]) -> Iterator[Workbench]:
    """A server that has amcheck."""
    database = postgresql(15).create()
    yield Workbench(database=database)
    database.drop()


def filled(bench: Workbench, *names: str, extension: bool = True) -> None:
    for name in names:
        bench.database.execute(
            f"CREATE TABLE {name} (id int PRIMARY KEY, a text)",
            f"INSERT INTO {name} SELECT n, md5(n::text) FROM generate_series(1, 30000) n",
            f"CREATE INDEX {name}_a ON {name} (a)",
        )
    if extension:
        bench.database.execute("CREATE EXTENSION amcheck")


@pytest.mark.parametrize("method", ["order", "heapallindexed"])
def test_sound_indexes_are_found_sound(debian: Workbench, method: str) -> None:
    filled(debian, "t")
    item, recorder = debian.item(CHECK, policy=Policy(thresholds={"check": {"method": method}})), Recorder()
    assert (item.object, item.method) == ("public.t", method)
    work, evidence = debian.perform(item, recorder)
    assert evidence.effective is Effective.YES
    assert "3 B-trees" in evidence.reason, "the TOAST table's is checked too"
    assert work.values["indexes"] == 3
    assert any(seen.fraction for seen in recorder.seen)


def test_where_amcheck_is_lacking_it_is_said_how_to_get_it(debian: Workbench, newest: Workbench) -> None:
    filled(debian, "t", extension=False)
    (skipped,) = debian.plan(CHECK)
    assert skipped.decision is Decision.SKIP
    assert "a superuser can run CREATE EXTENSION amcheck; dbupkeep never does" in skipped.reason
    assert debian.database.query("SELECT FROM pg_extension WHERE extname = 'amcheck'") == []
    (skipped,) = newest.plan(CHECK)
    assert "amcheck is not on this server" in skipped.reason


def test_the_grant_is_named_and_is_all_that_is_needed(debian: Workbench) -> None:
    filled(debian, "t")
    debian.database.execute("CREATE ROLE checker LOGIN")
    try:
        item = debian.item(CHECK, user="checker")
        with pytest.raises(NotPermitted) as raised:
            debian.perform(item, user="checker")
        grant = "GRANT EXECUTE ON FUNCTION public.bt_index_check(regclass, boolean) TO checker"
        assert raised.value.hint == grant
        assert grant in item.reason
        debian.database.execute(grant)
        assert debian.perform(debian.item(CHECK, user="checker"), user="checker")[1].effective is Effective.YES
    finally:
        debian.database.execute("DROP OWNED BY checker", "DROP ROLE checker")


def test_it_was_there_at_the_time_of_the_plan(debian: Workbench) -> None:
    filled(debian, "t")
    item = debian.item(CHECK)
    debian.database.execute("DROP EXTENSION amcheck")
    with pytest.raises(Refused):
        debian.perform(item)


def test_rows_that_an_index_has_not_are_found_by_looking_them_up(debian: Workbench) -> None:
    filled(debian, "t")
    debian.database.execute(
        "UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = 't_a'::regclass",
        "INSERT INTO t VALUES (0, 'not in the index')",
        "UPDATE pg_index SET indisready = true, indisvalid = true WHERE indexrelid = 't_a'::regclass",
    )
    assert debian.perform(debian.item(CHECK))[1].effective is Effective.YES
    item = debian.item(CHECK, policy=Policy(thresholds={"check": {"method": "heapallindexed"}}))
    with pytest.raises(Damaged) as raised:
        debian.perform(item)
    assert raised.value.objects == ("public.t_a",)


@pytest.fixture
def damaged() -> Iterator[Workbench]:
    """A database of a server of its own, where a page of the index `t_a` is lost."""
    server = start(15)
    try:
        bench = Workbench(database=server.create("damaged"))
        filled(bench, "t", "other")
        path = server.data / str(bench.database.value("SELECT pg_relation_filepath('t_a')"))
        bench.database.execute("CHECKPOINT")
        server.stop()
        with path.open("r+b") as file:
            file.seek(3 * PAGE)
            file.write(b"\0" * PAGE)
        server.start_again()
        yield bench
    finally:
        server.remove()


def test_a_planted_corruption_is_red_and_bars_what_follows(damaged: Workbench) -> None:
    operations = (CHECK, Operation.VACUUM, Operation.REINDEX)
    policy = Policy(force=True)
    scope = Scope(operations=operations, now=datetime.now(UTC), policy=policy)
    facts = damaged.facts(*operations, force=True)
    items = lay_out(damaged.engine.assess(facts, policy, History(), scope))
    checks = {item.object: item for item in items if item.operation is CHECK}
    with pytest.raises(Damaged) as raised:
        damaged.perform(checks["public.t"])
    assert raised.value.objects == ("public.t_a",)
    assert "public.t_a" in raised.value.what
    assert "REINDEX mends" in raised.value.hint
    assert damaged.perform(checks["public.other"])[1].effective is Effective.YES
    barred = [item for item in items if checks["public.t"].place in item.gates]
    assert {item.hold for item in barred} == {"public.t"}
    assert {item.operation for item in barred} == {Operation.VACUUM, Operation.REINDEX}


def test_what_a_check_found_damaged_is_mended_by_the_next_run(damaged: Workbench) -> None:
    found = Measurement(
        at=datetime.now(UTC), engine="postgresql", target="", object="public.t", operation=CHECK, method="order",
        seconds=0.0, work_bytes=0, bytes_before=0, bytes_after=0, values={"damaged": '["public.t_a"]'},
    )  # fmt: skip
    assert damaged.due(Operation.REINDEX) == []
    mend = damaged.item(Operation.REINDEX, history=History(own=[found]))
    assert mend.object == "public.t_a"
    assert "the last check found it damaged" in mend.reason
    assert damaged.perform(mend)[1].effective is Effective.YES
    (check,) = [each for each in damaged.due(CHECK) if each.object == "public.t"]
    assert damaged.perform(item_of(check))[1].effective is Effective.YES


def test_a_standby_may_be_checked(debian: Workbench) -> None:
    filled(debian, "t")
    standby = clone(debian.database.server)
    try:
        there = Workbench(database=Database(server=standby, name=debian.database.name))
        item = there.item(CHECK)
        assert there.perform(item)[1].effective is Effective.YES
        assert there.due(Operation.REINDEX, policy=Policy(force=True)) == []
    finally:
        standby.remove()


def test_small_tables_are_checked_together(debian: Workbench) -> None:
    debian.database.execute(*[f"CREATE TABLE t{n} (id int PRIMARY KEY)" for n in range(40)], "CREATE EXTENSION amcheck")
    due = debian.due(CHECK)
    assert 1 < len(due) <= 8
    assert sum(len(each.members) for each in due) == 40
    _, evidence = debian.perform(item_of(due[0]))
    assert f"{len(due[0].members)} B-trees" in evidence.reason


def test_of_tables_that_are_checked_together_the_locked_one_alone_comes_back(debian: Workbench) -> None:
    debian.database.execute(*[f"CREATE TABLE t{n} (id int PRIMARY KEY)" for n in range(40)], "CREATE EXTENSION amcheck")
    item = item_of(next(each for each in debian.due(CHECK) if "public.t0" in each.members))
    item = replace(item, options={**item.options, "lock_wait": 0.2})
    with holding(debian.database, "LOCK TABLE t0"):
        work, evidence = debian.perform(item)
    assert list(work.put_off) == ["public.t0"]
    assert evidence.effective is Effective.YES


def test_a_locked_table_is_waited_for_once_however_many_indexes_it_has(debian: Workbench) -> None:
    debian.database.execute(
        "CREATE TABLE t0 (id int PRIMARY KEY)", "CREATE INDEX ON t0 (id)", "CREATE TABLE t2 (id int PRIMARY KEY)",
        "CREATE EXTENSION amcheck",
    )  # fmt: skip
    item = debian.item(CHECK, policy=Policy(thresholds={"check": {"group_from": 2, "lock_wait": 0.2}}))
    assert item.members == ("public.t0", "public.t2")
    with holding(debian.database, "LOCK TABLE t0"):
        work, _ = debian.perform(item)
    assert list(work.put_off) == ["public.t0"]
