"""How all below a job is ended: because somebody asked, by a cancel or a stop; or for now, since its time is over.

The wish is written first, on the job that it was asked of, and from then on nothing new begins below it. What waits is
then ended a slice at a time, each a transaction of its own: a run over thousands of databases must not keep every other
writer waiting for seconds. Whoever is cut off in between is followed by the next sweep, or by who asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from dbupkeep.events import CancelRequested, JobCancelled, JobDeferred, StopRequested
from dbupkeep.jobs import Job, JobStatus, JobType, Phase
from dbupkeep.ledger import Place
from dbupkeep.transaction import Transaction, said_by

SLICE = 200
"""How many jobs one transaction ends: some tens of milliseconds, and one commit."""


class Reached(Struct, frozen=True, kw_only=True):
    """How far below one parent it has come."""

    before: Place | None = None  # what stands before this is still to be looked at
    within: str = ""  # a parent too large for one slice: its children come first
    anew: bool = False  # whether that one was asked just now
    over: bool = False


class Slice(Protocol):
    """What one transaction does below a parent, from where the one before has come to."""

    def __call__(self, step: Transaction, parent_id: str, reached: Reached, *, anew: bool) -> Reached:
        """Do it, and say how far it has come."""
        ...


class Ending(Struct, frozen=True, kw_only=True):
    """One wish that all below a job end, and what it means for each."""

    cancels: bool  # what runs is told to end; else it comes to its end
    by: str = ""

    def is_asked(self, job: Job) -> bool:
        """Whether the wish stands on the job."""
        return job.cancel_requested if self.cancels else job.stop_requested

    def is_owed(self, child: Job) -> bool:
        """Whether a child of a parent on which the wish stands has not been told of it."""
        if child.status is JobStatus.PENDING:
            return self.cancels or not child.started_at
        if child.phase is Phase.ORCHESTRATION:
            return not child.status.ended and not self.is_asked(child)
        told = child.cancel_requested or not (self.cancels or child.type == JobType.DATABASE_DISCOVERY)
        return not child.status.ended and not told

    def ask(self, step: Transaction, job: Job) -> None:
        """Write the wish. An operation that waits ends with it."""
        if self.cancels and job.status is JobStatus.PENDING:
            step.append(job.id, JobCancelled(reason=f"cancelled before it started{said_by(self.by)}"))
        elif not self.is_asked(job):
            step.append(job.id, CancelRequested(by=self.by) if self.cancels else StopRequested(by=self.by))

    def go_on(self, step: Transaction, parent_id: str, reached: Reached, *, anew: bool) -> Reached:
        """End the next slice below a parent that was asked; nothing where that was taken back meanwhile.

        From the last to the first, so that what waits is ended before its gate could bar it. `anew` says that the wish was
        written just now: what waits for another attempt is given up by it too. One that is lost later is made again.
        """
        if not self.is_asked(step.known(parent_id)):
            return Reached(over=True)

        def enter(child: Job) -> bool:
            self.ask(step, child)
            return not self.is_asked(child)

        return _slice(step, parent_id, reached, lambda job_id: self._end(step, job_id, anew=anew), enter)

    def _end(self, step: Transaction, job_id: str, *, anew: bool) -> None:
        """End one job and all below it, in this transaction."""
        job = step.known(job_id)
        if job.status.ended:  # by what came before it
            return
        if job.phase is Phase.EXECUTION:
            self._end_operation(step, job, anew=anew)
            return
        anew = not self.is_asked(job)
        self.ask(step, job)
        for child in reversed(step.tx.unended(job.id)):
            self._end(step, child.id, anew=anew)

    def _end_operation(self, step: Transaction, job: Job, *, anew: bool) -> None:
        if self.cancels:
            self.ask(step, job)
        elif job.status is JobStatus.PENDING:
            if anew or not job.started_at:
                step.append(job.id, JobCancelled(reason=f"not started: the run was stopped{said_by(self.by)}"))
        elif job.type == JobType.DATABASE_DISCOVERY and not job.cancel_requested:  # it only finds more
            step.append(job.id, CancelRequested(by=self.by))


class PuttingOff(Struct, frozen=True, kw_only=True):
    """That nothing which waits in a run may begin any more for now: it is deferred, and comes back with the next run."""

    event: JobDeferred

    def go_on(self, step: Transaction, parent_id: str, reached: Reached) -> Reached:
        """Put off the next slice below a parent; from the last to the first, as when it is ended."""
        return _slice(step, parent_id, reached, lambda job_id: self._put_off(step, job_id), lambda _: False)

    def _put_off(self, step: Transaction, job_id: str) -> None:
        job = step.known(job_id)
        if job.phase is Phase.ORCHESTRATION:
            for child in reversed(step.tx.unended(job_id)):
                self._put_off(step, child.id)
        elif job.status is JobStatus.PENDING:  # still: what came before may have ended it too
            step.append(job_id, self.event)


def _slice(
    step: Transaction, parent_id: str, reached: Reached, end: Callable[[str], None], enter: Callable[[Job], bool]
) -> Reached:
    """Have so many ended below a parent, from the last to the first; `enter` is told of one that is a slice or more itself."""
    left = SLICE
    page = step.tx.unended(parent_id, before=reached.before, limit=SLICE)
    for child in (step.known(each.id) for each in reversed(page)):  # as what came before has left it
        size = 1 + child.stats.unended
        if left < SLICE and size > left:
            return reached
        reached, left = Reached(before=(child.place, child.id)), left - size
        if size > SLICE and not child.status.ended:
            return replace(reached, within=child.id, anew=enter(child))
        end(child.id)
    return Reached(before=reached.before, over=len(page) < SLICE)


def asked_of(parent: Job) -> Iterator[Ending]:
    """What somebody asked of a parent; the answer does not know who."""
    if parent.cancel_requested:
        yield Ending(cancels=True)
    if parent.stop_requested:
        yield Ending(cancels=False)
