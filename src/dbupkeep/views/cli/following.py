"""The commands `logs` and `watch`: what happened, and what happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from dbupkeep.documents import event_document
from dbupkeep.events import Recorded
from dbupkeep.jobs import Job, Phase
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.executing import failed_kinds, reported, showing
from dbupkeep.views.cli.exits import Exit, of_outcome
from dbupkeep.views.cli.finding import find
from dbupkeep.views.cli.job_words import short
from dbupkeep.views.cli.serving import TICK, Ending
from dbupkeep.views.cli.waiting import alive
from dbupkeep.views.plain import View, event_line
from dbupkeep.views.watching import Watch

if TYPE_CHECKING:
    from dbupkeep.app import App

PAGE = 500

QUIET_LOOKS = 20
"""Looks at a run at which nobody works before that is said."""


@click.command()
@click.argument("job_id", metavar="ID", default="last")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@common
def logs(console: Console, job_id: str, *, follow: bool) -> int:
    """Print what happened to a job and all below it, a line each; with --json one document a line."""
    with console.app() as app:
        job = find(app.reader, job_id)
        watch = Watch(reader=app.reader, root_id=job.id)
        after = 0
        while True:
            current = app.reader.job(job.id) or job
            for recorded in _of(app, job, after):
                after = recorded.seq
                _print(console, recorded, watch)
            if not follow or current.status.ended:
                return Exit.DONE
            threading.Event().wait(TICK)


def _print(console: Console, recorded: Recorded, watch: Watch) -> None:
    if console.as_json:
        console.event(event_document(recorded))
        return
    line = event_line(recorded, watch)
    if line:
        time = console.out.paint(words.moment(recorded.at), "dim")
        console.out.line(f"{time}  {line}")


def _of(app: App, job: Job, after: int) -> Iterator[Recorded]:
    """The events of a job and of all below it."""
    below = {job.id}
    for recorded in app.orchestrator.follow(job.id, after):
        if recorded.parent_id in below:
            below.add(recorded.job_id)
        if job.is_root or recorded.job_id in below:
            yield recorded


@click.command()
@click.argument("job_id", metavar="ID", default="last")
@common
def watch(console: Console, job_id: str) -> int:
    """Watch a run until it ends, from any process; Ctrl-C leaves it running. With --json one event a line."""
    with console.app() as app:
        job = find(app.reader, job_id)
        watching = Watch(reader=app.reader, root_id=job.id)
        try:
            with showing(console, app, watching, events=console.as_json) as view:
                root = _until_ended(app, view, watching)
        except KeyboardInterrupt:
            console.say("Left; the run goes on.")
            return Exit.INTERRUPTED
        if root.phase is Phase.EXECUTION or console.as_json:
            return of_outcome(root.outcome or root.status.value, failed_kinds(app, root))
        return reported(console, app, Ending(root=root))


def _until_ended(app: App, view: View, watching: Watch) -> Job:
    waited = 0
    while True:
        began = app.clock.monotonic()
        look = watching.look()
        view.show(look)
        if look.root.status.ended:
            return look.root
        waited = 0 if look.running else waited + 1
        if waited == QUIET_LOOKS:
            view.say(_why_quiet(app, look.root))
        threading.Event().wait(max(TICK, 10 * (app.clock.monotonic() - began)))


def _why_quiet(app: App, root: Job) -> str:
    if root.paused:
        return f"The run is paused. Go on:  dbupkeep run --resume {short(root)}"
    if alive(app, root.lane):
        return "Nothing runs at the moment: what is left waits."
    return f"No process works on it. Start one:  dbupkeep worker  or  dbupkeep run --resume {short(root)}"
