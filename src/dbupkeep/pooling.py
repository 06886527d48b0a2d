"""Whether a connection to PostgreSQL has a session of its own: poolers in transaction mode give each transaction another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

WHAT = "{place} is a connection pooler that hands out its sessions transaction by transaction"
HINT = "connect to the server itself, or to a pool in session mode"

_TRIES = 5


def is_between(connection: psycopg.Connection[Any], pid: int) -> bool:
    """Whether another process answers than the one that greeted us, which no server does by itself.

    Until that is known nothing may be set for longer than a statement: the session may be another program's.
    """
    return connection.info.backend_pid != pid


def shares_sessions(connection: psycopg.Connection[Any], parameters: Mapping[str, Any]) -> bool:
    """Whether two connections are seen to share one session of the server.

    To be asked only where something is between. A pool in session mode keeps each connection on a session of its own,
    and is fine. Where no connection is left to ask with, it is taken for one. Raises `psycopg.Error`.
    """
    import psycopg

    try:
        other = psycopg.connect(**parameters, autocommit=True)
    except psycopg.Error:
        return False
    with other:
        seen = {_pid(connection), *(_pid(connection) for _ in range(_TRIES))}
        return len(seen) > 1 or any(_pid(other) in seen or _pid(connection) not in seen for _ in range(_TRIES))


def _pid(connection: psycopg.Connection[Any]) -> int:
    """Who answers. Nothing is prepared: that would stay with a session of the pool, and fail in the next one."""
    from psycopg.rows import tuple_row

    with connection.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    return int(row[0]) if row else 0
