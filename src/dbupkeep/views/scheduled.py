"""When the jobs of a configuration run by themselves: what comes, in which window, how it went last. For every face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from msgspec import Struct

from dbupkeep import cron
from dbupkeep.codec import rfc3339
from dbupkeep.definitions import JobDefinition, Schedule
from dbupkeep.documents import Document
from dbupkeep.ledger import Reader
from dbupkeep.scheduler import BEAT, alive_at, last_run, standing
from dbupkeep.schedules import LastRun, Looked, Situation, Standing, next_due, standing_of
from dbupkeep.views import words

COMING = 3
"""Next times that are told."""

SILENT = timedelta(seconds=3 * BEAT)
"""A service that left no sign of life for so long is taken to be gone."""


def schedule_document(reader: Reader, jobs: Sequence[JobDefinition], now: datetime) -> Document:
    """Whether a service runs on the ledger, and each job's times."""
    seen = alive_at(reader)
    return {
        "service": {"running": is_served(reader, now), "seen_at": _time(seen)},
        "jobs": [Scheduled.of(reader, job, now).document() for job in jobs],
    }


def is_served(reader: Reader, now: datetime) -> bool:
    """Whether something starts runs by themselves."""
    seen = alive_at(reader)
    return seen is not None and now - seen < SILENT


class Scheduled(Struct, frozen=True, kw_only=True):
    """One job."""

    job: JobDefinition
    standing: Standing
    coming: tuple[datetime, ...]
    opening: cron.Opening | None
    last: LastRun | None

    @classmethod
    def of(cls, reader: Reader, job: JobDefinition, now: datetime, *, coming: int = COMING) -> Scheduled:
        """Look at a job, and at so many next times."""
        remembered = standing_of(standing(reader, job.name), job.schedule, now)
        last, window = last_run(reader, job.name), job.window
        return cls(
            job=job,
            standing=remembered,
            coming=_coming(job, remembered, Situation(now=now, last=last), coming),
            opening=cron.opening(window.open, window.timezone, window.lasts, now) if window else None,
            last=last,
        )

    def document(self) -> dict[str, Any]:
        """For programs."""
        schedule, held, missed = self.job.schedule, self.standing.held, self.standing.missed
        return {
            "name": self.job.name,
            "schedule": schedule.cron or None,
            "every": schedule.every.total_seconds() if schedule.every else None,
            "when_due": schedule.when_due.total_seconds() if schedule.when_due else None,
            "timezone": schedule.timezone,
            "catch_up": schedule.catch_up,
            "overlap": schedule.overlap.value,
            "words": in_words(schedule),
            "next": [rfc3339(due) for due in self.coming],
            "window": self._window(),
            "held": {"due": rfc3339(held.due), "reason": held.reason} if held else None,
            "left_out": {"due": rfc3339(missed.due), "reason": missed.reason} if missed else None,
            "looked": self._looked(),
            "last": self._last(),
        }

    @property
    def looked_said(self) -> str:
        """What its last look found; empty when there was none."""
        return found_in_words(self.standing.looked) if self.standing.looked else ""

    def _looked(self) -> Mapping[str, Any] | None:
        looked = self.standing.looked
        if looked is None:
            return None
        return {
            "at": rfc3339(looked.at),
            "due": looked.due,
            "databases": looked.databases,
            "faults": list(looked.faults),
            "words": self.looked_said,
        }

    def _window(self) -> Mapping[str, Any] | None:
        window, opening = self.job.window, self.opening
        if window is None:
            return None
        return {
            "name": window.name,
            "open": window.open,
            "lasts": window.lasts.total_seconds(),
            "soft_stop": window.soft_stop.total_seconds(),
            "opens": _time(opening.opens if opening else None),
            "closes": _time(opening.closes if opening else None),
        }

    def _last(self) -> Mapping[str, Any] | None:
        last = self.last
        if last is None:
            return None
        return {
            "id": last.id,
            "outcome": last.outcome or None,
            "started_at": _time(last.started_at),
            "finished_at": _time(last.finished_at),
        }


def _coming(job: JobDefinition, remembered: Standing, now: Situation, count: int) -> tuple[datetime, ...]:
    """The next times that it starts, or the one at which it is looked whether anything is due."""
    schedule, window = job.schedule, job.window
    if schedule.cron:
        after = max(remembered.since, now.now)
        return tuple(islice(cron.times(schedule.cron, schedule.timezone, after), count))
    due = next_due(schedule, remembered, now)
    if due is not None and schedule.when_due and window is not None:
        opening = cron.opening(window.open, window.timezone, window.lasts, max(due, now.now))
        due = max(due, opening.opens) if opening else None
    return () if due is None else (max(due, now.now),)


def in_words(schedule: Schedule) -> str:
    """When a job runs, in plain words."""
    if schedule.cron:
        said = cron.explain(schedule.cron)
        return f"{said[:1].lower()}{said[1:]} ({schedule.timezone})"
    if schedule.every:
        return f"every {words.duration(schedule.every.total_seconds())} after its last success"
    if schedule.when_due:
        return f"when something is due, looked at every {words.duration(schedule.when_due.total_seconds())} at most"
    return "started by people only: it has no schedule"


def found_in_words(looked: Looked) -> str:
    """What a look found, and what kept it from finding more."""
    surveyed = words.counted(looked.databases, "database")
    found = f"{words.counted(looked.due, 'operation')} due" if looked.due else "nothing was due"
    if not looked.faults:
        return f"{found}: {surveyed}"
    faults = "; ".join(words.name(fault) for fault in looked.faults)
    return f"{found}: {surveyed}; not looked at: {faults}" if looked.databases else f"could not look: {faults}"


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)
