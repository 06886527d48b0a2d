"""From what a person wrote on the command line to a definition: targets, policy, what to do about errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec import Struct
from msgspec.structs import replace

from dbupkeep import engines, operations
from dbupkeep.clock import SystemClock
from dbupkeep.config import Config
from dbupkeep.config.names import near_miss
from dbupkeep.config.units import read_duration, read_setting
from dbupkeep.definitions import ErrorPolicy, JobDefinition, OnError, Policy, Setting, Step, Target
from dbupkeep.errors import Kind, Refused, UnknownName, UsageError
from dbupkeep.logs import printable
from dbupkeep.manager import Planned
from dbupkeep.operations import Operation
from dbupkeep.plans import Plan, RunPlan
from dbupkeep.surveys import Ahead
from dbupkeep.views.cli import selecting
from dbupkeep.views.cli.account import user
from dbupkeep.views.cli.console import Console

if TYPE_CHECKING:
    from dbupkeep.app import App

F = TypeVar("F", bound=Callable[..., Any])

FILES = "sqlite"
"""The engine of what is named by its path alone."""

EVERY_FILE = "*.db"
"""Which files of a folder, when nobody says."""

_GLOB = frozenset("*?[")


class DurationType(click.ParamType[timedelta]):
    """`5s`, `500ms`, `1h30m`, or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:  # type: ignore[explicit-override] # noqa: ANN401 - click's
        """Read it as the configuration does."""
        if isinstance(value, timedelta):
            return value
        try:
            return read_duration(float(value) if str(value).replace(".", "", 1).isdecimal() else value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_WHICH = (
    click.option("--operations", "--operation", "wanted", metavar="A,B", help="Which operations; default: vacuum,analyze,reindex."),
    click.option("--pattern", metavar="GLOB", help="Search the named folders for such files; *.db when left out."),
    click.option("-r", "--recursive", is_flag=True, help="Search the named folders and all below them."),
    click.option("--exclude", multiple=True, metavar="GLOB", help="Objects, or files of a folder, to leave alone."),
)  # fmt: skip
_HOW = (
    click.option("--policy", metavar="NAME", help="A policy of the configuration."),
    click.option("--force", is_flag=True, help="Run what is asked for whether it is due or not."),
    click.option("--set", "settings", multiple=True, metavar="OP.NAME=VALUE", help="A threshold, such as vacuum.min_share=10%."),
    click.option("--max-stall", type=DurationType(), metavar="TIME", help="How long others may have to wait; default 5s."),
    click.option("--blocking-budget", type=DurationType(), metavar="TIME", help="How long others may have to wait for the run in all, on a server; default 1min."),
    click.option("--backup-first", is_flag=True, help="Keep a copy until the result has passed a check."),
    click.option("--consent", multiple=True, metavar="NAME", help="Agree to an effect that the plan names."),
)  # fmt: skip
_ERRORS = (
    click.option("--on-error", type=click.Choice([each.value for each in OnError]), help="What a failure means for the rest."),
    click.option("--stop-after", type=click.IntRange(min=1), metavar="N", help="Start nothing more after N failures."),
    click.option("--error-tolerance", type=click.IntRange(min=0), default=0, metavar="N", help="Up to N failures count as partial (exit 3)."),
)  # fmt: skip


def planning_options(function: F) -> F:
    """What a plan can be told."""
    for option in reversed((*_WHICH, *selecting.OPTIONS, *_HOW, *_ERRORS)):
        function = option(function)
    return function


class Request(Struct, frozen=True, kw_only=True):
    """What is asked for."""

    definition: JobDefinition
    given: tuple[str, ...]  # as it was written
    single: bool  # one database, named by itself

    def at_any_time(self) -> Request:
        """The same without its window."""
        return replace(self, definition=replace(self.definition, window=None))

    def ahead(self) -> Ahead | None:
        """Begin the survey of one database of a server, which takes a while to answer: the ledger is opened meanwhile."""
        step = self.definition.steps[0]
        engine = engines.load(step.targets[0].engine)
        is_served = getattr(engine, "SERVES_MANY", False)
        return Ahead(engine, step, now=SystemClock().now()) if self.single and is_served else None

    def plan(self, app: App, ahead: Ahead | None) -> Planned:
        """Survey, where that was not begun ahead, and decide; writes nothing. Several steps are shown as one run."""
        if self.single:
            return app.databases.plan(self.definition.steps[0], self.definition, ahead=ahead)
        plans = [app.runs.plan(step, self.definition) for step in self.definition.steps]
        return replace(
            plans[0],
            plans=tuple(plan for each in plans for plan in each.plans),
            idle=sum(each.idle for each in plans),
            problems=tuple(problem for each in plans for problem in each.problems),
        )

    def submit(self, app: App, ahead: Ahead | None) -> str:
        """Write the jobs: of one database by its plan, of several by a run that surveys while it goes."""
        if self.single:
            plan = app.databases.plan(self.definition.steps[0], self.definition, ahead=ahead)
            _refuse_standby(plan)
            return app.databases.submit(plan)
        return app.runs.create_run(self.definition)


def _refuse_standby(plan: Plan) -> None:
    """Raise `Refused` where the one database that was named takes no changes, and nothing that only reads was asked for."""
    if plan.facts.values.get("standby") and all(operations.CATALOGUE[each].writes for each in plan.operations):
        raise Refused(
            f"{plan.facts.target} is on a standby",
            why="it takes no changes",
            hint="maintain its primary; `--operations check` reads here too",
            kind=Kind.READ_ONLY,
        )


def in_lane(planned: Planned, lane: str) -> Planned:
    """The same plan for the worker processes of another lane."""
    if isinstance(planned, RunPlan):
        return replace(planned, lane=lane, plans=tuple(replace(plan, lane=lane) for plan in planned.plans))
    return replace(planned, lane=lane)


def ask(console: Console, written: Sequence[str], choice: Mapping[str, Any]) -> Request:
    """Read targets and options. Raises `UsageError` and `DefinitionError`; looks into no database."""
    config = console.config()
    named = [text for text in written if text in config.jobs]
    if named:
        if len(written) > 1:
            raise UsageError(f"{printable(named[0])} is a job of the configuration", hint="name one job, or databases")
        return Request(definition=_job(config, named[0], choice), given=tuple(written), single=False)
    targets = tuple(selecting.narrowed(_target(text, config, choice), choice) for text in written)
    single = len(targets) == 1 and not targets[0].is_fleet
    errors = _errors(choice)
    step = Step(
        name="maintenance",
        targets=targets,
        operations=operations.parse(_wanted(choice)),
        policy=_policy(config.policy(choice["policy"] or "default"), choice, targets),
        errors=errors if single or errors.on_error is OnError.FAIL else ErrorPolicy(),
        config=selecting.settings(choice, targets),
    )
    first = written[0] if targets[0].is_fleet else targets[0].name
    name = first if len(targets) == 1 else f"{first} and {len(targets) - 1} more"
    definition = JobDefinition(name=name, steps=(step,), errors=errors, requested_by=user())
    return Request(definition=definition, given=tuple(written), single=single)


def canonical(definition: JobDefinition) -> JobDefinition:
    """A job of the configuration with its targets as their engines write them, so that their history is found."""
    steps = tuple(replace(step, targets=tuple(map(canonical_target, step.targets))) for step in definition.steps)
    return replace(definition, steps=steps)


def canonical_target(target: Target) -> Target:
    """A configured target of files with its url as the engine writes it, so that its history is found."""
    make = getattr(engines.load(target.engine), "target_of", None)
    return target if make is None else replace(target, url=make(target.url).url)


def single_target(text: str, config: Config) -> Target:
    """One database. Raises `UsageError` for a pattern or a folder to search."""
    target = _target(text, config, {"exclude": (), "pattern": None, "recursive": False})
    if target.is_fleet:
        raise UsageError(f"{printable(text)} stands for several databases", hint="name one of them")
    return target


def key_of(text: str, config: Config) -> str:
    """What the ledger calls a target."""
    target = single_target(text, config)
    named = getattr(engines.load(target.engine), "key_of", None)
    return str(named(target)) if named else target.url


def _job(config: Config, name: str, choice: Mapping[str, Any]) -> JobDefinition:
    """A job of the configuration; what the command line says of policy and operations holds for each step."""
    definition = config.job(name)
    wanted = _wanted(choice)
    steps = []
    for step in definition.steps:
        policy = config.policy(choice["policy"]) if choice["policy"] else step.policy
        step = replace(step, policy=_policy(policy, choice, step.targets))  # noqa: PLW2901 - the same step, as asked for
        step = replace(step, config={**step.config, **selecting.settings(choice, step.targets)})  # noqa: PLW2901 - as above
        steps.append(replace(step, operations=operations.parse(wanted)) if wanted else step)
    changed = replace(definition, steps=tuple(steps), requested_by=user())
    return replace(changed, errors=_errors(choice)) if _has_errors(choice) else changed


def _target(text: str, config: Config, choice: Mapping[str, Any]) -> Target:
    """A configured target's name, a url, a glob, a folder to search, or a path."""
    if text in config.targets:
        return canonical_target(config.targets[text])
    exclude = tuple(choice["exclude"])
    scheme, separator, _ = text.partition(":")
    if separator and "/" not in scheme and (text.startswith(f"{scheme}://") or scheme.lower() == FILES):
        engine = engines.load(scheme)
        make = getattr(engine, "target_of", None)
        target: Target = make(text, exclude=exclude) if make else Target(name=text, url=text, exclude=exclude)
        return target
    return _file(text, choice, exclude, config)


def _file(text: str, choice: Mapping[str, Any], exclude: tuple[str, ...], config: Config) -> Target:
    make: Callable[..., Target] = engines.load(FILES).target_of  # type: ignore[attr-defined] # an engine of files has it
    if os.path.lexists(text):
        searched = Path(text).is_dir() and (choice["pattern"] or choice["recursive"])
        if not searched:
            return make(text, exclude=exclude)
        pattern = choice["pattern"] or EVERY_FILE
        return make(text, pattern=pattern, recursive=choice["recursive"], exclude=exclude, name=text)
    if _GLOB & set(text):
        folder, pattern, recursive = split_glob(text)
        recursive = recursive or choice["recursive"]
        return make(folder, pattern=pattern, recursive=recursive, exclude=exclude, name=folder)
    if "/" not in text and "." not in text and (config.jobs or config.targets):
        names = [*config.jobs, *config.targets]
        raise UnknownName(
            f"there is no file, target or job {printable(text)}{near_miss(text, names)}",
            hint="`dbupkeep config show` lists targets and jobs; a file may be named by its path, such as ./app.db",
        )
    return make(text, exclude=exclude)


def split_glob(text: str) -> tuple[str, str, bool]:
    """A folder, the pattern of files in it, and whether folders below count: `srv/**/*.db` → `srv`, `*.db`, True."""
    parts = text.split("/")
    first = next(number for number, part in enumerate(parts) if _GLOB & set(part))
    folder = "/".join(parts[:first]) or ("/" if text.startswith("/") else ".")
    rest = parts[first:]
    recursive = rest[0] == "**" and len(rest) > 1
    return folder, "/".join(rest[1:] if recursive else rest), recursive


def _wanted(choice: Mapping[str, Any]) -> list[str] | None:
    wanted: str | None = choice["wanted"]
    return None if wanted is None else wanted.split(",")


def _policy(policy: Policy, choice: Mapping[str, Any], targets: Sequence[Target]) -> Policy:
    thresholds = {operation: dict(settings) for operation, settings in policy.thresholds.items()}
    for text in choice["settings"]:
        operation, name, value = _setting(text, targets)
        thresholds.setdefault(operation, {})[name] = value
    return replace(
        policy,
        thresholds=thresholds,
        force=policy.force or choice["force"],
        max_stall=choice["max_stall"] if choice["max_stall"] is not None else policy.max_stall,
        blocking_budget=policy.blocking_budget if choice["blocking_budget"] is None else choice["blocking_budget"],
        backup_first=policy.backup_first or choice["backup_first"],
        consents=policy.consents | _consents(choice["consent"], targets),
    )


def _consents(given: Sequence[str], targets: Sequence[Target]) -> frozenset[str]:
    """The consents given, each one that an engine of the targets knows; an engine that lists none may know any."""
    known = [getattr(engines.load(target.engine), "CONSENTS", None) for target in targets]
    names = sorted({name for each in known for name in each or ()})
    for name in given:
        if targets and None not in known and name not in names:
            near = near_miss(name, names)
            raise UnknownName(
                f"there is nothing to consent to by the name of {printable(name)}{near}",
                hint="the plan prints the name of what it asks consent for",
            )
    return frozenset(given)


def _setting(text: str, targets: Sequence[Target]) -> tuple[str, str, Setting]:
    place, found, value = text.partition("=")
    operation, dot, name = place.partition(".")
    if not (found and dot and name and value):
        raise UsageError(f"{printable(text)} is no setting", hint="write OPERATION.NAME=VALUE: vacuum.min_share=10%")
    known = {each.value: each for each in Operation}
    if operation not in known:
        raise UnknownName(f"unknown operation: {printable(operation)}{near_miss(operation, list(known))}")
    names = sorted(
        {name for target in targets for name in engines.load(target.engine).defaults.get(known[operation], {})}
    )
    if targets and name not in names:
        near = near_miss(name, names)
        raise UnknownName(f"{operation} has no setting {printable(name)}{near}", hint=f"it has {', '.join(names)}")
    return operation, name, read_setting(_number(value))


def _number(value: str) -> object:
    for read in (int, float):
        try:
            return read(value)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(value.lower(), value)


def _has_errors(choice: Mapping[str, Any]) -> bool:
    return bool(choice["on_error"] or choice["stop_after"] or choice["error_tolerance"])


def _errors(choice: Mapping[str, Any]) -> ErrorPolicy:
    on_error = choice["on_error"]
    if choice["stop_after"] and on_error not in (None, OnError.STOP):
        raise UsageError("--stop-after is for --on-error stop", hint="leave one of them out")
    default = OnError.STOP if choice["stop_after"] else OnError.CONTINUE
    return ErrorPolicy(
        on_error=OnError(on_error) if on_error else default,
        stop_after=choice["stop_after"],
        tolerance=choice["error_tolerance"],
    )


def due(planned: Planned) -> int:
    """How many operations would run."""
    return len(planned.due) if isinstance(planned, Plan) else sum(len(plan.due) for plan in planned.plans)
