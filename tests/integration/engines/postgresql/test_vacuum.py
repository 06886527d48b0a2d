from __future__ import annotations

import pytest

from dbupkeep.definitions import Policy, Target
from dbupkeep.engines import load
from dbupkeep.engines.postgresql.urls import target_of
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, Proposal
from dbupkeep.testing.engine_suite import item_of, perform, propose
from tests.plugins.postgresql import Database

pytestmark = pytest.mark.engine("postgresql")

ENGINE = load("postgresql")


def target(database: Database) -> Target:
    """Without the catalogs: those that all databases share are due by what other tests do."""
    return target_of(database.url, exclude=("pg_catalog.*",))


def plan(database: Database, operation: Operation, policy: Policy | None = None) -> list[Proposal]:
    return propose(ENGINE, target(database), operation, policy=policy)


def due(database: Database, operation: Operation, policy: Policy | None = None) -> list[Proposal]:
    return [each for each in plan(database, operation, policy) if each.decision is Decision.RUN]


def bloat(database: Database, name: str = "t", *, rows: int = 20_000, dead: int = 10_000) -> None:
    database.execute(
        f"CREATE TABLE {name} (id int PRIMARY KEY, a text)",
        f"INSERT INTO {name} SELECT n, repeat('x', 100) FROM generate_series(1, {rows}) n",
        f"VACUUM ANALYZE {name}",
        f"DELETE FROM {name} WHERE id <= {dead}",
    )


def test_dead_rows_are_vacuumed_and_verified(database: Database) -> None:
    bloat(database)
    (proposal,) = due(database, Operation.VACUUM)
    assert proposal.object == "public.t"
    assert "10,000 dead rows" in proposal.reason
    _, work, evidence = perform(ENGINE, target(database), item_of(proposal))
    assert evidence.effective is Effective.YES
    assert (evidence.before["dead"], evidence.after["dead"]) == (10_000, 0)
    assert int(work.values["wal_bytes"] or 0) > 0
    assert due(database, Operation.VACUUM) == []


def test_changed_rows_are_analyzed(database: Database) -> None:
    bloat(database)
    (proposal,) = due(database, Operation.ANALYZE)
    _, _, evidence = perform(ENGINE, target(database), item_of(proposal))
    assert evidence.effective is Effective.YES
    assert evidence.after["modified"] == 0
    assert due(database, Operation.ANALYZE) == []
