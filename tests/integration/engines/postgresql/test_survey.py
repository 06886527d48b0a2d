"""What a survey reads: the tables that may be due, found among all in one pass, and nothing less than the rules ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dbupkeep.definitions import Policy
from dbupkeep.engine import Purpose
from dbupkeep.engines.postgresql import near, needs
from dbupkeep.facts import DatabaseFacts, ObjectFacts
from dbupkeep.operations import Operation
from tests.plugins.postgresql_bench import Workbench, holding

pytestmark = pytest.mark.engine("postgresql")

BOTH = (Operation.VACUUM, Operation.ANALYZE)


def filled(name: str, *, rows: int = 2_000, kind: str = "TABLE", extra: str = "") -> list[str]:
    return [
        f"CREATE {kind} {name} (id int, a text, b int DEFAULT 1){extra}",
        f"ALTER TABLE {name} ALTER a SET STORAGE EXTERNAL",
        f"INSERT INTO {name} SELECT n, 'x' FROM generate_series(1, {rows}) n",
        f"VACUUM ANALYZE {name}",
    ]


LARGE = "repeat('x', 400000)"  # of about 200 pieces in the TOAST table

IDLE = {
    "idle": [],
    "dropped_column": ["ALTER TABLE dropped_column DROP b"],
    "untold_column": ["ALTER TABLE untold_column ADD c int", "ALTER TABLE untold_column ALTER c SET STATISTICS 0"],
    "little_changed": ["UPDATE little_changed SET b = 2 WHERE id <= 20"],
    "expression_analyzed": ["CREATE INDEX ON expression_analyzed (lower(a))", "ANALYZE expression_analyzed"],
    "extended_analyzed": ["CREATE STATISTICS analyzed ON id, b FROM extended_analyzed", "ANALYZE extended_analyzed"],
}

NEAR = {
    "dead": ["DELETE FROM dead WHERE id <= 300"],
    "changed": ["INSERT INTO changed SELECT n, 'x' FROM generate_series(1, 400) n"],
    "inserted": ["INSERT INTO inserted SELECT n, 'x' FROM generate_series(1, 3000) n", "ANALYZE inserted"],
    "toast_inserted": [f"INSERT INTO toast_inserted SELECT n, {LARGE} FROM generate_series(1, 5) n"],
    "toast_dead": [
        f"UPDATE toast_dead SET a = {LARGE} WHERE id = 1", "VACUUM ANALYZE toast_dead", "DELETE FROM toast_dead WHERE id = 1",
    ],
    "own": ["ALTER TABLE own SET (autovacuum_vacuum_scale_factor = 0.01)"],
    "toast_own": ["ALTER TABLE toast_own SET (toast.autovacuum_vacuum_scale_factor = 0.01)"],
    "new_column": ["ALTER TABLE new_column ADD c int DEFAULT 1"],
    "expression": ["CREATE INDEX ON expression (lower(a))"],
    "one_expression": [
        "CREATE INDEX one_of_two ON one_expression (lower(a), (b + 1))", "ANALYZE one_expression",
        "DELETE FROM pg_statistic WHERE starelid = 'one_of_two'::regclass AND staattnum = 2",
    ],
    "extended": ["CREATE STATISTICS of_extended ON id, b FROM extended"],
    "parent": ["CREATE TABLE child (c int) INHERITS (parent)", "INSERT INTO child VALUES (1, 'x', 1, 1)", "ANALYZE child"],
    "told_no_more": ["DELETE FROM pg_statistic WHERE starelid = 'told_no_more'::regclass AND staattnum = 2"],
}  # fmt: skip

OTHERS = [
    "CREATE TABLE never (a int)",
    "CREATE TABLE never_analyzed AS SELECT 1 AS a",
    "CREATE MATERIALIZED VIEW view_of_many AS SELECT n FROM generate_series(1, 1000) n",
    "CREATE TABLE parted (id int) PARTITION BY RANGE (id)",
    "CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (1000)",
    "ANALYZE parted",
    *filled("unlogged", kind="UNLOGGED TABLE"),
    "DELETE FROM unlogged WHERE id <= 300",
]
"""Of these all are near: what was never analyzed may have rows, and partitions always are."""

FOUND = {*NEAR, "never", "never_analyzed", "view_of_many", "parted", "part", "unlogged"}


@pytest.fixture
def zoo(bench: Workbench) -> Workbench:
    """A table for each reason to be looked at, and some without; nothing is chosen, which would have all looked at."""
    for name, changes in {**IDLE, **NEAR}.items():
        bench.database.execute(*filled(name), *changes)
    bench.database.execute(*OTHERS)
    return unchosen(bench)


def unchosen(bench: Workbench) -> Workbench:
    return Workbench(database=bench.database, exclude=())


def own(facts: DatabaseFacts) -> dict[str, ObjectFacts]:
    """The tables that are nobody else's, by name."""
    return {each.name.removeprefix("public."): each for each in facts.objects if each.name.startswith("public.")}


def due(facts: DatabaseFacts) -> set[str]:
    """What the rules say of the values that were read."""
    return {
        name
        for name, table in own(facts).items()
        if needs.vacuum_need(table, facts.values, share=0.5, freeze_share=0.5).due
        or needs.analyze_need(table, facts.values, share=0.5).due
    }


def test_what_may_be_due_is_read_and_no_more(zoo: Workbench) -> None:
    with holding(zoo.database, "CREATE TEMP TABLE temporary AS SELECT generate_series(1, 9999)"):
        read, everything = zoo.facts(*BOTH), zoo.facts(*BOTH, force=True)
    assert set(own(read)) == FOUND
    assert {*own(everything)} == {*FOUND, *IDLE, "child"}
    assert due(everything) == due(read) == FOUND - {"never", "own", "toast_own", "parted", "part"}
    for name, table in own(read).items():
        assert table.values == own(everything)[name].values
    same = ("tables", "partitioned_tables", "oldest")
    assert [read.values[name] for name in same] == [everything.values[name] for name in same]
    assert read.bytes == everything.bytes > 0


@pytest.mark.parametrize("name", ["new_column", "expression", "one_expression", "extended", "parent", "told_no_more"])
def test_one_lack_of_statistics_is_found_alone(newest: Workbench, name: str) -> None:
    bench = unchosen(newest)
    bench.database.execute(*filled(name))
    assert not own(bench.facts(Operation.ANALYZE))
    bench.database.execute(*NEAR[name])
    (table,) = own(bench.facts(Operation.ANALYZE)).values()
    assert (table.name, table.values["missing_statistics"]) == (f"public.{name}", 3 if name == "parent" else 1)


def test_vacuum_alone_looks_for_no_statistics(zoo: Workbench) -> None:
    lacking = {"new_column", "expression", "one_expression", "extended", "parent", "told_no_more"}
    assert set(own(zoo.facts(Operation.VACUUM))) & {*lacking, "dead", "never_analyzed"} == {"dead"}


def test_who_may_not_see_statistics_goes_by_the_counters(zoo: Workbench) -> None:
    zoo.database.execute("CREATE ROLE surveyor LOGIN")  # roles are of the server, which other tests share
    try:
        read = own(zoo.facts(*BOTH, user="surveyor"))
    finally:
        zoo.database.execute("DROP ROLE surveyor")
    assert {"never_analyzed", "view_of_many", "dead", "toast_dead"} <= set(read)
    assert not {"new_column", "idle", "never"} & set(read)


def test_ages_and_thresholds_of_the_server(zoo: Workbench) -> None:
    with zoo.session(purpose=Purpose.SURVEY) as session:
        handle = session.handle  # type: ignore[attr-defined] # of this engine's session
        server = handle.row("server")

        def found(**settings: Any) -> set[str]:
            seen = near.look(handle, {**server, **settings}, 0.5, everything=False, analyze=False)
            return names(near.tables(handle, seen, [], everything=False))

        assert "idle" not in found()
        assert {"idle", "toast_own"} <= found(freeze_max_age=2.0)
        assert {"idle", "little_changed"} <= found(multixact_freeze_max_age=0.0)
        assert "little_changed" in found(vacuum_base=20.0, vacuum_scale=0.0)
        assert "little_changed" in found(vacuum_base=0.0, vacuum_scale=0.0)
        assert "little_changed" in found(vacuum_max=30.0)
        assert "idle" not in found(vacuum_max=0.0)
        assert "inserted" not in found(insert_base=-1.0)
        assert "toast_inserted" not in found(insert_base=-1.0)


def test_an_idle_database_is_asked_for_no_table(newest: Workbench) -> None:
    changes = [*IDLE["expression_analyzed"], *IDLE["extended_analyzed"]]
    tables = [*filled("expression_analyzed"), *filled("extended_analyzed")]
    newest.database.execute(*tables, *changes, "VACUUM ANALYZE", "VACUUM")
    with newest.session(purpose=Purpose.SURVEY) as session:
        handle = session.handle  # type: ignore[attr-defined] # of this engine's session
        seen = near.look(handle, handle.row("server"), 0.5, everything=False, analyze=True)
        assert not seen.some
        assert not seen.may_lack
        assert near.tables(handle, seen, [], everything=False) == []


def names(rows: Sequence[Any]) -> set[str]:
    return {str(row["name"]) for row in rows}


def test_the_policys_floor_is_the_least_that_is_read(newest: Workbench) -> None:
    bench = unchosen(newest)
    bench.database.execute(*filled("t"), "DELETE FROM t WHERE id <= 100")  # autovacuum waits for 450
    low = Policy(thresholds={"vacuum": {"threshold_share": 0.2}})
    assert "t" not in own(bench.facts(Operation.VACUUM))
    assert "t" in own(bench.facts(Operation.VACUUM, policy=low))
