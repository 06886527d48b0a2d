"""The job model: types, phases, the table of legal transitions, and a parent as the aggregate of its children.

Pure: no I/O, no clock. The ledger stores what is computed here, and the docs print `TRANSITIONS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from dbupkeep import events as happened
from dbupkeep.definitions import ErrorPolicy
from dbupkeep.errors import IllegalTransition, RetiredJobType, UnknownName


class Phase(StrEnum):
    """What a job does: watch others, or work."""

    ORCHESTRATION = "orchestration"
    EXECUTION = "execution"


class JobType(StrEnum):
    """The kinds of job that the product itself brings; a third party's type is any other name."""

    DATABASE_MAINTENANCE_PARENT = "database_maintenance_parent"
    DATABASE_MAINTENANCE_OPERATION = "database_maintenance_operation"
    DATABASE_DISCOVERY = "database_discovery"
    MAINTENANCE_RUN = "maintenance_run"

    @property
    def phase(self) -> Phase:
        """Orchestration for parents and runs, execution for all others."""
        orchestrates = self in (JobType.DATABASE_MAINTENANCE_PARENT, JobType.MAINTENANCE_RUN)
        return Phase.ORCHESTRATION if orchestrates else Phase.EXECUTION

    @classmethod
    def parse(cls, text: str) -> JobType:
        """Read a type. Raises `RetiredJobType` for the combined type of the past, `UnknownName` for any other name."""
        if text in RETIRED:
            raise RetiredJobType(
                f"the job type {text} is no longer run",
                why="it did several operations in one job, so that none could be tracked or retried on its own",
                hint=f"use {RETIRED[text]}, with one operation in each job's config",
            )
        if text not in set(cls):
            raise UnknownName(f"unknown job type: {text}", hint=f"known types: {', '.join(cls)}")
        return cls(text)


WORK = (JobType.DATABASE_MAINTENANCE_OPERATION.value, JobType.DATABASE_DISCOVERY.value)
"""Types of jobs that are carried out, and not made of others."""

RETIRED: Mapping[str, JobType] = {"database_maintenance": JobType.DATABASE_MAINTENANCE_OPERATION}


class JobStatus(StrEnum):
    """Where a job is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    DEFERRED = "deferred"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self not in (JobStatus.PENDING, JobStatus.RUNNING)


class Outcome(StrEnum):
    """What a parent's end means."""

    DONE = "done"
    NOTHING_TO_DO = "nothing_to_do"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STOPPED = "stopped"  # what ran came to its end, and what had not started was given up
    DEFERRED = "deferred"


class Effective(StrEnum):
    """Whether a completed operation had its effect, by what was checked afterwards."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


LEFT_OUT, NOT_STARTED = "left out", "not started"
"""How the reasons begin of what was due and was withheld: by a person, or because of what happened before it."""

OFTEN = 3
"""Runs in a row that put off the same operation, from which on people are told of it."""


class Transition(Struct, frozen=True, kw_only=True):
    """One legal change: when `event` happens to a job in `source`, it is in `target`."""

    event: type[happened.Event]
    source: JobStatus
    target: JobStatus


def _rows() -> Iterable[Transition]:
    s = JobStatus
    for event, sources, target in (
        (happened.JobStarted, (s.PENDING,), s.RUNNING),
        (happened.JobCompleted, (s.RUNNING,), s.COMPLETED),
        (happened.JobFailed, (s.PENDING, s.RUNNING), s.FAILED),
        (happened.JobCancelled, (s.PENDING, s.RUNNING), s.CANCELLED),
        (happened.JobSkipped, (s.PENDING, s.RUNNING), s.SKIPPED),
        (happened.JobDeferred, (s.PENDING, s.RUNNING), s.DEFERRED),
        (happened.AttemptLost, (s.RUNNING,), s.PENDING),
        (happened.JobReturned, (s.RUNNING,), s.PENDING),
        (happened.JobRetried, (s.FAILED, s.CANCELLED, s.DEFERRED), s.PENDING),
        (happened.ParentReopened, (s.COMPLETED, s.FAILED, s.CANCELLED, s.DEFERRED), s.RUNNING),
    ):
        yield from (Transition(event=event, source=source, target=target) for source in sources)
    for end in (s.COMPLETED, s.FAILED, s.CANCELLED, s.DEFERRED):
        yield Transition(event=happened.ParentSettled, source=s.RUNNING, target=end)


TRANSITIONS: tuple[Transition, ...] = tuple(_rows())
"""The whole life of a job, as data."""

_TARGETS: Mapping[tuple[str, JobStatus], tuple[JobStatus, ...]] = {
    (row.event.name, row.source): tuple(
        other.target for other in TRANSITIONS if (other.event, other.source) == (row.event, row.source)
    )
    for row in TRANSITIONS
}
_MOVES = frozenset(row.event.name for row in TRANSITIONS)


class ChildStats(Struct, frozen=True, kw_only=True):
    """The children of a parent, counted. `weight` is what the progress is a share of."""

    pending: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    deferred: int = 0
    partial: int = 0  # of the failed: parents whose own failures were within their tolerance
    ineffective: int = 0
    often: int = 0  # of the deferred: operations put off `OFTEN` runs in a row or more
    weight_total: int = 0
    weight_ended: int = 0

    @property
    def total(self) -> int:
        """All children."""
        return sum(getattr(self, status.value) for status in JobStatus)

    @property
    def unended(self) -> int:
        """Children that are still to end."""
        return self.pending + self.running


class Deadline(Struct, frozen=True, kw_only=True):
    """By when an attempt must have ended."""

    stop: datetime  # when it is told to stop
    closes: datetime
    window: str = ""  # its name; empty: a person said until when the run may go on

    @property
    def said(self) -> str:
        """What happens then, in words."""
        return f"the window {self.window} closes" if self.window else "the run was to end by then"


class Job(Struct, frozen=True, kw_only=True):
    """One job as the ledger has it."""

    id: str
    parent_id: str  # its own id when nothing started it
    correlation_id: str  # the id of the root
    type: str
    phase: Phase
    name: str
    created_at: datetime
    status: JobStatus = JobStatus.PENDING
    reason: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    target: str = ""  # the target's key
    hold: str = ""  # what it needs for itself, by `hold_of`; empty: nothing
    lane: str = "default"
    plan_id: str = ""
    place: int = 0
    weight: int = 1  # expected milliseconds, at least 1: its share of the parent's progress
    errors: ErrorPolicy = field(default_factory=ErrorPolicy)  # of a parent
    attempt: int = 0
    max_attempts: int = 3
    cancel_requested: bool = False
    stop_requested: bool = False  # of a parent: nothing new starts any more
    paused: bool = False  # of a root
    at_a_time: int = 0  # of a root: how many of its operations may run at a time; 0: no limit of its own
    until: datetime | None = None  # of a root, and of an attempt that was just begun: by when it is to have ended
    released: bool = False  # whether it was made deliverable
    outcome: str = ""  # of a parent that ended
    stats: ChildStats = field(default_factory=ChildStats)  # of a parent
    progress: Mapping[str, Any] | None = None
    estimate: Mapping[str, Any] | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deadline: Deadline | None = None  # of the attempt that was just begun; not kept

    @property
    def is_root(self) -> bool:
        """Whether nothing else started it."""
        return self.parent_id == self.id

    @property
    def left_out(self) -> bool:
        """Whether a person left it out; of a parent, something below it, and nothing was done."""
        return self.status in (JobStatus.SKIPPED, JobStatus.COMPLETED) and self.reason.startswith(LEFT_OUT)

    @property
    def withheld(self) -> bool:
        """Whether it was due and skipped all the same; what was not needed is skipped too."""
        return self.status is JobStatus.SKIPPED and self.reason.startswith((LEFT_OUT, NOT_STARTED))

    @property
    def ineffective(self) -> int:
        """How many ineffective operations it stands for in its parent's counts."""
        if self.phase is Phase.ORCHESTRATION:
            return self.stats.ineffective
        ended_so = self.status is JobStatus.COMPLETED and (self.result or {}).get("effective") == Effective.NO
        return int(ended_so)

    @property
    def often(self) -> int:
        """How many operations that were put off too often it stands for in its parent's counts."""
        if self.phase is Phase.ORCHESTRATION:
            return self.stats.often
        in_a_row = (self.result or {}).get("in_a_row", 1)
        return int(self.status is JobStatus.DEFERRED and in_a_row >= OFTEN)


def apply(job: Job, event: happened.Event, at: datetime) -> Job:
    """What the job is once the event has happened to it.

    Raises `IllegalTransition` when `TRANSITIONS` has no such row; an event that is not in the table changes no status.
    """
    if event.name not in _MOVES:
        return _marked(job, event)
    status = _next(job, event)
    moved = _moved(job, event, at, ended=status.ended)
    return replace(job, status=status, reason=getattr(event, "reason", "") or "", **moved)


def _moved(job: Job, event: happened.Event, at: datetime, *, ended: bool) -> dict[str, Any]:
    """What changes beside the status."""
    if isinstance(event, happened.JobStarted):
        return {"attempt": event.attempt, "started_at": at, "finished_at": None, "progress": None, "error": None}
    if not ended:
        going_on = {"finished_at": None, "outcome": "", **_still_asked(job, event)}
        if isinstance(event, happened.JobReturned) and not event.counted:
            return {**going_on, "max_attempts": job.max_attempts + 1}
        if isinstance(event, happened.JobRetried):
            most = job.attempt + job.max_attempts
            anew = {"progress": None, "result": None, "error": None, "started_at": None}
            return {**going_on, **anew, "max_attempts": most}
        return going_on
    if isinstance(event, happened.ParentSettled):
        return {"outcome": event.outcome, "finished_at": at}
    result, error = getattr(event, "result", None) or None, getattr(event, "error", None) or None
    if isinstance(event, happened.JobDeferred) and event.in_a_row > 1:
        result = {**event.result, "in_a_row": event.in_a_row}
    return {"finished_at": at, "result": result, "error": error}


def _next(job: Job, event: happened.Event) -> JobStatus:
    targets = _TARGETS.get((event.name, job.status), ())
    if isinstance(event, happened.ParentSettled):
        targets = tuple(target for target in targets if target == event.status)
    if not targets:
        raise IllegalTransition(
            f"job {job.id} is {job.status}, so {event.name.replace('_', ' ')} cannot happen to it",
            hint="look at it with `dbupkeep show`; docs/reference/state-machine.md has the legal changes",
        )
    return targets[0]


def _marked(job: Job, event: happened.Event) -> Job:
    match event:
        case happened.CancelRequested():
            return replace(job, cancel_requested=True)
        case happened.StopRequested():
            return replace(job, stop_requested=True)
        case happened.LimitsChanged():
            return replace(job, at_a_time=event.at_a_time, until=event.until)
        case happened.RunPaused():
            return replace(job, paused=True)
        case happened.RunResumed():
            return replace(job, paused=False)
        case _:
            return job


def _still_asked(job: Job, event: happened.Event) -> dict[str, bool]:
    """A retry takes back an earlier request to cancel or stop; a lost attempt does not."""
    retried = isinstance(event, (happened.JobRetried, happened.ParentReopened))
    return {
        "cancel_requested": job.cancel_requested and not retried,
        "stop_requested": job.stop_requested and not retried,
    }


def attempt_tag(job_id: str, attempt: int) -> str:
    """The short mark of one attempt on a target server; fits where names are cut at 63 bytes."""
    return f"dbupkeep:{job_id.replace('-', '')[-12:]}:{attempt}"


def hold_of(target: str, part: str = "") -> str:
    """The name of what a job needs for itself: a part of its target, or the whole, which meets every part."""
    return f"{target}|{part}"


class Delivery(Struct, frozen=True, kw_only=True):
    """One attempt of a job, to be handed to a worker process."""

    job_id: str
    attempt: int
    lane: str = "default"
    delay: float = 0.0  # seconds from now before which it is not handed out

    @property
    def key(self) -> str:
        """What makes it unique."""
        return f"{self.job_id}/{self.attempt}"


class Verdict(Struct, frozen=True, kw_only=True):
    """What a parent is, given its children."""

    status: JobStatus
    outcome: Outcome | None = None


def aggregate(
    stats: ChildStats, *, cancel_requested: bool, stop_requested: bool = False, errors: ErrorPolicy
) -> Verdict:
    """A parent's status and outcome: a pure function of its children, what was requested and the step's policy."""
    if stats.unended:
        return Verdict(status=JobStatus.RUNNING)
    if stats.failed:
        tolerated = stats.failed - stats.partial <= errors.tolerance
        return Verdict(status=JobStatus.FAILED, outcome=Outcome.PARTIAL if tolerated else Outcome.FAILED)
    if cancel_requested or (stop_requested and stats.cancelled):
        return Verdict(status=JobStatus.CANCELLED, outcome=Outcome.CANCELLED if cancel_requested else Outcome.STOPPED)
    if stats.deferred:
        return Verdict(status=JobStatus.DEFERRED, outcome=Outcome.DEFERRED)
    if stats.cancelled:
        return Verdict(status=JobStatus.COMPLETED, outcome=Outcome.PARTIAL)
    return Verdict(status=JobStatus.COMPLETED, outcome=Outcome.DONE if stats.completed else Outcome.NOTHING_TO_DO)


def count(children: Iterable[Job]) -> ChildStats:
    """Count children from scratch; what the kept counters must always equal."""
    stats = ChildStats()
    for child in children:
        stats = shift(stats, before=None, after=child)
    return stats


def shift(stats: ChildStats, *, before: Job | None, after: Job) -> ChildStats:
    """The counters after one child changed (or was added, with `before` None)."""
    numbers = {name: getattr(stats, name) for name in stats.__struct_fields__}
    for job, sign in ((before, -1), (after, 1)):
        if job is not None:
            for name, amount in _contribution(job).items():
                numbers[name] += sign * amount
    return ChildStats(**numbers)


def _contribution(job: Job) -> dict[str, int]:
    weight = job.stats.weight_total if job.phase is Phase.ORCHESTRATION else job.weight
    return {
        job.status.value: 1,
        "partial": int(job.status is JobStatus.FAILED and job.outcome == Outcome.PARTIAL),
        "ineffective": job.ineffective if job.status.ended else 0,
        "often": job.often if job.status.ended else 0,
        "weight_total": weight,
        "weight_ended": weight if job.status.ended else 0,
    }
