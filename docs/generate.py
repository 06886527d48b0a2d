"""Writes the pages of docs/reference that are made from the code; `--check` says which ones are out of date instead.

python docs/generate.py [--check]
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import api_page

from dbupkeep import engines, errors, events, operations
from dbupkeep.jobs import TRANSITIONS, JobStatus, JobType
from dbupkeep.views.cli import exits

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
        fields = ", ".join(f"`{field}`" for field in cls.__struct_fields__) or "–"
        yield f"| `{name}` | {_line(cls)} | {fields} |"


def error_page() -> Iterator[str]:
    yield "# Errors\n"
    yield "Each error says what happened, why, and what to do next, and has a kind for programs.\n"
    yield "```text\n" + inspect.cleandoc(errors.__doc__ or "").partition("\n\n")[2] + "\n```\n"
    yield "## Kinds\n"
    yield "A failed job keeps the kind under `error.kind`; a command that ends by one exits with its code. What to do about"
    yield "each is in [what to do when it says ...](../how-to/what-to-do.md).\n"
    yield "| kind | exit code |\n|---|---|"
    for kind in errors.Kind:
        yield f"| [`{kind}`](../how-to/what-to-do.md#{kind}) | {int(exits.of_kind(kind))} |"


def exit_page() -> Iterator[str]:
    yield "# Exit codes\n"
    yield "| code | meaning | error kinds |\n|---|---|---|"
    for code in exits.Exit:
        kinds = ", ".join(
            f"`{kind}`" for kind in errors.Kind if exits.of_kind(kind) is code and code is not exits.Exit.FAILED
        )
        yield f"| {int(code)} | {EXITS[code.name]} | {kinds} |"
    yield "\nA run that failed exits with 10, 12 or 13 when all of its failed operations did so for that one reason, else with 1."
    yield "`why` exits with 0 whatever it finds, `doctor` with 1 when it finds something wrong."
    yield "`plan` exits with 0 also when something is due, unless it is asked with `--exit-code`."


EXITS: Mapping[str, str] = {
    "DONE": "done, or nothing to do",
    "FAILED": "an operation failed",
    "USAGE": "the request itself is wrong: an option, a name, the configuration",
    "PARTIAL": "cancelled or paused, or failures within the tolerance (`--error-tolerance`)",
    "DEFERRED": "something was due and had to wait: a lock, or a stall longer than allowed",
    "DUE": "only `plan --exit-code`: something is due",
    "UNREACHABLE": "there is no such database, or it does not answer",
    "NOT_PERMITTED": "credentials or rights are lacking",
    "REFUSED": "refused before anything was changed: no database, no space, a plan that no longer fits, ...",
    "INTERRUPTED": "cancelled from the keyboard",
    "BROKEN_PIPE": "whoever read the output has left",
}


def configuration() -> Iterator[str]:
    from dbupkeep import config

    schema = config.json_schema()
    tables = schema["$defs"]
    yield "# Configuration\n"
    yield f"One TOML file: the one that `--config` or `DBUPKEEP_CONFIG` names, else `{config.FILE_NAME}` in your configuration folder"
    yield f"(`~/.config/dbupkeep`), else `{config.SYSTEM_FOLDER / config.FILE_NAME}`. `dbupkeep config path` says which one is read,"
    yield "`dbupkeep config check` lists every fault with file and line, `dbupkeep config show --origin` every value in force."
    yield "There is a [whole example](../example.toml), and `dbupkeep config schema` prints a JSON Schema for editors.\n"
    yield "Durations are written `10d`, `1h30m`, `500ms`, or as a number of seconds; sizes `64MB`, `16MiB`, or as bytes; shares"
    yield "`25%` or `0.25`. Relative paths are relative to the file. A variable `DBUPKEEP_POLICIES__GENTLE__COOL_OFF` sets"
    yield "`policies.gentle.cool_off`, whatever the file says.\n"
    yield from _settings_table("The file", schema)
    for title, name in (("[server]", "ServerTable"), ("[targets.NAME]", "TargetTable"), ("[windows.NAME]", "WindowTable"), ("[policies.NAME]", "PolicyTable"), ("[notify.NAME]", "NotifyTable"),
                        ("[jobs.NAME]", "JobTable"), ("[jobs.NAME.hooks]", "HooksTable"), ("[[jobs.NAME.steps]]", "StepTable")):  # fmt: skip
        yield from _settings_table(f"`{title}`", tables[name])
    yield "\n## Thresholds: `[policies.NAME.OPERATION]`\n"
    yield "What each engine knows, with its defaults, is in [operations](operations.md); `--set vacuum.min_share=10%` sets one for"
    yield "a single command, and `dbupkeep plan` prints those in force."


def _settings_table(title: str, table: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n## {title}\n\n| key | type | default | what it is |\n|---|---|---|---|"
    for key, field in table["properties"].items():
        needed = key in table.get("required", ())
        default = "**needed**" if needed else _default(field.get("default"))
        yield f"| `{key}` | {_type(field)} | {default} | {field['description']} |"


def _type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(each) for each in field["anyOf"] if each.get("type") != "null"))
    if "$ref" in field:
        return "table"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array":
        inner = field["items"]
        return "tables" if "$ref" in inner else "list of " + (_type(inner) if "enum" in inner else f"{_type(inner)}s")
    pattern = field.get("pattern", "")
    return "duration" if "ms|s" in pattern else "percentage" if "%" in pattern else _TYPES[field["type"]]


_TYPES = {
    "string": "text",
    "number": "number",
    "integer": "whole number",
    "boolean": "true or false",
    "object": "table",
}


def _default(value: object) -> str:
    if value in (None, [], {}, ""):
        return "–"
    if isinstance(value, str) and (found := re.fullmatch(r"PT?(\d+)([DHMS])", value)):
        return f"`{found[1]}{found[2].lower()}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


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

    from dbupkeep.views.cli.entry import cli as group

    yield "# Commands\n"
    yield "Each command also takes `--json`, `--ledger` and the other general options; before or after its name is the same."
    yield "What they print as JSON is in [json](json.md), what they return in [exit codes](exit-codes.md), and what they read"
    yield "from the environment in [environment](environment.md).\n"
    context = click.Context(group, info_name="dbupkeep", terminal_width=100)
    yield "```text\n" + group.get_help(context) + "\n```"
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            inner = _context(command, name, context)
            yield f"\n## dbupkeep {name}\n\n```text\n{command.get_help(inner)}\n```"
            yield from _subcommands(command, inner)


def _context(command: click.Command, name: str, parent: click.Context) -> click.Context:
    """As wide for everybody, whatever terminal it is made on."""
    import click

    return click.Context(command, info_name=name, parent=parent, terminal_width=100)


def _subcommands(command: click.Command, context: click.Context) -> Iterator[str]:
    import click

    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                text = inner.get_help(_context(inner, name, context))
                yield f"\n### {context.command_path} {name}\n\n```text\n{text}\n```"


def port_page() -> Iterator[str]:
    yield "# Ports\n"
    yield "A port is a contract; its adapters are found by file name or by entry point. See [how to add one](../how-to/extend.md).\n"
    from dbupkeep import engine, follower, ledger, manager, queue, worker

    for module, names in ((manager, ["JobManager", "Monitoring"]), (worker, ["JobWorker", "Context"]),
                          (engine, ["Engine", "Session", "Report"]), (ledger, ["Ledger", "Trail", "Reader"]),
                          (queue, ["Queue"]), (follower, ["Follower"])):  # fmt: skip
        for name in names:
            port = getattr(module, name)
            yield f"\n## {name}\n\n`{module.__name__}.{name}`: {_line(port)}\n\n| member | promise |\n|---|---|"
            for member, value in vars(port).items():
                if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                    yield f"| `{member}` | {_line(value)} |"


def metric_page() -> Iterator[str]:
    from dbupkeep.totals import SECONDS
    from dbupkeep.views.metrics import FAMILIES

    yield "# Metrics\n"
    yield "What `GET /metrics` tells Prometheus; how to scrape it is in [how to monitor it](../how-to/monitor.md). Names and labels are only"
    yield "ever added. Histograms have the buckets " + ", ".join(f"{bound:g}" for bound in SECONDS) + " s.\n"
    yield "| metric | kind | labels | what it says |\n|---|---|---|---|"
    for family in FAMILIES:
        kind = family.kind.__name__.removesuffix("MetricFamily").lower()
        labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
        yield f"| `{family.written}` | {kind} | {labels} | {family.help} |"


PAGES: Mapping[str, Callable[[], Iterator[str]]] = {
    "state-machine.md": state_machine,
    "events.md": event_page,
    "errors.md": error_page,
    "operations.md": operation_page,
    "ports.md": port_page,
    "commands.md": command_page,
    "configuration.md": configuration,
    "exit-codes.md": exit_page,
    "metrics.md": metric_page,
    "api.md": api_page.api_page,
    "openapi.json": api_page.openapi,
}


def _line(thing: object) -> str:
    return " ".join((inspect.getdoc(thing) or "").split()).replace("|", "\\|")


def _settings(defaults: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}` {value}" for name, value in defaults.items()) or "–"


def render(page: str) -> str:
    """The whole text of a page."""
    return (HEAD if page.endswith(".md") else "") + "\n".join(PAGES[page]()).rstrip() + "\n"


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
