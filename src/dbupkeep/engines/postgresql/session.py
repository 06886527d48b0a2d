"""A session: one connection to one database, for one job at a time."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from dbupkeep.definitions import Target
from dbupkeep.engine import Evidence, Leftover, Purpose, Report, Statements, Stop, Work
from dbupkeep.engines.postgresql.handle import Handle
from dbupkeep.engines.postgresql.performers import performer
from dbupkeep.plans import PlanItem


class PostgresqlSession:
    """Fulfils `dbupkeep.engine.LastingSession`."""

    def __init__(self, target: Target, *, tag: str = "", purpose: Purpose = Purpose.WORK) -> None:
        """Connect. Raises a `TargetError` or a `UsageError`."""
        self.handle = Handle(target, tag=tag, purpose=purpose)

    def renew(self, tag: str) -> bool:
        """Begin anew under another mark; False when the connection is not what it was."""
        return self.handle.renew(tag)

    def run(self, item: PlanItem, report: Report) -> Work:
        """Do the item."""
        self.handle.tell = Statements(report)
        try:
            with self.handle.one_item():
                work = performer(item.operation).run(self.handle, item, report)
                return replace(work, blocking_seconds=0.0)  # what was seen was reported, and goes before this
        finally:
            self.handle.tell = None
            report.follow(None)

    def interrupt(self) -> Stop:
        """Ask the running item to end."""
        return self.handle.interrupt()

    def verify(self, item: PlanItem, work: Work) -> Evidence:
        """Look at the database and say what the work achieved."""
        return performer(item.operation).verify(self.handle, item, work)

    def recover(self, item: PlanItem, tag: str, notes: Sequence[str] = ()) -> Evidence | None:
        """Find what a lost attempt left running or behind."""
        from dbupkeep.engines.postgresql import leftovers

        return leftovers.recover(self.handle, item, tag, notes)

    def leftovers(self) -> Sequence[Leftover]:
        """What cut-off operations left."""
        from dbupkeep.engines.postgresql import leftovers

        return leftovers.find(self.handle)

    def clean(self, leftover: Leftover) -> None:
        """Remove one that is ours."""
        from dbupkeep.engines.postgresql import leftovers

        leftovers.clean(self.handle, leftover)

    def close(self) -> None:
        """End the session; safe to repeat."""
        self.handle.close()
