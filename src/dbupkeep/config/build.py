"""From a document to the domain's values: judge it, all faults at once, and make targets, policies and jobs of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec.structs import replace
from pydantic import ValidationError

from dbupkeep.config import faults
from dbupkeep.config.document import Document, dotted
from dbupkeep.config.locate import Path as Key
from dbupkeep.config.models import ConfigFile, HooksTable, JobTable, Names, StepTable, TargetTable, WindowTable
from dbupkeep.config.names import Known
from dbupkeep.config.receivers import Ping, Receiver
from dbupkeep.definitions import (
    ErrorPolicy,
    Hooks,
    JobDefinition,
    OnError,
    Overlap,
    Policy,
    Schedule,
    Step,
    Target,
    Window,
)
from dbupkeep.errors import DefinitionError
from dbupkeep.followers.notifications import Told
from dbupkeep.operations import Operation, parse
from dbupkeep.secret import Secret

EVERY_FILE = "*.db"
"""Which files of a folder are databases, when the target does not say."""

_PLAIN_IN_URL = "/ !$&'()*+,;=:@[]{}~^`|<>\""  # as the SQLite engine writes its urls


def judge(document: Document, known: Known) -> ConfigFile:
    """Validate. Raises `DefinitionError` with every fault of the document."""
    names = _names(document, known)
    found = list(faults.of_content(document))
    try:
        table = ConfigFile.model_validate(document.data, context=names)
    except ValidationError as error:
        found += faults.of_validation(error, names)
    if found:
        lines = faults.written(document, found)
        count = "a fault" if len(lines) == 1 else f"{len(lines)} faults"
        raise DefinitionError(
            f"the configuration has {count}",
            faults=lines,
            hint="mend the lines named; `dbupkeep config check` reads the file again",
        )
    return table


def _names(document: Document, known: Known) -> Names:
    def defined(section: str) -> list[str]:
        table = document.data.get(section)
        return list(table) if isinstance(table, Mapping) else []

    return {
        "target": defined("targets"),
        "window": defined("windows"),
        "policy": [*defined("policies"), *({"default"} - set(defined("policies")))],
        "action": known.actions,
        "engine": known.engines,
        "operation": [operation.value for operation in Operation],
        "reaction": [reaction.value for reaction in OnError],
        "overlap": [overlap.value for overlap in Overlap],
        "receiver": defined("notify"),
        "notification": [told.value for told in Told],
        **{f"{operation.value} setting": known.settings.get(operation) for operation in Operation},
    }


def targets(table: ConfigFile, folder: Path) -> dict[str, Target]:
    """The targets, by name; a folder is told by an absolute `sqlite://` url, relative to the file it was written in."""
    return {name: _target(name, target, folder) for name, target in table.targets.items()}


def _target(name: str, table: TargetTable, folder: Path) -> Target:
    url, pattern = table.url or "", table.pattern or ""
    if table.dir is not None:
        place = folder / Path(table.dir).expanduser()
        url = "sqlite://" + quote(os.path.normpath(place), safe=_PLAIN_IN_URL)
        pattern = table.pattern or EVERY_FILE
    return Target(
        name=name,
        url=url,
        pattern=pattern,
        recursive=table.recursive,
        exclude=tuple(table.exclude),
        parallel=table.parallel,
        labels=dict(table.labels),
    )


def windows(table: ConfigFile) -> dict[str, Window]:
    """The windows, by name."""
    return {name: _window(name, window, table.timezone) for name, window in table.windows.items()}


def _window(name: str, table: WindowTable, timezone: str) -> Window:
    return Window(name=name, open=table.open, lasts=table.lasts, soft_stop=table.soft_stop, timezone=timezone)


def policies(table: ConfigFile) -> dict[str, Policy]:
    """The policies, by name; `default` is always there."""
    named = {name: _policy(name, policy) for name, policy in table.policies.items()}
    return {"default": Policy(), **named}


def _policy(name: str, table: Any) -> Policy:  # noqa: ANN401 - a model made at run time
    thresholds = {operation.value: dict(getattr(table, operation.value)) for operation in Operation}
    return Policy(
        name=name,
        thresholds={operation: settings for operation, settings in thresholds.items() if settings},
        force=table.force,
        cool_off=table.cool_off,
        max_stall=table.max_stall,
        blocking_budget=table.blocking_budget,
        backup_first=table.backup_first,
        consents=frozenset(table.consents),
        space_factor=table.space_factor,
        max_attempts=table.max_attempts,
    )


def jobs(
    table: ConfigFile, targets: Mapping[str, Target], windows: Mapping[str, Window], policies: Mapping[str, Policy]
) -> dict[str, JobDefinition]:
    """The jobs, by name."""
    return {
        name: JobDefinition(
            name=name,
            steps=tuple(_step(number, step, job, targets, policies) for number, step in enumerate(job.steps, 1)),
            lane=job.lane,
            schedule=_schedule(job, job.timezone or table.timezone),
            hooks=_hooks(job.hooks) if job.hooks else None,
            window=replace(windows[job.window], timezone=job.timezone or table.timezone) if job.window else None,
        )
        for name, job in table.jobs.items()
    }


def receivers(table: ConfigFile) -> dict[str, Receiver]:
    """Who is told, by name, each with the jobs that name it."""
    return {
        name: Receiver(
            name=name,
            jobs=tuple(job for job, said in table.jobs.items() if name in said.notifications),
            on=tuple(receiver.on),
            webhook=Secret(receiver.webhook) if receiver.webhook else None,
            secret=Secret(receiver.secret) if receiver.secret else None,
            apprise=Secret(receiver.apprise) if receiver.apprise else None,
            private=receiver.private,
            hosts=tuple(table.notify_hosts),
        )
        for name, receiver in table.notify.items()
    }


def pings(table: ConfigFile) -> dict[str, Ping]:
    """Who is pinged, by job."""
    return {
        name: Ping(url=Secret(job.healthcheck), private=job.healthcheck_private, hosts=tuple(table.notify_hosts))
        for name, job in table.jobs.items()
        if job.healthcheck
    }


def _schedule(job: JobTable, timezone: str) -> Schedule:
    return Schedule(
        cron=job.schedule or "",
        every=job.every,
        when_due=job.when_due,
        timezone=timezone,
        catch_up=job.catch_up,
        overlap=Overlap(job.overlap),
    )


def _hooks(table: HooksTable) -> Hooks:
    return Hooks(
        pause_application=tuple(table.pause_application),
        before_run=tuple(table.before_run),
        before_operation=tuple(table.before_operation),
        after_operation=tuple(table.after_operation),
        after_run=tuple(table.after_run),
        resume_application=tuple(table.resume_application),
        timeout=table.timeout,
        environment=tuple(table.environment),
    )


def _step(
    number: int, step: StepTable, job: JobTable, targets: Mapping[str, Target], policies: Mapping[str, Policy]
) -> Step:
    return Step(
        name=step.name or f"step {number}",
        action=step.action,
        targets=tuple(targets[name] for name in dict.fromkeys(step.targets)),
        operations=parse(step.operations),
        policy=policies[step.policy or job.policy or "default"],
        errors=_errors(step, job),
        config=dict(step.config),
    )


def _errors(step: StepTable, job: JobTable) -> ErrorPolicy:
    """What the step says goes before what its job says; `stop_after` alone means stop."""
    stop_after = job.stop_after if step.stop_after is None else step.stop_after
    said = step.on_error or (OnError.STOP if step.stop_after else job.on_error)
    tolerance = job.error_tolerance if step.error_tolerance is None else step.error_tolerance
    on_error = OnError(said or (OnError.STOP if stop_after else OnError.CONTINUE))
    return ErrorPolicy(
        on_error=on_error, stop_after=stop_after if on_error is OnError.STOP else None, tolerance=tolerance or 0
    )


def values(table: ConfigFile, document: Document) -> Iterator[tuple[str, object, str]]:
    """Every value in force: its key, the value (durations in seconds), and where it came from."""
    yield from _values(table.model_dump(), (), document)


def _values(value: object, key: Key, document: Document) -> Iterator[tuple[str, object, str]]:
    if isinstance(value, Mapping) and (value or not key):
        for name, item in value.items():
            yield from _values(item, (*key, name), document)
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from _values(item, (*key, number), document)
    elif value is not None:
        yield dotted(key), _shown(value, key), document.origin(key)


def _shown(value: object, key: Key) -> object:
    """As it may be shown: durations in seconds, of the url of a receiver only where it is."""
    if isinstance(value, str) and (key[-1] == "healthcheck" or (key[0] == "notify" and key[-1] == "webhook")):
        return Secret(value).shown
    return value.total_seconds() if isinstance(value, timedelta) else value
