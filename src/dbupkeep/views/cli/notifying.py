"""The command `notify`: a message to those who are told, to see that it arrives."""

from __future__ import annotations

from datetime import datetime

import click

from dbupkeep.clock import new_id
from dbupkeep.errors import UnknownName
from dbupkeep.follower import Follower, Message, Undelivered
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit

TESTED = ("notify:", "ping:")
"""How the names of followers begin that tell people."""


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@common
def notify(console: Console, names: tuple[str, ...]) -> int:
    """Send a test message to the receivers and checks of the configuration, and say of each whether it arrived.

    NAME is one of `[notify]`, or of a job with a `healthcheck`, which gets a line in its log that changes nothing.
    """
    config = console.config()
    with console.app() as app:
        known = [follower for follower in app.followers(config) if follower.name.startswith(TESTED)]
        wanted = [follower for follower in known if not names or _short(follower) in names]
        if missing := sorted(set(names) - {_short(follower) for follower in known}):
            raise UnknownName(
                f"nobody is told by the name {words.name(missing[0])}",
                hint=f"there is {', '.join(map(_short, known)) or 'nobody: see docs/how-to/notify.md'}",
            )
        tried = {follower.name: _try(follower, _message(app.clock.now())) for follower in wanted}
    if console.as_json:
        results = [{"name": name, "delivered": not why, "reason": why or None} for name, why in tried.items()]
        console.document({"receivers": results})
    for name, why in tried.items() if not console.as_json else ():
        mark = console.out.paint("✗", "red") if why else console.out.paint("✓", "green")
        console.out.line(f"{mark} {words.name(name)}: {words.name(why) or 'delivered'}")
    if not known:
        console.say("The configuration names nobody to be told.")
    return Exit.FAILED if any(tried.values()) else Exit.DONE


def _message(now: datetime) -> Message:
    run_id = new_id()
    return Message(
        id=f"msg_test_{run_id}", kind="log", at=now, title="A test of dbupkeep",
        text="This message was asked for by a person. All is well.", data={"run_id": run_id},
    )  # fmt: skip


def _try(follower: Follower, message: Message) -> str:
    """Why it did not arrive; empty when it did."""
    try:
        follower.deliver(message)
    except Undelivered as error:
        return error.reason
    return ""


def _short(follower: Follower) -> str:
    return follower.name.partition(":")[2]
