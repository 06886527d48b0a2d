"""What runs at this moment and how far it is: the state beside the events, which nobody has to see all of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from dbupkeep.documents import Document, job_document
from dbupkeep.jobs import WORK, Job, JobStatus, JobType, Phase
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.views.watching import begun, with_progress

SHOWN = 200
"""Running operations that are looked at; more than a service has at a time."""

TOLD = ("id", "parent_id", "correlation_id", "status", "started_at", "progress", "children")
"""What is told of a job that runs; the rest comes with its events."""


class Now(Struct, frozen=True, kw_only=True):
    """The jobs at work and those above them."""

    jobs: Mapping[str, Job]  # by id, the upper ones first
    growing: frozenset[str]  # parents of which nobody knows yet how many children they will have
    below: Mapping[str, Sequence[Job]]  # by parent: what runs right below it, or has begun and rests

    @classmethod
    def look(cls, reader: Reader) -> Now:
        """What runs. Raises `LedgerError`."""
        working = JobQuery(statuses=(JobStatus.RUNNING,), types=WORK, newest_first=False)
        searching = JobQuery(statuses=(JobStatus.PENDING, JobStatus.RUNNING), types=(JobType.DATABASE_DISCOVERY.value,))
        growing = frozenset(job.parent_id for job in reader.jobs(searching, limit=SHOWN).jobs)
        jobs = _with_those_above(reader, reader.jobs(working, limit=SHOWN).jobs)
        resting = (job for job in begun(reader) if job.id not in jobs)
        below: dict[str, list[Job]] = {}
        for job in (*jobs.values(), *resting):
            if job.parent_id != job.id:
                below.setdefault(job.parent_id, []).append(job)
        return cls(jobs=jobs, growing=growing, below=below)

    @classmethod
    def around(cls, reader: Reader, jobs: Sequence[Job]) -> Now:
        """As far as the progress of these jobs depends on it."""
        unended = any(job.phase is Phase.ORCHESTRATION and not job.status.ended for job in jobs)
        return cls.look(reader) if unended else cls(jobs={}, growing=frozenset(), below={})

    def by_run(self) -> Mapping[str, Sequence[Document]]:
        """What is told of each job, by run."""
        found: dict[str, list[Document]] = {}
        for job in self.jobs.values():
            whole = self.document(job)
            found.setdefault(job.correlation_id, []).append({name: whole[name] for name in TOLD if name in whole})
        return found

    def document(self, job: Job) -> Document:
        """The document of a job, with the progress of what runs below it counted."""
        return job_document(job, running=self._below(job), still_growing=job.id in self.growing)

    def _below(self, parent: Job) -> list[Job]:
        """What runs directly below, each with its progress filled in."""
        return [self._filled(job) for job in self.below.get(parent.id, ())]

    def _filled(self, job: Job) -> Job:
        if job.phase is Phase.EXECUTION:
            return job
        return with_progress(job, self._below(job), still_growing=job.id in self.growing)


def _with_those_above(reader: Reader, working: Sequence[Job]) -> Mapping[str, Job]:
    known: dict[str, Job] = {}
    wanted = list(working)
    while wanted:
        known = {**{job.id: job for job in wanted}, **known}
        missing = dict.fromkeys(job.parent_id for job in wanted if job.parent_id not in known)
        wanted = [job for parent_id in missing if (job := reader.job(parent_id)) is not None]
    return known
