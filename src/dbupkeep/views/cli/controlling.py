"""The commands `cancel`, `stop`, `skip`, `retry`, `pause`, `resume` and `limit`; they work from any process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from dbupkeep.documents import job_document
from dbupkeep.errors import UsageError
from dbupkeep.jobs import Job
from dbupkeep.lifecycle import MOST_AT_A_TIME
from dbupkeep.views import sayings, words
from dbupkeep.views.cli.account import user
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.executing import default_slots, execute
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.cli.finding import find
from dbupkeep.views.cli.job_words import short
from dbupkeep.views.moments import ahead

if TYPE_CHECKING:
    from dbupkeep.app import App


@click.command()
@click.argument("job_id", metavar="ID")
@common
def cancel(console: Console, job_id: str) -> int:
    """End a job and all below it: what waits ends now, what runs is told to stop."""
    return _do(console, job_id, lambda app, job: app.lifecycle.cancel(job.id, by=user()), sayings.cancelled)


@click.command()
@click.argument("job_id", metavar="ID")
@click.option(
    "--after-current",
    is_flag=True,
    help="After what runs now, which is what it does anyway: `cancel` ends what runs too.",
)
@common
def stop(console: Console, job_id: str, *, after_current: bool) -> int:  # noqa: ARG001 - scripts may want to say it
    """End a run, or a database of one, after what runs now: what waits is given up. Only `retry` opens it again."""
    return _do(console, job_id, lambda app, job: app.lifecycle.stop(job.id, by=user()), sayings.stopped)


@click.command()
@click.argument("job_id", metavar="ID")
@click.option(
    "-j",
    "--jobs",
    "at_a_time",
    type=click.IntRange(1, MOST_AT_A_TIME),
    metavar="N",
    help="Operations at a time, in all of the run and on each of its databases; holds for what starts next.",
)
@click.option(
    "--until",
    metavar="TIME",
    help="End by then, in place of a window: 06:00, 2h, 2026-11-24T06:00; none takes it back. What runs is stopped then.",
)
@common
def limit(console: Console, job_id: str, *, at_a_time: int | None, until: str | None) -> int:
    """Give a run other limits while it goes on.

    How many operations run at a time holds for the next one that starts; `--until` (live) for what runs too.
    """
    if at_a_time is None and until is None:
        raise UsageError("no limit was given", hint="give --jobs N, --until TIME, or both")
    lift = until == "none"

    def change(app: App, job: Job) -> Job:
        moment = ahead(until, app.clock.now()) if until and not lift else None
        return app.lifecycle.limit(job.id, at_a_time=at_a_time, until=moment, open_end=lift, by=user())

    return _do(console, job_id, change, sayings.limited)


@click.command()
@click.argument("job_id", metavar="ID")
@common
def skip(console: Console, job_id: str) -> int:
    """Leave out an operation that has not started, or all such of a database; what waits for it goes on.

    After a check that is left out, nothing is rewritten.
    """
    return _do(console, job_id, lambda app, job: app.lifecycle.skip(job.id, by=user()), sayings.skipped)


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--run", "execute_here", is_flag=True, help="And carry it out in this process.")
@common
def retry(console: Console, job_id: str, *, execute_here: bool) -> int:
    """Give another attempt to a job, or to what failed, was cancelled or deferred below it."""
    with console.app() as app:
        job = find(app.reader, job_id)
        again = app.lifecycle.retry(job.id, by=user())
        root = app.reader.job(job.correlation_id) or job
        if execute_here:
            return execute(console, app, root, slots=default_slots())
        if console.as_json:
            console.document({"jobs": [job_document(each) for each in again]})
        else:
            count = words.counted(len(again), "operation")
            console.out.line(f"{count} will be tried again by a worker, or by:  dbupkeep run --resume {short(root)}")
    return Exit.DONE


@click.command()
@click.argument("job_id", metavar="ID")
@common
def pause(console: Console, job_id: str) -> int:
    """Start nothing new in a run; what runs goes on."""

    def said(job: Job) -> str:
        if job.status.ended:
            return sayings.ended_before(job)
        return f"Paused {words.name(job.name)}. Let it go on:  dbupkeep resume {short(job)}"

    return _do(console, job_id, lambda app, job: app.lifecycle.pause(job.id, by=user()), said)


@click.command()
@click.argument("job_id", metavar="ID")
@common
def resume(console: Console, job_id: str) -> int:
    """Let a paused run go on, in whatever process works on it; `run --resume` carries it out here."""

    def said(job: Job) -> str:
        if job.status.ended:
            return sayings.ended_before(job)
        return f"{words.name(job.name)} goes on where a process works on it; here:  dbupkeep run --resume {short(job)}"

    return _do(console, job_id, lambda app, job: app.lifecycle.resume(job.id, by=user()), said)


def _do(console: Console, job_id: str, verb: Callable[[App, Job], Job], said: Callable[[Job], str]) -> int:
    with console.app() as app:
        job = verb(app, find(app.reader, job_id))
    if console.as_json:
        console.document(job_document(job))
    else:
        console.out.line(said(job))
    return Exit.DONE
