from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from dbupkeep.definitions import Policy
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.testing.engine_suite import item_of
from tests.plugins.postgresql import Server
from tests.plugins.postgresql_bench import Workbench

pytestmark = pytest.mark.engine("postgresql")

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=90)


FORCE = Policy(force=True, consents=frozenset({"exclusive_lock"}))
"""With the consent VACUUM FULL stands in for what is not installed."""


def made(bench: Workbench, schema: str, table: str, *, tables: int) -> bool:
    """Tables and an index of hostile names, and a victim; False for a schema that the server keeps for itself."""
    with bench.database.connect() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS public.victim AS SELECT 1 AS a")
        try:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        except psycopg.Error:  # pg_..., or public
            return False
        for name in (table, *(f"{number}{table}" for number in range(tables - 1))):
            named = sql.Identifier(schema, name)
            create = "CREATE TABLE IF NOT EXISTS {} AS SELECT generate_series(1, 9) AS a"
            connection.execute(sql.SQL(create).format(named))
        index = sql.SQL("CREATE UNIQUE INDEX {} ON {} (a)").format(
            sql.Identifier(f"i{table}"), sql.Identifier(schema, table)
        )
        connection.execute(index)
        connection.execute(sql.SQL("ALTER TABLE {} ALTER a SET NOT NULL").format(sql.Identifier(schema, table)))
        connection.execute("SELECT pg_stat_force_next_flush()")
    return True


def harmless(bench: Workbench, schema: str, operations: Sequence[Operation]) -> None:
    """Run operations on all of it, each of which has to find something to do, and look for the victim."""
    for operation in operations:
        due = bench.due(operation, policy=FORCE)
        assert due, operation
        for proposal in due:
            _, evidence = bench.perform(item_of(proposal))
            assert evidence.effective is not Effective.NO or operation in (Operation.REINDEX, Operation.OPTIMIZE)
    assert bench.database.value("SELECT count(*) FROM public.victim") == 1
    bench.database.execute(f"DROP SCHEMA {sql.Identifier(schema).as_string()} CASCADE")


@given(schema=NAMES, table=NAMES)
@example(schema='a"; DROP TABLE victim; --', table="x" * 63)
@example(schema="ключ" * 20, table="鍵" * 40)
@example(schema="small tables 1", table="%s %(x)s %%")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_harms_anybody(newest: Workbench, schema: str, table: str) -> None:
    """Also those that the server cuts to 63 bytes; alone, and in a group with others of their kind."""
    if made(newest, schema, table, tables=21):
        harmless(newest, schema, (Operation.VACUUM, Operation.REINDEX, Operation.ANALYZE))


@given(schema=NAMES, table=NAMES)
@example(schema='a"; DROP TABLE victim; --', table="t'; DROP TABLE victim; --")
@example(schema="a.b", table='"')
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nor_does_one_that_is_rewritten_or_checked(
    newest: Workbench, debian: Workbench, schema: str, table: str
) -> None:
    """By VACUUM FULL, by pg_repack's own client, and by amcheck."""
    if made(newest, schema, table, tables=2):
        harmless(newest, schema, (Operation.OPTIMIZE,))
    if made(debian, schema, table, tables=2):
        harmless(debian, schema, (Operation.CHECK, Operation.OPTIMIZE))


@pytest.fixture
def debian(postgresql: Callable[[int], Server]) -> Iterator[Workbench]:
    """Where pg_repack and amcheck are."""
    database = postgresql(15).create()
    database.execute("CREATE EXTENSION pg_repack", "CREATE EXTENSION amcheck")
    yield Workbench(database=database)
    database.drop()
