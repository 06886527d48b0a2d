"""Looks whether anything of a job is due, beside the loop that asks: in a thread each, at most one for a job."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from dbupkeep.clock import Clock
from dbupkeep.definitions import JobDefinition, Step
from dbupkeep.errors import UpkeepError
from dbupkeep.plans import RunPlan
from dbupkeep.schedules import Looked

log = logging.getLogger(__name__)

MOST = 4
"""Looks at a time, whatever the number of jobs; the others wait for their turn."""

TOLD = 5
"""Faults of a look that are kept; of the others only how many there are."""


class Planner(Protocol):
    """What a look needs of the manager of runs."""

    def plan(self, step: Step, definition: JobDefinition) -> RunPlan:
        """Survey all databases of a step and decide; writes nothing."""
        ...


def look(planner: Planner, clock: Clock, definition: JobDefinition) -> Looked:
    """Survey and plan as `plan` does. What cannot be looked at is a fault in the answer, not an error."""
    due = databases = 0
    faults: list[str] = []
    for step in definition.steps:
        try:
            planned = planner.plan(step, definition)
        except UpkeepError as error:
            faults.append(error.message)
            continue
        due += sum(len(plan.due) for plan in planned.plans)
        databases += len(planned.plans) + planned.idle
        faults += [problem.message for problem in planned.problems if problem.severity == "error"]
    return Looked(at=clock.now(), due=due, databases=databases, faults=_told(faults))


class _Look(Struct, eq=False):
    """One that was begun."""

    definition: JobDefinition
    due: datetime
    ended: bool = False
    found: Looked | None = None


class Looks:
    """The looks that were asked for. Used by one thread; those that look are its own.

    An answer is given to the question that it was begun for and to no other: once the definition or the due time has
    changed, it is dropped. The threads hold up no end of the process.
    """

    def __init__(self, look: Callable[[JobDefinition], Looked], clock: Clock) -> None:
        """`look` is called in threads of their own."""
        self._look = look
        self._clock = clock
        self._looks: dict[str, _Look] = {}

    def ask(self, definition: JobDefinition, due: datetime) -> Looked | None:
        """What the look for this due time found; None while it goes on, or waits for others to end."""
        known = self._looks.get(definition.name)
        if known is not None:
            if not known.ended:
                return None
            del self._looks[definition.name]
            if known.found is not None and known.definition == definition and known.due == due:
                return known.found
        if sum(not each.ended for each in self._looks.values()) < MOST:
            self._begin(_Look(definition, due))
        return None

    def _begin(self, begun: _Look) -> None:
        self._looks[begun.definition.name] = begun
        threading.Thread(target=self._carry_out, args=(begun,), name="dbupkeep-look", daemon=True).start()

    def _carry_out(self, begun: _Look) -> None:
        try:
            begun.found = self._look(begun.definition)
        except Exception:  # a fault of ours, said as any other: it looks again in its time
            log.exception("a look ended by an error", extra={"name_of_job": begun.definition.name})
            begun.found = Looked(at=self._clock.now(), faults=("the look ended by an error, which is in the log",))
        finally:
            begun.ended = True


def _told(faults: list[str]) -> tuple[str, ...]:
    different = list(dict.fromkeys(faults))
    more = len(different) - TOLD
    return (*different[:TOLD], *([f"and {more} more"] if more > 0 else []))
