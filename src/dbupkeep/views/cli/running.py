"""The command `run`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from dbupkeep.clock import new_id
from dbupkeep.config import RETENTION
from dbupkeep.documents import run_document
from dbupkeep.errors import IllegalTransition, UsageError
from dbupkeep.jobs import Job, JobStatus, JobType
from dbupkeep.ledger import JobQuery
from dbupkeep.logs import LogFormat, set_up
from dbupkeep.plans import RunPlan
from dbupkeep.views import words
from dbupkeep.views.cli.account import user
from dbupkeep.views.cli.console import LEVELS, Console, common
from dbupkeep.views.cli.exits import Exit, of_outcome
from dbupkeep.views.cli.finding import find, newest_unfinished
from dbupkeep.views.cli.job_text import report
from dbupkeep.views.cli.job_words import short
from dbupkeep.views.cli.requests import Request, ask, in_lane, planning_options
from dbupkeep.views.cli.serving import Ending, carry_out
from dbupkeep.views.cli.waiting import OWN
from dbupkeep.views.plain import EventView, NoView, PlainView, View
from dbupkeep.views.watching import Watch

if TYPE_CHECKING:
    from dbupkeep.app import App

log = logging.getLogger(__name__)

NEWEST = "newest"

lease_option = click.option(
    "--lease",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="How long a silent process keeps its work.  [DBUPKEEP_LEASE]",
)


@click.command()
@click.argument("targets", nargs=-1, metavar="[TARGET...|JOBNAME]")
@planning_options
@click.option("--plan", "plan_id", metavar="ID", help="Apply exactly this saved plan.")
@click.option(
    "--resume",
    is_flag=False,
    flag_value=NEWEST,
    metavar="[ID]",
    help="Go on with an interrupted run; the newest without an ID.",
)
@click.option(
    "-j",
    "--jobs",
    "slots",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Operations at a time, on one server's database too; default: 4 in all (or twice the processors), one to a database.",
)
@click.option("--events", is_flag=True, help="Write what happens as it happens, one JSON document a line.")
@click.option("--detach", is_flag=True, help="Submit only; a worker does it.")
@click.option("--lane", metavar="NAME", help="With --detach: which workers.")
@click.option("--any-time", is_flag=True, help="Of a job with a window: whether that is open or not.")
@lease_option
@common
def run(
    console: Console, targets: tuple[str, ...], *, plan_id: str | None, resume: str | None, slots: int | None,
    events: bool, detach: bool, lane: str | None, any_time: bool, lease: float | None, **choice: object,
) -> int:  # fmt: skip
    """Maintain each TARGET: plan, run every operation as a job of its own with live progress, and report.

    Ctrl-C stops after the operations that run now; twice cancels them. `--resume` goes on where a run was left.
    """
    if bool(targets) + bool(plan_id) + bool(resume) != 1:
        raise UsageError("nothing to run was named", hint="give databases or a job's name, or --plan ID, or --resume")
    if plan_id or resume:
        _refuse_choice(choice)
    with console.app(lease=lease) as app:
        if resume:
            root = resumed(console, app, resume)
        elif plan_id:
            planned = in_lane(app.saved(plan_id), _lane(lane, detach=detach))
            if isinstance(planned, RunPlan) and not planned.plans:
                console.say("The plan has nothing to do.")
                return Exit.DONE
            root = _root(app, app.apply(planned))
        else:
            request = ask(console, targets, {**choice, "slots": slots})
            request = request.at_any_time() if any_time else request
            root = _root(app, _submit(app, request, lane, detach=detach))
        if detach:
            return submitted(console, app, root)
        return execute(console, app, root, slots=slots or default_slots(), events=events)


def _refuse_choice(choice: Mapping[str, object]) -> None:
    """Refuse what would be passed over: a plan, and a run that goes on, are what they were when they were made."""
    context = click.get_current_context()
    given = [name for name in choice if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    options = {option.name: option.opts[0] for option in context.command.params}
    if given:
        raise UsageError(
            f"{', '.join(str(options[name]) for name in given)} cannot be said of what was planned before",
            hint="plan anew with it, and run that",
        )


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


def resumed(console: Console, app: App, text: str) -> Job:
    """Let a run go on that was paused, or whose process went away."""
    root = newest_unfinished(app.reader) if text == NEWEST else find(app.reader, text)
    root = _root(app, root.correlation_id)
    if root.status.ended:
        raise IllegalTransition(
            f"the run {short(root)} has ended: {root.outcome.replace('_', ' ')}",
            hint=f"`dbupkeep retry {short(root)} --run` tries again what failed, was cancelled or deferred",
        )
    app.lifecycle.resume(root.id, by=user())
    held = JobQuery(statuses=(JobStatus.RUNNING,), correlation_id=root.correlation_id)
    running = [job for job in app.reader.jobs(held, limit=500).jobs if job.attempt]
    console.say(f"Resuming {words.name(root.name)} ({short(root)}).")
    if running:
        console.say(
            f"{words.counted(len(running), 'operation')} may still be at work in another process. If that is gone, they"
            f" are taken over within {words.duration(app.lease)}."
        )
    return _root(app, root.id)


def _submit(app: App, request: Request, lane: str | None, *, detach: bool) -> str:
    from msgspec.structs import replace

    own = lane or (request.definition.lane if detach else _lane(None, detach=False))
    definition = replace(request.definition, lane=own)
    return replace(request, definition=definition).submit(app)


def _lane(named: str | None, *, detach: bool) -> str:
    """A lane of its own for a run that this process carries out, so that it takes no other work."""
    return named or ("default" if detach else f"{OWN}{new_id()[-12:]}")


def _root(app: App, job_id: str) -> Job:
    job = app.reader.job(job_id)
    if job is None:
        raise UsageError(f"the run {job_id} is gone", hint="it was pruned meanwhile")
    return job
