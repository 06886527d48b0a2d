"""The command `install`: prints what has the system start the service; writes nothing."""

from __future__ import annotations

import shutil
import sys

import click

from dbupkeep.views.cli import systemd
from dbupkeep.views.cli.account import user
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit
from dbupkeep.views.words import shell


@click.command()
@click.argument("what", type=click.Choice(["systemd"]))
@click.option("--user", "owner", metavar="NAME", help="Who runs it: the owner of the databases. Default: you.")
@common
def install(console: Console, what: str, *, owner: str | None) -> int:
    """Print a systemd unit for `dbupkeep serve`, with the configuration named here; writes nothing.

    dbupkeep install systemd --user app > /etc/systemd/system/dbupkeep.service
    """
    program = shutil.which("dbupkeep")
    command = [program] if program else [sys.executable, "-m", "dbupkeep"]
    command.append("serve")
    if console.config_file is not None:
        command += ["--config", str(console.config_file.absolute())]
    text = systemd.unit(command=shell(command), user=owner or user())
    if console.as_json:
        console.document({"what": what, "text": text})
    else:
        console.out.line(text.rstrip())
    return Exit.DONE
