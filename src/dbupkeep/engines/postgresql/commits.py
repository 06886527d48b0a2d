"""Commits of many small pieces of work: none waits for the disk alone, and all are on it before anything is said to be done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dbupkeep.engines.postgresql.handle import Handle

_WRITERS_ROUNDS = 3
"""Within so many of its rounds the server's WAL writer has flushed every commit that did not wait."""

_LOOKS = 0.02
"""Seconds between looks whether it has."""

# Synchronous standbys are there to have every commit: then none goes ahead of them.
_LEAVE = """WITH usual AS MATERIALIZED (SELECT current_setting('synchronous_commit') AS setting)
SELECT setting, set_config('synchronous_commit', 'off', false) FROM usual
WHERE setting <> 'off' AND current_setting('synchronous_standby_names') = ''"""
_RETURN = "SELECT set_config('synchronous_commit', %(setting)s, false), pg_current_wal_insert_lsn()::text AS written"
_KEPT = """SELECT pg_current_wal_flush_lsn() >= %(written)s::pg_lsn AS kept,
extract(epoch FROM current_setting('wal_writer_delay')::interval)::float AS round"""


class Together:
    """Commits that are waited for once."""

    def __init__(self, handle: Handle) -> None:
        """Of a session; commits go ahead of the disk from now on."""
        self._handle = handle
        self._usual = "".join(row["setting"] for row in handle.rows(_LEAVE))
        self._written = ""

    def last(self) -> None:
        """Say that one more piece comes: its commit waits for the disk, and those before it are there then, too."""
        if self._usual and not self._written:
            self._written = self._handle.row(_RETURN, {"setting": self._usual})["written"]

    def keep(self) -> None:
        """Wait until all is on the disk, where the last piece had nothing to commit."""
        self.last()
        if self._written:
            _wait(self._handle, self._written)


def settled(handle: Handle) -> None:
    """Wait until what was committed is on the disk, whoever did it: a lost attempt may not have waited for that."""
    _wait(handle, handle.row("SELECT pg_current_wal_insert_lsn()::text AS written")["written"])


def _wait(handle: Handle, written: str) -> None:
    """For the WAL writer to see to it, which it does whatever happens; not for more of WAL than there are commits in it."""
    pause, started = threading.Event(), perf_counter()
    while True:
        found = handle.row(_KEPT, {"written": written})
        if found["kept"] or perf_counter() - started > _WRITERS_ROUNDS * found["round"]:
            return
        pause.wait(_LOOKS)


@contextmanager
def together(handle: Handle) -> Iterator[Together]:
    """Frame small work of a session. When it ends well, what was committed in it survives a crash of the server."""
    commits = Together(handle)
    yield commits
    commits.keep()
