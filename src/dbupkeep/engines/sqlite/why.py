"""What keeps maintenance from helping, most important first."""

from __future__ import annotations

import json
from collections.abc import Iterator

from dbupkeep.engine import Finding
from dbupkeep.engines.sqlite import leftovers, statistics, words
from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.openers import Doing, openers_of
from dbupkeep.engines.sqlite.schema import entries, lacking, rowid_dependents, rowid_tables
from dbupkeep.engines.sqlite.sizes import Sizes, measure
from dbupkeep.errors import UnknownName

_MUCH_WAL = 0.5
"""A `-wal` of more than this part of the file says that checkpoints do not get through."""

_MUCH_FREE = 0.25


def why(handle: Handle, name: str) -> list[Finding]:
    """Look at the database, or at one table or index of it. Raises `UnknownName` for an object that is not there."""
    found = [*_blockers(handle), *_lacks(handle), *_wal(handle), *_space(handle)]
    found += _object(handle, name) if name else _schema(handle)
    found += _copies(handle)
    return sorted(found, key=lambda finding: finding.ok)


def _blockers(handle: Handle) -> Iterator[Finding]:
    openers = openers_of(handle.place, handle.connection)
    writers, readers = openers.doing(Doing.WRITING), openers.doing(Doing.READING)
    if writers:
        yield Finding(
            subject="locks",
            ok=False,
            message=f"a write transaction is open: {writers}",
            hint="every operation that writes waits for it; end it, or run when that program is idle",
        )
    elif readers:
        effect = "VACUUM cannot shrink the file while it lasts" if handle.header.wal else "VACUUM has to wait for it"
        yield Finding(subject="locks", ok=False, message=f"a reader is active: {readers}", hint=effect)
    else:
        yield Finding(subject="locks", ok=True, message=f"open elsewhere: {openers}" if openers else "nobody else")


def _lacks(handle: Handle) -> Iterator[Finding]:
    missing = lacking(handle)
    if missing:
        yield Finding(
            subject="functions and collations",
            ok=False,
            message=f"missing here: {missing}",
            hint="register them with DBUPKEEP_SQLITE_HOOK=module:function",
        )


def _wal(handle: Handle) -> Iterator[Finding]:
    size = handle.place.size_beside("-wal") or 0
    if handle.header.wal:
        held = size > _MUCH_WAL * handle.place.bytes and size > handle.header.page_size * 1000
        yield Finding(
            subject="-wal",
            ok=not held,
            message=f"it has {words.size(size)} beside a file of {words.size(handle.place.bytes)}",
            hint="a reader that never ends keeps checkpoints from finishing" if held else "",
        )


def _space(handle: Handle) -> Iterator[Finding]:
    sizes: Sizes = measure(handle)
    share = sizes.free_pages / sizes.pages if sizes.pages else 0.0
    much = share >= _MUCH_FREE
    yield Finding(
        subject="free pages",
        ok=not much,
        message=f"{words.share(share)} of the file is free ({words.size(sizes.free_bytes)})",
        hint="VACUUM gives them back to the file system" if much else "",
    )


def _schema(handle: Handle) -> Iterator[Finding]:
    stale = statistics.staleness(handle.connection).tables
    yield Finding(
        subject="statistics",
        ok=not stale,
        message=f"missing or outgrown for {words.listed(stale)}" if stale else "all there",
        hint="ANALYZE refreshes them" if stale else "",
    )
    dependents = rowid_dependents(entries(handle), rowid_tables(handle))
    if dependents:
        yield Finding(
            subject="rowids",
            ok=False,
            message=f"VACUUM may renumber rowids, on which {words.listed(list(dependents))} may depend",
            hint="give those tables an INTEGER PRIMARY KEY, or consent to renumber_rowids",
        )


def _object(handle: Handle, name: str) -> list[Finding]:
    schema = entries(handle)
    entry = next((e for e in schema if e.name == name and e.kind in {"table", "index"}), None)
    if entry is None:
        raise UnknownName(f"there is no table or index {name!r} in {handle.path}", hint="check the spelling")
    table = entry.table
    stale = table in statistics.staleness(handle.connection).tables
    size, unused = _pages_of(handle, name)
    return [
        Finding(
            subject=f"statistics of {table}",
            ok=not stale,
            message="missing or outgrown" if stale else "there",
            hint="ANALYZE refreshes them" if stale else "",
        ),
        Finding(
            subject=f"{entry.kind} {name}",
            ok=True,
            message=f"{words.size(size)}, of which {words.size(unused)} unused within its pages",
            hint="VACUUM packs tables and indexes; REINDEX alone does not shrink the file",
        ),
    ]


def _pages_of(handle: Handle, name: str) -> tuple[int, int]:
    """Bytes of its pages, and the unused ones of them; reads all pages of that object."""
    rows = handle.rows("SELECT name, sum(pgsize), sum(unused) FROM dbstat WHERE aggregate = 1 GROUP BY name")
    return next(((int(size), int(unused)) for found, size, unused in rows if found == name), (0, 0))


def _copies(handle: Handle) -> Iterator[Finding]:
    for left in leftovers.beside(handle.place):
        yield Finding(
            subject="left behind",
            ok=False,
            message=f"{json.dumps(left.name)} ({words.size(left.bytes)}): {left.explanation}",
            hint="it can be removed once the database has passed a check",
        )
