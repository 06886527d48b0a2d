"""The options of VACUUM and ANALYZE as text: keywords, numbers and checked sizes alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from dbupkeep.engines.postgresql.inquiry import Inquiry
from dbupkeep.engines.postgresql.selection import wanted
from dbupkeep.engines.postgresql.versions import VACUUM_OPTIONS, Version
from dbupkeep.errors import UsageError
from dbupkeep.facts import Notice, Value


def options_of(options: Mapping[str, Value], version: Version, *, skip_locked: bool = False) -> list[str]:
    """The options of the statement, for a version. Pure; every value is a keyword, a number or a checked size."""
    found = ["SKIP_LOCKED"] if skip_locked else []
    found += ["FREEZE"] if options.get("freeze") else []
    found += ["DISABLE_PAGE_SKIPPING"] if options.get("disable_page_skipping") else []
    if not options.get("truncate"):
        found.append("TRUNCATE FALSE")
    if options.get("index_cleanup") in ("on", "off"):
        found.append(f"INDEX_CLEANUP {str(options['index_cleanup']).upper()}")
    if options.get("parallel_workers") is not None:
        found.append(f"PARALLEL {int(str(options['parallel_workers']))}")
    if options.get("process_toast") is False and version.has(VACUUM_OPTIONS["process_toast"]):
        found.append("PROCESS_TOAST FALSE")
    if options.get("process_main") is False:  # no older version is given such work
        found.append("PROCESS_MAIN FALSE")
    # Once a table's age is lowered the database's own is to follow; else it would be reckoned again for each table.
    if version.has(VACUUM_OPTIONS["skip_database_stats"]) and not options.get("aggressive"):
        found.append("SKIP_DATABASE_STATS")
    found += buffers(options, version)
    return found


def buffers(options: Mapping[str, Value], version: Version) -> list[str]:
    """The option for the ring of buffers, where the version has it."""
    limit = str(options.get("buffer_usage_limit") or "")
    return [f"BUFFER_USAGE_LIMIT '{size_of(limit)}'"] if limit and version.has(16) else []


def buffer_limit(q: Inquiry) -> str:
    """The ring of buffers that was asked for, checked; empty for the server's own."""
    limit = q.setting("buffer_usage_limit")
    return "" if limit in (None, "") or limit is False else size_of(str(limit))


def size_of(text: str) -> str:
    """A size as the server writes it. Raises `UsageError`, so that nothing else gets into a statement."""
    number = text.strip().rstrip("kKmMgGBb ").strip()
    unit = text.strip()[len(number) :].strip().upper()
    if not number.isascii() or not number.isdigit() or unit not in ("", "KB", "MB", "GB"):
        raise UsageError(f"{text!r} is no size", why="it is a number with kB, MB or GB, or 0", hint="128MB")
    size = int(number) << {"": 0, "KB": 0, "MB": 10, "GB": 20}[unit]
    if size and not _LEAST_RING <= size <= _BIGGEST_RING:
        raise UsageError(f"{text!r} is no ring of buffers", why="it has 128 kB to 16 GB; 0 is for none", hint="128MB")
    return number + {"KB": "kB"}.get(unit, unit)


def lacking(q: Inquiry) -> tuple[Notice, ...]:
    """What was asked for that this version does not have, as notices."""
    given = q.scope.config
    asked = {name: VACUUM_OPTIONS[name] for name in ("process_toast", "process_main") if not wanted(given, name)}
    if given.get("buffer_usage_limit") not in (None, ""):
        asked["buffer_usage_limit"] = VACUUM_OPTIONS["buffer_usage_limit"]
    return tuple(
        Notice(
            code="not_on_this_version",
            message=f"{lack} is left out: this is PostgreSQL {q.version}",
            hint="leave it out",
        )
        for lack in q.version.lacks(asked)
    )


_LEAST_RING, _BIGGEST_RING = 128, 16 << 20
"""In kB, as the server takes it."""
