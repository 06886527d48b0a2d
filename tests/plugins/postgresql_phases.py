"""A table whose rebuild can be held in each phase of REINDEX CONCURRENTLY, and strangers' unfinished indexes in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from dbupkeep.errors import Lost
from dbupkeep.plans import PlanItem
from dbupkeep.testing.engine_suite import Recorder
from tests.plugins.postgresql import Database
from tests.plugins.postgresql_bench import Workbench, holding, in_thread, until

BUILD, VALIDATE = 77, 78

SETUP = (
    # The row 0 holds up the build, the row -1 (inserted meanwhile) the validation: each asks for a lock of the test's.
    """CREATE FUNCTION gate(k int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
       IF k IN (0, -1) THEN
         PERFORM pg_catalog.pg_advisory_lock_shared(77 - k), pg_catalog.pg_advisory_unlock_shared(77 - k);
       END IF;
       RETURN k; END $$""",
    "CREATE TABLE t (id int PRIMARY KEY, k int, a text)",
    "INSERT INTO t SELECT n, n - 1, md5(n::text) FROM generate_series(1, 2000) n",
    "CREATE INDEX t_k ON t (gate(k))",
    "VACUUM ANALYZE t",
)

PHASES = (
    "waiting for writers before build",
    "building index",
    "waiting for writers before validation",
    "index validation",
    "waiting for old snapshots",
    "waiting for readers before marking dead",
    "waiting for readers before dropping",
)

WRITE = "UPDATE t SET a = 'x' WHERE id = 2000"
READ = "SELECT count(*) FROM t"
LOOK = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"


@dataclass(slots=True, kw_only=True)
class Held:
    """A database whose rebuild of `t_k` is held in one phase while this is open."""

    database: Database
    phase: str
    stack: ExitStack
    prepare: Callable[[], None]

    def arrive(self) -> None:
        """Bring the rebuild, which was begun, to the phase; it stays there."""
        self.prepare()
        until(lambda: _phases(self.database, self.phase))

    def release(self) -> None:
        self.stack.close()


@contextmanager
def held(database: Database, phase: str) -> Iterator[Held]:
    """Hold the next rebuild of `t_k` in a phase; `arrive` waits for it to be there."""
    with ExitStack() as stack:
        yield Held(database=database, phase=phase, stack=stack, prepare=_prepare(database, phase, stack))


def lost(bench: Workbench, item: PlanItem, phase: str) -> Recorder:
    """An attempt whose session ends while `t_k` is in a phase; what it has told."""
    recorder, before = Recorder(), invalid(bench.database)
    with held(bench.database, phase) as hold:
        with bench.session(tag="dbupkeep:lost:1") as session:
            running = in_thread(lambda: session.run(item, recorder))
            hold.arrive()
            bench.database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index")
            with pytest.raises(Lost):
                running.outcome()
        assert invalid(bench.database) > before
        hold.release()
    return recorder


def _prepare(database: Database, phase: str, stack: ExitStack) -> Callable[[], None]:
    """Set up what holds the phase; returns what brings the rebuild there once it runs."""
    if phase in _HOLDERS:
        stack.enter_context(holding(database, _HOLDERS[phase]))
        return lambda: None
    if phase == "building index":
        _gate(database, stack, BUILD)
        return lambda: None
    if phase == "waiting for readers before dropping":
        return _second_reader(database, stack)
    return _behind_the_build(database, stack, phase)


_HOLDERS = {
    "waiting for writers before build": WRITE,
    "waiting for old snapshots": LOOK,
    "waiting for readers before marking dead": READ,
}


def _behind_the_build(database: Database, stack: ExitStack, phase: str) -> Callable[[], None]:
    """For what must come about while the index is built: the build is held until it has."""
    gate = _gate(database, stack, BUILD, VALIDATE)

    def go_on() -> None:
        until(lambda: _phases(database, "building index"))
        if phase == "index validation":
            gate.execute("INSERT INTO t SELECT max(id) + 1, -1, 'x' FROM t")
        else:
            stack.enter_context(holding(database, WRITE))
        gate.execute("SELECT pg_advisory_unlock(%s)", [BUILD])

    return go_on


def _second_reader(database: Database, stack: ExitStack) -> Callable[[], None]:
    """One that comes while the first is waited for, and stays."""
    first = stack.enter_context(ExitStack())
    first.enter_context(holding(database, READ))

    def go_on() -> None:
        until(lambda: _phases(database, "waiting for readers before marking dead"))
        stack.enter_context(holding(database, READ))
        first.close()

    return go_on


def _gate(database: Database, stack: ExitStack, *locks: int) -> psycopg.Connection[Any]:
    gate = stack.enter_context(database.connect())
    for lock in locks:
        gate.execute("SELECT pg_advisory_lock(%s)", [lock])
    return gate


def _phases(database: Database, begin: str) -> bool:
    rows = database.query("SELECT phase FROM pg_stat_progress_create_index WHERE datname = %s", database.name)
    return any(str(row[0]).startswith(begin) for row in rows)


def strangers(database: Database, *names: str, table: str = "t") -> set[str]:
    """Invalid indexes that are not ours, under names that ours could have."""
    with database.connect() as connection:
        for name in names:
            statement = sql.SQL("CREATE INDEX {} ON {} ((id * 2))").format(sql.Identifier(name), sql.Identifier(table))
            connection.execute(statement)
            connection.execute(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass::oid", [f'"{name}"']
            )
    return set(names)


def invalid(database: Database) -> set[str]:
    found = database.query("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
    return {str(row[0]).strip('"') for row in found}
