"""A checker for what happened: replays events by the rules of the job model and compares the outcome with the record.

It knows the rules on its own: nothing of a ledger, a queue or the verbs is used but `jobs.apply`, the table as data.
Works on any history, of a model test as of processes that were killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from dbupkeep.events import (
    JobCancelled,
    JobCompleted,
    JobDeferred,
    JobFailed,
    JobSkipped,
    JobStarted,
    JobSubmitted,
    Recorded,
)
from dbupkeep.jobs import ChildStats, Job, JobStatus, JobType, Phase, aggregate, apply, count, hold_of
from dbupkeep.ledger import Wait
from dbupkeep.progress import of_parent

ENDINGS = (JobCompleted, JobFailed, JobCancelled, JobSkipped, JobDeferred)
UNMET = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.DEFERRED)


class History:
    """Jobs as their events make them; every event is checked when it is added."""

    def __init__(self) -> None:
        """Begin with no jobs."""
        self.jobs: dict[str, Job] = {}
        self.starts: dict[str, int] = {}  # by job: how many attempts began
        self.endings: dict[str, int] = {}  # by job: how many events ended it
        self.lost = 0  # attempts that began and were not the one that ended the job
        self._waits: dict[str, list[Wait]] = {}
        self._submitted: set[str] = set()

    def expect(self, jobs: Iterable[Job], waits: Iterable[Wait] = ()) -> None:
        """Take jobs as they are before anything has happened to them."""
        for job in jobs:
            self.jobs[job.id] = replace(job, stats=ChildStats())
        for wait in waits:
            self._waits.setdefault(wait.job_id, []).append(wait)

    def add(self, recorded: Recorded) -> None:
        """Let an event happen. Raises `IllegalTransition`, or `AssertionError` when a rule was broken."""
        event, before = recorded.event, self.jobs[recorded.job_id]
        if isinstance(event, JobSubmitted):
            assert before.id not in self._submitted, f"{before.name} was submitted twice"
            self._submitted.add(before.id)
        else:
            assert before.id in self._submitted, f"{event.name} happened to {before.name} before it was there"
        if isinstance(event, JobStarted):
            self._check_start(before, event)
        after = apply(before, event, recorded.at)
        if isinstance(event, ENDINGS):
            self.endings[before.id] = self.endings.get(before.id, 0) + 1
        self.lost += before.status is JobStatus.RUNNING and after.status is JobStatus.PENDING
        self.jobs[recorded.job_id] = after

    def forget(self, job_ids: Iterable[str]) -> None:
        """Jobs that were pruned."""
        for job_id in job_ids:
            del self.jobs[job_id]

    def check_against(self, stored: Iterable[Job]) -> None:
        """Hold the record against the history: every job as replayed, every parent as its children say."""
        found = {job.id: job for job in stored}
        assert set(found) == set(self.jobs), "jobs were lost or came from nowhere"
        for job_id, replayed in self.jobs.items():
            now = found[job_id]
            assert replace(replayed, stats=now.stats, released=now.released, progress=now.progress) == now, (
                f"{now.name} is not what its events make of it"
            )
            assert now.attempt <= now.max_attempts, f"{now.name} has had {now.attempt} attempts"
            assert now.status is not JobStatus.COMPLETED or now.phase is Phase.ORCHESTRATION or now.result, (
                f"{now.name} is completed without evidence"
            )
        self._check_parents(found.values())

    def check_ended(self) -> None:
        """Everything has ended, each job by exactly one ending (and one more for each retry)."""
        unended = [job.name for job in self.jobs.values() if not job.status.ended]
        assert not unended, f"not ended: {unended}"
        for job in self.jobs.values():
            if job.phase is Phase.EXECUTION:
                assert self.endings.get(job.id, 0) >= 1, f"{job.name} has no ending"

    def _check_start(self, job: Job, event: JobStarted) -> None:
        assert event.attempt == job.attempt + 1, f"attempt {event.attempt} of {job.name} after {job.attempt}"
        assert event.attempt <= job.max_attempts, f"{job.name} began once more than it may"
        assert not job.cancel_requested, f"{job.name} began after it was cancelled"
        root = self.jobs[job.correlation_id]
        assert not root.paused, f"{job.name} began in a paused run"
        for above in {job.parent_id, job.correlation_id}:
            assert not self.jobs[above].cancel_requested, f"{job.name} began in a cancelled run"
            assert job.started_at or not self.jobs[above].stop_requested, f"{job.name} began in a stopped run"
        free = not root.at_a_time or job.type == JobType.DATABASE_DISCOVERY
        assert free or len(self._at_work(root)) < root.at_a_time, f"{job.name} began beyond the limit of its run"
        for wait in self._waits.get(job.id, ()) if job.started_at is None else ():
            before = self.jobs[wait.on_id]
            assert before.status.ended, f"{job.name} began before {before.name} ended"
            assert not (wait.gate and before.status in UNMET), f"{job.name} began though {before.name} is its gate"
        for other in self.jobs.values():
            assert not (other.status is JobStatus.RUNNING and meet(other, job)), (
                f"{other.name} runs where {job.name} began"
            )
        self.starts[job.id] = self.starts.get(job.id, 0) + 1

    def _at_work(self, root: Job) -> Sequence[Job]:
        """The operations of a run that run, other than looking for databases."""
        running = [job for job in self.jobs.values() if job.status is JobStatus.RUNNING]
        return [
            job for job in running
            if job.correlation_id == root.id and job.phase is Phase.EXECUTION and job.type != JobType.DATABASE_DISCOVERY
        ]  # fmt: skip

    def _check_parents(self, stored: Iterable[Job]) -> None:
        children: dict[str, list[Job]] = {}
        jobs = list(stored)
        for job in jobs:
            if not job.is_root:
                children.setdefault(job.parent_id, []).append(job)
        for parent in jobs:
            if parent.phase is Phase.ORCHESTRATION:
                check_parent(parent, children.get(parent.id, []))


def check_parent(parent: Job, children: Sequence[Job]) -> None:
    """The parent is the aggregate of its children, and its progress a share that is whole only at the end."""
    assert parent.stats == count(children), f"the counts of {parent.name} are off"
    assert parent.stats.total == len(children), f"{parent.name} does not count all of its children"
    verdict = aggregate(
        parent.stats,
        cancel_requested=parent.cancel_requested,
        stop_requested=parent.stop_requested,
        errors=parent.errors,
    )
    assert parent.status is verdict.status, f"{parent.name} is {parent.status}, its children say {verdict.status}"
    assert parent.outcome == (verdict.outcome or ""), f"{parent.name} has the outcome {parent.outcome}"
    running = [child for child in children if child.status is JobStatus.RUNNING]
    fraction = of_parent(parent.stats, running, ended=parent.status.ended).fraction
    assert fraction is None or 0 <= fraction <= 1
    assert (fraction == 1) == parent.status.ended, f"{parent.name} is {parent.status} at {fraction}"


def meet(one: Job, other: Job) -> bool:
    """Whether two jobs want the same thing for themselves."""
    if one.id == other.id or not one.hold or not other.hold or one.phase is not Phase.EXECUTION:
        return False
    whole = hold_of(one.target)
    return one.hold == other.hold or (one.target == other.target and whole in (one.hold, other.hold))


def pristine(job: Job) -> Job:
    """A job as it was submitted; of a job that nobody has retried."""
    parent = job.phase is Phase.ORCHESTRATION
    return replace(
        job,
        status=JobStatus.RUNNING if parent else JobStatus.PENDING,
        reason="", attempt=0, cancel_requested=False, stop_requested=False, paused=False, at_a_time=0, until=None, released=False, outcome="",
        started_at=job.started_at if parent else None, finished_at=None, result=None, error=None, progress=None,
    )  # fmt: skip
