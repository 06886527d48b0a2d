"""The commands `cancel`, `skip`, `retry`, `pause` and `resume`; they work from any process."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from dbupkeep.documents import job_document
from dbupkeep.jobs import Job, JobStatus
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.cli.finding import find
from dbupkeep.views.cli.job_words import short
from dbupkeep.views.cli.requests import user
from dbupkeep.views.cli.running import default_slots, execute

if TYPE_CHECKING:
    from dbupkeep.app import App


@click.command()
@click.argument("job_id", metavar="ID")
@common
def cancel(console: Console, job_id: str) -> int:
    """End a job and all below it: what waits ends now, what runs is told to stop."""

    def said(job: Job) -> str:
        if job.status is JobStatus.CANCELLED:
            return f"Cancelled {words.name(job.name)}."
        if job.status.ended:
            return f"{words.name(job.name)} had ended before: {job.outcome or job.status}."
        return f"Cancelling {words.name(job.name)}: what waits has ended, what runs is told to stop."

    return _do(console, job_id, lambda app, job: app.lifecycle.cancel(job.id, by=user()), said)


@click.command()
@click.argument("job_id", metavar="ID")
@common
def skip(console: Console, job_id: str) -> int:
    """Leave out an operation that has not started, or all such of a database; what waits for it goes on.

    After a check that is left out, nothing is rewritten.
    """
    return _do(
        console,
        job_id,
        lambda app, job: app.lifecycle.skip(job.id, by=user()),
        lambda job: f"{words.name(job.name)} is left out.",
    )


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
            return f"{words.name(job.name)} had ended before: {job.outcome or job.status}."
        return f"Paused {words.name(job.name)}. Let it go on:  dbupkeep resume {short(job)}"

    return _do(console, job_id, lambda app, job: app.lifecycle.pause(job.id, by=user()), said)


@click.command()
@click.argument("job_id", metavar="ID")
@common
def resume(console: Console, job_id: str) -> int:
    """Let a paused run go on, in whatever process works on it; `run --resume` carries it out here."""

    def said(job: Job) -> str:
        if job.status.ended:
            return f"{words.name(job.name)} had ended before: {job.outcome or job.status}."
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
