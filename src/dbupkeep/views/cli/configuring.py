"""The commands under `config`."""

from __future__ import annotations

import json

import click

from dbupkeep import config as settings
from dbupkeep import engines
from dbupkeep.operations import Operation
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.terminal import Cell, Table


@click.group()
def config() -> None:
    """Check, show and locate the configuration."""


@config.command()
@common
def check(console: Console) -> int:
    """Read the configuration and list every fault with its file and line."""
    path = settings.find(console.config_file)
    with console.app() as app:
        known = settings.Known(
            actions=app.managers.names(), engines={*engines.known(), *engines.ALIASES}, settings=_thresholds()
        )
    found = settings.load(path, known=known)
    if console.as_json:
        console.document(
            {"file": found.file or None, "ok": True, "targets": list(found.targets), "jobs": list(found.jobs)}
        )
    elif not found.file:
        console.out.line("There is no configuration file; defaults are in force.")
    else:
        counts = (words.counted(len(found.targets), "target"), words.counted(len(found.jobs), "job"))
        console.out.line(f"{words.name(found.file)} is sound: {', '.join(counts)}.")
    return Exit.DONE


@config.command()
@click.option("--origin", is_flag=True, help="Say where each value came from.")
@common
def show(console: Console, *, origin: bool) -> int:
    """Print every value in force."""
    values = console.config().show(origin=origin)
    if console.as_json:
        fields = ("key", "value", "origin") if origin else ("key", "value")
        console.document({"values": [{name: getattr(value, name) for name in fields} for value in values]})
        return Exit.DONE
    rows = [[Cell(words.name(each.key), "bold"), Cell(words.name(json.dumps(each.value, ensure_ascii=False, default=str))), Cell(words.name(each.origin), "dim")] for each in values]  # fmt: skip
    for line in Table(rows=rows, flexible=(1,)).lines(console.out):
        console.out.line(line)
    if not values:
        console.say("There is no configuration file; defaults are in force.")
    return Exit.DONE


@config.command()
@common
def path(console: Console) -> int:
    """Print which file is read."""
    found = settings.find(console.config_file)
    if console.as_json:
        console.document({"file": str(found) if found else None})
    elif found:
        console.out.line(words.name(str(found)))
    else:
        console.say("There is none. Places: --config, DBUPKEEP_CONFIG, your configuration folder, /etc/dbupkeep.")
    return Exit.DONE


@config.command()
@common
def schema(console: Console) -> int:
    """Print the JSON Schema of a configuration file, for editors."""
    console.document(settings.json_schema())
    return Exit.DONE


def _thresholds() -> dict[Operation, set[str]]:
    """The names of all thresholds that the engines here know."""
    found: dict[Operation, set[str]] = {}
    for name in engines.known():
        for operation, defaults in engines.load(name).defaults.items():
            found.setdefault(operation, set()).update(defaults)
    return found
