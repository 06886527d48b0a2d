"""Whether a service does what it is there for: runs start when they are due, succeed, and people are told. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from msgspec import Struct

from dbupkeep.codec import rfc3339
from dbupkeep.quantities import duration
from dbupkeep.schedules import LastRun
from dbupkeep.totals import NAME as COUNTERS

GRACE = timedelta(minutes=10)
"""A run that is due may start so much later before anybody is told."""

SILENCE = timedelta(seconds=90)
"""A scheduler that left no sign of life for so long is taken to be gone."""

TOO_LONG = timedelta(minutes=15)
"""Messages that could not be delivered for so long are a fault."""

STARVED = timedelta(minutes=5)
"""Operations that could run have waited so long for a worker process."""

MISSES = 2
"""Longest times between two due times of a job, after which its last success is too old."""


class Level(IntEnum):
    """How bad it is; the numbers are those of Nagios."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def word(self) -> str:
        """For programs and people."""
        return self.name.lower()


class JobSight(Struct, frozen=True, kw_only=True):
    """A job with a schedule, as it is now."""

    name: str
    known_since: datetime  # when its schedule was first seen
    gap: timedelta  # the longest time between two of its due times
    due_since: datetime | None = None  # a due time that nothing was started for yet
    held: str = ""  # why it waits
    last: LastRun | None = None
    good_at: datetime | None = None  # when its last success ended
    blind: str = ""  # what kept its last look from seeing whether anything is due


class FollowerSight(Struct, frozen=True, kw_only=True):
    """A follower, as it is now."""

    name: str
    waiting: int = 0  # messages
    failing_since: datetime | None = None
    reason: str = ""


class Sight(Struct, frozen=True, kw_only=True):
    """All that is looked at."""

    now: datetime
    jobs: tuple[JobSight, ...] = ()
    followers: tuple[FollowerSight, ...] = ()
    workers: int = 0  # worker processes that are alive
    worker_at: datetime | None = None  # the last sign of life of any
    deliverable: int = 0  # operations that only want a worker
    running: int = 0  # operations that have begun and not ended
    oldest_pending_at: datetime | None = None
    scheduler_at: datetime | None = None  # its last sign of life
    ledger: str = ""  # what is wrong with it
    unread: str = ""  # what is wrong with the configuration, so that nothing is known of its jobs and followers
    old_in_force: str = ""  # what is wrong with the one on disk, where a service goes by the one before
    faulty_since: datetime | None = None
    served: bool = False  # a service has to be there, whether a job has a schedule or not


class Check(Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    name: str
    level: Level
    message: str
    subject: str = ""  # of which job or follower
    age_seconds: float | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """How everything is."""

    at: datetime
    checks: tuple[Check, ...]

    @property
    def level(self) -> Level:
        """The worst of all."""
        return max((check.level for check in self.checks), default=Level.OK)

    def only(self, *names: str) -> Verdict:
        """The same, as far as checks of these names go."""
        return Verdict(at=self.at, checks=tuple(check for check in self.checks if check.name in names))

    def document(self) -> dict[str, Any]:
        """For programs: `{status, at, checks: [{name, status, message, subject, age_seconds}]}`."""
        return {
            "status": self.level.word,
            "at": rfc3339(self.at),
            "checks": [_document(check) for check in self.checks],
        }


def judge(sight: Sight) -> Verdict:
    """Look at everything."""
    checks = [_ledger(sight), _scheduler(sight), _workers(sight), _configuration(sight)]
    for job in sight.jobs:
        checks += _job(job, sight.now)
    checks += [_follower(follower, sight.now) for follower in sight.followers]
    return Verdict(at=sight.now, checks=tuple(checks))


def _ledger(sight: Sight) -> Check:
    if sight.ledger:
        return Check(name="ledger", level=Level.CRITICAL, message=f"the ledger is damaged: {sight.ledger}")
    return Check(name="ledger", level=Level.OK, message="the ledger can be used")


def _scheduler(sight: Sight) -> Check:
    seen, now = sight.scheduler_at, sight.now
    age = (now - seen).total_seconds() if seen else None
    if not sight.jobs and not sight.served:
        return Check(name="scheduler", level=Level.OK, message="no job has a schedule", age_seconds=age)
    if seen is None or now - seen > SILENCE:
        silent = "nothing starts jobs: no service runs" + (f" since {duration(age)}" if age else "")
        return Check(name="scheduler", level=Level.CRITICAL, message=silent, age_seconds=age)
    return Check(name="scheduler", level=Level.OK, message="the scheduler is at work", age_seconds=age)


def _workers(sight: Sight) -> Check:
    """Who carries out, takes over what was lost, and tidies up: no process of a service does that but its workers."""
    since = sight.oldest_pending_at
    age = (sight.now - since).total_seconds() if since and sight.deliverable else None
    if sight.workers:
        return Check(name="workers", level=Level.OK, message=f"worker processes: {sight.workers}", age_seconds=age)
    if age is not None and age > STARVED.total_seconds():
        message = f"no worker process is there, and operations wait since {duration(age)}"
        return Check(name="workers", level=Level.CRITICAL, message=message, age_seconds=age)
    if sight.running:
        return _deserted(sight)
    level = Level.WARNING if sight.jobs else Level.OK
    return Check(name="workers", level=level, message="no worker process is there", age_seconds=age)


def _deserted(sight: Sight) -> Check:
    """Operations that run, as far as the ledger knows, though whoever began them is gone."""
    seen = sight.worker_at
    age = (sight.now - seen).total_seconds() if seen else None
    gone = f" since {duration(age)}" if age is not None else ""
    message = f"no worker process is there{gone}, and nobody takes over what one was at ({sight.running} running)"
    level = Level.CRITICAL if age is None or age > STARVED.total_seconds() else Level.WARNING
    return Check(name="workers", level=level, message=message, age_seconds=age)


def _configuration(sight: Sight) -> Check:
    since = sight.faulty_since
    age = (sight.now - since).total_seconds() if since else None
    told = f" since {duration(age)}" if age is not None else ""
    if sight.old_in_force:
        message = f"the file on disk is faulty{told}, and the old one stays in force: {sight.old_in_force}"
        return Check(name="configuration", level=Level.WARNING, message=message, age_seconds=age)
    if sight.unread:
        message = f"the file on disk is faulty, so its jobs are not looked at: {sight.unread}"
        return Check(name="configuration", level=Level.CRITICAL, message=message)
    return Check(name="configuration", level=Level.OK, message="the configuration is sound")


def _job(job: JobSight, now: datetime) -> Iterator[Check]:
    yield _success(job, now)
    if job.blind:
        message = f"whether something is due could not be seen: {job.blind}"
        yield Check(name="look", subject=job.name, level=Level.WARNING, message=message)
    if job.due_since is None or now - job.due_since <= GRACE:
        return
    late = (now - job.due_since).total_seconds()
    why = job.held or "nobody started it"
    level = Level.WARNING if job.held else Level.CRITICAL
    message = f"a run is overdue since {duration(late)}: {why}"
    yield Check(name="overdue", subject=job.name, level=level, message=message, age_seconds=late)


def _success(job: JobSight, now: datetime) -> Check:
    """How old the last success is, measured by the job's own schedule; and how its last run went."""
    since = job.good_at or job.known_since
    age = (now - since).total_seconds()
    never = "it never succeeded" if job.last else "it has not run yet"
    told = f"its last success was {duration(age)} ago" if job.good_at else never
    known = age if job.good_at else None
    if now - since > MISSES * job.gap + GRACE:
        return Check(name="success", subject=job.name, level=Level.CRITICAL, message=told, age_seconds=known)
    if job.last is not None and job.last.ended and not job.last.good:
        message = f"its last run ended {job.last.outcome.replace('_', ' ')}; {told}"
        return Check(name="success", subject=job.name, level=Level.WARNING, message=message, age_seconds=known)
    return Check(name="success", subject=job.name, level=Level.OK, message=told, age_seconds=known)


def _follower(follower: FollowerSight, now: datetime) -> Check:
    since = follower.failing_since
    if since is None:
        # The totals are no receiver of anybody's: they count for the metrics.
        well = "the counters of the metrics keep up" if follower.name == COUNTERS else "messages are delivered"
        return Check(name="follower", subject=follower.name, level=Level.OK, message=well)
    age = (now - since).total_seconds()
    message = f"messages are not delivered since {duration(age)} ({follower.waiting} wait): {follower.reason}"
    level = Level.WARNING if now - since > TOO_LONG else Level.OK
    return Check(name="follower", subject=follower.name, level=level, message=message, age_seconds=age)


def _document(check: Check) -> Mapping[str, Any]:
    age = None if check.age_seconds is None else round(check.age_seconds, 3)
    return {
        "name": check.name,
        "status": check.level.word,
        "message": check.message,
        "subject": check.subject or None,
        "age_seconds": age,
    }
