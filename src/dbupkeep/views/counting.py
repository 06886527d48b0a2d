"""What is counted of a run: its databases, and not the surveys that found them; at work are those of which something runs."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from dbupkeep.jobs import ChildStats, Job, JobStatus, JobType, count
from dbupkeep.ledger import JobQuery, Reader

LOOKED_AT = 1000
"""Surveys of a run, and operations of it that run; more than there are."""


def of_databases(reader: Reader, run: Job) -> Job:
    """The run, its children counted as people count them; what is no run over databases is given back as it is."""
    if run.type != JobType.MAINTENANCE_RUN:
        return run
    surveys = JobQuery(parent_id=run.id, types=(JobType.DATABASE_DISCOVERY.value,))
    stats = without(run.stats, reader.jobs(surveys, limit=LOOKED_AT).jobs)
    if stats.running:
        work = (JobType.DATABASE_MAINTENANCE_OPERATION.value,)
        running = JobQuery(correlation_id=run.correlation_id, statuses=(JobStatus.RUNNING,), types=work)
        at_work = len({job.parent_id for job in reader.jobs(running, limit=LOOKED_AT).jobs})
        stats = replace(stats, running=at_work, pending=max(0, stats.unended - at_work))
    return replace(run, stats=stats)


def without(stats: ChildStats, jobs: Sequence[Job]) -> ChildStats:
    """The numbers of children by status, but for these."""
    less = count(jobs)
    kept = {status.value: max(0, getattr(stats, status.value) - getattr(less, status.value)) for status in JobStatus}
    return replace(stats, **kept)
