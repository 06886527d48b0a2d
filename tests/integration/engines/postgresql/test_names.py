from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from dbupkeep.definitions import Policy
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.testing.engine_suite import item_of
from tests.plugins.postgresql_bench import Workbench

pytestmark = pytest.mark.engine("postgresql")

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=90)


@given(schema=NAMES, table=NAMES)
@example(schema='a"; DROP TABLE victim; --', table="x" * 63)
@example(schema="ключ" * 20, table="鍵" * 40)
@example(schema="small tables 1", table="%s %(x)s %%")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_harms_anybody(newest: Workbench, schema: str, table: str) -> None:
    """Also those that the server cuts to 63 bytes; alone, and in a group with others of their kind."""
    with newest.database.connect() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS public.victim AS SELECT 1 AS a")
        try:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        except Exception:  # noqa: BLE001 - pg_..., which the server keeps for itself, or public
            return
        for name in (table, *(f"{number}{table}" for number in range(20))):
            named = sql.Identifier(schema, name)
            connection.execute(
                sql.SQL("CREATE TABLE IF NOT EXISTS {} AS SELECT generate_series(1, 9) AS a").format(named)
            )
        connection.execute("SELECT pg_stat_force_next_flush()")
    for operation in (Operation.VACUUM, Operation.ANALYZE):
        for proposal in newest.due(operation, policy=Policy(force=True)):
            _, evidence = newest.perform(item_of(proposal))
            assert evidence.effective is not Effective.NO
    assert newest.database.value("SELECT count(*) FROM public.victim") == 1
    newest.database.execute(f"DROP SCHEMA {sql.Identifier(schema).as_string()} CASCADE")
