"""Everything that can happen to a job: past tense, frozen, to and from JSON. State is the fold of these.

Each class says when it occurs. `EVENTS` finds a class by the name that the ledger stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, ClassVar

from msgspec import NODEFAULT, Struct, field, structs

from dbupkeep.codec import from_json, to_json


class Event(Struct, frozen=True, kw_only=True):
    """The base of all events."""

    name: ClassVar[str] = ""

    def data(self) -> dict[str, Any]:
        """The event's own fields as JSON values, without what is empty and is so when it is not there."""
        own: Any = type(self)
        defaults = _defaults(own)
        return {name: value for name, value in to_json(self).items() if value or value != defaults.get(name, NODEFAULT)}


@cache
def _defaults(cls: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a class of events
    """What reading fills in, as JSON values."""
    made = {
        each.name: each.default if each.default_factory is NODEFAULT else each.default_factory()
        for each in structs.fields(cls)
    }
    return {name: to_json(value) for name, value in made.items() if value is not NODEFAULT}


class JobSubmitted(Event, frozen=True, kw_only=True):
    """A job was written, with its place and waits, in its parent's transaction."""

    name: ClassVar[str] = "job_submitted"


class JobStarted(Event, frozen=True, kw_only=True):
    """A worker began an attempt; the attempt is counted from here."""

    name: ClassVar[str] = "job_started"
    attempt: int
    worker: str = ""
    tag: str = ""  # the short mark of this attempt on the target server


class JobCompleted(Event, frozen=True, kw_only=True):
    """An operation ended and its effect was checked."""

    name: ClassVar[str] = "job_completed"
    result: Mapping[str, Any] = field(default_factory=dict)


class JobFailed(Event, frozen=True, kw_only=True):
    """An operation failed, or ran out of attempts (kind `poisoned`)."""

    name: ClassVar[str] = "job_failed"
    error: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)


class JobCancelled(Event, frozen=True, kw_only=True):
    """A job ended because someone asked for it."""

    name: ClassVar[str] = "job_cancelled"
    reason: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)


class JobSkipped(Event, frozen=True, kw_only=True):
    """An operation had nothing to do: not needed, redundant, or excluded."""

    name: ClassVar[str] = "job_skipped"
    reason: str
    result: Mapping[str, Any] = field(default_factory=dict)
    barred: bool = False  # its gate did not complete, so what it is a gate for does not start either


class JobDeferred(Event, frozen=True, kw_only=True):
    """An operation was due but something was in the way; it comes back with the next run.

    `in_a_row` counts the runs, this one included, that came to nothing else on the same object.
    """

    name: ClassVar[str] = "job_deferred"
    reason: str
    in_a_row: int = 1
    result: Mapping[str, Any] = field(default_factory=dict)


class DeferralRepeated(Event, frozen=True, kw_only=True):
    """An operation was deferred again, and so often in a row that people are told: from the third time on, each time."""

    name: ClassVar[str] = "deferral_repeated"
    in_a_row: int
    reason: str = ""


class AttemptLost(Event, frozen=True, kw_only=True):
    """The worker of an attempt went away; the job waits for another attempt."""

    name: ClassVar[str] = "attempt_lost"
    attempt: int
    reason: str = ""


class JobReturned(Event, frozen=True, kw_only=True):
    """A worker gave an attempt back unfinished, to be tried again.

    Not `counted` among the attempts that a job may have when its process was told to end.
    """

    name: ClassVar[str] = "job_returned"
    attempt: int
    reason: str = ""
    counted: bool = True


class JobRetried(Event, frozen=True, kw_only=True):
    """A person asked for another attempt at a job that had ended."""

    name: ClassVar[str] = "job_retried"
    by: str = ""


class CancelRequested(Event, frozen=True, kw_only=True):
    """A person asked that a job end; what runs is told, what waits does not start."""

    name: ClassVar[str] = "cancel_requested"
    by: str = ""


class StopRequested(Event, frozen=True, kw_only=True):
    """A person asked that a run end after what runs; what waits does not start."""

    name: ClassVar[str] = "stop_requested"
    by: str = ""


class LimitsChanged(Event, frozen=True, kw_only=True):
    """A run has these limits from now on: operations at a time (0: no limit of its own), and by when it is to end.

    The next operation that starts keeps to the first; what runs is stopped by the second.
    """

    name: ClassVar[str] = "limits_changed"
    at_a_time: int = 0
    until: datetime | None = None
    by: str = ""


class RunPaused(Event, frozen=True, kw_only=True):
    """Nothing new is started in a run; what runs goes on."""

    name: ClassVar[str] = "run_paused"
    by: str = ""


class RunResumed(Event, frozen=True, kw_only=True):
    """A paused run goes on."""

    name: ClassVar[str] = "run_resumed"
    by: str = ""


class ParentSettled(Event, frozen=True, kw_only=True):
    """The last child of a parent ended, and with it the parent."""

    name: ClassVar[str] = "parent_settled"
    status: str
    outcome: str
    reason: str = ""  # where nothing was done because a person left it out


class ParentReopened(Event, frozen=True, kw_only=True):
    """A child of a settled parent was retried."""

    name: ClassVar[str] = "parent_reopened"


class StageReached(Event, frozen=True, kw_only=True):
    """An operation went over to another stage of its work, or its engine said something worth keeping."""

    name: ClassVar[str] = "stage_reached"
    stage: str
    message: str = ""


NOTED = "noted"
"""The stage under which an attempt keeps what its recovery must know."""

STATEMENT = "statement"
"""The stage under which an engine keeps what it sends to the database, word for word."""

EVENTS: Mapping[str, type[Event]] = {cls.name: cls for cls in Event.__subclasses__()}


class Recorded(Struct, frozen=True, kw_only=True):
    """An event as the ledger keeps it."""

    seq: int
    at: datetime
    job_id: str
    parent_id: str
    correlation_id: str
    event: Event


def read(name: str, data: Mapping[str, Any]) -> Event:
    """Make an event of its stored name and data. Raises `KeyError` for a name that no version knew."""
    return from_json(EVENTS[name], data)
