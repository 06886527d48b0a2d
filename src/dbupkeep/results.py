"""What the end of an operation says in numbers: how it ended, what it took, what it gave back. Pure.

All is read from the event that ended it; of the job only what never changes, since it may have been retried meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from dbupkeep.events import JobCancelled, JobCompleted, JobDeferred, JobFailed, JobSkipped, Recorded
from dbupkeep.jobs import Effective, Job, JobStatus, JobType

ENDINGS: Mapping[str, JobStatus] = {
    JobCompleted.name: JobStatus.COMPLETED,
    JobFailed.name: JobStatus.FAILED,
    JobCancelled.name: JobStatus.CANCELLED,
    JobSkipped.name: JobStatus.SKIPPED,
    JobDeferred.name: JobStatus.DEFERRED,
}
"""The events that end an operation, and what it is then."""


class Reckoned(Struct, frozen=True, kw_only=True):
    """One ended operation. Sizes are bytes, times are seconds."""

    engine: str
    operation: str
    status: JobStatus
    effective: str  # empty where nothing was done
    seconds: float | None  # None: it never ran
    given_back: int  # never negative: growth is no negative gain
    lock_wait: float | None  # of the operation itself; None where its engine does not say
    blocking: float | None  # for how long others had to wait for it; None where its engine does not look at that
    overrun: float  # how long it went on after its time was over
    in_a_row: int  # of a deferred one: runs in a row that put it off
    error_kind: str

    @property
    def ineffective(self) -> bool:
        """Whether it completed without its effect."""
        return self.status is JobStatus.COMPLETED and self.effective == Effective.NO


def ends_operation(recorded: Recorded, job: Job) -> bool:
    """Whether the event ended an operation on a database."""
    return recorded.event.name in ENDINGS and job.type == JobType.DATABASE_MAINTENANCE_OPERATION


def reckon(recorded: Recorded, job: Job) -> Reckoned:
    """The numbers of an event that ended an operation."""
    event = recorded.event
    result: Mapping[str, Any] = getattr(event, "result", {})
    error: Mapping[str, Any] = getattr(event, "error", {})
    values = {**result, **(result.get("values") or {})}
    return Reckoned(
        engine=engine_of(job.target),
        operation=str(job.config.get("operation", "")),
        status=ENDINGS[event.name],
        effective=str(result.get("effective", "")),
        seconds=_seconds(recorded, job, result),
        given_back=max(0, gain_of(result)),
        lock_wait=_number(values, "lock_wait_seconds"),
        blocking=_number(result, "blocking_seconds"),
        overrun=_number(result, "overrun_seconds") or 0.0,
        in_a_row=event.in_a_row if isinstance(event, JobDeferred) else 0,
        error_kind=str(error.get("kind", "")),
    )


def engine_of(target: str) -> str:
    """The product of a target, as the scheme of its key names it."""
    return target.partition(":")[0].lower()


def gain_of(result: Mapping[str, Any] | None) -> int:
    """Bytes that an operation gave back, by its evidence; below 0 where the database grew."""
    before, after = (_number((result or {}).get(side) or {}, "bytes") for side in ("before", "after"))
    return int(before - after) if before is not None and after is not None else 0


def _seconds(recorded: Recorded, job: Job, result: Mapping[str, Any]) -> float | None:
    """By its own word, else from the start of its last attempt, as far as that is still known."""
    said = _number(result, "seconds")
    if said is not None or job.started_at is None:
        return said
    since = (recorded.at - job.started_at).total_seconds()
    return since if since >= 0 else None


def _number(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
