"""What was not done, and why: of each job's newest run what failed, was deferred, or was done to no effect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

from msgspec import Struct

from dbupkeep.jobs import WORK, Job, JobStatus
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.lifecycle import RETRIABLE
from dbupkeep.views.reports.entries import Entry

LOOKED_AT = 2000
"""Completed operations of one run that are asked whether they had an effect."""

SHOWN = 200
"""Operations of one run that are told."""


class Sort(StrEnum):
    """What is wrong, the worst first."""

    FAILED = "failed"
    OFTEN = "deferred three runs in a row or more"
    DEFERRED = "deferred"
    INEFFECTIVE = "no effect"


RANK = {sort: rank for rank, sort in enumerate(Sort)}


class Trouble(Struct, frozen=True, kw_only=True):
    """One operation that a person should know of."""

    entry: Entry
    run: Job
    sort: Sort

    @property
    def said(self) -> str:
        """What is wrong, in words."""
        return f"deferred {self.entry.in_a_row} runs in a row" if self.sort is Sort.OFTEN else self.sort.value

    @property
    def is_new_attempt_possible(self) -> bool:
        """Whether a retry is something to offer."""
        return self.entry.job.status in RETRIABLE


def newest_of_each(runs: Iterable[Job]) -> Sequence[Job]:
    """Of runs, newest first, the first one of each name: what an older one left undone, the next one dealt with."""
    found: dict[str, Job] = {}
    for run in runs:
        found.setdefault(run.name, run)
    return list(found.values())


def troubles(reader: Reader, runs: Iterable[Job]) -> Sequence[Trouble]:
    """What to tell of some runs, the newest first; the worst first, and what several left undone once."""
    found: dict[tuple[str, str], Trouble] = {}
    for run in runs:
        for each in _of_run(reader, run):
            found.setdefault((each.entry.job.target, each.entry.operation), each)
    return sorted(found.values(), key=lambda each: (RANK[each.sort], -each.entry.in_a_row))


def sort_of(job: Job) -> Sort | None:
    """What is wrong with an ended operation, if something is."""
    if job.status is JobStatus.FAILED:
        return Sort.FAILED
    if job.status is JobStatus.DEFERRED:
        return Sort.OFTEN if job.often else Sort.DEFERRED
    return Sort.INEFFECTIVE if job.ineffective else None


def _of_run(reader: Reader, run: Job) -> Iterator[Trouble]:
    stats = run.stats
    wanted = [JobStatus.FAILED] * bool(stats.failed or stats.running) + [JobStatus.DEFERRED] * bool(
        stats.deferred or stats.running
    )
    jobs = list(_jobs(reader, run, wanted, SHOWN)) if wanted else []
    if stats.ineffective:
        jobs += [job for job in _jobs(reader, run, [JobStatus.COMPLETED], LOOKED_AT) if job.ineffective]
    names: dict[str, str] = {run.id: run.name}
    for job in jobs:
        sort = sort_of(job)
        if sort is None:
            continue
        if job.parent_id not in names:
            parent = reader.job(job.parent_id)
            names[job.parent_id] = parent.name if parent else ""
        yield Trouble(entry=Entry(job=job, database=names[job.parent_id]), run=run, sort=sort)


def _jobs(reader: Reader, run: Job, statuses: Sequence[JobStatus], limit: int) -> Sequence[Job]:
    query = JobQuery(correlation_id=run.id, statuses=tuple(statuses), types=WORK, newest_first=False)
    return reader.jobs(query, limit=limit).jobs
