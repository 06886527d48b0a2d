"""The verbs of a job's life. Each is one transaction; nothing else opens one to change a job.

What follows from a change is done in the same transaction, in the order child, target, parent, root: parents settle
or reopen, gates bar their successors, a step's error policy stops what has not started, and what became free is
released and handed to the queue.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from dbupkeep.admission import Answer, Verdict, admit
from dbupkeep.clock import Clock, SystemClock
from dbupkeep.codec import from_json
from dbupkeep.definitions import Window
from dbupkeep.errors import IllegalTransition, Interrupted, Kind, OperationError, UnknownName
from dbupkeep.events import (
    NOTED,
    AttemptLost,
    CancelRequested,
    Event,
    JobCancelled,
    JobDeferred,
    JobFailed,
    JobRetried,
    JobReturned,
    JobSkipped,
    JobStarted,
    ParentReopened,
    ParentSettled,
    RunPaused,
    RunResumed,
    StageReached,
)
from dbupkeep.jobs import Delivery, Job, JobStatus, Phase, aggregate, attempt_tag
from dbupkeep.ledger import Change, Ledger, Tx, Wait
from dbupkeep.plans import Source
from dbupkeep.queue import Queue
from dbupkeep.worker import Ended

R = TypeVar("R")

log = logging.getLogger(__name__)

RETURN_DELAY = 1.0
"""Seconds before an attempt that a worker gave back is made again; doubled with each attempt."""


RETRIABLE = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.DEFERRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """All that one submission writes."""

    jobs: Sequence[Job]  # parents before their children
    waits: Sequence[Wait] = ()
    slots: Mapping[str, int] = field(default_factory=dict)  # by target
    endings: Sequence[tuple[str, Event]] = ()  # of jobs that have nothing to do
    documents: Sequence[tuple[str, str, Mapping[str, Any]]] = ()  # kind, key, content
    once: str = ""  # a key that makes a second submission with it a no-op
    turn: Turn | None = None  # what must not have been written meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A document that is written over one version alone: of several who would, one does."""

    kind: str
    key: str
    version: int  # the version that was read; 0: there was none
    document: Mapping[str, Any]


class Lifecycle:
    """Submit, begin, end, cancel, retry, pause, resume, rescue, settle."""

    def __init__(self, ledger: Ledger, queue: Queue, clock: Clock | None = None) -> None:
        """Stand on a ledger and the queue that belongs to it; windows are read on the clock."""
        self._ledger = ledger
        self._queue = queue
        self._clock = clock or SystemClock()

    def submit(self, submission: Submission) -> bool:
        """Write jobs and make deliverable what nothing holds: all or nothing.

        False, and nothing is written, if it was submitted before or somebody else had the turn.
        """

        def work(step: _Step) -> bool:
            if submission.once and step.tx.get("once", submission.once) is not None:
                return False  # before the turn is taken: what is refused writes nothing
            if not self._takes(step.tx, submission.turn):
                return False
            if submission.once and not self._ledger.put(
                step.tx, "once", submission.once, {"job_id": submission.jobs[0].id}, version=0
            ):
                return False
            for kind, key, doc in submission.documents:
                self._ledger.put(step.tx, kind, key, doc)
            self._ledger.insert(step.tx, submission.jobs, submission.waits, submission.slots)
            for job_id, event in submission.endings:
                step.append(job_id, event)
            step.touched.update(submission.slots)
            return True

        return self._transact(work)

    def keep(self, kind: str, key: str, document: Mapping[str, Any]) -> None:
        """Store a document of its own, such as a plan that is to be carried out later."""
        self._transact(lambda step: self._ledger.put(step.tx, kind, key, document))

    def keep_all(self, documents: Sequence[tuple[str, str, Mapping[str, Any]]], turn: Turn) -> bool:
        """Store documents if nobody else had the turn; all or nothing, and whether it was all."""

        def work(step: _Step) -> bool:
            if not self._takes(step.tx, turn):
                return False
            for kind, key, document in documents:
                self._ledger.put(step.tx, kind, key, document)
            return True

        return self._transact(work)

    def begin(self, delivery: Delivery, worker: str) -> Job | None:
        """Claim a delivery's attempt. None when there is nothing to run: it is stale, or was begun before and lost."""

        def work(step: _Step) -> Job | None:
            job = step.tx.job(delivery.job_id)
            if job is None or job.status.ended or job.phase is Phase.ORCHESTRATION:
                return None
            if job.status is JobStatus.RUNNING:
                if job.attempt == delivery.attempt:
                    step.lose(job, "its worker went away")
                return None
            if job.attempt + 1 != delivery.attempt or not job.released:
                return None
            if job.cancel_requested:
                step.append(job.id, JobCancelled(reason="cancelled before it started"))
                return None
            verdict = self._admit(step, job)
            if verdict.answer is not Answer.START:
                step.put_off(job, verdict)
                return None
            tag = attempt_tag(job.id, delivery.attempt)
            change = step.append(job.id, JobStarted(attempt=delivery.attempt, worker=worker, tag=tag))
            return replace(change.after, deadline=verdict.deadline) if change else None

        return self._transact(work)

    def end(self, job: Job, ended: Ended, stages: Sequence[StageReached] = ()) -> Job | None:
        """Record how the job's current attempt ended, with the last stages that it reached.

        None when another attempt has taken over: nothing is changed.
        """

        def work(step: _Step) -> Job | None:
            for stage in stages:
                step.append(job.id, stage, attempt=job.attempt)
            event = _last_resort(job, ended.event)
            change = step.append(job.id, event, attempt=job.attempt)
            if change is None:
                return None
            if isinstance(event, JobReturned):
                delay = RETURN_DELAY * 2 ** (job.attempt - 1)
                delivery = Delivery(job_id=job.id, attempt=job.attempt + 1, lane=job.lane, delay=delay)
                step.deliveries.append(delivery)
            if ended.sample is not None:
                self._ledger.measure(step.tx, ended.sample)
            return change.after

        after = self._transact(work)
        if after is None:
            log.warning("a late result was refused", extra={"reason": "stale_attempt", "attempt": job.attempt})
        return after

    def reach(self, job: Job, stages: Sequence[StageReached]) -> None:
        """Keep that the job's current attempt reached stages; nothing when it is no longer the current one."""

        def work(step: _Step) -> None:
            for stage in stages:
                step.append(job.id, stage, attempt=job.attempt)

        self._transact(work)

    def note(self, job: Job, text: str) -> None:
        """Keep what a later attempt must know, before this returns. Raises `Interrupted` from an attempt of the past."""

        def work(step: _Step) -> bool:
            return step.append(job.id, StageReached(stage=NOTED, message=text), attempt=job.attempt) is not None

        if not self._transact(work):
            raise Interrupted("the work was not started", why="another attempt has taken over")

    def cancel(self, job_id: str, *, by: str = "") -> Job:
        """Ask that a job and all below it end: what waits ends now, what runs is told. Safe to repeat."""

        def work(step: _Step) -> Job:
            job = step.known(job_id)
            if not job.status.ended:
                step.cancel(job, by)
            return step.known(job_id)

        return self._transact(work)

    def skip(self, job_id: str, *, by: str = "") -> Job:
        """Leave out an operation that has not started, or all such below a parent. Raises `IllegalTransition`."""

        def work(step: _Step) -> Job:
            job = step.known(job_id)
            left_out = [job] if job.phase is Phase.EXECUTION else step.below(job_id)
            pending = [one for one in left_out if one.status is JobStatus.PENDING]
            if not pending:
                raise IllegalTransition(
                    f"there is nothing to skip in job {job_id}",
                    why=f"it is {job.status}" if job.phase is Phase.EXECUTION else "nothing in it waits any more",
                    hint="what runs is ended by `dbupkeep cancel`",
                )
            for one in reversed(pending):  # so that what waits is skipped before its gate could bar it
                if step.known(one.id).status is JobStatus.PENDING:
                    step.append(one.id, JobSkipped(reason=f"left out{_by(by)}", barred=True))
            return step.known(job_id)

        return self._transact(work)

    def retry(self, job_id: str, *, by: str = "") -> Sequence[Job]:
        """Give another attempt to a job, or to what failed, was cancelled or deferred below a parent.

        Raises `IllegalTransition` when there is nothing to retry.
        """

        def work(step: _Step) -> Sequence[Job]:
            job = step.known(job_id)
            step.refuse_while_cancelled(job)
            again = [job] if job.phase is Phase.EXECUTION else step.below(job_id)
            retried = [step.append(one.id, JobRetried(by=by)) for one in again if one.status in RETRIABLE]
            if not retried:
                raise IllegalTransition(
                    f"there is nothing to retry in job {job_id}",
                    why=f"it is {job.status}",
                    hint="only failed, cancelled and deferred operations can be retried",
                )
            return [change.after for change in retried if change]

        return self._transact(work)

    def pause(self, job_id: str, *, by: str = "") -> Job:
        """Start nothing new in a run; what runs goes on. Safe to repeat."""

        def work(step: _Step) -> Job:
            root = step.root(job_id)
            if not root.paused and not root.status.ended:
                step.append(root.id, RunPaused(by=by))
            return step.known(root.id)

        return self._transact(work)

    def resume(self, job_id: str, *, by: str = "") -> Job:
        """Let a paused run go on. Safe to repeat."""

        def work(step: _Step) -> Job:
            root = step.root(job_id)
            if root.paused and not root.status.ended:
                step.append(root.id, RunResumed(by=by))
                lost = [job for job in step.below(root.id) if job.released and job.status is JobStatus.PENDING]
                step.deliveries.extend(_expected(job) for job in lost)
            return step.known(root.id)

        return self._transact(work)

    def settle(self, parent_id: str) -> Job:
        """End a parent whose children have all ended. Safe to repeat, from any process."""

        def work(step: _Step) -> Job:
            parent = step.known(parent_id)
            step.settle(parent)
            return step.known(parent_id)

        return self._transact(work)

    def rescue(self, jobs: Iterable[Job]) -> int:
        """Deliver released jobs again that have lost their delivery; returns how many."""
        keys = {_expected(job).key: _expected(job) for job in jobs}
        missing = self._queue.missing(keys) if keys else set()
        if missing:
            self._transact(lambda step: step.deliveries.extend(keys[key] for key in sorted(missing)))
        return len(missing)

    def _admit(self, step: _Step, job: Job) -> Verdict:
        root, estimate = step.known(job.correlation_id), job.estimate or {}
        window = root.config.get("window")
        return admit(
            window=from_json(Window, window) if window else None,
            paused=root.paused,
            seconds=estimate.get("seconds"),
            own=estimate.get("seconds_source") == Source.HISTORY,
            now=self._clock.now(),
        )

    def _takes(self, tx: Tx, turn: Turn | None) -> bool:
        return turn is None or self._ledger.put(tx, turn.kind, turn.key, turn.document, version=turn.version)

    def _transact(self, work: Callable[[_Step], R]) -> R:
        def transaction(tx: Tx) -> R:
            step = _Step(self._ledger, tx)
            result = work(step)
            deliveries = [*step.deliveries, *self._ledger.release(tx, step.touched)]
            self._queue.enqueue(tx, deliveries)
            return result

        return self._ledger.transact(transaction)


class _Step:
    """One transaction of a verb: what it touched, and what is to be delivered at its end."""

    def __init__(self, ledger: Ledger, tx: Tx) -> None:
        self._ledger = ledger
        self.tx = tx
        self.touched: set[str] = set()
        self.deliveries: list[Delivery] = []

    def known(self, job_id: str) -> Job:
        """A job that must exist."""
        job = self.tx.job(job_id)
        if job is None:
            raise UnknownName(f"no job {job_id}", hint="list them with `dbupkeep jobs`")
        return job

    def root(self, job_id: str) -> Job:
        """The job that started all of a job's run."""
        return self.known(self.known(job_id).correlation_id)

    def append(self, job_id: str, event: Event, attempt: int | None = None) -> Change | None:
        """Let an event happen to a job, and all that follows from it."""
        if isinstance(event, JobDeferred):
            event = self._counted(job_id, event)
        change = self._ledger.append(self.tx, job_id, event, attempt)
        if change is None:
            return None
        self.touched.update(change.touched)
        if change.after.status is not change.before.status and not change.after.is_root:
            self._follow(change)
        for barred in change.barred:
            if self.known(barred).status is JobStatus.PENDING:
                self.append(barred, JobSkipped(reason=_barred_reason(change.after, barred), barred=True))
        return change

    def _counted(self, job_id: str, event: JobDeferred) -> JobDeferred:
        """The event with how often the same was deferred in a row: what never gets its turn must show."""
        last = self.tx.before(self.known(job_id))
        if last is None or last.status is not JobStatus.DEFERRED:
            return event
        return replace(event, in_a_row=int((last.result or {}).get("in_a_row", 1)) + 1)

    def _follow(self, change: Change) -> None:
        """What the change of a child means for its parent."""
        parent = self.known(change.after.parent_id)
        if change.after.status is JobStatus.FAILED and parent.errors.stops_at(parent.stats.failed):
            reason = f"not started: {parent.stats.failed} failed, and the step's error policy stops there"
            self._skip_pending(parent.id, reason)
            parent = self.known(parent.id)
        self.settle(parent)

    def settle(self, parent: Job) -> None:
        """Give a parent the status that its children say: end it, or open it again."""
        verdict = aggregate(parent.stats, cancel_requested=parent.cancel_requested, errors=parent.errors)
        if verdict.outcome is not None and not parent.status.ended:
            self.append(parent.id, ParentSettled(status=verdict.status.value, outcome=verdict.outcome.value))
        elif verdict.outcome is None and parent.status.ended:
            self.append(parent.id, ParentReopened())

    def _skip_pending(self, parent_id: str, reason: str) -> None:
        for child in self.tx.unended(parent_id):
            if child.phase is Phase.ORCHESTRATION:
                self._skip_pending(child.id, reason)
            elif self.known(child.id).status is JobStatus.PENDING:  # still: one skipped before it may have ended it too
                self.append(child.id, JobSkipped(reason=reason))

    def put_off(self, job: Job, verdict: Verdict) -> None:
        """Defer a job that may not start, and with it all of its run that may not either; one that waits is left alone."""
        if verdict.answer is not Answer.DEFER:
            return
        event = JobDeferred(reason=verdict.reason, result=verdict.figures)
        if verdict.for_all:
            self._defer_pending(job.correlation_id, event)
        else:
            self.append(job.id, event)

    def _defer_pending(self, parent_id: str, event: JobDeferred) -> None:
        """From the last to the first, so that what waits is deferred before its gate could bar it."""
        for child in reversed(self.tx.unended(parent_id)):
            if child.phase is Phase.ORCHESTRATION:
                self._defer_pending(child.id, event)
            elif self.known(child.id).status is JobStatus.PENDING:
                self.append(child.id, event)

    def cancel(self, job: Job, by: str) -> None:
        """Cancel a job that has not ended, and all below it."""
        if job.status is JobStatus.PENDING:
            self.append(job.id, JobCancelled(reason=f"cancelled before it started{_by(by)}"))
            return
        if not job.cancel_requested:
            self.append(job.id, CancelRequested(by=by))
        if job.phase is Phase.ORCHESTRATION:
            # From the last to the first, so that what waits is cancelled before its gate could bar it.
            for child in reversed(self.tx.unended(job.id)):
                fresh = self.known(child.id)
                if not fresh.status.ended:
                    self.cancel(fresh, by)

    def refuse_while_cancelled(self, job: Job) -> None:
        """Raise `IllegalTransition` when something above the job is being cancelled: a retry would end at once."""
        above = job
        while not above.is_root:
            above = self.known(above.parent_id)
            if above.cancel_requested and not above.status.ended:
                raise IllegalTransition(
                    f"job {job.id} cannot be retried now",
                    why=f"{above.id}, which it belongs to, is being cancelled",
                    hint="try again when that has ended",
                )

    def lose(self, job: Job, reason: str) -> None:
        """End an attempt whose worker is gone: another attempt, or the end of the job."""
        if job.cancel_requested:
            self.append(job.id, JobCancelled(reason=f"cancelled; {reason} meanwhile"))
        elif job.attempt >= job.max_attempts:
            self.append(job.id, JobFailed(error=_poisoned(job, reason)))
        else:
            self.append(job.id, AttemptLost(attempt=job.attempt, reason=reason))
            self.deliveries.append(Delivery(job_id=job.id, attempt=job.attempt + 1, lane=job.lane))

    def below(self, parent_id: str) -> Sequence[Job]:
        """All operations below a parent, in order."""
        found: list[Job] = []
        for child in self.tx.children(parent_id):
            found.extend([child] if child.phase is Phase.EXECUTION else self.below(child.id))
        return found


def _expected(job: Job) -> Delivery:
    """The delivery that a released job must have."""
    attempt = job.attempt if job.status is JobStatus.RUNNING else job.attempt + 1
    return Delivery(job_id=job.id, attempt=attempt, lane=job.lane)


def _last_resort(job: Job, event: Event) -> Event:
    """An attempt that is given back when no attempt is left fails."""
    if isinstance(event, JobReturned) and job.attempt >= job.max_attempts:
        return JobFailed(error=_poisoned(job, event.reason))
    return event


def _poisoned(job: Job, reason: str) -> dict[str, str]:
    error = OperationError(
        f"given up after {job.attempt} attempts",
        why=reason,
        hint="see `dbupkeep logs` for what happened to each; then `dbupkeep retry`",
        kind=Kind.POISONED,
    )
    return error.at(operation=str(job.config.get("operation", "")), target=job.target).document()


def _barred_reason(gate: Job, barred: str) -> str:
    if gate.id == barred:
        return "not started: what it waits for did not complete, and was not retried with it"
    return f"not started: {gate.config.get('operation', gate.name)} is {gate.status}"


def _by(by: str) -> str:
    return f" by {by}" if by else ""
