"""A session: one connection to one file, for one job at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from msgspec.structs import replace

from dbupkeep.definitions import Target
from dbupkeep.engine import Evidence, Leftover, Purpose, Report, Scope, Statements, Stop, Work
from dbupkeep.engines.sqlite import analyze, check, leftovers, optimize, reindex, rewrite, vacuum
from dbupkeep.engines.sqlite.handle import Handle, View
from dbupkeep.engines.sqlite.openers import openers_of
from dbupkeep.engines.sqlite.paths import path_of
from dbupkeep.engines.sqlite.survey import look
from dbupkeep.engines.sqlite.waits import Waits
from dbupkeep.errors import Busy, Interrupted, Kind, Refused, UpkeepError
from dbupkeep.facts import DatabaseFacts
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem


class Performer(Protocol):
    """What the module of an operation offers."""

    def run(self, handle: Handle, item: PlanItem, report: Report, tag: str) -> Work:
        """Do it."""
        ...

    def verify(self, handle: Handle, item: PlanItem, work: Work) -> Evidence:
        """Look at what it did."""
        ...


_MODULES: Mapping[Operation, ModuleType] = {
    Operation.CHECK: check,
    Operation.VACUUM: vacuum,
    Operation.REINDEX: reindex,
    Operation.OPTIMIZE: optimize,
    Operation.ANALYZE: analyze,
}
PERFORMERS = cast("Mapping[Operation, Performer]", _MODULES)


class SqliteSession:
    """Fulfils `dbupkeep.engine.Session`."""

    def __init__(self, target: Target, *, tag: str = "", purpose: Purpose = Purpose.WORK) -> None:
        """Open the file of a target. Raises a `TargetError`; never creates one."""
        self.target = target
        self.tag = tag
        self.given = target.labels.get("given", "")
        path = path_of(target.url)
        real = Path(os.path.realpath(path))  # of a loop of links it makes something, and `examine` refuses that
        if real != path.absolute():
            self.given = self.given or str(path)
        self._refused: Refused | None = None  # what all but a check is, where the file cannot be written
        try:
            self.handle = Handle(real, View.WORK if purpose is Purpose.WORK else View.READ)
        except Refused as error:
            if error.kind is not Kind.READ_ONLY:
                raise
            self._refused = error
            self.handle = Handle(real, View.READ)

    def survey(self, scope: Scope) -> DatabaseFacts:
        """Read what a plan needs to know."""
        try:
            self.handle, facts = look(self.handle, scope, target=self.target.url, given=self.given)
        except Busy as error:
            raise self._named(error).at(stage="surveying") from error
        return facts

    def run(self, item: PlanItem, report: Report) -> Work:
        """Do the item. A check is done on a file that cannot be written too; nothing else is."""
        if self._refused is not None and item.operation is not Operation.CHECK:
            raise self._refused
        self.handle.check_same(item)
        self.handle.tell = Statements(report)
        try:
            with self.handle.one_item(), self._undisturbed():
                work = PERFORMERS[item.operation].run(self.handle, item, Waits(report, self.handle), self.tag)
                return replace(work, values={**work.values, "lock_wait_seconds": round(self.handle.waited, 3)})
        except Busy as error:
            named = self._named(error)
            named.waited = self.handle.waited
            raise named.at(operation=item.operation, object=item.object) from error
        finally:
            self.handle.tell = None
            report.follow(None)

    def interrupt(self) -> Stop:
        """Ask the running item to end."""
        return self.handle.interrupt()

    def verify(self, item: PlanItem, work: Work) -> Evidence:
        """Look at the database and say what the work achieved."""
        with self.handle.one_item():
            return PERFORMERS[item.operation].verify(self.handle, item, work)

    def recover(self, item: PlanItem, tag: str, notes: Sequence[str] = ()) -> Evidence | None:
        """Clean up after a lost attempt; opening the file has rolled its transaction back already."""
        if self._refused is not None:  # it could not write either
            return None
        renewed = rewrite.mend(self.handle, item, tag, notes)
        found = leftovers.recover(self.handle, item, tag, done=renewed is not None)
        return replace(found, values={**found.values, **renewed}) if found and renewed else found

    def leftovers(self) -> Sequence[Leftover]:
        """What cut-off operations left beside the file."""
        return leftovers.beside(self.handle.place)

    def clean(self, leftover: Leftover) -> None:
        """Remove one that is ours."""
        leftovers.clean(self.handle.place, leftover)

    def close(self) -> None:
        """End the session; safe to repeat."""
        self.handle.close()

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Raise `Busy` in place of what was read without a lock while somebody else opened the file, or wrote to it."""
        fault: UpkeepError | None = None
        try:
            yield
        except UpkeepError as error:
            fault = error
        if self.handle.view.quiet and not isinstance(fault, Interrupted) and not self.handle.is_still():
            raise Busy(
                f"{self.handle.path} was opened by another program while it was read",
                why="nobody had it open before, and it cannot be locked by who may not write beside it",
                hint="try again when that program is either running or stopped",
            ) from fault
        if fault is not None:
            raise fault

    def _named(self, error: Busy) -> Busy:
        """The same error, with who is known to be in the way."""
        openers = openers_of(self.handle.place, self.handle.connection)
        if not openers or str(openers) in error.why:
            return error
        return Busy(error.what, why=f"{error.why}; the file is open in {openers}", hint=error.hint)
