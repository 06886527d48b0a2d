"""Beside a real autovacuum: an ordinary one gives way to us, and we to one that prevents wraparound."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbupkeep.definitions import Policy
from dbupkeep.errors import Busy
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision
from tests.plugins.postgresql import NEWEST, Database, Server, start
from tests.plugins.postgresql_bench import Workbench, until

pytestmark = pytest.mark.engine("postgresql")

VACUUM = Operation.VACUUM
SLOWLY = "ALTER TABLE t SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 10)"
BURN = """DO $$ BEGIN FOR i IN 1..115000 LOOP
    BEGIN INSERT INTO burnt VALUES (1); EXCEPTION WHEN OTHERS THEN NULL; END;
END LOOP; END $$"""


@pytest.fixture(scope="module")
def server_that_vacuums() -> Iterator[Server]:
    """One whose autovacuum is on, and looks each second."""
    own = start(NEWEST, autovacuum="on", autovacuum_naptime="1s", autovacuum_freeze_max_age=100_000)
    yield own
    own.remove()


@pytest.fixture
def beside(server_that_vacuums: Server) -> Iterator[Workbench]:
    database = server_that_vacuums.create()
    yield Workbench(database=database)
    database.drop()


def workers(database: Database, table: str) -> list[int]:
    found = database.query(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND query LIKE %s",
        f"autovacuum: VACUUM%.{table}%",
    )
    return [pid for (pid,) in found]


def test_an_ordinary_autovacuum_gives_way(beside: Workbench) -> None:
    beside.bloat(rows=100_000, dead=50_000)
    beside.database.execute(SLOWLY)
    item = beside.item(VACUUM, table="t")
    until(lambda: workers(beside.database, "t"))
    work, evidence = beside.perform(item)
    assert evidence.effective is Effective.YES
    assert work.seconds < 5, "the server's deadlock_timeout, and not as long as that autovacuum would take"


def test_one_that_prevents_wraparound_is_left_to_it(beside: Workbench) -> None:
    beside.bloat(rows=100_000, dead=50_000)
    beside.database.execute(SLOWLY, "ALTER TABLE t SET (autovacuum_enabled = off)", "CREATE TABLE burnt (a int)")
    before = beside.item(VACUUM, table="t", policy=Policy(thresholds={"vacuum": {"lock_wait": 1.5}}))
    beside.database.execute(BURN)
    until(lambda: workers(beside.database, "t%wraparound"))
    (worker,) = workers(beside.database, "t%wraparound")
    (planned,) = [each for each in beside.plan(VACUUM, table="t") if each.object == "public.t"]
    assert planned.decision is Decision.DEFER
    assert f"autovacuum to prevent wraparound (pid {worker}) is on it" in planned.reason
    with pytest.raises(Busy) as raised:
        beside.perform(before)
    assert f"pid {worker}" in raised.value.message
    assert workers(beside.database, "t%wraparound") == [worker], "nobody disturbed it"
