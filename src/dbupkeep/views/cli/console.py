"""What every command has: its streams, its settings, and the door to the ledger."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec import Struct

from dbupkeep.errors import DefinitionError, UpkeepError
from dbupkeep.logs import LogFormat, printable, set_up
from dbupkeep.views.cli.account import user
from dbupkeep.views.terminal import Color, Terminal, standard_error, standard_output, wrap

if TYPE_CHECKING:
    from dbupkeep.app import App
    from dbupkeep.config import Config

F = TypeVar("F", bound=Callable[..., Any])

LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}

log = logging.getLogger("dbupkeep.cli")


class Console(Struct, kw_only=True):
    """Streams and settings of one command."""

    as_json: bool = False
    ledger: str = ""
    config_file: Path | None = None
    log_format: LogFormat = LogFormat.TEXT
    verbosity: int = 0
    color: Color = Color.AUTO
    out: Terminal
    err: Terminal

    @property
    def quiet(self) -> bool:
        """Whether only results and errors are wanted."""
        return self.verbosity < 0

    @property
    def is_logged(self) -> bool:
        """Whether messages go into a log that is kept: as JSON lines, or into the journal of the system."""
        return self.log_format is LogFormat.JSON or "JOURNAL_STREAM" in os.environ

    def document(self, document: Mapping[str, Any] | list[Any]) -> None:
        """Write one JSON document to standard output."""
        self.out.line(json.dumps(document, indent=2))

    def event(self, document: Mapping[str, Any]) -> None:
        """Write one JSON document on one line."""
        self.out.line(json.dumps(document))

    def say(self, text: str, *styles: str) -> None:
        """Write a message to standard error: a log line where logs are JSON."""
        if self.quiet:
            return
        if self.log_format is LogFormat.JSON:
            log.log(max(logging.INFO, log.getEffectiveLevel()), "%s", text)
            return
        for line in wrap(text, self.err.width):
            self.err.line(self.err.paint(line, *styles))

    @contextmanager
    def app(self, *, lease: float | None = None, isolate: bool = False) -> Iterator[App]:
        """Open the ledger, and close it in the end."""
        from dbupkeep.app import App
        from dbupkeep.audit import acting

        app = App(self.ledger, lease=lease, isolate=isolate)
        try:
            with acting(user()):
                yield app
        finally:
            app.close()

    def config(self) -> Config:
        """The configuration, or an empty one where there is no file."""
        from dbupkeep import config
        from dbupkeep.engines import ALIASES, known

        return config.load(config.find(self.config_file), known=config.Known(engines={*known(), *ALIASES}))


def complain(error: UpkeepError, terminal: Terminal) -> None:
    """Write what happened, why, and what to do next."""
    what = printable(error.what)
    terminal.line(terminal.paint("error:", "red", "bold") + " " + "\n       ".join(wrap(what, _room(terminal))))
    reasons = error.faults if isinstance(error, DefinitionError) else (error.why,)
    for reason in filter(None, reasons):
        _aside(terminal, "why:", printable(reason))
    if str(error.where):
        _aside(terminal, "where:", printable(str(error.where)))
    if error.hint:
        _aside(terminal, "hint:", printable(error.hint))


def _aside(terminal: Terminal, word: str, text: str) -> None:
    first, *rest = wrap(text, _room(terminal))
    terminal.line(terminal.paint(f"{word:<6}", "dim") + " " + first)
    for line in rest:
        terminal.line(" " * 7 + line)


def _room(terminal: Terminal) -> int | None:
    return None if terminal.width is None else terminal.width - 7


def error_document(error: UpkeepError, code: int) -> dict[str, Any]:
    """An error for programs."""
    return {"error": error.document(), "exit_code": code}


_OPTIONS = (
    click.option("--json", "as_json", is_flag=True, default=None, help="Write one JSON document to standard output."),
    click.option("--ledger", metavar="PATH|URL", help="The record of jobs.  [DBUPKEEP_LEDGER]"),
    click.option(
        "--config", "config_file", type=click.Path(path_type=Path), metavar="FILE",
        help="The configuration file.  [DBUPKEEP_CONFIG]",
    ),
    click.option("--log-format", type=click.Choice([each.value for each in LogFormat]), help="Of the logs on standard error."),
    click.option("-v", "--verbose", count=True, help="Log more; twice for details."),
    click.option("-q", "--quiet", is_flag=True, default=None, help="Results and errors only."),
    click.option("--color", type=click.Choice([each.value for each in Color]), help="When to colour; NO_COLOR and FORCE_COLOR count for auto."),
)  # fmt: skip
_NAMES = ("as_json", "ledger", "config_file", "log_format", "verbose", "quiet", "color")


def common(function: F) -> F:
    """Give a command the options that every command has, and a `Console` made of them as its first argument."""

    @wraps(function)
    def command(**values: Any) -> Any:  # noqa: ANN401 - what click passes and the command returns
        return function(console_of(values), **values)

    return with_options(command)  # type: ignore[return-value] # the decorated function takes what click gives


def with_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options, the first one first in the help."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def console_of(values: dict[str, Any]) -> Console:
    """Take the common options out of a command's values, ask the streams, and set up the logs.

    What was said before the command's name counts too.
    """
    before = click.get_current_context().obj or {}
    given = {name: values.pop(name, None) or before.get(name) for name in _NAMES}
    log_format = LogFormat(given["log_format"] or os.environ.get("DBUPKEEP_LOG_FORMAT") or LogFormat.TEXT)
    verbosity = -1 if given["quiet"] else int(given["verbose"] or 0)
    color = Color(given["color"] or Color.AUTO)
    set_up(log_format, level=LEVELS[max(-1, min(2, verbosity))])
    return Console(
        as_json=bool(given["as_json"]),
        ledger=given["ledger"] or "",
        config_file=given["config_file"],
        log_format=log_format,
        verbosity=verbosity,
        color=color,
        out=standard_output(color),
        err=standard_error(color),
    )
