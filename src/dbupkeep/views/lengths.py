"""How long work took: while at least one operation was at it, without what lay between them, as pauses and waits do."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import cast

from dbupkeep.jobs import WORK, Job, JobStatus, JobType, Phase
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.views import words

MOST = 5000
"""Operations of a run up to which they are looked at; of a bigger one, the clock on the wall is taken."""

KEPT = 2000
"""Ended runs that need not be looked at anew."""


def worked(operations: Iterable[Job]) -> float | None:
    """Seconds during which at least one of these was at work in its last attempt; None when none ever began."""
    began = [job for job in operations if job.phase is Phase.EXECUTION and job.status is not JobStatus.SKIPPED]
    spans = sorted((job.started_at, job.finished_at) for job in began if job.started_at and job.finished_at)
    total, until = 0.0, None
    for begins, ends in spans:
        if until is None or ends > until:
            total += (ends - max(begins, until or begins)).total_seconds()
            until = ends
    return total if spans else None


def took(job: Job, below: Sequence[Job] | None = None) -> str:
    """How long an ended job took; of a database, with what is `below` it, the time that operations of it were at work.

    Empty for one that did nothing.
    """
    if job.started_at is None or job.finished_at is None or job.status is JobStatus.SKIPPED:
        return ""
    if below is not None and job.type == JobType.DATABASE_MAINTENANCE_PARENT:
        seconds = worked(below)
        return "" if seconds is None else words.duration(seconds)
    return words.duration((job.finished_at - job.started_at).total_seconds())


def run_worked(reader: Reader, run: Job) -> float | None:
    """Seconds during which operations of an ended run were at work."""
    if run.started_at is None or run.finished_at is None:
        return None
    wall = (run.finished_at - run.started_at).total_seconds()
    found = _worked(cast("Hashable", reader), run.correlation_id, run.finished_at)
    return wall if found is None else found


@lru_cache(maxsize=KEPT)
def _worked(reader: Reader, correlation_id: str, _finished_at: datetime) -> float | None:
    page = reader.jobs(JobQuery(correlation_id=correlation_id, types=WORK), limit=MOST)
    return None if page.cursor else worked(page.jobs)
