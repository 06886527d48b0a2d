"""Functions that an index calls: what they cannot find or may not do is no fault of the table, and no reason to pass over it."""

from __future__ import annotations

import pytest

from dbupkeep.definitions import Policy
from dbupkeep.errors import Gone, NotPermitted, OperationError
from dbupkeep.operations import Operation
from dbupkeep.testing.engine_suite import item_of
from tests.plugins.postgresql_bench import Workbench

pytestmark = pytest.mark.engine("postgresql")

FORCE = Policy(force=True)


@pytest.mark.parametrize("operation", [Operation.REINDEX, Operation.ANALYZE])
@pytest.mark.parametrize("body", ["SELECT v FROM looked_up WHERE k = $1", "SELECT missing($1)"])
def test_a_function_that_finds_no_name_fails_and_is_no_missing_table(
    bench: Workbench, operation: Operation, body: str
) -> None:
    bench.database.execute(
        "CREATE TABLE looked_up AS SELECT n AS k, n AS v FROM generate_series(1, 9) n",
        "CREATE FUNCTION missing(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'",
        f"CREATE FUNCTION f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN ({body}); END'",
        "CREATE TABLE t AS SELECT n AS a FROM generate_series(1, 9) n",
        "ALTER FUNCTION f(int) SET search_path = public",
        "CREATE INDEX named ON t (f(a))",
        "ALTER FUNCTION f(int) RESET search_path",
    )
    item = item_of(next(each for each in bench.due(operation, policy=FORCE, table="t")))
    with pytest.raises(OperationError) as raised:
        bench.perform(item)
    assert not isinstance(raised.value, (Gone, NotPermitted))
    assert "function" in raised.value.what
    assert "SET search_path" in raised.value.hint
    assert bench.database.query("SELECT indexrelid FROM pg_index WHERE NOT indisvalid") == []
