"""What is counted of a run: databases, and not the surveys that found them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from msgspec.structs import replace

from dbupkeep.jobs import Job, JobStatus, JobType, Phase, count
from dbupkeep.ledger import JobQuery, Page, Reader
from dbupkeep.views.counting import of_databases

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def job(job_id: str, kind: JobType, status: JobStatus, parent: str = "run") -> Job:
    phase = Phase.ORCHESTRATION if kind is JobType.DATABASE_MAINTENANCE_PARENT else Phase.EXECUTION
    return Job(
        id=job_id, parent_id=parent, correlation_id="run", type=kind, phase=phase, name=job_id, created_at=NOW, status=status,
    )  # fmt: skip


class Ledger:
    def __init__(self, *jobs: Job) -> None:
        self.kept = jobs

    def jobs(self, query: JobQuery, *, cursor: str = "", limit: int = 100) -> Page:
        return Page(
            jobs=tuple(
                job for job in self.kept
                if job.type in query.types and (not query.statuses or job.status in query.statuses)
                and (not query.parent_id or job.parent_id == query.parent_id)
            )
        )  # fmt: skip


def test_surveys_are_no_databases_and_only_those_that_are_worked_on_run() -> None:
    below = (
        job("s", JobType.DATABASE_DISCOVERY, JobStatus.COMPLETED),
        job("s2", JobType.DATABASE_DISCOVERY, JobStatus.FAILED),
        job("a", JobType.DATABASE_MAINTENANCE_PARENT, JobStatus.RUNNING),
        job("b", JobType.DATABASE_MAINTENANCE_PARENT, JobStatus.RUNNING),
        job("c", JobType.DATABASE_MAINTENANCE_PARENT, JobStatus.FAILED),
    )
    operation = job("o", JobType.DATABASE_MAINTENANCE_OPERATION, JobStatus.RUNNING, "a")
    run = replace(job("run", JobType.MAINTENANCE_RUN, JobStatus.RUNNING), phase=Phase.ORCHESTRATION, stats=count(below))
    stats = of_databases(cast("Reader", Ledger(*below, operation)), run).stats
    assert (stats.completed, stats.failed, stats.running, stats.pending) == (0, 1, 1, 1)


def test_other_jobs_are_counted_as_they_are() -> None:
    parent = job("a", JobType.DATABASE_MAINTENANCE_PARENT, JobStatus.RUNNING)
    assert of_databases(cast("Reader", Ledger()), parent) is parent
