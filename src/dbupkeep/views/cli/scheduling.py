"""The command `schedule`: what runs next by itself, in which window, how it went last, and what will not run and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from dbupkeep import cron
from dbupkeep.codec import rfc3339
from dbupkeep.definitions import JobDefinition, Schedule
from dbupkeep.scheduler import BEAT, alive_at, is_scheduled, last_run, standing
from dbupkeep.schedules import LastRun, Situation, Standing, next_due, standing_of
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.terminal import wrap

if TYPE_CHECKING:
    from dbupkeep.app import App

COMING = 3
"""Next times that are told."""

SILENT = timedelta(seconds=3 * BEAT)
"""A service that left no sign of life for so long is taken to be gone."""


@click.command()
@click.argument("names", nargs=-1, metavar="[JOBNAME...]")
@common
def schedule(console: Console, names: tuple[str, ...]) -> int:
    """Say of each job when it runs next by itself, in which window, how it went last, and why it will not run."""
    config = console.config()
    jobs = [config.job(name) for name in names] or list(config.jobs.values())
    with console.app() as app:
        now, seen = app.clock.now(), alive_at(app.reader)
        served = seen is not None and now - seen < SILENT
        views = [View.of(app, job, now) for job in jobs]
    if console.as_json:
        console.document(
            {"service": {"running": served, "seen_at": _time(seen)}, "jobs": [view.document() for view in views]}
        )
        return Exit.DONE
    for view in views:
        for line in view.lines(now):
            for piece in wrap(line, console.out.width, indent=2 if line.startswith(" ") else 0):
                console.out.line(piece)
    if not views:
        console.say("The configuration has no jobs. `dbupkeep config path` says where it is read from.")
    elif not served and any(is_scheduled(view.job) for view in views):
        console.say(
            "Nothing starts by itself now: no service runs on this ledger. Start one:  dbupkeep serve", "yellow"
        )
    return Exit.DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What is told of one job."""

    job: JobDefinition
    standing: Standing
    coming: tuple[datetime, ...]
    opening: cron.Opening | None
    last: LastRun | None

    @classmethod
    def of(cls, app: App, job: JobDefinition, now: datetime) -> View:
        """Look at a job."""
        remembered = standing_of(standing(app.reader, job.name), job.schedule, now)
        last, window = last_run(app.reader, job.name), job.window
        return cls(
            job=job,
            standing=remembered,
            coming=_coming(job.schedule, remembered, Situation(now=now, last=last)),
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
            "timezone": schedule.timezone,
            "catch_up": schedule.catch_up,
            "overlap": schedule.overlap.value,
            "words": _when(schedule),
            "next": [rfc3339(due) for due in self.coming],
            "window": self._window(),
            "held": {"due": rfc3339(held.due), "reason": held.reason} if held else None,
            "left_out": {"due": rfc3339(missed.due), "reason": missed.reason} if missed else None,
            "last": self._last(),
        }

    def lines(self, now: datetime) -> Iterator[str]:
        """For people."""
        yield f"{words.name(self.job.name)} · {_when(self.job.schedule)}"
        if self.coming:
            yield f"  next    {', '.join(words.moment(due) for due in self.coming)}"
        elif self.job.schedule.every and self.last and not self.last.ended:
            yield "  next    after its last run has ended"
        if self.job.window:
            yield f"  window  {self._window_said(now)}"
        if self.standing.held:
            yield f"  waits   the run due {words.moment(self.standing.held.due)}: {words.name(self.standing.held.reason)}"
        if self.standing.missed:
            missed = self.standing.missed
            yield f"  missed  the run due {words.moment(missed.due)} was left out: {words.name(missed.reason)}"
        yield f"  last    {self._last_said(now)}"

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

    def _window_said(self, now: datetime) -> str:
        window, opening = self.job.window, self.opening
        name = words.name(window.name) if window else ""
        if opening is None:
            return f"{name}: never opens again"
        if opening.opens <= now:
            return f"{name}: open until {words.moment(opening.closes)}"
        return f"{name}: closed; opens {words.moment(opening.opens)}, closes {words.moment(opening.closes)}"

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

    def _last_said(self, now: datetime) -> str:
        last = self.last
        if last is None:
            return "it never ran"
        if not last.ended:
            return f"goes on since {words.moment(last.started_at)} · {last.id[:13]}"
        return f"{last.outcome.replace('_', ' ')} {words.ago(last.finished_at, now)} · {last.id[:13]}"


def _coming(schedule: Schedule, remembered: Standing, now: Situation) -> tuple[datetime, ...]:
    if schedule.cron:
        after = max(remembered.since, now.now)
        return tuple(islice(cron.times(schedule.cron, schedule.timezone, after), COMING))
    due = next_due(schedule, remembered, now)
    return () if due is None else (max(due, now.now),)


def _when(schedule: Schedule) -> str:
    if schedule.cron:
        said = cron.explain(schedule.cron)
        return f"{said[:1].lower()}{said[1:]} ({schedule.timezone})"
    if schedule.every:
        return f"every {words.duration(schedule.every.total_seconds())} after its last success"
    return "started by people only: it has no schedule"


def _time(at: datetime | None) -> str | None:
    return None if at is None else rfc3339(at)
