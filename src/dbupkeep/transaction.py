"""One transaction of a verb of a job's life: a change, and all that follows from it.

What follows is done in the order child, target, parent, root: parents settle or reopen, gates bar their successors, a
step's error policy stops what has not started. What became free is released when the transaction ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from dbupkeep.audit import Act
from dbupkeep.errors import IllegalTransition, Kind, OperationError, UnknownName
from dbupkeep.events import (
    AttemptLost,
    DeferralRepeated,
    Event,
    JobCancelled,
    JobDeferred,
    JobFailed,
    JobSkipped,
    ParentReopened,
    ParentSettled,
)
from dbupkeep.jobs import OFTEN, Delivery, Job, JobStatus, JobType, Outcome, Phase, aggregate
from dbupkeep.ledger import Change, Ledger, Tx

PLANS = ("plan", "run_plan")
"""The kinds of documents that are plans to be carried out later."""

NAMED = 3
"""How many targets an entry of the audit trail names."""


class Transaction:
    """One transaction of a verb: what it touched, and what is to be delivered at its end."""

    def __init__(self, ledger: Ledger, tx: Tx) -> None:
        self._ledger = ledger
        self.tx = tx
        self.touched: set[str] = set()
        self.deliveries: list[Delivery] = []
        self.acts: list[Act] = []  # for the audit trail

    def known(self, job_id: str) -> Job:
        """A job that must exist."""
        job = self.tx.job(job_id)
        if job is None:
            raise UnknownName(f"no job {job_id}", hint="list them with `dbupkeep jobs`")
        return job

    def root(self, job_id: str) -> Job:
        """The job that started all of a job's run."""
        return self.known(self.known(job_id).correlation_id)

    def going_on(self, job_id: str) -> Job:
        """A job that must not have ended. Raises `IllegalTransition`."""
        job = self.known(job_id)
        if job.status.ended:
            raise IllegalTransition(
                f"job {job_id} has ended: {(job.outcome or job.status.value).replace('_', ' ')}",
                hint="what goes on is listed by `dbupkeep jobs --status running`",
            )
        return job

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
        if isinstance(event, JobDeferred) and event.in_a_row >= OFTEN:
            self.append(job_id, DeferralRepeated(in_a_row=event.in_a_row, reason=event.reason))
        if change.after.phase is Phase.EXECUTION and change.after.status.ended:
            root = self.known(change.after.correlation_id)
            if root.at_a_time:
                self.deliver_waiting(root)
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
            self._end_pending(parent.id, JobSkipped(reason=reason))
            parent = self.known(parent.id)
        self.settle(parent)

    def settle(self, parent: Job) -> None:
        """Give a parent the status that its children say: end it, or open it again."""
        verdict = aggregate(
            parent.stats,
            cancel_requested=parent.cancel_requested,
            stop_requested=parent.stop_requested,
            errors=parent.errors,
        )
        if verdict.outcome is not None and not parent.status.ended:
            idle = verdict.outcome is Outcome.NOTHING_TO_DO
            reason = next((child.reason for child in self.tx.children(parent.id) if child.left_out), "") if idle else ""
            settled = ParentSettled(status=verdict.status.value, outcome=verdict.outcome.value, reason=reason)
            self.append(parent.id, settled)
        elif verdict.outcome is None and parent.status.ended:
            self.append(parent.id, ParentReopened())

    def _end_pending(self, parent_id: str, event: Event) -> None:
        """Let it happen to all that waits below a parent, from the last to the first: before its gate could bar it."""
        for child in reversed(self.tx.unended(parent_id)):
            if child.phase is Phase.ORCHESTRATION:
                self._end_pending(child.id, event)
            elif self.known(child.id).status is JobStatus.PENDING:  # still: what came before may have ended it too
                self.append(child.id, event)

    def is_full(self, root: Job, job: Job) -> bool:
        """Whether as many of the run's operations run as its limit says. Finding databases is no operation."""
        if not root.at_a_time or job.type == JobType.DATABASE_DISCOVERY:
            return False
        running = [each for each in self.tx.out(root.id) if each.status is JobStatus.RUNNING]
        return sum(each.type != JobType.DATABASE_DISCOVERY for each in running) >= root.at_a_time

    def deliver_waiting(self, root: Job) -> None:
        """Deliver again what a paused or limited run's operations were refused; what has its delivery keeps that one."""
        waiting = [job for job in self.tx.out(root.id) if job.status is JobStatus.PENDING]
        self.deliveries.extend(expected(job) for job in waiting)

    def refuse_while_cancelled(self, job: Job) -> None:
        """Raise `IllegalTransition` when something above the job is being ended: a retry would end at once."""
        for above in self.above(job):
            if (above.cancel_requested or above.stop_requested) and not above.status.ended:
                raise IllegalTransition(
                    f"job {job.id} cannot be retried now",
                    why=f"{above.id}, which it belongs to, is being {'cancelled' if above.cancel_requested else 'stopped'}",
                    hint="try again when that has ended",
                )

    def is_given_up(self, job: Job) -> bool:
        """Whether something above a job that waits is being ended, and it with that; what a stop found begun goes on."""
        return any(above.cancel_requested or (above.stop_requested and not job.started_at) for above in self.above(job))

    def above(self, job: Job) -> Iterator[Job]:
        """The parent of a job, and so on up to its root."""
        while not job.is_root:
            job = self.known(job.parent_id)
            yield job

    def lose(self, job: Job, reason: str) -> None:
        """End an attempt whose worker is gone: another attempt, or the end of the job."""
        if job.cancel_requested:
            self.append(job.id, JobCancelled(reason=f"cancelled; {reason} meanwhile"))
        elif job.attempt >= job.max_attempts:
            self.append(job.id, JobFailed(error=poisoned(job, reason)))
        else:
            self.append(job.id, AttemptLost(attempt=job.attempt, reason=reason))
            self.deliveries.append(Delivery(job_id=job.id, attempt=job.attempt + 1, lane=job.lane))

    def below(self, parent_id: str) -> Sequence[Job]:
        """All operations below a parent, in order."""
        found: list[Job] = []
        for child in self.tx.children(parent_id):
            found.extend([child] if child.phase is Phase.EXECUTION else self.below(child.id))
        return found


def expected(job: Job) -> Delivery:
    """The delivery that a released job must have."""
    attempt = job.attempt if job.status is JobStatus.RUNNING else job.attempt + 1
    return Delivery(job_id=job.id, attempt=attempt, lane=job.lane)


def poisoned(job: Job, reason: str) -> dict[str, str]:
    """The error of a job that has no attempt left."""
    error = OperationError(
        f"given up after {job.attempt} attempts",
        why=reason,
        hint="see `dbupkeep logs` for what happened to each; then `dbupkeep retry`",
        kind=Kind.POISONED,
    )
    return error.at(operation=str(job.config.get("operation", "")), target=job.target).document()


def act_of_run(first: Job, targets: Sequence[str], who: str) -> Sequence[Act]:
    """What the audit trail says of a run that somebody starts; nothing of what a run starts itself."""
    if not first.is_root or not who:
        return ()
    more = f" and {len(targets) - NAMED} more" if len(targets) > NAMED else ""
    detail = {"name": first.name, "plan": first.plan_id, "operations": first.config.get("operations")}
    known = {name: value for name, value in detail.items() if value}
    return (Act(who=who, what="run", on=first.id, target=", ".join(targets[:NAMED]) + more, detail=known),)


def act_of_plan(kind: str, key: str, document: Mapping[str, Any], who: str) -> Sequence[Act]:
    """What the audit trail says of a document that somebody keeps: of plans, which are carried out later."""
    if kind not in PLANS or not who:
        return ()
    return (Act(who=who, what="plan_save", on=key, target=str(document.get("name", ""))),)


def _barred_reason(gate: Job, barred: str) -> str:
    if gate.id == barred:
        return "not started: what it waits for did not complete, and was not retried with it"
    return f"not started: {gate.config.get('operation', gate.name)} is {gate.status}"


def said_by(by: str) -> str:
    """Who asked, at the end of a sentence; empty where nobody says."""
    return f" by {by}" if by else ""
