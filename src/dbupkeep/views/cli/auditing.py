"""The commands under `audit`: what was asked for, by whom, and whether the record of it is whole."""

from __future__ import annotations

import re
from datetime import datetime

import click

from dbupkeep.audit import Entry
from dbupkeep.documents import act_document, trail_document
from dbupkeep.errors import UsageError
from dbupkeep.ledger import verified
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.terminal import Cell, Table

MOST_SHOWN = 20
"""Faults shown; after the first ones, more say nothing new."""


@click.group()
def audit() -> None:
    """Look at the audit trail, and check that it is whole."""


@audit.command("list")
@click.option("--limit", type=click.IntRange(1, 100_000), metavar="N", default=30, show_default=True, help="How many.")
@click.option("--who", default="", metavar="NAME", help="Only of this account, `token NAME` or `schedule`.")
@click.option("--what", default="", metavar="VERB", help="Only of this kind: run, cancel, token_create ...")
@common
def list_acts(console: Console, *, limit: int, who: str, what: str) -> int:
    """List what was asked for, newest first: by whom, of which job, with which outcome."""
    with console.app() as app:
        found = app.ledger.acts(who=who, what=what, limit=limit)
    if console.as_json:
        console.document({"acts": [act_document(each) for each in found]})
        return Exit.DONE
    for line in _table(list(found)).lines(console.out):
        console.out.line(line)
    if not found:
        console.say("Nothing was asked for yet.")
    return Exit.DONE


@audit.command()
@click.option(
    "--seal", default="", metavar="NUMBER:SEAL", help="A number and seal that you noted before: it must still be there."
)
@common
def verify(console: Console, *, seal: str) -> int:
    """Check that no entry was changed, taken out, put in or moved; prints the newest seal, to be noted elsewhere.

    Who can write the ledger can write the whole trail anew; only a seal noted elsewhere shows that.
    """
    known = _noted(seal)
    with console.app() as app:
        ends, faults = verified(app.ledger, known=known)
        found = list(faults)
    if console.as_json:
        console.document(trail_document(ends, found[:MOST_SHOWN]))
    elif found:
        console.out.line(f"The audit trail is broken: {words.counted(len(found), 'fault')}.")
        for fault in found[:MOST_SHOWN]:
            console.out.line(f"  {fault}")
    else:
        pruned = f"; {ends.pruned} older ones were pruned" if ends.pruned else ""
        console.out.line(
            f"The audit trail is whole: {words.counted(ends.last - ends.pruned, 'entry', 'entries')}{pruned}."
        )
        console.out.line(f"Newest seal, to be noted elsewhere:  {ends.last}:{ends.last_seal}")
    return Exit.FAILED if found else Exit.DONE


def _noted(seal: str) -> tuple[int, str] | None:
    if not seal:
        return None
    found = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", seal)
    if found is None:
        raise UsageError("that is no seal", hint="give what `dbupkeep audit verify` printed: NUMBER:SEAL")
    return int(found[1]), found[2]


def _table(acts: list[Entry]) -> Table:
    rows = [
        [
            Cell(str(each.seq), "dim"), Cell(words.moment(datetime.fromisoformat(each.at)), "dim"), Cell(words.name(each.who)),
            Cell(each.what, "bold"), Cell(words.name(each.on)), Cell(words.name(words.places(each.target))),
            Cell(words.name(each.outcome), "green" if each.outcome == "done" else "yellow"),
        ]
        for each in acts
    ]  # fmt: skip
    head = ("NR", "WHEN", "WHO", "WHAT", "OF", "DATABASE", "OUTCOME")
    return Table(head=head, rows=rows, right=frozenset({0}), flexible=(4, 5, 6), optional=(5,), names=frozenset({4, 5}))
