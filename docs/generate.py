"""Writes the pages of docs/reference that are made from the code; `--check` says which ones are out of date instead.

python docs/generate.py [--check]
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dbupkeep import engines, errors, events, operations
from dbupkeep.jobs import TRANSITIONS, JobStatus, JobType

if TYPE_CHECKING:
    import click

HERE = Path(__file__).parent
HEAD = "<!-- Made by docs/generate.py; edit the code instead. -->\n\n"


def state_machine() -> Iterator[str]:
    yield "# The state machine of a job\n"
    yield "Every change of a job's status is one row of this table, `dbupkeep.jobs.TRANSITIONS`, which the program executes."
    yield "A change that is not here is refused. `parent_settled` ends a parent as the aggregate of its children says.\n"
    yield "```mermaid\nstateDiagram-v2\n    [*] --> pending\n    [*] --> running: a parent"
    for row in TRANSITIONS:
        yield f"    {row.source} --> {row.target}: {row.event.name}"
    yield "```\n"
    yield "| from | event | to |\n|---|---|---|"
    for row in TRANSITIONS:
        yield f"| {row.source} | `{row.event.name}` | {row.target} |"
    ends = ", ".join(status for status in JobStatus if status.ended)
    yield f"\nEnds: {ends}. Only an operator's `retry` leads out of one, and makes a new attempt.\n"
    yield "## Types of job\n\n| type | phase |\n|---|---|"
    for kind in JobType:
        yield f"| `{kind}` | {kind.phase} |"


def event_page() -> Iterator[str]:
    yield "# Events\n"
    yield "Everything that can happen to a job. An event line is `{seq, at, event, job_id, parent_id, correlation_id, data}`;"
    yield "fields of `data` that are empty may be left out.\n"
    yield "| event | when | data |\n|---|---|---|"
    for name, cls in events.EVENTS.items():
        fields = ", ".join(f"`{field.name}`" for field in dataclasses.fields(cls)) or "–"
        yield f"| `{name}` | {_line(cls)} | {fields} |"


def error_page() -> Iterator[str]:
    yield "# Errors\n"
    yield "Each error says what happened, why, and what to do next, and has a kind for programs.\n"
    yield "```text\n" + inspect.cleandoc(errors.__doc__ or "").partition("\n\n")[2] + "\n```\n"
    yield "## Kinds\n"
    yield ", ".join(f"`{kind}`" for kind in errors.Kind) + "."


def operation_page() -> Iterator[str]:
    yield "# Operations\n"
    default = ", ".join(operations.in_order(operations.DEFAULT))
    yield f"Without `--operations`: {default}. On one object they work in the order of this table.\n"
    yield "| operation | what for | writes |\n|---|---|---|"
    for operation in operations.in_order(operations.Operation):
        trait = operations.CATALOGUE[operation]
        yield f"| `{operation}` | {trait.summary} | {'yes' if trait.writes else 'no'} |"
    for scheme in engines.known():
        engine = engines.load(scheme)
        yield f"\n## {scheme}\n\n| operation | how | thresholds |\n|---|---|---|"
        for operation in operations.in_order(engine.operations):
            yield f"| `{operation}` | {engine.operations[operation]} | {_settings(engine.defaults.get(operation, {}))} |"


def command_page() -> Iterator[str]:
    import click

    from dbupkeep.views.cli import group

    yield "# Commands\n"
    context = click.Context(group, info_name="dbupkeep")
    yield "```text\n" + group.get_help(context) + "\n```"
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            inner = click.Context(command, info_name=name, parent=context)
            yield f"\n## dbupkeep {name}\n\n```text\n{command.get_help(inner)}\n```"
            yield from _subcommands(command, inner)


def _subcommands(command: click.Command, context: click.Context) -> Iterator[str]:
    import click

    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                text = inner.get_help(click.Context(inner, info_name=name, parent=context))
                yield f"\n### {context.command_path} {name}\n\n```text\n{text}\n```"


def port_page() -> Iterator[str]:
    yield "# Ports\n"
    yield "A port is a contract; its adapters are found by file name or by entry point. See [how to add one](../how-to/extend.md).\n"
    from dbupkeep import engine, ledger, manager, queue, worker

    for module, names in ((manager, ["JobManager", "Monitoring"]), (worker, ["JobWorker", "Context"]),
                          (engine, ["Engine", "Session", "Report"]), (ledger, ["Ledger", "Reader"]),
                          (queue, ["Queue"])):  # fmt: skip
        for name in names:
            port = getattr(module, name)
            yield f"\n## {name}\n\n`{module.__name__}.{name}`: {_line(port)}\n\n| member | promise |\n|---|---|"
            for member, value in vars(port).items():
                if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                    yield f"| `{member}` | {_line(value)} |"


PAGES: Mapping[str, Callable[[], Iterator[str]]] = {
    "state-machine.md": state_machine,
    "events.md": event_page,
    "errors.md": error_page,
    "operations.md": operation_page,
    "ports.md": port_page,
    "commands.md": command_page,
}


def _line(thing: object) -> str:
    return " ".join((inspect.getdoc(thing) or "").split()).replace("|", "\\|")


def _settings(defaults: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}` {value}" for name, value in defaults.items()) or "–"


def render(page: str) -> str:
    """The whole text of a page."""
    return HEAD + "\n".join(PAGES[page]()).rstrip() + "\n"


def main(arguments: list[str]) -> int:
    stale = []
    for page in PAGES:
        path = HERE / "reference" / page
        text = render(page)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(page)
            if "--check" not in arguments:
                path.write_text(text, encoding="utf-8")
                print(f"wrote docs/reference/{page}")
    if "--check" in arguments and stale:
        print(f"out of date: {', '.join(stale)}; run `make docs`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
