"""A session: one connection to one database, for one job at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Protocol, cast

from dbupkeep.definitions import Target
from dbupkeep.engine import Evidence, Leftover, Purpose, Report, Scope, Stop, Work
from dbupkeep.engines.postgresql import analyze, check, leftovers, reindex, rewrite, survey, vacuum
from dbupkeep.engines.postgresql.handle import Handle
from dbupkeep.facts import DatabaseFacts
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem


class Performer(Protocol):
    """What the module of an operation offers."""

    def run(self, handle: Handle, item: PlanItem, report: Report) -> Work:
        """Do it."""
        ...

    def verify(self, handle: Handle, item: PlanItem, work: Work) -> Evidence:
        """Look at what it did."""
        ...


_MODULES: Mapping[Operation, ModuleType] = {
    Operation.VACUUM: vacuum,
    Operation.ANALYZE: analyze,
    Operation.REINDEX: reindex,
    Operation.CHECK: check,
    Operation.OPTIMIZE: rewrite,
}
PERFORMERS = cast("Mapping[Operation, Performer]", _MODULES)


class PostgresqlSession:
    """Fulfils `dbupkeep.engine.Session`."""

    def __init__(self, target: Target, *, tag: str = "", purpose: Purpose = Purpose.WORK) -> None:
        """Connect. Raises a `TargetError` or a `UsageError`."""
        self.handle = Handle(target, tag=tag, purpose=purpose)

    def survey(self, scope: Scope) -> DatabaseFacts:
        """Read what a plan needs to know."""
        return survey.look(self.handle, scope)

    def run(self, item: PlanItem, report: Report) -> Work:
        """Do the item."""
        try:
            with self.handle.one_item():
                return PERFORMERS[item.operation].run(self.handle, item, report)
        finally:
            report.follow(None)

    def interrupt(self) -> Stop:
        """Ask the running item to end."""
        return self.handle.interrupt()

    def verify(self, item: PlanItem, work: Work) -> Evidence:
        """Look at the database and say what the work achieved."""
        return PERFORMERS[item.operation].verify(self.handle, item, work)

    def recover(self, item: PlanItem, tag: str, notes: Sequence[str] = ()) -> Evidence | None:
        """Find what a lost attempt left running or behind."""
        return leftovers.recover(self.handle, item, tag, notes)

    def leftovers(self) -> Sequence[Leftover]:
        """What cut-off operations left."""
        return leftovers.find(self.handle)

    def clean(self, leftover: Leftover) -> None:
        """Remove one that is ours."""
        leftovers.clean(self.handle, leftover)

    def close(self) -> None:
        """End the session; safe to repeat."""
        self.handle.close()
