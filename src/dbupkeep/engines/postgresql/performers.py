"""The module of each operation, loaded when it is asked for: who vacuums need not wait for what rewrites tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from dbupkeep.operations import Operation

if TYPE_CHECKING:
    from dbupkeep.engine import Evidence, Report, Work
    from dbupkeep.engines.postgresql.handle import Handle
    from dbupkeep.engines.postgresql.inquiry import Inquiry
    from dbupkeep.plans import PlanItem, Proposal


class Performer(Protocol):
    """What the module of an operation offers."""

    def propose(self, q: Inquiry) -> Sequence[Proposal]:
        """Decide what of it is due."""
        ...

    def run(self, handle: Handle, item: PlanItem, report: Report) -> Work:
        """Do it."""
        ...

    def verify(self, handle: Handle, item: PlanItem, work: Work) -> Evidence:
        """Look at what it did."""
        ...


PERFORMERS: Mapping[Operation, tuple[str, str]] = {
    Operation.VACUUM: (
        "vacuum",
        "VACUUM per table, at half of autovacuum's thresholds and half of the freeze limit; small tables in groups",
    ),
    Operation.ANALYZE: (
        "analyze",
        "ANALYZE per table, at half of autovacuum's threshold or without statistics; partitioned tables too",
    ),
    Operation.REINDEX: (
        "reindex",
        "REINDEX CONCURRENTLY per index: invalid ones first, then those that lose 30 % and have 64 MiB; small ones in groups",
    ),
    Operation.CHECK: (
        "check",
        "amcheck's bt_index_check of every B-tree; with method = heapallindexed every row is looked up too",
    ),
    Operation.OPTIMIZE: (
        "rewrite",
        "an online rewrite of bloated tables: REPACK (CONCURRENTLY) from 19 on, else pg_repack; VACUUM FULL by consent",
    ),
}
"""What this engine can do: each operation with the module that has it and a sentence on how."""


def performer(operation: Operation) -> Performer:
    """The module of an operation."""
    return cast("Performer", import_module(f"{__package__}.{PERFORMERS[operation][0]}"))
