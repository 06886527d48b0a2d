"""What keeps maintenance of an object from helping, and what to do first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dbupkeep.engine import Finding
from dbupkeep.engines.postgresql import blockers, remains, surroundings
from dbupkeep.engines.postgresql.names import split, told
from dbupkeep.errors import UnknownName
from dbupkeep.logs import printable

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

Row = Mapping[str, Any]

_OPEN = 5.0
"""Seconds from which on an open transaction is told of."""

_SHOWN = 3
_OLD = 0.5
_OFF = ("autovacuum_enabled=false", "autovacuum_enabled=off", "autovacuum_enabled=0", "autovacuum_enabled=no")


def why(handle: Handle, object: str) -> list[Finding]:
    """Look at the database, or at one table or index of it; what is in the way comes first, by how much it bars.

    Raises `UnknownName` for an object that is not there.
    """
    row = _named(handle, object) if object else None
    found = [*_standby(handle)]
    if row:
        found += [*_rights(handle, row), *_locks(handle, row)]
    found += [*_horizon(handle, row), *_waited_for(handle, row), *_copies(handle, row), *_counting(handle, row)]
    if row:
        found += [*_age(handle, row), *_state(row)]
    elif not found:
        found = [Finding(subject="database", ok=True, message="nothing is in the way of maintenance")]
    return sorted(found, key=lambda finding: finding.ok)


def _named(handle: Handle, name: str) -> Row:
    """By its qualified name, else by its bare one."""
    try:
        schema, bare = split(name)
        found = handle.rows("named", {"schema": schema, "name": bare})
    except ValueError:
        found = []
    found = found or handle.rows("named", {"schema": None, "name": name})
    if not found:
        raise UnknownName(
            f"there is no table or index {printable(name)!r} in {handle.identity.database}",
            hint="names are schema.name; capitals and strange characters in double quotes",
        )
    return found[0]


def _standby(handle: Handle) -> Iterator[Finding]:
    if handle.identity.standby:
        yield Finding(
            subject="standby",
            ok=False,
            message="the server is a standby: it takes no maintenance",
            hint="maintain its primary",
        )


def _rights(handle: Handle, row: Row) -> Iterator[Finding]:
    if row["permitted"]:
        return
    role, table = handle.identity.role, told(row["schema"], row["name"])
    grant = f"GRANT MAINTAIN ON {table} TO {role}" if handle.identity.version.has(17) else "be a member of its owner"
    hint = f"{grant}; and USAGE on its schema"
    yield Finding(subject="rights", ok=False, message=f"{role} may not maintain {table}", hint=hint)


def _locks(handle: Handle, row: Row) -> Iterator[Finding]:
    """All operations want SHARE UPDATE EXCLUSIVE at least, which none of these goes with."""
    for lock in handle.rows("locks_in_the_way", {"oid": row["oid"]})[:_SHOWN]:
        who = blockers.described({**lock, "state": lock["state"] or ("prepared" if lock["pid"] is None else "")})
        verb = "has" if lock["granted"] else "waits for"
        if lock["wraparound"]:
            hint = "let it finish: it prevents wraparound; VACUUM, ANALYZE and REINDEX wait for it"
        elif lock["auto"]:
            hint = "nothing: autovacuum gives way to maintenance within about a second"
        elif lock["pid"] is None:
            hint = f"VACUUM, ANALYZE and REINDEX wait for it: {_ENDING['prepared'].format(name=printable(str(lock['name'])))}"
        else:
            hint = (
                f"VACUUM, ANALYZE and REINDEX wait for it: SELECT pg_cancel_backend({lock['pid']}) when nobody needs it"
            )
        yield Finding(
            subject="locks",
            ok=bool(lock["auto"] and not lock["wraparound"]),
            message=f"{who} {verb} {lock['mode']}",
            hint=hint,
        )


def _horizon(handle: Handle, row: Row | None) -> Iterator[Finding]:
    """VACUUM removes no row that one of these could still see; the oldest first."""
    dead = f", of which there are {row['dead']:,} here" if row and row["dead"] else ""
    held = [each for each in surroundings.blockers(handle) if surroundings.is_held(each, _OPEN)]
    for each in held[:_SHOWN]:
        yield Finding(
            subject="dead rows",
            ok=False,
            message=f"{surroundings.holder(each)} keeps dead rows{dead}: VACUUM cannot remove what is newer",
            hint=_ENDING[str(each["kind"])].format(**{name: printable(str(each[name])) for name in ("pid", "name")}),
        )


_ENDING: Mapping[str, str] = {
    "session": "end that transaction: SELECT pg_terminate_backend({pid}) when nobody needs it",
    "prepared": "COMMIT PREPARED or ROLLBACK PREPARED {name!r}",
    "slot": "have its consumer catch up, or SELECT pg_drop_replication_slot({name!r}) when it is not needed any more",
    "standby": "end the long query there, or set hot_standby_feedback = off on it",
}


def _waited_for(handle: Handle, row: Row | None) -> Iterator[Finding]:
    """Who would make REINDEX CONCURRENTLY wait."""
    rows = blockers.long_transactions(handle, _OPEN)
    if row:
        relations = [row["oid"], *([row["toast_oid"]] if row["toast_oid"] else [])]
        rows = [dict(each) for each in blockers.in_the_way(rows, relations)]
    for each in rows[:_SHOWN]:
        yield Finding(
            subject="REINDEX",
            ok=False,
            message=f"{blockers.described(each)}; a rebuild CONCURRENTLY waits for it, with an unfinished index in the table",
            hint="end that transaction first; until then REINDEX is put off",
        )


def _copies(handle: Handle, row: Row | None) -> Iterator[Finding]:
    relations = None if row is None else [row["oid"], *([row["toast_oid"]] if row["toast_oid"] else [])]
    for each in remains.invalid(handle, relations):
        name = told(each["schema"], each["name"])
        if each["builder"]:
            yield Finding(subject="indexes", ok=True, message=f"{name} is being built by pid {each['builder']}")
            continue
        cost = "every write pays for it, and" if each["ready"] else ""
        hint = "REINDEX rebuilds it" if not remains.label_of(each["name"]) else f"DROP INDEX CONCURRENTLY {name}"
        yield Finding(subject="indexes", ok=False, message=f"{name} is invalid: {cost} no query uses it", hint=hint)


def _counting(handle: Handle, row: Row | None) -> Iterator[Finding]:
    server = handle.row("server")
    if not server["track_counts"]:
        yield Finding(
            subject="counters",
            ok=False,
            message="track_counts is off: nobody knows what is due",
            hint="track_counts = on",
        )
    if not server["autovacuum"]:
        yield Finding(
            subject="autovacuum", ok=False, message="autovacuum is off on this server", hint="autovacuum = on"
        )
    elif row and any(option in _OFF for option in row["options"] or ()):
        yield Finding(
            subject="autovacuum", ok=False, message="autovacuum is off for this table",
            hint=f"ALTER TABLE {told(row['schema'], row['name'])} RESET (autovacuum_enabled)",
        )  # fmt: skip
    if row and row["kind"] == "p" and row["analyzed_at"] is None:
        yield Finding(
            subject="statistics",
            ok=False,
            message="it is partitioned: autovacuum never analyzes it, and nobody else has",
            hint="ANALYZE it",
        )


def _age(handle: Handle, row: Row) -> Iterator[Finding]:
    limit = float(handle.row("server")["freeze_max_age"])
    if row["age"] is None or row["age"] < _OLD * limit:
        return
    yield Finding(
        subject="age",
        ok=False,
        message=f"its oldest rows are {row['age']:,} transactions old; the server forces a freeze at {limit:,.0f}",
        hint="VACUUM it in a quiet hour, before autovacuum has to",
    )


def _state(row: Row) -> Iterator[Finding]:
    yield Finding(
        subject=f"index {row['index_name']}" if row["index_name"] else "table",
        ok=True,
        message=f"{told(row['schema'], row['name'])}: {row['live']:,} live and {row['dead']:,} dead rows,"
        f" {row['modified']:,} changed since the last ANALYZE; vacuumed {_when(row['vacuumed_at'])},"
        f" analyzed {_when(row['analyzed_at'])}",
    )


def _when(moment: Any) -> str:  # noqa: ANN401 - a datetime, or none
    return f"on {moment:%Y-%m-%d %H:%M}" if moment else "never"
