"""The commands under `ledger`: copies of the record of jobs, made while processes work on it, checked and put back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dbupkeep.app import default_ledger, is_on_server, ledger_file
from dbupkeep.audit import Act
from dbupkeep.clock import SystemClock
from dbupkeep.ledgers import copies
from dbupkeep.views import words
from dbupkeep.views.cli.account import user
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def ledger() -> None:
    """Back up, check and restore the record of jobs."""


@ledger.command()
@click.argument("to", metavar="FILE", type=FILE)
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@common
def backup(console: Console, to: Path, *, force: bool) -> int:
    """Copy the ledger as it is at one moment, and check the copy; whoever works on it goes on.

    The copy can be read by its owner only, and opened with --ledger where it is.
    """
    source = ledger_file(console.ledger, to="back up")
    found = copies.back_up(source, to.absolute(), force=force)
    _tell(console, found, f"Backed up {words.name(str(source))} to {words.name(str(to))}: {_said(found)}.")
    return Exit.DONE


@ledger.command()
@click.argument("copy", metavar="FILE", type=FILE)
@click.option("--force", is_flag=True, help="Replace a ledger that is there; it is kept beside the new one.")
@common
def restore(console: Console, copy: Path, *, force: bool) -> int:
    """Put a copy in the place of the ledger. Refused while a process has the ledger open.

    What ran when the copy was made is taken up again; what was done since then is not known to it, and is looked at anew.
    """
    place = ledger_file(console.ledger, to="restore")
    found, kept = copies.restore(copy.absolute(), place, SystemClock().now(), force=force)
    detail = {"kept": str(kept or ""), "event": found.event}
    with (
        console.app() as app
    ):  # the trail that was restored says so itself; what came after the copy is in what was kept
        app.lifecycle.record(Act(who=user(), what="ledger_restore", on=str(copy), detail=detail))
    text = f"Restored {words.name(str(place))} from {words.name(str(copy))}: {_said(found)}."
    if kept is not None:
        text += f" What was there is {words.name(str(kept))}."
    _tell(console, found, text, ledger=str(place), kept=str(kept) if kept else None)
    return Exit.DONE


@ledger.command()
@click.argument("copy", metavar="[FILE]", type=FILE, required=False)
@common
def check(console: Console, copy: Path | None) -> int:
    """Read all of the ledger, or of a copy of it, and say whether it is sound."""
    if copy is None and is_on_server(console.ledger or default_ledger()):
        return _answers(console)
    place = copy.absolute() if copy else ledger_file(console.ledger)
    found = copies.check(place)
    _tell(console, found, f"{words.name(str(place))} is sound: {_said(found)}.")
    return Exit.DONE


def _answers(console: Console) -> int:
    """What is known of a ledger on a server; how sound its files are is the server's to say."""
    with console.app() as app:
        health = app.reader.health()
    if console.as_json:
        console.document({"ok": health.ok, "path": health.location, "bytes": health.bytes, "version": health.version})
    else:
        said = f"{words.size(health.bytes)}, schema {health.version}"
        console.out.line(
            f"{words.name(health.location)} answers: {said}. Whether its files are sound, its server says."
        )
    return Exit.DONE


def _said(found: copies.Copy) -> str:
    unended = f", {words.counted(found.unended, 'job')} to go on" if found.unended else ""
    return f"{words.size(found.bytes)}, {words.counted(found.runs, 'run')}{unended}"


def _tell(console: Console, found: copies.Copy, text: str, **more: Any) -> None:  # noqa: ANN401 - JSON
    if console.as_json:
        document = {
            "ok": True, "path": str(found.path), "bytes": found.bytes, "version": found.version, "runs": found.runs,
            "unended": found.unended, "event": found.event, **more,
        }  # fmt: skip
        console.document(document)
    else:
        console.out.line(text)
