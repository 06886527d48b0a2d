"""A run that this process carries out: shown while it goes, reported when it ends."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dbupkeep.config import RETENTION
from dbupkeep.documents import run_document
from dbupkeep.errors import UsageError
from dbupkeep.jobs import Job, JobStatus, JobType
from dbupkeep.ledger import JobQuery
from dbupkeep.logs import LogFormat, set_up
from dbupkeep.views import words
from dbupkeep.views.cli.console import LEVELS, Console
from dbupkeep.views.cli.exits import Exit, of_outcome
from dbupkeep.views.cli.job_text import report
from dbupkeep.views.cli.job_words import short
from dbupkeep.views.cli.serving import Ending, carry_out
from dbupkeep.views.plain import EventView, NoView, PlainView, View
from dbupkeep.views.watching import Watch

if TYPE_CHECKING:
    from dbupkeep.app import App

log = logging.getLogger(__name__)


def default_slots() -> int:
    """Operations at a time when nobody says."""
    return min(4, 2 * (os.cpu_count() or 1))


def execute(console: Console, app: App, root: Job, *, slots: int, events: bool = False) -> int:
    """Carry a run out in this process, show it, report it, and say how it ended."""
    watch = Watch(reader=app.reader, root_id=root.id)
    with showing(console, app, watch, events=events) as view:
        ending = carry_out(app, root, view, watch, slots=_useful_slots(app, root, slots))
    code = reported(console, app, ending, events=events)
    _tidy(console, app)
    return code


def _useful_slots(app: App, root: Job, slots: int) -> int:
    """How many operations can run at a time: a single database has its limit, and a slot at rest costs looks."""
    plan = app.reader.get("plan", root.plan_id) if root.plan_id else None
    return max(1, min(slots, int(plan["target"]["parallel"]))) if plan else slots


def _tidy(console: Console, app: App) -> None:
    """Keep the ledger small; what a faulty configuration says of that is no reason to fail a run."""
    try:
        keep = console.config().retention
    except UsageError:
        keep = RETENTION
    removed = app.tidy(keep)
    if removed:
        log.info("old runs were forgotten", extra={"jobs": removed})


@contextmanager
def showing(console: Console, app: App, watch: Watch, *, events: bool) -> Iterator[View]:
    """The view that fits: events, a live picture on a terminal, lines elsewhere, or nothing.

    A view for people tells of failures itself, so that they are not logged as well unless more logs are asked for.
    """
    view: View
    level = LEVELS[max(-1, min(2, console.verbosity))]
    told = max(level, logging.ERROR) if console.verbosity <= 0 else level
    if events:
        view = EventView(console.say, console.event)
    elif console.quiet or console.log_format is LogFormat.JSON:
        view = NoView(console.say)
    elif console.err.lively:
        from dbupkeep.views.live import LiveView

        view = live = LiveView(console.err, watch, app.clock)
        set_up(console.log_format, level=told, stream=live.stream())
    else:
        set_up(console.log_format, level=told)
        view = PlainView(write=console.err.line, watch=watch, clock=app.clock)
    try:
        yield view
    finally:
        view.close()
        set_up(console.log_format, level=level)


def reported(console: Console, app: App, ending: Ending, *, events: bool = False) -> int:
    """Print the report of a run, and return its code."""
    root = ending.root
    if console.as_json and not events:
        console.document(run_document(root, app.reader.children))
    elif not events:
        for line in report(root, app.reader.children, console.out):
            console.out.line(line)
    if ending.interrupted and root.status.ended:
        return Exit.INTERRUPTED
    if ending.paused:
        left = root.stats.unended
        console.say(
            f"Paused with {words.counted(left, 'job')} to go. Go on:  dbupkeep run --resume {short(root)}", "yellow"
        )
        return Exit.PARTIAL
    return of_outcome(root.outcome, failed_kinds(app, root), worked=has_worked(app, root))


def has_worked(app: App, root: Job) -> bool:
    """Whether any operation of a run did its work."""
    operations = JobQuery(
        statuses=(JobStatus.COMPLETED,), types=(JobType.DATABASE_MAINTENANCE_OPERATION,),
        correlation_id=root.correlation_id,
    )  # fmt: skip
    return bool(app.reader.jobs(operations, limit=1).jobs)


def failed_kinds(app: App, root: Job) -> list[str]:
    """The kinds of error of the operations that failed; the first few hundred tell enough."""
    failed = app.reader.jobs(JobQuery(statuses=(JobStatus.FAILED,), correlation_id=root.correlation_id), limit=500).jobs
    return [str(job.error["kind"]) for job in failed if job.error and "kind" in job.error]


def submitted(console: Console, app: App, root: Job) -> int:
    """Say what was submitted, and how to follow it."""
    if console.as_json:
        console.document(run_document(root, app.reader.children))
    else:
        console.out.line(root.id)
        console.say(f"Submitted {words.name(root.name)}. Follow it:  dbupkeep watch {short(root)}")
    return Exit.DONE
