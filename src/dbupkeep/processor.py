"""Takes deliveries and routes each job to the worker of its type; turns whatever happens into how the attempt ended.

One thread, the pulse, looks after all running attempts of the process: it asks each how far it is, keeps that in the
ledger, and brings back what is wanted of it (cancel, or that another attempt has taken over).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from msgspec.structs import replace

from dbupkeep.clock import Clock, SystemClock
from dbupkeep.errors import Busy, Gone, Interrupted, LedgerError, Lost, UpkeepError
from dbupkeep.events import JobCancelled, JobCompleted, JobDeferred, JobFailed, JobReturned, JobSkipped, StageReached
from dbupkeep.jobs import TRANSITIONS, Deadline, Delivery, Job, attempt_tag
from dbupkeep.ledger import Control, Ledger
from dbupkeep.lifecycle import Lifecycle
from dbupkeep.logs import bound
from dbupkeep.progress import Progress, forward
from dbupkeep.queue import Queue
from dbupkeep.registry import Registry
from dbupkeep.worker import Ended, JobWorker

log = logging.getLogger(__name__)

PULSE = 0.25
"""Seconds between looks at what runs: a request to cancel is taken up within two of them."""

SWEEP = 10.0
"""Seconds between sweeps for orphaned parents and lost deliveries."""

LEDGER_PATIENCE = 300.0
"""Seconds for which the result of finished work is offered to a ledger that cannot be used."""

PARTING_PATIENCE = 3.0
"""The same once this process has been told to stop."""


ENDINGS = {row.event.name: row.target.value for row in TRANSITIONS if row.target.ended}
"""What a job is once an event has ended it."""


class Around(Protocol):
    """What is called around operations."""

    def before(self, job: Job, stopping: Callable[[], bool]) -> str:
        """Why the operation must not start; empty when it may."""
        ...

    def after(self, job: Job, status: str) -> None:
        """An operation has ended, and that is recorded."""
        ...

    def settle(self) -> int:
        """Pay what is owed."""
        ...


class Attempt:
    """One running attempt: the `Context` of its worker and the `Report` of its engine."""

    def __init__(self, job: Job, lifecycle: Lifecycle) -> None:
        """Begin with nothing reported and nothing wanted."""
        self.job = job
        self._lifecycle = lifecycle
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._told: Progress | None = None
        self._sample: Callable[[], Progress | None] | None = None
        self._interrupt: Callable[[], object] | None = None
        self._stages: list[StageReached] = []
        self.blocked = 0.0
        """Seconds for which others had to wait for this job, all of its attempts."""
        self.control = Control(until=job.until)
        self.overtime = False
        """Whether its time is over, so that it is to stop."""
        self.leaving = False
        """Whether its process is to end, so that it is to stop and to be made again by another."""

    @property
    def report(self) -> Attempt:
        """Where progress goes."""
        return self

    @property
    def tag(self) -> str:
        """The mark of this attempt on the target server."""
        return attempt_tag(self.job.id, self.job.attempt)

    @property
    def lost_tag(self) -> str:
        """The mark of the attempt before, if there was one."""
        return attempt_tag(self.job.id, self.job.attempt - 1) if self.job.attempt > 1 else ""

    @property
    def stopping(self) -> bool:
        """Whether this attempt should end."""
        return self.control.cancel or self.control.fenced or self.overtime or self.leaving

    @property
    def deadline(self) -> Deadline | None:
        """By when it must have ended: what a person said last, or else by its window."""
        until = self.control.until
        return Deadline(stop=until, closes=until) if until is not None else self.job.deadline

    def leave(self) -> None:
        """Have it stop, because its process is to end."""
        self.leaving = True
        self._interrupted()

    def on_stop(self, interrupt: Callable[[], object] | None) -> None:
        """Have `interrupt` called while the attempt should end."""
        with self._lock:
            self._interrupt = interrupt

    def progress(self, progress: Progress) -> None:
        """Take the engine's word on how far it is."""
        self._progress = forward(self._progress, progress)

    def stage(self, name: str, message: str = "") -> None:
        """Keep that another stage began. Written with the next pulse or the end: a commit each would cost too much."""
        with self._lock:
            self._stages.append(StageReached(stage=name, message=message))

    def note(self, text: str) -> None:
        """Keep it at once. Raises `LedgerError`, or `Interrupted` when another attempt has taken over."""
        self._lifecycle.note(self.job, text)

    def blocking(self, seconds: float) -> float:
        """Keep for how long others had to wait. What the ledger cannot take now it is told with the next word."""
        try:
            self.blocked, spent = self._lifecycle.blocking(self.job, seconds)
        except LedgerError:
            self.blocked = spent = max(self.blocked, seconds)
        return spent

    def take_stages(self) -> list[StageReached]:
        """The stages that are not written yet; whoever takes them writes them."""
        with self._lock:
            taken, self._stages = self._stages, []
        return taken

    def follow(self, sample: Callable[[], Progress | None] | None) -> None:
        """Have `sample` called by the pulse."""
        with self._lock:
            self._sample = sample

    def pulse(self, ledger: Ledger, now: datetime) -> None:
        """Ask how far the work is, keep it, and act on what is wanted."""
        if self._time_is_over(now):
            self._interrupted()  # before the ledger is asked, which may be busy
        with self._lock:
            sampled = self._sample() if self._sample else None
        if sampled is not None:
            self.progress(sampled)
        if stages := self.take_stages():
            self._lifecycle.reach(self.job, stages)
        news = self._progress if self._progress != self._told else None
        self.control = ledger.report(self.job.id, self.job.attempt, news)
        self._told = self._progress
        if self._time_is_over(now) or self.stopping:
            self._interrupted()

    def _time_is_over(self, now: datetime) -> bool:
        self.overtime = self.overtime or (self.deadline is not None and now >= self.deadline.stop)
        return self.overtime

    def _interrupted(self) -> None:
        with self._lock:
            if self._interrupt is not None:
                self._interrupt()


class JobProcessor:
    """Executes jobs from the queue until it is told to stop."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        queue: Queue,
        lifecycle: Lifecycle,
        workers: Registry[JobWorker],
        sweep: Callable[[], int],
        clock: Clock | None = None,
        hooks: Around | None = None,
    ) -> None:
        """Stand on one ledger and its queue; `sweep` mends what broken-off programs left."""
        self._clock = clock or SystemClock()
        self._ledger = ledger
        self._queue = queue
        self._lifecycle = lifecycle
        self._workers = workers
        self._sweep = sweep
        self._hooks = hooks
        self._running: dict[str, Attempt] = {}
        self.idle = threading.Event()
        """Set whenever the last running attempt has ended: what was waited for may be over. Cleared by who waits."""
        self.trouble: LedgerError | None = None
        """Why the result of finished work was given up on, if it was; the work is done again by whoever takes it over."""

    def serve(self, *, lanes: Sequence[str] = (), slots: int = 1, stop: threading.Event) -> None:
        """Mend what was left, then execute deliveries of these lanes (none named: all) until `stop` is set."""
        self._sweep()
        ended = threading.Event()
        pulse = threading.Thread(target=self._pulse, args=(ended,), name="dbupkeep-pulse")
        pulse.start()
        try:
            self._queue.serve(lanes, slots, lambda delivery, worker: self.handle(delivery, worker, stop), stop)
        finally:
            ended.set()
            pulse.join()
            self._leave()

    def _leave(self) -> None:
        """Nobody may be left here who could pay later; what is owed stays in the ledger if that cannot be used now."""
        try:
            if self._hooks is not None:
                self._hooks.settle()
        except LedgerError as error:
            log.warning("what is owed to applications waits for the next start", extra={"error": error.message})

    def handle(self, delivery: Delivery, worker: str, stop: threading.Event | None = None) -> None:
        """Deal with one delivery: begin the attempt, execute it, record how it ended."""
        job = self._begin(delivery, worker)
        if job is None:
            if self._hooks is not None:  # what a lost attempt was on may have ended its run just now
                self._hooks.settle()
            return
        attempt = Attempt(job, self._lifecycle)
        self._running[delivery.key] = attempt
        try:
            with bound(**_fields(job)):
                log.debug("attempt started")
                ended = _with_overrun(attempt, self._execute(job, attempt), self._clock.now())
                ended = _with_blocking(ended, attempt.blocked)
                self._record(job, ended, attempt.take_stages(), stop or threading.Event())
                if self._hooks is not None:
                    self._hooks.after(job, ENDINGS.get(ended.event.name, "pending"))
        finally:
            del self._running[delivery.key]
            if not self._running:
                self.idle.set()

    def _begin(self, delivery: Delivery, worker: str) -> Job | None:
        try:
            return self._lifecycle.begin(delivery, worker)
        except LedgerError:
            raise
        except Exception as error:  # delivered again as it is, it would come for ever
            log.exception("an attempt could not begin", extra={"delivery": delivery.key})
            self._lifecycle.stumble(delivery, worker, f"it could not begin: {type(error).__name__}: {error}")
            return None

    @property
    def busy(self) -> int:
        """How many attempts run now."""
        return len(self._running)

    def _execute(self, job: Job, attempt: Attempt) -> Ended:
        try:
            worker = self._workers.get(job.type)
            worker.validate(job)
            if self._hooks is not None and (refused := self._hooks.before(job, lambda: attempt.stopping)):
                return Ended(event=JobDeferred(reason=refused))
            return worker.execute(job, attempt)
        except (Interrupted, Busy, Gone, Lost, LedgerError) as error:
            return Ended(event=_not_failed(attempt, error))
        except UpkeepError as error:
            log.warning("the operation failed", extra={"error": error.message, "kind": error.kind.value})
            return Ended(event=JobFailed(error=error.document()))
        except (Exception, SystemExit) as error:
            log.exception("the operation failed in an unforeseen way")
            wrapped = UpkeepError(f"unforeseen: {type(error).__name__}: {error}", hint="this is a fault of dbupkeep")
            return Ended(event=JobFailed(error=wrapped.document()))

    def _record(self, job: Job, ended: Ended, stages: Sequence[StageReached], stop: threading.Event) -> None:
        """Record the end, and go on trying while the ledger cannot be used: finished work is not lost."""
        began, parting, level = self._clock.monotonic(), threading.Event(), logging.ERROR
        while True:
            try:
                after = self._lifecycle.end(job, ended, stages)
            except LedgerError as error:
                patience = PARTING_PATIENCE if stop.is_set() else LEDGER_PATIENCE
                if self._clock.monotonic() - began >= patience:
                    self.trouble = error
                    raise
                log.log(level, "the ledger cannot be used; the result waits", extra={"error": error.message})
                level = logging.WARNING  # who watches is told once
                (parting if stop.is_set() else stop).wait(1.0)
            else:
                log.debug("attempt ended", extra={"status": after.status.value if after else "stale_attempt"})
                return

    def _look_after(self, attempt: Attempt) -> None:
        """One pulse of an attempt; a fault in what it is asked must not end the pulse of the others."""
        try:
            attempt.pulse(self._ledger, self._clock.now())
        except LedgerError:
            raise
        except Exception:
            with bound(**_fields(attempt.job)):
                log.exception("an attempt could not say how far it is")

    def leave(self) -> int:
        """Have all that runs here stop, to be made again elsewhere or at the next start; returns how many are told anew."""
        told = [attempt for attempt in list(self._running.values()) if not attempt.leaving]
        for attempt in told:
            attempt.leave()
        return len(told)

    def beat(self) -> None:
        """One pulse of all that runs here. Raises `LedgerError`."""
        for attempt in list(self._running.values()):
            self._look_after(attempt)

    def _pulse(self, ended: threading.Event) -> None:
        until_sweep = SWEEP
        while not ended.wait(PULSE):
            until_sweep -= PULSE
            try:
                self.beat()
                if until_sweep <= 0:
                    until_sweep = SWEEP
                    self._sweep()
            except LedgerError as error:
                log.warning("the ledger cannot be used; progress is not kept", extra={"error": error.message})
            except Exception:  # without a pulse nothing could be cancelled any more
                log.exception("a look at what runs has failed")


def _not_failed(attempt: Attempt, error: UpkeepError) -> JobCancelled | JobDeferred | JobSkipped | JobReturned:
    """How an attempt ends by an error that is no failure of its job."""
    job, deadline = attempt.job, attempt.deadline
    if isinstance(error, Interrupted):
        asked = attempt.control.cancel or attempt.control.fenced
        if deadline is not None and attempt.overtime and not asked:
            reason = f"stopped before it had ended, because {deadline.said}"
            return JobDeferred(reason=reason, result={"closes_at": deadline.closes.isoformat()})
        if attempt.leaving and not asked:
            return JobReturned(attempt=job.attempt, reason="its process was told to end", counted=False)
        return JobCancelled(reason=error.message)
    if isinstance(error, Busy):
        return JobDeferred(reason=error.message, result=_of_busy(error))
    if isinstance(error, Gone):
        return JobSkipped(reason=error.message)
    return JobReturned(attempt=job.attempt, reason=error.message)


def _of_busy(error: Busy) -> dict[str, object]:
    """What a deferral keeps: what to do about it, and for how long locks were waited for in vain."""
    waited = {} if error.waited is None else {"values": {"lock_wait_seconds": round(error.waited, 3)}}
    return {**({"hint": error.hint} if error.hint else {}), **waited}


def _with_overrun(attempt: Attempt, ended: Ended, now: datetime) -> Ended:
    """Say of an operation that could not be interrupted how long it went on after its time was over."""
    deadline = attempt.deadline
    if deadline is None or not isinstance(ended.event, JobCompleted) or now <= deadline.closes:
        return ended
    over = round((now - deadline.closes).total_seconds(), 3)
    end = f"the window {deadline.window} had closed" if deadline.window else "the run was to have ended"
    said = f"it went on for {over:g} s after {end}: it could not be interrupted"
    log.warning("an operation went on after its time was over", extra={"seconds": over})
    before = ended.event.result.get("reason")
    result = {**ended.event.result, "overrun_seconds": over, "reason": f"{before}; {said}" if before else said}
    return replace(ended, event=JobCompleted(result=result))


def _with_blocking(ended: Ended, seconds: float) -> Ended:
    """Say of an operation for how long others had to wait for it, however it ended."""
    event = ended.event
    if not seconds or isinstance(event, JobReturned):  # of an attempt that is given back the next one tells
        return ended
    return replace(ended, event=replace(event, result={**event.result, "blocking_seconds": round(seconds, 3)}))


def _fields(job: Job) -> dict[str, object]:
    """What every log line of an attempt carries."""
    return {
        "correlation_id": job.correlation_id,
        "parent_id": job.parent_id,
        "job_id": job.id,
        "operation": job.config.get("operation"),
        "object": job.config.get("object"),
        "target": job.target,
        "attempt": job.attempt,
    }
