"""The command `demo`: a bloated database of its own, planned, maintained and reported, with a ledger of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from dbupkeep import engines
from dbupkeep.clock import SystemClock
from dbupkeep.definitions import JobDefinition, Step
from dbupkeep.operations import Operation
from dbupkeep.plans import Plan
from dbupkeep.views import words
from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.executing import execute
from dbupkeep.views.cli.plan_text import plan_lines

if TYPE_CHECKING:
    from dbupkeep.app import App

MIB = 1024 * 1024
SIZES = (300, 100, 20)
"""MiB to try, the biggest first that leaves the disk most of its space."""

SHARE_OF_DISK = 8
"""A demo takes no more than one part in so many of what is free, copies for the work included."""


@click.command()
@click.option(
    "--size",
    type=click.IntRange(1, 100_000),
    metavar="MIB",
    help="How big the database is; default 300, less on a full disk.",
)
@click.option("--keep", is_flag=True, help="Keep the folder with the database and its ledger.")
@common
def demo(console: Console, *, size: int | None, keep: bool) -> int:
    """Make a bloated database in a temporary folder, plan its maintenance, run it live, and report."""
    with _folder(keep=keep) as folder:
        path = folder / "demo.db"
        _make(console, path, size or _fitting(folder))
        console.ledger = str(folder / "ledger.db")
        with console.app() as app:
            planned = _plan(app, path)
            if not console.as_json:
                for line in (*plan_lines(planned, console.out), ""):
                    console.out.line(line)
            root = app.reader.job(app.databases.submit(planned))
            if root is None:  # it cannot be: it was written just now
                return 1
            code = execute(console, app, root, slots=1)
            if console.as_json:
                return code
            _farewell(console, folder if keep else None)
    return code


def _plan(app: App, path: Path) -> Plan:
    """Everything that there is to do, so that the demo shows every kind of decision."""
    target = engines.load("sqlite").target_of(str(path), name="demo.db")  # type: ignore[attr-defined] # an engine of files has it
    step = Step(name="demo", targets=(target,), operations=tuple(Operation))
    plan = app.databases.plan(step, JobDefinition(name="demo", steps=(step,)))
    return replace(plan, lane="demo")


def _make(console: Console, path: Path, size: int) -> None:
    """Make the file; a Ctrl-C meanwhile ends the demo, since nothing has begun."""
    from dbupkeep.engines.sqlite import sample

    clock = SystemClock()
    console.say(f"Making a database of about {size} MiB in {path.parent} ...", "dim")
    began = clock.monotonic()
    sample.make(path, size * MIB)
    console.say(f"{sample.described(path)} ({words.duration(clock.monotonic() - began)})", "dim")
    console.say("")


def _fitting(folder: Path) -> int:
    room = shutil.disk_usage(folder).free // SHARE_OF_DISK // MIB
    return next((size for size in SIZES if size <= room), 1)


@contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dbupkeep-demo-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _farewell(console: Console, folder: Path | None) -> None:
    console.say("")
    if folder is None:
        console.say(
            "Everything the demo made is gone again; --keep keeps it. Now yours:  dbupkeep plan path/to/app.db", "dim"
        )
    else:
        console.say(f"Look around:  dbupkeep show --ledger {folder}/ledger.db", "dim")
