"""The verbs of a job's life. Each is one transaction; nothing else opens one to change a job.

What follows from a change is done in the same transaction, in the order child, target, parent, root: parents settle
or reopen, gates bar their successors, a step's error policy stops what has not started, and what became free is
released and handed to the queue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from dbupkeep.admission import Answer, Verdict, admit
from dbupkeep.audit import Act, actor
from dbupkeep.clock import Clock, SystemClock
from dbupkeep.codec import from_json, rfc3339
from dbupkeep.definitions import Window
from dbupkeep.ending import Ending, PuttingOff, Reached, Slice
from dbupkeep.errors import IllegalTransition, Interrupted, UsageError
from dbupkeep.events import (
    NOTED,
    Event,
    JobCancelled,
    JobDeferred,
    JobFailed,
    JobRetried,
    JobReturned,
    JobSkipped,
    JobStarted,
    LimitsChanged,
    RunPaused,
    RunResumed,
    StageReached,
)
from dbupkeep.jobs import LEFT_OUT, Delivery, Job, JobStatus, Phase, attempt_tag
from dbupkeep.ledger import Ledger, Tx, Wait
from dbupkeep.plans import Source
from dbupkeep.queue import Queue
from dbupkeep.transaction import Transaction, act_of_plan, act_of_run, expected, poisoned, said_by
from dbupkeep.worker import Ended

R = TypeVar("R")

log = logging.getLogger(__name__)

RETURN_DELAY = 1.0
"""Seconds before an attempt that a worker gave back is made again; doubled with each attempt."""

LONGEST_DELAY = 15.0
"""Seconds up to which it is doubled: what waits keeps its hold, and others from their turn."""

LONGEST_BREATH = 0.05
"""Seconds between two slices of a cancel or stop, at most: as long as the one before took, so that others get their turn."""

BLOCKING = "blocking"
"""The kind of document that keeps for how long others had to wait, by attempt; its key is the parent of the jobs."""

MOST_AT_A_TIME = 1024
"""The highest limit of operations at a time, as of a target's `parallel`."""

RETRIABLE = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.DEFERRED)


class Submission(Struct, frozen=True, kw_only=True):
    """All that one submission writes."""

    jobs: Sequence[Job]  # parents before their children
    waits: Sequence[Wait] = ()
    slots: Mapping[str, int] = field(default_factory=dict)  # by target
    endings: Sequence[tuple[str, Event]] = ()  # of jobs that have nothing to do
    documents: Sequence[tuple[str, str, Mapping[str, Any]]] = ()  # kind, key, content
    once: str = ""  # a key that makes a second submission with it a no-op
    turn: Turn | None = None  # what must not have been written meanwhile


class Turn(Struct, frozen=True, kw_only=True):
    """A document that is written over one version alone: of several who would, one does."""

    kind: str
    key: str
    version: int  # the version that was read; 0: there was none
    document: Mapping[str, Any]


class Lifecycle:
    """Submit, begin, end, cancel, stop, skip, retry, pause, resume, limit, rescue, settle."""

    def __init__(self, ledger: Ledger, queue: Queue, clock: Clock | None = None) -> None:
        """Stand on a ledger and the queue that belongs to it; windows are read on the clock."""
        self._ledger = ledger
        self._queue = queue
        self._clock = clock or SystemClock()
        self._condition: Callable[[Tx], None] | None = None

    def provided(self, condition: Callable[[Tx], None]) -> Lifecycle:
        """The same verbs, each of which first asks in its own transaction: where that raises, nothing is done."""
        same = copy(self)
        same._condition = condition  # noqa: SLF001 - our own
        return same

    def submit(self, submission: Submission) -> bool:
        """Write jobs and make deliverable what nothing holds: all or nothing.

        False, and nothing is written, if it was submitted before or somebody else had the turn.
        """
        acts = act_of_run(submission.jobs[0], sorted(submission.slots), actor())

        def work(step: Transaction) -> bool:
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
            step.acts.extend(acts)
            return True

        return self._transact(work)

    def keep(self, kind: str, key: str, document: Mapping[str, Any]) -> None:
        """Store a document of its own, such as a plan that is to be carried out later."""
        self.keep_all([(kind, key, document)])

    def keep_all(self, documents: Sequence[tuple[str, str, Mapping[str, Any]]], turn: Turn | None = None) -> bool:
        """Store documents, with a turn only if nobody else had it; all or nothing, and whether it was all."""
        who = actor()  # asked for here: another thread may run the closure

        def work(step: Transaction) -> bool:
            if not self._takes(step.tx, turn):
                return False
            for kind, key, document in documents:
                self._ledger.put(step.tx, kind, key, document)
                step.acts.extend(act_of_plan(kind, key, document, who))
            return True

        return self._transact(work)

    def amend(
        self,
        kind: str,
        key: str,
        change: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        act: Act | None = None,
    ) -> None:
        """Store what `change` makes of a document (empty: there was none), nobody else in between."""

        def work(step: Transaction) -> None:
            self._ledger.put(step.tx, kind, key, {}, version=0)  # so that there is a row to lock
            self._ledger.put(step.tx, kind, key, change(step.tx.get(kind, key) or {}))
            step.acts.extend([act] if act else ())

        self._transact(work)

    def record(self, act: Act) -> None:
        """Add to the audit trail what changes no job: a new configuration, a refused log-in."""
        self._transact(lambda step: step.acts.append(act))

    def begin(self, delivery: Delivery, worker: str) -> Job | None:
        """Claim a delivery's attempt. None when there is nothing to run: it is stale, or was begun before and lost."""

        def work(step: Transaction) -> Job | tuple[str, Verdict] | None:
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
            elif not step.is_given_up(job):  # else whoever ends its run comes to it, or the next sweep does
                return self._start(step, job, worker)
            return None

        begun = self._transact(work)
        if isinstance(begun, tuple):
            self._put_off(delivery.job_id, *begun)
            return None
        return begun

    def stumble(self, delivery: Delivery, worker: str, reason: str) -> None:
        """Count an attempt that a fault of our own kept from beginning: another one, or the end of the job."""

        def work(step: Transaction) -> None:
            job = step.tx.job(delivery.job_id)
            if job is None or job.status is not JobStatus.PENDING or job.attempt + 1 != delivery.attempt:
                return  # a sweep delivers again what goes on
            tag = attempt_tag(job.id, delivery.attempt)
            change = step.append(job.id, JobStarted(attempt=delivery.attempt, worker=worker, tag=tag))
            if change is not None:
                step.lose(change.after, reason)

        self._transact(work)

    def end(self, job: Job, ended: Ended, stages: Sequence[StageReached] = ()) -> Job | None:
        """Record how the job's current attempt ended, with the last stages that it reached.

        None when another attempt has taken over: nothing is changed.
        """

        def work(step: Transaction) -> Job | None:
            for stage in stages:
                step.append(job.id, stage, attempt=job.attempt)
            event = _last_resort(job, ended.event)
            change = step.append(job.id, event, attempt=job.attempt)
            if change is None:
                return None
            if isinstance(event, JobReturned):
                delay = _delay(job.attempt) if event.counted else 0.0
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

        def work(step: Transaction) -> None:
            for stage in stages:
                step.append(job.id, stage, attempt=job.attempt)

        self._transact(work)

    def note(self, job: Job, text: str) -> None:
        """Keep what a later attempt must know, before this returns. Raises `Interrupted` from an attempt of the past."""

        def work(step: Transaction) -> bool:
            return step.append(job.id, StageReached(stage=NOTED, message=text), attempt=job.attempt) is not None

        if not self._transact(work):
            raise Interrupted("the work was not started", why="another attempt has taken over")

    def blocking(self, job: Job, seconds: float) -> tuple[float, float]:
        """Keep for how long others had to wait for the job's current attempt; 0 only asks.

        Returns the seconds of all attempts of the job, and of its parent: those of all operations of the run on its target.
        """

        def work(step: Transaction) -> tuple[float, float]:
            step.known(job.parent_id)  # locked, so that no two operations keep theirs over each other
            kept = dict(step.tx.get(BLOCKING, job.parent_id) or {})
            attempt = f"{job.id}/{job.attempt}"
            if seconds > kept.get(attempt, 0.0):
                kept[attempt] = round(seconds, 3)
                self._ledger.put(step.tx, BLOCKING, job.parent_id, kept)
            own = sum(value for key, value in kept.items() if key.startswith(f"{job.id}/"))
            return own, sum(kept.values())

        return self._transact(work)

    def cancel(self, job_id: str, *, by: str = "") -> Job:
        """Ask that a job and all below it end: what waits ends now, what runs is told. Safe to repeat.

        The wish is one transaction, and nothing below begins from then on; of a large run the rest are more of them.
        """
        return self._act_below("cancel", job_id, Ending(cancels=True, by=by))

    def stop(self, job_id: str, *, by: str = "") -> Job:
        """Have a run, or a database of one, end after what runs now: what waits ends at once. A retry reopens it; safe to repeat.

        In as many transactions as `cancel`. Raises `IllegalTransition` when it has ended, and for an operation, after
        which nothing comes.
        """
        return self._act_below("stop", job_id, Ending(cancels=False, by=by))

    def end_below(self, ending: Ending, parent_id: str, *, most: int | None = None) -> None:
        """Go on with a cancel or stop that was asked of a parent, by `most` slices (None: to its end). Safe to repeat."""
        self._in_slices(ending.go_on, parent_id, Reached(), anew=False, most=most)

    def limit(
        self,
        job_id: str,
        *,
        at_a_time: int | None = None,
        until: datetime | None = None,
        open_end: bool = False,
        by: str = "",
    ) -> Job:
        """Give the run of a job other limits while it goes; what is not given stays. Safe to repeat.

        `at_a_time`: so many of its operations at a time, in all and on each of its databases; holds for the next one
        that starts. `until`: by when it is to have ended, in place of its window; what runs then is told to stop, what
        would not fit is deferred. `open_end` takes that back. Raises `IllegalTransition` when the run has ended, and
        `UsageError` for what is no limit.
        """
        _check_limits(at_a_time, until, self._clock.now())
        given = {"at_a_time": at_a_time, "until": until and rfc3339(until), "open_end": open_end or None}
        detail = {name: value for name, value in given.items() if value is not None}

        def work(step: Transaction) -> Job:
            root = step.going_on(step.root(job_id).id)
            wanted = LimitsChanged(
                at_a_time=root.at_a_time if at_a_time is None else at_a_time,
                until=None if open_end else root.until if until is None else _to_the_millisecond(until),
                by=by,
            )
            if (wanted.at_a_time, wanted.until) != (root.at_a_time, root.until):
                step.append(root.id, wanted)
                step.deliver_waiting(root)
            return step.known(root.id)

        return self._act("limit", job_id, by, work, detail=detail)

    def skip(self, job_id: str, *, by: str = "") -> Job:
        """Leave out an operation that has not started, or all such below a parent. Raises `IllegalTransition`."""

        def work(step: Transaction) -> Job:
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
                    step.append(one.id, JobSkipped(reason=f"{LEFT_OUT}{said_by(by)}", barred=True))
            return step.known(job_id)

        return self._act("skip", job_id, by, work)

    def retry(self, job_id: str, *, by: str = "") -> Sequence[Job]:
        """Give another attempt to a job, or to what failed, was cancelled or deferred below a parent.

        Raises `IllegalTransition` when there is nothing to retry.
        """

        def work(step: Transaction) -> Sequence[Job]:
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

        return self._act("retry", job_id, by, work)

    def pause(self, job_id: str, *, by: str = "") -> Job:
        """Start nothing new in a run; what runs goes on. Safe to repeat."""

        def work(step: Transaction) -> Job:
            root = step.root(job_id)
            if not root.paused and not root.status.ended:
                step.append(root.id, RunPaused(by=by))
            return step.known(root.id)

        return self._act("pause", job_id, by, work)

    def resume(self, job_id: str, *, by: str = "") -> Job:
        """Let a paused run go on. Safe to repeat."""

        def work(step: Transaction) -> Job:
            root = step.root(job_id)
            if root.paused and not root.status.ended:
                step.append(root.id, RunResumed(by=by))
                step.deliver_waiting(root)
            return step.known(root.id)

        return self._act("resume", job_id, by, work)

    def settle(self, parent_id: str) -> Job:
        """End a parent whose children have all ended. Safe to repeat, from any process."""

        def work(step: Transaction) -> Job:
            parent = step.known(parent_id)
            step.settle(parent)
            return step.known(parent_id)

        return self._transact(work)

    def rescue(self, jobs: Iterable[Job]) -> int:
        """Deliver released jobs again that have lost their delivery; returns how many."""
        keys = {expected(job).key: expected(job) for job in jobs}
        missing = self._queue.missing(keys) if keys else set()
        if missing:
            self._transact(lambda step: step.deliveries.extend(keys[key] for key in sorted(missing)))
        return len(missing)

    def _start(self, step: Transaction, job: Job, worker: str) -> Job | tuple[str, Verdict] | None:
        """Begin the next attempt of a job, if its run admits it now; the run, and why, if nothing of it may begin."""
        root = step.known(job.correlation_id)
        verdict = self._admit(step, root, job)
        if verdict.for_all:
            return root.id, verdict
        if verdict.answer is Answer.DEFER:
            step.append(job.id, JobDeferred(reason=verdict.reason, result=verdict.figures))
        if verdict.answer is not Answer.START:
            return None
        attempt = job.attempt + 1
        event = JobStarted(attempt=attempt, worker=worker, tag=attempt_tag(job.id, attempt))
        change = step.append(job.id, event)
        return replace(change.after, deadline=verdict.deadline, until=root.until) if change else None

    def _admit(self, step: Transaction, root: Job, job: Job) -> Verdict:
        if step.is_full(root, job):  # delivered again once another of the run has ended
            return Verdict(answer=Answer.WAIT, reason="as many of the run's operations run as its limit says")
        window, estimate = root.config.get("window"), job.estimate or {}
        return admit(
            window=from_json(Window, window) if window else None,
            paused=root.paused,
            until=root.until,
            seconds=estimate.get("seconds"),
            own=estimate.get("seconds_source") == Source.HISTORY,
            now=self._clock.now(),
        )

    def _takes(self, tx: Tx, turn: Turn | None) -> bool:
        return turn is None or self._ledger.put(tx, turn.kind, turn.key, turn.document, version=turn.version)

    def _act_below(self, what: str, job_id: str, ending: Ending) -> Job:
        """Write what is wanted of a job, and end what that ends below it."""

        def work(step: Transaction) -> tuple[Job, Reached, bool]:
            job = step.known(job_id) if ending.cancels else _stoppable(step.going_on(job_id))
            anew, reached = not ending.is_asked(job), Reached(over=True)
            if not job.status.ended:
                ending.ask(step, job)
                if job.phase is Phase.ORCHESTRATION:
                    reached = ending.go_on(step, job_id, Reached(), anew=anew)
            return step.known(job_id), reached, anew

        job, reached, anew = self._act(what, job_id, ending.by, work)
        if reached.over:
            return job
        self._in_slices(ending.go_on, job_id, reached, anew=anew)
        return self._transact(lambda step: step.known(job_id), anyway=True)

    def _put_off(self, job_id: str, root_id: str, verdict: Verdict) -> None:
        """Defer all that waits in a run, as long as it holds that nothing of it may begin: a person may say otherwise."""
        putting_off = PuttingOff(event=JobDeferred(reason=verdict.reason, result=verdict.figures))

        def some(step: Transaction, parent_id: str, reached: Reached, *, anew: bool) -> Reached:  # noqa: ARG001 - of an end
            if not self._admit(step, step.known(root_id), step.known(job_id)).for_all:
                return Reached(over=True)
            return putting_off.go_on(step, parent_id, reached)

        self._in_slices(some, root_id, Reached(), anew=False)

    def _in_slices(self, some: Slice, parent_id: str, reached: Reached, *, anew: bool, most: int | None = None) -> None:
        """Go on below a parent, a transaction for each slice and a breath between two."""
        while not reached.over and most != 0:
            if reached.within:
                self._in_slices(some, reached.within, Reached(), anew=reached.anew, most=most)
            began = self._clock.monotonic()
            work = partial(some, parent_id=parent_id, reached=reached, anew=anew)
            reached = self._transact(work, anyway=True)
            most = None if most is None else most - 1
            if not reached.over:
                time.sleep(min(self._clock.monotonic() - began, LONGEST_BREATH))

    def _act(
        self,
        what: str,
        job_id: str,
        by: str,
        work: Callable[[Transaction], R],
        detail: Mapping[str, Any] | None = None,
    ) -> R:
        """Do what somebody asks of a job, and say so in the audit trail; also when it is refused."""
        who = by or actor()

        def acted(step: Transaction) -> R:
            job = step.tx.job(job_id)
            result = work(step)
            if who:
                before = {"before": job.status.value} if job else {}
                target = (job.target or job.name) if job else ""
                step.acts.append(Act(who=who, what=what, on=job_id, target=target, detail={**before, **(detail or {})}))
            return result

        try:
            return self._transact(acted)
        except (IllegalTransition, UsageError) as error:
            if who:
                self.record(
                    Act(who=who, what=what, on=job_id, outcome=f"refused: {error.message}", detail=detail or {})
                )
            raise

    def _transact(self, work: Callable[[Transaction], R], *, anyway: bool = False) -> R:
        """Run it in a transaction; `anyway` without the condition, which was asked when it began."""

        def transaction(tx: Tx) -> R:
            if self._condition is not None and not anyway:
                self._condition(tx)
            step = Transaction(self._ledger, tx)
            result = work(step)
            deliveries = [*step.deliveries, *self._ledger.release(tx, step.touched)]
            self._queue.enqueue(tx, deliveries)
            for act in step.acts:  # last, since others who add to the trail wait from here on
                self._ledger.record(tx, act)
            return result

        return self._ledger.transact(transaction)


def _stoppable(job: Job) -> Job:
    """The job, if something comes after what runs of it. Raises `IllegalTransition`."""
    if job.phase is Phase.EXECUTION:
        raise IllegalTransition(
            f"job {job.id} is a single operation, so nothing comes after it",
            hint="stop its run; or end the operation by `dbupkeep cancel`, leave it out by `dbupkeep skip`",
        )
    return job


def _check_limits(at_a_time: int | None, until: datetime | None, now: datetime) -> None:
    """Raise `UsageError` for limits that nothing could keep to."""
    if at_a_time is not None and not 1 <= at_a_time <= MOST_AT_A_TIME:
        raise UsageError(
            f"{at_a_time} operations at a time is no limit",
            hint=f"give 1 to {MOST_AT_A_TIME}; `dbupkeep pause` starts nothing new, `dbupkeep stop` ends the run",
        )
    if until is not None and until <= now:
        raise UsageError(
            "the run cannot end in the past",
            hint="give a later moment; `dbupkeep stop` ends it after what runs, `dbupkeep cancel` ends it now",
        )


def _to_the_millisecond(moment: datetime) -> datetime:
    """As events keep it."""
    return moment.astimezone(UTC).replace(microsecond=moment.microsecond // 1000 * 1000)


def _delay(attempt: int) -> float:
    """Seconds until an attempt that was given back is made again."""
    return min(RETURN_DELAY * float(2 ** min(attempt - 1, 10)), LONGEST_DELAY)


def _last_resort(job: Job, event: Event) -> Event:
    """An attempt that is given back when no attempt is left fails."""
    if isinstance(event, JobReturned) and event.counted and job.attempt >= job.max_attempts:
        return JobFailed(error=poisoned(job, event.reason))
    return event
