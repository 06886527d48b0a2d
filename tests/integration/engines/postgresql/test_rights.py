"""What a role may do that is no superuser, and what it is told where it may not: by a plan, not by a statement that fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbupkeep.definitions import Policy
from dbupkeep.engine import Purpose
from dbupkeep.errors import NotPermitted
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision
from dbupkeep.testing.engine_suite import item_of
from tests.plugins.postgresql_bench import Workbench

pytestmark = pytest.mark.engine("postgresql")

FORCE = Policy(force=True)
MOST = (Operation.VACUUM, Operation.REINDEX, Operation.ANALYZE)


@pytest.fixture
def kept(bench: Workbench) -> Iterator[Workbench]:
    """A table with a TOAST table in a schema of its own, and a role that may maintain it and no more."""
    bench.database.execute(
        "CREATE SCHEMA audit",
        "CREATE TABLE audit.t (id int PRIMARY KEY, a text)",
        "ALTER TABLE audit.t ALTER a SET STORAGE EXTERNAL",
        "INSERT INTO audit.t SELECT n, repeat('x', 3000) FROM generate_series(1, 1000) n",
        "DROP ROLE IF EXISTS keeper",
        "CREATE ROLE keeper LOGIN",
        "GRANT pg_maintain TO keeper" if bench.database.server.version >= 17 else "ALTER TABLE audit.t OWNER TO keeper",
    )
    yield bench
    bench.database.execute("DROP OWNED BY keeper CASCADE", "DROP ROLE keeper")


def test_a_schema_that_may_not_be_used_is_told_by_plan_and_doctor(kept: Workbench) -> None:
    for operation in (Operation.VACUUM, Operation.ANALYZE):
        (told,) = kept.due(operation, policy=FORCE, user="keeper", table="audit.t")
        (notice,) = told.notices
        assert notice.code == "not_permitted"
        assert "USAGE on their schemas" in notice.hint
    for operation in MOST:
        item = item_of(kept.due(operation, policy=FORCE, user="keeper", table="audit.t")[0])
        with pytest.raises(NotPermitted) as raised:
            kept.perform(item, user="keeper")
        assert "USAGE on its schema" in raised.value.hint
    with kept.session(purpose=Purpose.SURVEY, user="keeper") as session:
        rights = next(each for each in kept.engine.doctor(session) if each.subject == "rights on tables")
    assert not rights.ok
    assert "USAGE on their schemas" in rights.hint


def test_with_the_documented_grants_every_operation_works(kept: Workbench) -> None:
    kept.database.execute("GRANT USAGE ON SCHEMA audit TO keeper", "GRANT USAGE ON SCHEMA pg_toast TO keeper")
    for operation in MOST:
        planned = kept.plan(operation, policy=FORCE, user="keeper", table="audit.t")
        due = [each for each in planned if each.decision is Decision.RUN]
        assert due, operation
        for each in due:
            _, evidence = kept.perform(item_of(each), user="keeper")
            assert evidence.effective is not Effective.NO or operation is Operation.REINDEX
    rebuilt = {
        name
        for each in kept.due(Operation.REINDEX, policy=FORCE, user="keeper", table="audit.t")
        for name in (each.members or (each.object,))
    }
    assert any(name.startswith("pg_toast.") for name in rebuilt), "the index of the TOAST table is one of them"
