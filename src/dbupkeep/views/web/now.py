"""What runs at this moment and how far it is: the state beside the events, which nobody has to see all of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dbupkeep.codec import to_json
from dbupkeep.documents import Document, job_document, progress_of
from dbupkeep.jobs import Job, JobStatus, JobType
from dbupkeep.ledger import JobQuery, Reader

SHOWN = 200
"""Running operations that are looked at; more than a service has at a time."""

WORK = (JobType.DATABASE_MAINTENANCE_OPERATION.value, JobType.DATABASE_DISCOVERY.value)

TOLD = ("id", "parent_id", "correlation_id", "status", "started_at", "progress", "children")
"""What is told of a job; the rest comes with its events."""


def running_now(reader: Reader) -> Mapping[str, Sequence[Document]]:
    """The jobs that run and those above them, as `Reader` finds them, by run. Raises `LedgerError`."""
    working = reader.jobs(JobQuery(statuses=(JobStatus.RUNNING,), types=WORK, newest_first=False), limit=SHOWN).jobs
    searching = JobQuery(statuses=(JobStatus.PENDING, JobStatus.RUNNING), types=(JobType.DATABASE_DISCOVERY.value,))
    growing = {job.parent_id for job in reader.jobs(searching, limit=SHOWN).jobs}
    found = _Found(jobs=_with_those_above(reader, working), growing=growing)
    by_run: dict[str, list[Document]] = {}
    for job in found.jobs.values():
        by_run.setdefault(job.correlation_id, []).append(found.document(job))
    return by_run


def _with_those_above(reader: Reader, working: Sequence[Job]) -> Mapping[str, Job]:
    """Jobs and all that they are below, by id, the upper ones first."""
    known: dict[str, Job] = {}
    wanted = list(working)
    while wanted:
        known = {**{job.id: job for job in wanted}, **known}
        missing = dict.fromkeys(job.parent_id for job in wanted if job.parent_id not in known)
        wanted = [job for parent_id in missing if (job := reader.job(parent_id)) is not None]
    return known


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    jobs: Mapping[str, Job]
    growing: set[str]  # parents of which nobody knows yet how many children they will have

    def document(self, job: Job) -> Document:
        whole = job_document(job, running=self._below(job), still_growing=job.id in self.growing)
        return {name: whole[name] for name in TOLD if name in whole}

    def _below(self, parent: Job) -> list[Job]:
        """What runs directly below, each with its progress filled in."""
        children = [job for job in self.jobs.values() if job.parent_id == parent.id != job.id]
        return [self._filled(job) for job in children]

    def _filled(self, job: Job) -> Job:
        below = self._below(job)
        if not below:
            return job
        return replace(job, progress=to_json(progress_of(job, below, still_growing=job.id in self.growing)))
