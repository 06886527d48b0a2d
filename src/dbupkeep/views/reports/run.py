"""What one run did, and what it did not do and why. Pure: made of jobs and events that were read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

from msgspec import Struct

from dbupkeep.documents import Document, event_document, job_document, together
from dbupkeep.events import Recorded
from dbupkeep.jobs import Job, JobStatus, JobType, Phase
from dbupkeep.views.reports.entries import Entry, Reason, reasons

ChildrenOf = Callable[[str], Sequence[Job]]


class RunReport(Struct, frozen=True, kw_only=True, dict=True):
    """A run with all of its operations, in order."""

    root: Job
    entries: Sequence[Entry]
    discoveries: Sequence[Job]
    events: Sequence[Recorded]

    @cached_property
    def done(self) -> Sequence[Entry]:
        """What was done, in order."""
        return [entry for entry in self.entries if entry.job.status is JobStatus.COMPLETED]

    @cached_property
    def not_done(self) -> Sequence[Entry]:
        """What was due and was not done: failures first, then what was put off, longest first, then what was ended, then left out."""
        rank = {JobStatus.FAILED: 0, JobStatus.DEFERRED: 1, JobStatus.CANCELLED: 2, JobStatus.SKIPPED: 3}
        found = [
            entry
            for entry in self.entries
            if entry.job.withheld or (entry.job.status in rank and entry.job.status is not JobStatus.SKIPPED)
        ]
        return sorted(found, key=lambda entry: (rank[entry.job.status], -entry.in_a_row))

    @cached_property
    def unfinished(self) -> Sequence[Entry]:
        """What runs or waits, where the run has not ended."""
        return [entry for entry in self.entries if not entry.job.status.ended]

    @cached_property
    def not_needed(self) -> Sequence[Reason]:
        """What needed nothing, by its reason."""
        skipped = (entry for entry in self.entries if entry.job.status is JobStatus.SKIPPED and not entry.job.withheld)
        return reasons((entry.why, f"{entry.database} {entry.operation}") for entry in skipped)

    @cached_property
    def idle(self) -> int:
        """Databases that were looked at and needed nothing."""
        return sum(int(_values(job).get("idle") or 0) for job in self.discoveries)

    @cached_property
    def problems(self) -> Sequence[str]:
        """Places that could not be maintained, and why."""
        return [str(message) for job in self.discoveries for message in (job.result or {}).get("messages", ())]

    @cached_property
    def given_back(self) -> int:
        """Bytes, of all operations together."""
        return sum(entry.gain for entry in self.entries)

    @cached_property
    def predicted(self) -> int:
        """Bytes that were predicted to be given back by what was done."""
        return sum(int((entry.job.estimate or {}).get("gain_bytes") or 0) for entry in self.done)

    @cached_property
    def blocking(self) -> float | None:
        """Seconds for which others had to wait, of all operations together; None where no engine looked at that."""
        return together((entry.job.result or {}).get("blocking_seconds") for entry in self.entries)

    def document(self) -> Document:
        """As JSON."""
        return {
            "run": job_document(self.root),
            "given_back": self.given_back,
            "predicted": self.predicted,
            "blocking_seconds": self.blocking,
            "done": [entry.document() for entry in self.done],
            "not_done": [entry.document() for entry in self.not_done],
            "unfinished": [entry.document() for entry in self.unfinished],
            "not_needed": [reason.document() for reason in self.not_needed],
            "databases_in_need_of_nothing": self.idle,
            "not_maintainable": list(self.problems),
            "events": [event_document(each) for each in self.events],
        }


def of_run(root: Job, children_of: ChildrenOf, events: Iterable[Recorded]) -> RunReport:
    """The report of a job with all below it."""
    below = list(_below(root, root.name, children_of))
    return RunReport(
        root=root,
        entries=[
            Entry(job=job, database=name)
            for job, name in below
            if job.type != JobType.DATABASE_DISCOVERY or job.withheld
        ],
        discoveries=[job for job, _ in below if job.type == JobType.DATABASE_DISCOVERY],
        events=list(events),
    )


def _below(job: Job, name: str, children_of: ChildrenOf) -> Iterator[tuple[Job, str]]:
    """All that is executed below a job, in order, each with the name of its database."""
    if job.phase is Phase.EXECUTION:
        yield job, name
        return
    for child in children_of(job.id):
        yield from _below(child, job.name if child.phase is Phase.EXECUTION else child.name, children_of)


def _values(job: Job) -> dict[str, Any]:
    values: dict[str, Any] = (job.result or {}).get("values") or {}
    return values
