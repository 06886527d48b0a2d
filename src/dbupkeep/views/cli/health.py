"""The command `health`: whether runs start, succeed and are told of; for people, containers, and Nagios."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from dbupkeep.errors import DefinitionError, UpkeepError
from dbupkeep.health import Check, Level, Verdict
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.terminal import wrap

if TYPE_CHECKING:
    from dbupkeep.config import Config

MARKS = {
    Level.OK: ("✓", "green"),
    Level.WARNING: ("!", "yellow"),
    Level.CRITICAL: ("✗", "red"),
    Level.UNKNOWN: ("?", "red"),
}


@click.command()
@click.option(
    "--service", is_flag=True, help="Only whether the service is at work: for the health check of a container."
)
@click.option("--deep", is_flag=True, help="Have the ledger check itself, which takes time with its size.")
@click.option(
    "--nagios", is_flag=True, help="One line with performance data, and the exit codes of Nagios: 0, 1, 2, 3."
)
@common
def health(console: Console, *, service: bool, deep: bool, nagios: bool) -> int:
    """Say whether runs start when they are due, succeed, and people are told. Exit code 1 if not."""
    try:
        verdict = _verdict(console, service=service, deep=deep)
    except UpkeepError as error:
        if not nagios:
            raise
        console.out.line(f"DBUPKEEP UNKNOWN - {words.name(error.message)}")
        return int(Level.UNKNOWN)
    if nagios:
        console.out.line(nagios_line(verdict))
        return int(verdict.level)
    if console.as_json:
        console.document(verdict.document())
    else:
        for line in _lines(verdict, console):
            console.out.line(line)
    return Exit.DONE if verdict.level is Level.OK else Exit.FAILED


def _verdict(console: Console, *, service: bool, deep: bool) -> Verdict:
    from dbupkeep.views.condition import SERVICE, condition

    config, unread = _configuration(console)
    with console.app() as app:
        verdict = condition(app, config, deep=deep, served=service, unread=unread)
    return verdict.only(*SERVICE) if service else verdict


def _configuration(console: Console) -> tuple[Config, str]:
    """The configuration; or an empty one, and what is wrong: that is when health is asked for."""
    from dbupkeep.config import Config

    try:
        return console.config(), ""
    except DefinitionError as error:
        return Config(), error.message


def _lines(verdict: Verdict, console: Console) -> Iterator[str]:
    """What is wrong, worst first, and then how things are."""
    for check in sorted(verdict.checks, key=lambda check: -check.level):
        mark, color = MARKS[check.level]
        first, *rest = wrap(_said(check), console.out.width, indent=2)
        yield f"{console.out.paint(mark, color)} {first.strip()}"
        yield from rest


def _said(check: Check) -> str:
    return f"{words.name(check.subject)}: {words.name(check.message)}" if check.subject else words.name(check.message)


def nagios_line(verdict: Verdict) -> str:
    """As plugins of Nagios write it: what is wrong, and ages in seconds after the bar."""
    wrong = [_said(check) for check in sorted(verdict.checks, key=lambda check: -check.level) if check.level]
    said = "; ".join(wrong) or f"{len(verdict.checks)} checks"
    ages = " ".join(_measured(check) for check in verdict.checks if check.age_seconds is not None)
    plain = said.replace("|", "/")  # the bar begins the data
    return f"DBUPKEEP {verdict.level.name} - {plain}" + (f" | {ages}" if ages else "")


def _measured(check: Check) -> str:
    label = f"{check.name} {check.subject}".strip().replace("'", "").replace("=", "")
    return f"'{words.name(label)}'={check.age_seconds:.0f}s"
