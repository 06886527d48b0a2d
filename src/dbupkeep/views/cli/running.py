"""The command `run`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from dbupkeep.clock import new_id
from dbupkeep.errors import IllegalTransition, UsageError
from dbupkeep.jobs import Job, JobStatus
from dbupkeep.ledger import JobQuery
from dbupkeep.plans import RunPlan
from dbupkeep.surveys import Ahead
from dbupkeep.views import words
from dbupkeep.views.cli.account import user
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.cli.finding import find, newest_unfinished
from dbupkeep.views.cli.job_words import short
from dbupkeep.views.cli.requests import Request, ask, in_lane, planning_options

if TYPE_CHECKING:
    from dbupkeep.app import App

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
    request = ask(console, targets, {**choice, "slots": slots}) if targets else None
    ahead = request.ahead() if request else None
    from dbupkeep.views.cli import executing  # while the server answers

    with console.app(lease=lease) as app:
        if resume:
            root = resumed(console, app, resume)
        elif plan_id:
            planned = in_lane(app.saved(plan_id), _lane(lane, detach=detach))
            if isinstance(planned, RunPlan) and not planned.plans:
                console.say("The plan has nothing to do.")
                return Exit.DONE
            root = _root(app, app.apply(planned))
        elif request:
            request = request.at_any_time() if any_time else request
            root = _root(app, _submit(app, request, ahead, lane, detach=detach))
        if detach:
            return executing.submitted(console, app, root)
        return executing.execute(console, app, root, slots=slots or executing.default_slots(), events=events)


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


def _submit(app: App, request: Request, ahead: Ahead | None, lane: str | None, *, detach: bool) -> str:
    from msgspec.structs import replace

    own = lane or (request.definition.lane if detach else _lane(None, detach=False))
    definition = replace(request.definition, lane=own)
    return replace(request, definition=definition).submit(app, ahead)


def _lane(named: str | None, *, detach: bool) -> str:
    """A lane of its own for a run that this process carries out, so that it takes no other work."""
    from dbupkeep.views.cli.waiting import OWN

    return named or ("default" if detach else f"{OWN}{new_id()[-12:]}")


def _root(app: App, job_id: str) -> Job:
    job = app.reader.job(job_id)
    if job is None:
        raise UsageError(f"the run {job_id} is gone", hint="it was pruned meanwhile")
    return job
