"""Who waits for us, and for how long: counted while we work, kept for the run, and bounded by its budget.

A second in which at least one session waits for a lock that we hold, or queues behind one that we want, is a second that
the run costs others, however many wait. Our own sessions and autovacuum, which gives way by itself, do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

from msgspec import Struct

from dbupkeep.engine import Report
from dbupkeep.engines.postgresql import needs, words
from dbupkeep.errors import Busy
from dbupkeep.facts import Value
from dbupkeep.plans import PlanItem

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

BUDGET = "blocking_budget"
"""The option of an item that has the run's budget, in seconds; 0 is for nobody at all."""

CLOSELY = 0.1
"""Seconds between looks at who waits, while we want or hold a lock that keeps readers or writers out."""


class Toll(Struct):
    """What others have paid so far. Pure but for `look`."""

    seconds: float = 0.0  # in which at least one waited
    longest: float = 0.0  # that one session waited
    sessions: int = 0  # that waited at a time, at most
    _until: float | None = None  # the moment up to which the wait that goes on is counted

    def look(self, handle: Handle, pid: int, tag: str) -> bool:
        """Look from some connection who waits for a session, or for those of a mark; whether anybody does."""
        rows = handle.rows("held_up", {"pid": pid, "tag": tag})
        return self.count([row["seconds"] for row in rows], perf_counter())

    def count(self, waits: Sequence[float | None], now: float) -> bool:
        """Take in how long each has waited at a moment; unknown (before 14): since the last look. Whether anybody does."""
        if not waits:
            self._until = None
            return False
        since = now - max(wait or 0.0 for wait in waits)
        self.seconds += now - (since if self._until is None else min(self._until, now))
        self._until = now
        self.longest = max(self.longest, now - since)
        self.sessions = max(self.sessions, len(waits))
        return True

    def end(self, now: float) -> bool:
        """The lock is given back: who waited at the last look waited until now. Whether anybody did."""
        if self._until is None:
            return False
        self.seconds += max(0.0, now - self._until)
        self._until = None
        return True

    def values(self) -> dict[str, Value]:
        """As evidence; nothing where nobody waited."""
        if not self.seconds:
            return {}
        return {"longest_blocking_seconds": round(self.longest, 3), "blocked_sessions": self.sessions}


def said(budget: float) -> str:
    """What a plan tells of what could hold others up."""
    return f"; stopped when others have waited for the run for {words.duration(budget)} in all"


def admit(item: PlanItem, report: Report, what: str) -> None:
    """Raise `Busy` where the run has cost others its budget already, so that nothing is begun that could cost more."""
    if BUDGET not in item.options:
        return
    spent, budget = report.blocking(0.0), needs.number(item.options, BUDGET)
    if spent >= budget:
        raise Busy(f"{what} is not begun: it could hold others up", why=_spent(spent, budget), hint=_HINT)


def over(item: PlanItem, report: Report, seconds: float) -> Busy | None:
    """Keep what an item has cost others by now; the error to stop it with, where the run's budget is used up."""
    spent = report.blocking(seconds)
    if item.options.get("aggressive"):  # due by age: the server would force it, and give way to nobody
        return None
    if BUDGET not in item.options or spent <= (budget := needs.number(item.options, BUDGET)):
        return None
    what = f"{item.object or item.operation.value} was stopped: others wait for it"
    return Busy(what, why=_spent(spent, budget), hint=_HINT)


_HINT = "it comes back with the next run; run it in a quieter hour, or raise the policy's `blocking_budget`"


def _spent(spent: float, budget: float) -> str:
    return f"others had to wait for this run for {words.duration(spent)}, and its budget is {words.duration(budget)}"
