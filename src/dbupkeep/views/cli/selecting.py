"""What a server's own tools let people choose: tables, schemas, ages and ways, by the names that those tools use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from msgspec.structs import replace

from dbupkeep import engines
from dbupkeep.definitions import Setting, Target
from dbupkeep.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

_LISTS = ("table", "exclude_table", "schema", "exclude_schema", "index")

_FLAGS = (
    click.option("-a", "--all-databases", "whole_server", is_flag=True, help="All databases of the named server; --exclude leaves some out."),
    click.option("-t", "--table", multiple=True, metavar="PATTERN", help="Only such tables: name or schema.name, with * and ?."),
    click.option("-T", "--exclude-table", multiple=True, metavar="PATTERN", help="No such tables."),
    click.option("-n", "--schema", multiple=True, metavar="PATTERN", help="Only such schemas."),
    click.option("-N", "--exclude-schema", multiple=True, metavar="PATTERN", help="No such schemas."),
    click.option("-i", "--index", multiple=True, metavar="PATTERN", help="Only such indexes, for reindex."),
    click.option("--min-xid-age", type=click.IntRange(min=0), metavar="N", help="Only tables whose transaction ids are that old."),
    click.option("--min-mxid-age", type=click.IntRange(min=0), metavar="N", help="Only tables whose multixact ids are that old."),
    click.option("--skip-locked", is_flag=True, help="Leave out what is locked, instead of waiting for it."),
    click.option("--analyze-in-stages", is_flag=True, help="Rough statistics of all tables first, then better ones."),
    click.option("--missing-stats-only", is_flag=True, help="Analyze only what lacks statistics."),
    click.option("--buffer-usage-limit", metavar="SIZE", help="The ring of buffers to use, such as 128MB; 0 for none."),
    click.option("-P", "--parallel", "parallel_workers", type=click.IntRange(0, 1024), metavar="N", help="So many workers of the server for the indexes of a table."),
    click.option("-F", "--freeze", is_flag=True, help="Freeze all rows."),
    click.option("--truncate/--no-truncate", default=None, help="Give empty pages at the end back, which takes an exclusive lock for a moment; or not, which is the default."),
    click.option("--no-index-cleanup", is_flag=True, help="Leave what indexes have of dead rows."),
    click.option("--force-index-cleanup", is_flag=True, help="Remove what indexes have of dead rows, however little it is."),
    click.option("--no-process-main", is_flag=True, help="Vacuum TOAST tables alone."),
    click.option("--no-process-toast", is_flag=True, help="Vacuum no TOAST tables."),
    click.option("--disable-page-skipping", is_flag=True, help="Read every page, whatever the visibility map says."),
)  # fmt: skip

OPTIONS: Sequence[Callable[[Any], Any]] = _FLAGS
"""Options of `plan` and `run`; an engine says in `FLAGS` which of them it knows."""

_NAMES = (
    *_LISTS, "min_xid_age", "min_mxid_age", "skip_locked", "analyze_in_stages", "missing_stats_only",
    "buffer_usage_limit", "parallel_workers", "freeze", "truncate", "disable_page_skipping",
)  # fmt: skip

_SAYING: Mapping[str, tuple[str, Setting]] = {
    "no_index_cleanup": ("index_cleanup", "off"),
    "force_index_cleanup": ("index_cleanup", "on"),
    "no_process_main": ("process_main", False),
    "no_process_toast": ("process_toast", False),
}
"""Flags that say a value of a setting, by their parameters."""


def settings(choice: Mapping[str, Any], targets: Sequence[Target]) -> dict[str, Setting]:
    """The step's settings that were asked for. Raises `UsageError` for one that a target's engine does not know."""
    if choice.get("no_index_cleanup") and choice.get("force_index_cleanup"):
        raise UsageError("--no-index-cleanup and --force-index-cleanup are both given", hint="leave one of them out")
    found: dict[str, Setting] = {}
    flags: dict[str, str] = {}
    for name in (*_NAMES, *_SAYING):
        value = choice.get(name)
        if value is None or value == () or (value is False and name != "truncate"):
            continue
        setting, said = _SAYING.get(name, (name, ",".join(value) if name in _LISTS else value))
        found[setting], flags[setting] = said, f"--{name.replace('_', '-')}"
    for target in targets if found else ():
        known: Mapping[str, str] = getattr(engines.load(target.engine), "FLAGS", {})
        lacking = [flag for setting, flag in flags.items() if setting not in known]
        if lacking:
            raise UsageError(
                f"{', '.join(lacking)} is nothing that {target.engine} knows",
                why=f"{target.name} is a {target.engine} database",
                hint="leave it out, or name databases that have it",
            )
    return found


def narrowed(target: Target, choice: Mapping[str, Any]) -> Target:
    """The target, as the whole server, and with as many operations on it at a time, as was asked for."""
    is_server = getattr(engines.load(target.engine), "SERVES_MANY", False)
    if choice.get("slots") and is_server:
        target = replace(target, parallel=choice["slots"])
    if choice.get("whole_server"):
        if not is_server:
            raise UsageError(
                f"-a is for servers, and {target.engine} has none", hint="use --pattern or a glob for files"
            )
        target = replace(target, pattern=choice.get("pattern") or "*")
    return target
