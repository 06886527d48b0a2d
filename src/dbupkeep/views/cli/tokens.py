"""The commands under `token`: who may call the HTTP API and use the page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from dbupkeep.access import Access, Role, Token
from dbupkeep.codec import rfc3339
from dbupkeep.errors import UsageError
from dbupkeep.views import words
from dbupkeep.views.cli.account import user
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.cli.requests import DurationType
from dbupkeep.views.terminal import Cell, Table

if TYPE_CHECKING:
    from dbupkeep.app import App

DAY = timedelta(days=1)

STYLES = {"valid": "green", "expired": "yellow", "revoked": "dim"}


@click.group()
def token() -> None:
    """Make, list and revoke the tokens of the HTTP API and the page."""


@token.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([role.word for role in Role]),
    default="viewer",
    show_default=True,
    help="viewer looks, operator plans, runs and controls, admin also sees the audit trail and the configuration.",
)
@click.option(
    "--days", type=click.IntRange(1, 36_500), metavar="N", help="For how long it is valid; for ever when left out."
)
@click.option("--lasts", type=DurationType(), metavar="TIME", help="The same as a duration, such as 8h.")
@common
def create(console: Console, *, name: str, role: str, days: int | None, lasts: timedelta | None) -> int:
    """Make a token and print it: once, since only its hash is kept."""
    if days is not None and lasts is not None:
        raise UsageError("--days and --lasts are two ways to say the same", hint="give one of them")
    span = days * DAY if days is not None else lasts
    with console.app() as app:
        text = _access(app).create(name, Role[role.upper()], by=user(), lasts=span)
        made = _access(app).roll().tokens[name]
    if console.as_json:
        console.document({**_document(made, made.created_at), "token": text})
        return Exit.DONE
    console.out.line(text)
    console.say(
        f"The token {words.name(name)} ({role}, {_until(made)}) is shown this once; only its hash is kept.", "dim"
    )
    return Exit.DONE


@token.command("list")
@common
def list_tokens(console: Console) -> int:
    """List the tokens with their roles, and when each was last used; never what they are."""
    with console.app() as app:
        found = sorted(_access(app).roll().tokens.values(), key=lambda each: each.created_at)
        now = app.clock.now()
    if console.as_json:
        console.document({"tokens": [_document(each, now) for each in found]})
        return Exit.DONE
    for line in _table(found, now).lines(console.out):
        console.out.line(line)
    if not found:
        console.say("There are none yet: the first start of `dbupkeep serve` makes one.")
    return Exit.DONE


@token.command()
@click.argument("name")
@common
def revoke(console: Console, *, name: str) -> int:
    """End a token and the sessions of all browsers that logged in with it; a running service knows within a second."""
    with console.app() as app:
        revoked = _access(app).revoke(name, by=user())
        now = app.clock.now()
    if console.as_json:
        console.document(_document(revoked, now))
    else:
        console.out.line(f"Revoked {words.name(name)}.")
    return Exit.DONE


def _access(app: App) -> Access:
    return Access(reader=app.reader, lifecycle=app.lifecycle, clock=app.clock)


def _state(token: Token, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "valid" if token.valid(now) else "expired"


def _until(token: Token) -> str:
    return f"valid until {words.moment(token.expires_at)}" if token.expires_at else "valid until it is revoked"


def _document(token: Token, now: datetime) -> dict[str, object]:
    """A token for programs; its hash stays in the ledger."""
    moments = {name: getattr(token, name) for name in ("created_at", "expires_at", "used_at", "revoked_at")}
    return {
        "name": token.name,
        "role": token.role,
        "state": _state(token, now),
        "created_by": token.created_by,
        **{name: moment and rfc3339(moment) for name, moment in moments.items()},
    }


def _table(tokens: list[Token], now: datetime) -> Table:
    rows = [
        [
            Cell(words.name(each.name), "bold"), Cell(each.role), Cell(_state(each, now), STYLES[_state(each, now)]),
            Cell(words.moment(each.created_at), "dim"), Cell(words.name(each.created_by)),
            Cell(words.moment(each.expires_at) if each.expires_at else "never"),
            Cell(words.moment(each.used_at) if each.used_at else "never"),
        ]
        for each in tokens
    ]  # fmt: skip
    head = ("NAME", "ROLE", "STATE", "MADE", "BY", "EXPIRES", "LAST USED")
    return Table(head=head, rows=rows, flexible=(0, 4), optional=(3, 4), names=frozenset({0}))
