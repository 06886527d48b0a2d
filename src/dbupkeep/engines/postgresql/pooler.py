"""A pooler that gives each transaction another session breaks everything that maintenance needs: settings, locks, tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dbupkeep.engines.postgresql.faults import told
from dbupkeep.errors import Kind, Refused

if TYPE_CHECKING:
    import psycopg

_TRIES = 5


def refuse_if_transactions_are_pooled(
    connection: psycopg.Connection[Any], parameters: Mapping[str, str], place: str
) -> None:
    """Raise `Refused` when two connections are seen to share one session of the server.

    Asked only where the process that answers is not the one that greeted us, which no server does by itself. A pool
    in session mode keeps each connection on a session of its own, and is fine.
    """
    import psycopg

    try:
        other = psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type] # libpq's
    except psycopg.Error:  # no connection is left to ask with
        return
    with other, told("looking for a pooler failed"):
        seen = {_pid(connection), *(_pid(connection) for _ in range(_TRIES))}
        if len(seen) > 1 or any(_pid(other) in seen or _pid(connection) not in seen for _ in range(_TRIES)):
            raise Refused(
                f"{place} is a connection pooler that hands out its sessions transaction by transaction",
                why="settings, locks and the mark of a session would be another program's in the next moment",
                hint="connect to the server itself, or to a pool in session mode",
                kind=Kind.CAPABILITY,
            )


def _pid(connection: psycopg.Connection[Any]) -> int:
    """Who answers. Nothing is prepared: that would stay with a session of the pool, and fail in the next one."""
    row = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    return int(row[0]) if row else 0
