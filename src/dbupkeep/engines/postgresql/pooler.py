"""A pooler that gives each transaction another session breaks everything that maintenance needs: settings, locks, tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dbupkeep import pooling
from dbupkeep.engines.postgresql.faults import told
from dbupkeep.errors import Kind, Refused

if TYPE_CHECKING:
    import psycopg


def refuse_if_transactions_are_pooled(
    connection: psycopg.Connection[Any], parameters: Mapping[str, str], place: str
) -> None:
    """Raise `Refused` where something is between that hands out its sessions transaction by transaction."""
    with told("looking for a pooler failed"):
        shared = pooling.shares_sessions(connection, parameters)
    if shared:
        raise Refused(
            pooling.WHAT.format(place=place),
            why="settings, locks and the mark of a session would be another program's in the next moment",
            hint=pooling.HINT,
            kind=Kind.CAPABILITY,
        )
