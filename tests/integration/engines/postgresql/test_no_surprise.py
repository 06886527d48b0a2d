"""C18: whatever is asked for, nothing that keeps readers out is sent to the server unless somebody agreed to it by name."""

from __future__ import annotations

import re

import pytest

from dbupkeep.definitions import Policy
from dbupkeep.operations import Operation
from dbupkeep.testing.engine_suite import item_of
from tests.plugins.postgresql_bench import Workbench

pytestmark = pytest.mark.engine("postgresql")

KEEPS_READERS_OUT = re.compile(
    r"VACUUM\s*\([^)]*\bFULL\b|VACUUM\s+FULL|\bCLUSTER\b|\bLOCK\s+TABLE|^(?:/\*.*?\*/)?\s*TRUNCATE\b|\bTRUNCATE\s+(?:TRUE|ON|1)\b|\bALTER\s+TABLE|\bDROP\s+TABLE"
    r"|REINDEX\s*(?:\([^)]*\))?\s*(?:TABLE|INDEX|SCHEMA|DATABASE)\s+(?!CONCURRENTLY)|DROP\s+INDEX\s+(?!CONCURRENTLY)",
    re.IGNORECASE,
)


def bloated(bench: Workbench) -> None:
    bench.database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text)",
        "CREATE INDEX t_a ON t (a)",
        "INSERT INTO t SELECT n, repeat('x', 200) || n FROM generate_series(1, 20000) n",
        "DELETE FROM t WHERE id % 10 < 7",
    )


def sent(bench: Workbench, before: int) -> list[str]:
    """What the server was asked to execute since then; statements of one line each."""
    return re.findall(r"(?:statement|execute [^:]*): (.*)", bench.database.server.log[before:])


def test_the_pattern_knows_what_it_looks_for() -> None:
    for text in ("VACUUM (FULL, VERBOSE) t", "vacuum full t", "CLUSTER t", "LOCK TABLE t", "REINDEX INDEX t_a",
                 "REINDEX (VERBOSE) TABLE t", "DROP INDEX public.t_a", "ALTER TABLE t SET (x = 1)",
                 "/* dbupkeep */ TRUNCATE t", "VACUUM (TRUNCATE TRUE) t"):  # fmt: skip
        assert KEEPS_READERS_OUT.search(text), text
    for text in ("VACUUM (VERBOSE) t", "/* dbupkeep */ VACUUM (TRUNCATE FALSE) t", "REINDEX INDEX CONCURRENTLY t_a", "REINDEX (VERBOSE) INDEX CONCURRENTLY t_a",
                 "DROP INDEX CONCURRENTLY t_a", "ANALYZE t"):  # fmt: skip
        assert not KEEPS_READERS_OUT.search(text), text


@pytest.mark.parametrize("force", [False, True])
def test_nothing_keeps_readers_out_unasked(newest: Workbench, force: bool) -> None:
    bloated(newest)
    before = len(newest.database.server.log)
    done = 0
    for operation in Operation:
        for proposal in newest.due(operation, policy=Policy(force=force)):
            assert "from beginning to end" not in proposal.locks
            newest.perform(item_of(proposal))
            done += 1
    assert done >= 2
    statements = sent(newest, before)
    assert any("VACUUM" in statement for statement in statements), "the log is not where it is looked for"
    assert [statement for statement in statements if KEEPS_READERS_OUT.search(statement)] == []


def test_it_is_sent_when_somebody_agreed(newest: Workbench) -> None:
    bloated(newest)
    before = len(newest.database.server.log)
    policy = Policy(thresholds={"optimize": {"min_bytes": 1024}}, consents=frozenset({"exclusive_lock"}), force=True)
    due = newest.due(Operation.OPTIMIZE, policy=policy)
    newest.perform(item_of(due[0]))
    assert [statement for statement in sent(newest, before) if KEEPS_READERS_OUT.search(statement)]
