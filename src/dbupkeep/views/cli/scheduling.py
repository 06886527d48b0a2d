"""The command `schedule`: what runs next by itself, in which window, how it went last, and what will not run and why."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import click

from dbupkeep.scheduler import is_scheduled
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.scheduled import Scheduled, in_words, is_served, schedule_document
from dbupkeep.views.terminal import wrap


@click.command()
@click.argument("names", nargs=-1, metavar="[JOBNAME...]")
@common
def schedule(console: Console, names: tuple[str, ...]) -> int:
    """Say of each job when it runs next by itself, in which window, how it went last, and why it will not run."""
    config = console.config()
    jobs = [config.job(name) for name in names] or list(config.jobs.values())
    with console.app() as app:
        now = app.clock.now()
        if console.as_json:
            console.document(schedule_document(app.reader, jobs, now))
            return Exit.DONE
        served = is_served(app.reader, now)
        views = [Scheduled.of(app.reader, job, now) for job in jobs]
    for view in views:
        for line in _lines(view, now):
            for piece in wrap(line, console.out.width, indent=2 if line.startswith(" ") else 0):
                console.out.line(piece)
    if not views:
        console.say("The configuration has no jobs. `dbupkeep config path` says where it is read from.")
    elif not served and any(is_scheduled(view.job) for view in views):
        console.say(
            "Nothing starts by itself now: no service runs on this ledger. Start one:  dbupkeep serve", "yellow"
        )
    return Exit.DONE


def _lines(view: Scheduled, now: datetime) -> Iterator[str]:
    yield f"{words.name(view.job.name)} · {in_words(view.job.schedule)}"
    when_due, looked, held = view.job.schedule.when_due, view.standing.looked, view.standing.held
    if view.coming:
        yield f"  {'looks ' if when_due else 'next  '}  {_times(view)}"
    elif (view.job.schedule.every or when_due) and view.last and not view.last.ended:
        yield f"  {'looks ' if when_due else 'next  '}  after its last run has ended"
    if looked:
        yield f"  looked  {words.ago(looked.at, now)}: {view.looked_said}"
    if view.job.window:
        yield f"  window  {_window_said(view, now)}"
    if held:
        yield f"  waits   the {'look' if when_due else 'run'} due {_at(held.due, view.job.schedule.timezone)}: {words.name(held.reason)}"
    if view.standing.missed:
        missed = view.standing.missed
        yield f"  missed  the run due {_at(missed.due, view.job.schedule.timezone)} was left out: {words.name(missed.reason)}"
    yield f"  last    {_last_said(view, now)}"


def _times(view: Scheduled) -> str:
    return ", ".join(_at(due, view.job.schedule.timezone) for due in view.coming)


def _at(moment: datetime | None, timezone: str) -> str:
    """A moment in a job's own time zone, with its abbreviation: a change of the clocks may be before the next one."""
    return "–" if moment is None else f"{moment.astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M:%S %Z}"


def _window_said(view: Scheduled, now: datetime) -> str:
    window, opening = view.job.window, view.opening
    name = words.name(window.name) if window else ""
    if window is None or opening is None:
        return f"{name}: never opens again"
    if opening.opens <= now:
        return f"{name}: open until {_at(opening.closes, window.timezone)}"
    return f"{name}: closed; opens {_at(opening.opens, window.timezone)}, closes {_at(opening.closes, window.timezone)}"


def _last_said(view: Scheduled, now: datetime) -> str:
    last = view.last
    if last is None:
        return "it never ran"
    if not last.ended:
        return f"goes on since {words.moment(last.started_at)} · {last.id[:13]}"
    return f"{last.outcome.replace('_', ' ')} {words.ago(last.finished_at, now)} · {last.id[:13]}"
