"""How a service is: what `dbupkeep health`, the API and the metrics look at, gathered from ledger and configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise

from msgspec import Struct

from dbupkeep import cron
from dbupkeep.app import App
from dbupkeep.config import Config
from dbupkeep.definitions import JobDefinition, Schedule
from dbupkeep.health import FollowerSight, JobSight, Sight, Verdict, judge
from dbupkeep.ledger import Backlog
from dbupkeep.outbox import State, state_of
from dbupkeep.queue import WorkerProcess
from dbupkeep.scheduler import alive_at, faulty_file, is_scheduled, last_run, standing
from dbupkeep.schedules import Situation, due_now, standing_of, success_at

AHEAD = 10
"""Due times looked at for the longest gap between two: enough for a job that rests over a weekend."""

SELDOM = timedelta(days=400)
"""The gap of a job of which nobody can say how seldom something is due."""

SERVICE = ("ledger", "scheduler")
"""The checks of the service itself."""


def condition(app: App, config: Config, *, deep: bool = False, served: bool = False, unread: str = "") -> Verdict:
    """How everything is. Raises `LedgerError`.

    `deep` also has the ledger check itself, which takes time with its size; `served`: a service has to be there;
    `unread`: why the configuration could not be read, and an empty one is given.
    """
    return judge(look(app, config, read(app, config), deep=deep, served=served, unread=unread))


class Readings(Struct, frozen=True, kw_only=True):
    """What the ledger says, read once for whoever asks: the verdict and the metrics."""

    followers: Mapping[str, State]  # by name, those that have been at work
    backlog: Backlog
    workers: Sequence[WorkerProcess]


def read(app: App, config: Config) -> Readings:
    """Read. Raises `LedgerError`."""
    names = [follower.name for follower in app.followers(config)]
    states = {name: state for name in names if (state := state_of(app.reader, name)) is not None}
    return Readings(followers=states, backlog=app.reader.backlog(), workers=app.queue.workers())


def look(
    app: App, config: Config, readings: Readings, *, deep: bool = False, served: bool = False, unread: str = ""
) -> Sight:
    """What is judged. Raises `LedgerError`."""
    now, backlog = app.clock.now(), readings.backlog
    damaged = app.reader.health() if deep else None
    faulty = faulty_file(app.reader)
    return Sight(
        now=now,
        jobs=tuple(_job(app, job, now) for job in config.jobs.values() if is_scheduled(job)),
        followers=tuple(_followers(readings)),
        workers=sum(worker.alive for worker in readings.workers),
        worker_at=max((worker.seen_at for worker in readings.workers), default=None),
        deliverable=backlog.deliverable,
        running=backlog.running,
        oldest_pending_at=backlog.oldest_pending_at,
        scheduler_at=alive_at(app.reader),
        served=served or bool(unread),
        unread=unread,
        old_in_force=f"{faulty.file}: {faulty.fault}" if faulty else "",
        faulty_since=faulty.since if faulty else None,
        ledger=(damaged.message or "it does not say what") if damaged and not damaged.ok else "",
    )


def _followers(readings: Readings) -> Iterable[FollowerSight]:
    for name, state in readings.followers.items():
        yield FollowerSight(
            name=name, waiting=len(state.outbox), failing_since=state.failing_since, reason=state.reason
        )


def _job(app: App, job: JobDefinition, now: datetime) -> JobSight:
    kept = standing(app.reader, job.name)
    known, last = standing_of(kept, job.schedule, now), last_run(app.reader, job.name)
    situation = Situation(now=now, last=last)
    return JobSight(
        name=job.name,
        known_since=known.since,
        gap=_gap(job.schedule, now.replace(minute=0, second=0, microsecond=0)),
        due_since=None if job.schedule.when_due else due_now(job.schedule, known, situation),
        held=known.held.reason if known.held else "",
        last=last,
        good_at=success_at(known, last),
        blind="; ".join(known.looked.faults) if known.looked else "",
    )


@lru_cache(maxsize=1024)
def _gap(schedule: Schedule, now: datetime) -> timedelta:
    """The longest time between two due times."""
    if schedule.every is not None:
        return schedule.every
    if schedule.when_due is not None:
        return SELDOM
    coming = list(islice(cron.times(schedule.cron, schedule.timezone, now), AHEAD))
    return max((later - earlier for earlier, later in pairwise(coming)), default=SELDOM)
