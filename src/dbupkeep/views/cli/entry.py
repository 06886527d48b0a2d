"""The group of commands, and what happens around each: errors become sentences and exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click
from typing_extensions import override

from dbupkeep import __version__
from dbupkeep.errors import UpkeepError, UsageError
from dbupkeep.logs import carries_password, printable
from dbupkeep.views.cli.console import complain, error_document, with_options
from dbupkeep.views.cli.exits import Exit, of_error
from dbupkeep.views.terminal import ReaderLeft, standard_error

COMMANDS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Maintain": {
        "plan": ("planning", "Show what would be done, why and at what cost; changes nothing."),
        "run": ("running", "Do it: plan, run with live progress, report."),
        "why": ("inquiring", "Say what keeps maintenance of an object from helping."),
        "demo": ("demo", "Maintain a bloated database that it makes itself."),
    },
    "Look": {
        "jobs": ("looking", "List runs, newest first."),
        "show": ("looking", "Show a job with all below it: before, after, reasons, errors."),
        "logs": ("following", "Print what happened to a job, a line each."),
        "watch": ("following", "Watch a run, from any process, until it ends."),
        "report": (
            "reporting",
            "Report a run, or a period: given back, done, not done and why; as text, JSON or HTML.",
        ),
        "history": ("history", "What past operations took and gave, against what was predicted."),
    },
    "Control": {
        "cancel": ("controlling", "End a job and all below it."),
        "stop": ("controlling", "End a run after what runs now."),
        "skip": ("controlling", "Leave out an operation that has not started."),
        "retry": ("controlling", "Give failed, cancelled and deferred operations another attempt."),
        "pause": ("controlling", "Start nothing new in a run; what runs goes on."),
        "resume": ("controlling", "Let a paused run go on."),
        "limit": ("controlling", "Give a run other limits while it goes on."),
    },
    "Operate": {
        "serve": ("service", "Start what is due by its schedule, and execute it, until told to stop."),
        "schedule": ("scheduling", "Say what runs next by itself, in which window, and what will not and why."),
        "health": ("health", "Say whether runs start, succeed and are told of; for people, containers and Nagios."),
        "notify": ("notifying", "Send a test message to those who are told."),
        "worker": ("working", "Execute jobs until told to stop."),
        "doctor": ("inquiring", "Check versions, the ledger, and a database’s surroundings."),
        "config": ("configuring", "Check, show and locate the configuration."),
        "token": ("tokens", "Make, list and revoke the tokens of API and page."),
        "audit": ("auditing", "Show who asked for what, and check that the record of it is whole."),
        "ledger": ("ledger_files", "Back up, check and restore the record of jobs."),
        "prune": ("history", "Forget runs that ended long ago; measurements stay."),
        "install": ("installing", "Print what has the system start the service: a systemd unit."),
        "completion": ("completing", "Print the completion script of a shell."),
    },
}
"""Each command with the module that has it and its line in the help."""


class Commands(click.Group):
    """Loads a command's module when it is asked for."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for group in COMMANDS.values() for name in group]

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for group in COMMANDS.values():
            if cmd_name in group:
                module = import_module(f"dbupkeep.views.cli.{group[cmd_name][0]}")
                found: click.Command = getattr(module, cmd_name)
                return found
        return None

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            import difflib  # only who mistypes waits for it

            near = difflib.get_close_matches(args[0], known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else "`dbupkeep --help` lists them"
            raise UsageError(f"there is no command {printable(args[0])}", hint=hint)
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, group in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, line) for name, (_, line) in group.items()], col_max=12)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with: dbupkeep plan path/to/app.db",
)
@click.version_option(__version__, prog_name="dbupkeep", message="%(prog)s %(version)s")
@with_options
@click.pass_context
def cli(ctx: click.Context, /, **values: Any) -> None:  # noqa: ANN401 - what click passes
    """Database maintenance as jobs: planned, tracked, explained and recovered one operation at a time."""
    ctx.obj = {**(ctx.obj or {}), **{name: value for name, value in values.items() if value}}


def run(arguments: Sequence[str]) -> int:
    """Run a command; every error becomes sentences on standard error and the code of its kind."""
    as_json = "--json" in arguments
    try:
        _refuse_passwords(arguments)
        obj = {"arguments": tuple(arguments)}
        code = cli.main(list(arguments), prog_name="dbupkeep", standalone_mode=False, obj=obj)
        return int(code or 0)
    except UpkeepError as error:
        return _end(error, of_error(error), as_json=as_json)
    except click.exceptions.NoArgsIsHelpError as error:
        standard_error().line(error.format_message())
        return Exit.USAGE
    except click.UsageError as error:
        return _usage(error, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except ReaderLeft:
        # Whoever read the output has left; what is still buffered goes nowhere, without another complaint at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.BROKEN_PIPE


def _refuse_passwords(arguments: Sequence[str]) -> None:
    """Arguments are seen by everybody on the machine, and kept by the shell."""
    if any(carries_password(argument) and not os.path.lexists(argument) for argument in arguments):
        raise UsageError(
            "a password may not be given on the command line",
            why="other users see it in the list of processes, and the shell keeps it in its history",
            hint="leave it out and keep it in ~/.pgpass or ~/.my.cnf, in a file that PGPASSFILE names, or in PGPASSWORD",
        )


def _usage(error: click.UsageError, *, as_json: bool) -> int:
    command = error.ctx.command_path if error.ctx else "dbupkeep"
    told = _borrowed(error) or UsageError(error.format_message().rstrip("."), hint=f"see `{command} --help`")
    return _end(told, Exit.USAGE, as_json=as_json)


def _borrowed(error: click.UsageError) -> UsageError | None:
    """Of an option that only vacuumdb or reindexdb has, what is written here instead."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None or error.ctx.info_name not in ("plan", "run"):
        return None
    from dbupkeep.views.cli.borrowed import INSTEAD  # only who mistypes waits for it

    instead = INSTEAD.get(error.option_name)
    return UsageError(f"there is no option {error.option_name}", hint=instead) if instead else None


def _end(error: UpkeepError, code: Exit, *, as_json: bool) -> int:
    complain(error, standard_error())
    if as_json:
        print(json.dumps(error_document(error, code), indent=2))
    return code
