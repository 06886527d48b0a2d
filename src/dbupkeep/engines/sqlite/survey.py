"""What a plan needs to know of one database, read without changing a byte of it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import apsw
from msgspec import Struct, field

from dbupkeep.engine import Scope
from dbupkeep.engines.sqlite import fingerprint, statistics
from dbupkeep.engines.sqlite import schema as schemas
from dbupkeep.engines.sqlite.alone import obstacle
from dbupkeep.engines.sqlite.faults import is_hot_journal, told
from dbupkeep.engines.sqlite.handle import Handle, View
from dbupkeep.engines.sqlite.openers import Doing, Openers, openers_of
from dbupkeep.engines.sqlite.schema import Entry, Lacking
from dbupkeep.engines.sqlite.space import room_for
from dbupkeep.errors import Busy, Damaged, Refused
from dbupkeep.facts import DatabaseFacts, Notice, ObjectFacts, Value
from dbupkeep.operations import Operation

THOROUGH_BYTES = 16 * 1024 * 1024
"""In a fleet, smaller files are worked on in a blink, so nobody goes through all processes for them."""

_TRIES = 3


class _Seen(Struct, kw_only=True):
    values: dict[str, Value] = field(default_factory=dict)
    objects: list[ObjectFacts] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


def look(handle: Handle, scope: Scope, *, target: str, given: str = "") -> tuple[Handle, DatabaseFacts]:
    """Survey a database; returns the handle to go on with, since some states want the file opened in another way.

    A WAL database that nobody has open is read as immutable, and read again when somebody came in the meantime.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            seen = _read(handle, scope, hot=False)
        except Refused as error:
            if not (isinstance(error.__cause__, apsw.Error) and is_hot_journal(error.__cause__)):
                raise
            handle = _reopen(handle, View.STILL)
            seen = _read_hot(handle, scope)
        if not handle.view.quiet or seen.values["hot_journal"] or handle.is_still():
            break
        if attempt == _TRIES:
            raise Busy(
                f"{handle.path} was opened and closed again and again during the survey",
                hint="survey it again when its program is either running or stopped",
            )
        handle = _reopen(handle, View.READ)
    _add_symlink(seen, handle, given)
    return handle, _facts(handle, seen, scope, target)


def _reopen(handle: Handle, view: View) -> Handle:
    handle.close()
    return Handle(handle.path, view)


def _facts(handle: Handle, seen: _Seen, scope: Scope, target: str) -> DatabaseFacts:
    place = handle.place
    return DatabaseFacts(
        target=target,
        engine="sqlite",
        version=apsw.sqlite_lib_version(),
        surveyed_at=scope.now,
        bytes=place.bytes + int(seen.values["wal_bytes"] or 0),
        identity={
            "path": str(place.path),
            "device": place.device,
            "inode": place.inode,
            "application_id": seen.values["application_id"],
        },
        values=seen.values,
        objects=tuple(seen.objects),
        notices=tuple(seen.notices),
    )


def _read(handle: Handle, scope: Scope, *, hot: bool) -> _Seen:
    seen = _Seen()
    handle.rows("BEGIN")  # one transaction: the numbers belong together, and the lock is taken once
    try:
        _read_size(handle, seen, hot=hot)
        _read_needs(handle, seen, scope, schemas.entries(handle))
        _read_dangers(seen, schemas.lacking(handle))
    finally:
        handle.rows("ROLLBACK")
    _read_room(handle, seen)
    thorough = not scope.fleet or handle.place.bytes >= THOROUGH_BYTES
    _read_openers(seen, openers_of(handle.place, handle.connection, thorough=thorough))
    if thorough and Operation.VACUUM in scope.operations:
        seen.values.update(not_replaceable=obstacle(handle.place))
    return seen


def _read_hot(handle: Handle, scope: Scope) -> _Seen:
    try:
        return _read(handle, scope, hot=True)
    except Damaged as error:  # half of a transaction is in the file, and here it cannot be made sense of
        raise Busy(
            f"{handle.path} has an interrupted transaction that must be rolled back before it can be surveyed",
            why=f"a hot journal of {handle.place.size_beside('-journal') or 0:,} bytes lies beside it",
            hint="go on with the run that was cut off, by `dbupkeep run --resume`, or open it once with its own program;"
            " each rolls it back. Then plan again",
        ) from error


def _read_size(handle: Handle, seen: _Seen, *, hot: bool) -> None:
    pages, free, size = (int(handle.pragma(name) or 0) for name in ("page_count", "freelist_count", "page_size"))
    seen.values.update(
        pages=pages,
        free_pages=free,
        page_size=size,
        free_bytes=free * size,
        free_share=round(free / pages, 4) if pages else 0.0,
        live_bytes=(pages - free) * size,
        auto_vacuum=int(handle.pragma("auto_vacuum") or 0),
        journal_mode="wal" if handle.header.wal else "delete",
        encoding=str(handle.pragma("encoding")),
        schema_version=int(handle.pragma("schema_version") or 0),
        application_id=int(handle.pragma("application_id") or 0),
    )
    seen.values.update(
        file_bytes=handle.place.bytes,
        wal_bytes=handle.place.size_beside("-wal") or 0,
        schema_format=handle.header.schema_format,
        hot_journal=hot,
        writable=handle.place.writable,
    )
    if hot:
        seen.notices.append(_hot_notice(handle))
    if not handle.place.writable:
        seen.notices.append(
            Notice(
                code="read_only",
                message="this user may not write the file or its folder, so all work but a check will be refused",
                hint="make both writable, or run as their owner",
            )
        )


def _hot_notice(handle: Handle) -> Notice:
    return Notice(
        code="hot_journal",
        message=f"an interrupted transaction lies beside the file ({handle.place.size_beside('-journal') or 0:,} bytes"
        " of -journal); the survey read the file as it is and did not roll it back",
        hint="the work rolls it back when it opens the file, as any other program would",
    )


def _read_needs(handle: Handle, seen: _Seen, scope: Scope, entries: Sequence[Entry]) -> None:
    indexes = [entry for entry in entries if entry.kind == "index"]
    tables = [entry for entry in entries if entry.kind == "table" and not entry.name.startswith("sqlite_")]
    seen.values.update(tables=len(tables), indexes=len(indexes))
    wanted = set(scope.operations)
    if Operation.VACUUM in wanted:
        rowid_tables = schemas.rowid_tables(handle)
        dependents = schemas.rowid_dependents(entries, rowid_tables)
        seen.values.update(rowid_tables=json.dumps(rowid_tables), rowid_dependents=json.dumps(dependents))
    if wanted & {Operation.ANALYZE, Operation.OPTIMIZE}:
        _read_statistics(handle, seen, analyzable=bool(indexes))
    seen.objects += fingerprint.objects(entries)
    if Operation.REINDEX in wanted:  # those too that a constraint made
        seen.objects += [
            ObjectFacts(name=entry.name, kind="index", table=entry.table) for entry in indexes if not entry.sql
        ]


def _read_statistics(handle: Handle, seen: _Seen, *, analyzable: bool) -> None:
    """Which tables need ANALYZE, and what it would cost: sqlite_stat4 samples are lost to a limited one."""
    with told(handle.path, stage="reading statistics", connection=handle.connection):
        found = statistics.staleness(handle.connection) if analyzable else statistics.Staleness(missing=(), outgrown=())
        samples = statistics.samples(handle.connection)
    seen.values.update(
        stale_tables=json.dumps(found.tables),
        unanalyzed=len(found.missing),
        outgrown=len(found.outgrown),
        samples=samples,
    )


def _read_room(handle: Handle, seen: _Seen) -> None:
    room = room_for(handle.path)
    seen.values.update(
        folder=room.folder,
        folder_free=room.folder_free,
        temp=room.temp,
        temp_free=room.temp_free,
        one_volume=room.shared,
    )


def _read_openers(seen: _Seen, openers: Openers) -> None:
    readers, writers = openers.doing(Doing.READING), openers.doing(Doing.WRITING)
    seen.values.update(openers=len(openers.found), openers_complete=openers.complete, openers_named=str(openers))
    if writers:
        seen.notices.append(Notice(code="open_transaction", message=f"a write transaction is open: {writers}"))
    elif readers and seen.values["journal_mode"] == "wal":
        seen.notices.append(
            Notice(
                code="long_reader",
                message=f"a reader is active: {readers}",
                hint="while it lasts, VACUUM cannot shrink the file and -wal grows instead",
            )
        )


def _read_dangers(seen: _Seen, lacking: Lacking) -> None:
    seen.values.update(lacking=str(lacking))
    if lacking:
        seen.notices.append(
            Notice(
                code="missing_capability",
                message=f"the schema uses what this program does not have: {lacking}",
                hint="register it with DBUPKEEP_SQLITE_HOOK=module:function, which is called with each connection",
            )
        )


def _add_symlink(seen: _Seen, handle: Handle, given: str) -> None:
    if given:
        seen.notices.append(
            Notice(
                code="symlink",
                message=f"{given} leads to {handle.path}, which is what is worked on",
                severity="info",
            )
        )
