"""The command `plan`."""

from __future__ import annotations

import click

from dbupkeep.documents import plan_document, run_plan_document
from dbupkeep.errors import UsageError
from dbupkeep.jobs import Outcome
from dbupkeep.manager import Planned
from dbupkeep.plans import Plan
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit, of_outcome
from dbupkeep.views.cli.plan_text import plan_lines, run_plan_lines
from dbupkeep.views.cli.requests import Request, ask, due, planning_options

ONLY_HERE = ("--save", "--exit-code", "--all")


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@planning_options
@click.option(
    "-j", "--jobs", "slots", type=click.IntRange(1, 256), metavar="N", help="Operations at a time, for the run."
)
@click.option("--save", is_flag=True, help="Keep the plan, so that `run --plan ID` applies exactly it.")
@click.option("--exit-code", is_flag=True, help="Exit with 5 when something is due.")
@click.option("--all", "everything", is_flag=True, help="Show every database, not the first ones only.")
@common
def plan(
    console: Console, targets: tuple[str, ...], *, save: bool, exit_code: bool, everything: bool, **choice: object
) -> int:
    """Show what would be done to each TARGET, why, and at what cost. Nothing is changed.

    A TARGET is a path, a URL, a quoted pattern such as 'srv/*.db', a folder with --recursive or --pattern, or the name
    of a target or job of the configuration.
    """
    request = ask(console, targets, choice)
    if save and len(request.definition.steps) > 1:
        raise UsageError("a job of several steps cannot be saved as one plan", hint="plan its targets one by one")
    if everything and request.single:
        raise UsageError(
            "--all shows every database of a plan for many, and this is one", hint="-a takes all databases of a server"
        )
    ahead = request.ahead()
    with console.app() as app:
        planned = request.plan(app, ahead)
        if save:
            app.save(planned)
    if console.as_json:
        console.document(plan_document(planned) if isinstance(planned, Plan) else run_plan_document(planned))
    else:
        _print(console, request, planned, save=save, everything=everything)
    problems = [] if isinstance(planned, Plan) else [each.code for each in planned.problems if each.severity == "error"]
    if problems:
        return of_outcome(Outcome.FAILED, problems)
    return Exit.DUE if exit_code and due(planned) else Exit.DONE


def _print(console: Console, request: Request, planned: Planned, *, save: bool, everything: bool) -> None:
    out = console.out
    lines = (
        plan_lines(planned, out) if isinstance(planned, Plan) else run_plan_lines(planned, out, everything=everything)
    )
    for line in lines:
        out.line(line)
    if save:
        out.line()
        out.line(f"Saved. Apply exactly this:  {out.paint(f'dbupkeep run --plan {planned.id}', 'bold')}")
    elif due(planned):
        out.line()
        out.line(f"Do it:  {out.paint(words.shell(['dbupkeep', *_as_run(request)]), 'bold')}")


def _as_run(request: Request) -> list[str]:
    """The command that runs what was planned: the same arguments, but for those that only `plan` has."""
    given = list((click.get_current_context().obj or {}).get("arguments") or ("plan", *request.given))
    at = given.index("plan")
    return [*given[:at], "run", *(each for each in given[at + 1 :] if each not in ONLY_HERE)]
