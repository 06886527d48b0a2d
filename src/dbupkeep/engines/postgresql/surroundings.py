"""What is true around the tables: who holds back dead rows, what runs already, standbys and their lag, collations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from dbupkeep.engines.postgresql import needs, words
from dbupkeep.facts import Notice, Value
from dbupkeep.logs import printable

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

_LONG = 300.0
"""Seconds from which on an open transaction is worth a word before the work."""

_OLD = 1_000_000
"""Transaction ids of age from which on a slot or standby is worth a word."""

_SLOT_BYTES = 1 << 30


class Surroundings(Struct, frozen=True, kw_only=True):
    """What was found."""

    values: Mapping[str, Value] = field(default_factory=dict)
    at_work: Mapping[str, str] = field(default_factory=dict)  # OID of a table to who vacuums it
    notices: tuple[Notice, ...] = ()


def look(handle: Handle, now: datetime) -> Surroundings:
    """Look around. Changes nothing."""
    holders = handle.rows("horizon")
    replication = {} if handle.identity.standby else handle.row("replication")
    collations = handle.rows("collations")
    values: dict[str, Value] = {name: value for name, value in replication.items() if value is not None}
    if holders:
        values |= {"horizon_age": holders[0]["age"], "horizon_holder": holder(holders[0])}
        if holders[0]["seconds"] is not None:
            values["horizon_seconds"] = holders[0]["seconds"]
    return Surroundings(
        values=values,
        at_work={str(row["oid"]): _worker(row) for row in handle.rows("at_work")},
        notices=(
            *_of_holders(holders),
            *_of_collations(collations),
            *_of_replicas(values),
            *_of_slots(values),
            *_of_standby(handle),
        ),
    )


def holder(row: Mapping[str, Any]) -> str:
    """Who keeps dead rows, as a phrase."""
    name = printable(str(row["name"] or ""))
    if row["kind"] == "session":
        who = ", ".join(part for part in (row["role"], name, row["state"]) if part)
        return f"pid {row['pid']} ({who}), open for {words.duration(row['seconds'] or 0)}"
    if row["kind"] == "prepared":
        return f"prepared transaction {name!r} of {row['role']}, {words.duration(row['seconds'] or 0)} old"
    if row["kind"] == "slot":
        return f"{row['state']} replication slot {name}"
    return f"standby {name} by its feedback"


_BEHIND = 10_000
"""Transaction ids up to which a standby or a slot is as near as it can be: they tell where they are now and then."""


def is_held(row: Mapping[str, Any], seconds: float) -> bool:
    """Whether one who keeps dead rows does so for long: a session for so many seconds, one that was left for good at once.

    A standby with feedback and a slot in use always keep the newest ones, which is no trouble.
    """
    if row["kind"] == "session":
        return bool((row["seconds"] or 0) >= seconds)
    return row["kind"] == "prepared" or row["state"] == "inactive" or (row["age"] or 0) >= _BEHIND


def blockers(handle: Handle) -> Sequence[Mapping[str, Any]]:
    """Who keeps dead rows from being removed, the oldest first; of this database where that matters."""
    found = handle.rows("horizon")
    return [row for row in found if row["kind"] != "session" or row["database"] in (None, handle.identity.database)]


def _worker(row: Mapping[str, Any]) -> str:
    if row["wraparound"]:
        return f"autovacuum to prevent wraparound (pid {row['pid']})"
    return (
        f"autovacuum (pid {row['pid']})"
        if row["auto"]
        else f"{printable(row['name'] or 'a session')} (pid {row['pid']})"
    )


def _of_holders(holders: Sequence[Mapping[str, Any]]) -> list[Notice]:
    return [
        Notice(
            code="holds_back_dead_rows",
            message=f"dead rows newer than it cannot be removed: {holder(row)}",
            hint="end that transaction, or drop what is not needed any more",
        )
        for row in holders
        if (row["seconds"] or 0) >= _LONG or (row["kind"] != "session" and (row["age"] or 0) >= _OLD)
        or row["kind"] == "prepared"
    ]  # fmt: skip


def _of_collations(rows: Sequence[Mapping[str, Any]]) -> list[Notice]:
    return [
        Notice(
            code="collation_changed",
            message=f"the collation {printable(row['name'])} was version {row['recorded']} when its indexes were made"
            f" and is {row['actual']} now",
            hint="REINDEX what depends on it, then ALTER COLLATION (or DATABASE) ... REFRESH COLLATION VERSION",
        )
        for row in rows
    ]


def _of_replicas(values: Mapping[str, Value]) -> list[Notice]:
    count = int(needs.number(values, "standbys"))
    if not count:
        return []
    return [
        Notice(
            code="replicas",
            message=f"{count} {'replica streams' if count == 1 else 'replicas stream'} from this server,"
            f" {words.size(needs.number(values, 'lag_bytes'))} behind at most: what writes waits until they are near",
            hint="a statement that runs cannot be paused; `max_lag_bytes` and `max_lag` say what near is",
        )
    ]


def _of_slots(values: Mapping[str, Value]) -> list[Notice]:
    kept = needs.number(values, "slot_bytes")
    if kept < _SLOT_BYTES:
        return []
    return [
        Notice(
            code="slot_keeps_wal",
            message=f"a replication slot keeps {words.size(kept)} of WAL, and maintenance will add to it",
            hint="see pg_replication_slots",
        )
    ]


def _of_standby(handle: Handle) -> list[Notice]:
    if not handle.identity.standby:
        return []
    return [
        Notice(code="standby", message="this server is a standby: it is only looked at", hint="maintain its primary")
    ]
