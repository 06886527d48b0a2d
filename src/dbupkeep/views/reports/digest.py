"""What all runs of a period did together: given back, failed, put off, not started and why. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property

from msgspec import Struct

from dbupkeep.codec import rfc3339
from dbupkeep.documents import Document, job_document
from dbupkeep.jobs import Job, JobStatus, JobType
from dbupkeep.schedules import Missed
from dbupkeep.views.reports.entries import Entry, Reason, reasons, when


class DatabaseTotal(Struct, frozen=True, kw_only=True):
    """What a period gave back on one database."""

    name: str
    given_back: int
    operations: int
    seconds: float


class Digest(Struct, frozen=True, kw_only=True, dict=True):
    """The runs of a period, newest first, with all of their operations."""

    since: datetime
    until: datetime
    runs: Sequence[Job]
    entries: Sequence[Entry]
    missed: Sequence[tuple[str, Missed]] = ()  # jobs of the configuration whose due time was left out

    @cached_property
    def outcomes(self) -> Counter[str]:
        """How the runs ended; those that go on by their status."""
        return Counter(run.outcome or run.status.value for run in self.runs)

    @cached_property
    def given_back(self) -> int:
        """Bytes, of all operations together."""
        return sum(entry.gain for entry in self.entries)

    @cached_property
    def seconds(self) -> float:
        """How long all operations worked, together."""
        return sum(entry.seconds or 0.0 for entry in self.entries if entry.job.status is JobStatus.COMPLETED)

    @cached_property
    def databases(self) -> Sequence[DatabaseTotal]:
        """What was done on each database, those that gave back most first."""
        done: dict[str, list[Entry]] = {}
        for entry in self.entries:
            if entry.job.status is JobStatus.COMPLETED:
                done.setdefault(entry.job.target or entry.database, []).append(entry)
        totals = (
            DatabaseTotal(
                name=entries[0].database,
                given_back=sum(entry.gain for entry in entries),
                operations=len(entries),
                seconds=sum(entry.seconds or 0.0 for entry in entries),
            )
            for entries in done.values()
        )
        return sorted(totals, key=lambda total: -total.given_back)

    @cached_property
    def failed(self) -> Sequence[Entry]:
        """What failed and has not been done since, newest first."""
        return [entry for entry in self._last if entry.job.status is JobStatus.FAILED]

    @cached_property
    def deferred(self) -> Sequence[Entry]:
        """What was put off and has not been done since, what was put off most often first."""
        found = [entry for entry in self._last if entry.job.status is JobStatus.DEFERRED]
        return sorted(found, key=lambda entry: -entry.in_a_row)

    @cached_property
    def ineffective(self) -> Sequence[Entry]:
        """What was done and was of no use."""
        return [entry for entry in self.entries if entry.ineffective]

    @cached_property
    def not_done(self) -> Sequence[Reason]:
        """Why operations of the period were not done, each time counted."""
        ends = (JobStatus.FAILED, JobStatus.DEFERRED, JobStatus.CANCELLED)
        found = (entry for entry in self.entries if entry.job.status in ends or entry.job.withheld)
        return reasons((entry.why, f"{entry.database} {entry.operation}") for entry in found)

    @cached_property
    def _last(self) -> Sequence[Entry]:
        """Of each operation on each object the last that came of it, newest first."""
        last: dict[tuple[str, str], Entry] = {}
        for entry in sorted(self.entries, key=when, reverse=True):
            if entry.job.status.ended:
                last.setdefault((entry.job.target or entry.database, entry.operation), entry)
        return list(last.values())

    def document(self) -> Document:
        """As JSON."""
        return {
            "since": rfc3339(self.since),
            "until": rfc3339(self.until),
            "runs": [job_document(run) for run in self.runs],
            "outcomes": dict(self.outcomes),
            "given_back": self.given_back,
            "seconds": round(self.seconds, 3),
            "databases": [
                {
                    "name": each.name,
                    "given_back": each.given_back,
                    "operations": each.operations,
                    "seconds": each.seconds,
                }
                for each in self.databases
            ],
            "failed": [entry.document() for entry in self.failed],
            "deferred": [entry.document() for entry in self.deferred],
            "ineffective": [entry.document() for entry in self.ineffective],
            "not_done": [reason.document() for reason in self.not_done],
            "not_started": [
                {"job": name, "due": rfc3339(missed.due), "reason": missed.reason} for name, missed in self.missed
            ],
        }


def of_period(
    *, since: datetime, until: datetime, jobs: Iterable[Job], missed: Sequence[tuple[str, Missed]] = ()
) -> Digest:
    """The digest of all jobs that were made in a period, newest first, roots among them."""
    found = list(jobs)
    names = {job.id: job.name for job in found}
    operations = [job for job in found if job.type == JobType.DATABASE_MAINTENANCE_OPERATION]
    return Digest(
        since=since,
        until=until,
        runs=[job for job in found if job.is_root],
        entries=[Entry(job=job, database=names.get(job.parent_id, job.target)) for job in operations],
        missed=[(name, each) for name, each in missed if since <= each.at <= until],
    )
