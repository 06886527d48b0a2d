"""VACUUM in place: SQLite copies the live pages to a temporary file, then writes them back through the journal."""

from __future__ import annotations

import apsw

from dbupkeep.engine import Report, Work
from dbupkeep.engines.sqlite import space
from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.openers import Doing, openers_of
from dbupkeep.engines.sqlite.progress import ThreadBytes, followed
from dbupkeep.engines.sqlite.sizes import measure
from dbupkeep.plans import PlanItem
from dbupkeep.progress import Progress, measured

METHOD = "in place"

COPYING = "copying live pages"
WRITING_BACK = "writing back"

_PASSES = 3
"""Every live page is written three times: to the temporary file, to the journal or `-wal`, to the database."""

_CACHE = 2_048_000
"""What of the copy is still in SQLite's page cache (its default size) when the write-back begins."""

_TRUNCATE_WAIT = 0.1
"""Seconds: a checkpoint that waits for readers keeps writers out, so it gives up soon."""


class _Phases:
    """Knows which half of VACUUM is running: the second one ignores every request to stop."""

    def __init__(self, handle: Handle, item: PlanItem, report: Report, live_bytes: int) -> None:
        self._handle = handle
        self._item = item
        self._report = report
        self._bytes = ThreadBytes()
        self._base = max(1, live_bytes)
        self._stage = COPYING

    def authorize(self, action: int, table: str | None, column: str | None, schema: str | None, _: str | None) -> int:
        """SQLite asks before each of VACUUM's inner statements; the last one before the write-back copies views and triggers."""
        last = (action, column, schema) == (apsw.SQLITE_READ, "tbl_name", "main")
        if not last or table not in {"sqlite_master", "sqlite_schema"} or self._stage == WRITING_BACK:
            return apsw.SQLITE_OK
        self._handle.check_same(self._item)  # in WAL mode SQLite itself would not notice
        if not self._handle.pass_return():
            return apsw.SQLITE_DENY
        written = self._bytes.written() or 0
        self._base = max(1, min(self._base, written + _CACHE))
        self._stage = WRITING_BACK
        self._report.stage(WRITING_BACK, "can no longer be stopped")
        return apsw.SQLITE_OK

    def sample(self) -> Progress:
        """The share of bytes written, of three times what is copied."""
        written = self._bytes.written()
        if written is None:
            return Progress(stage=self._stage)
        return measured(written, _PASSES * self._base, "bytes", stage=self._stage)


def run(handle: Handle, item: PlanItem, report: Report) -> Work:
    """Rewrite the file. Raises `Busy`, `Interrupted`, `Refused` (space, replaced) or `Damaged`."""
    before = measure(handle)
    folder = space.choose(
        handle.path,
        temp=before.live_bytes,
        journal=before.live_bytes,
        factor=float(item.options.get("space_factor") or 1),
    )
    phases = _Phases(handle, item, report, before.live_bytes)
    report.stage(COPYING)
    with space.temp_folder(handle, folder), followed(report, phases.sample):
        handle.connection.authorizer = phases.authorize
        try:
            seconds, stall = handle.patiently(lambda: _vacuum(handle), item)
        finally:
            handle.connection.authorizer = None
    checkpoint(handle, report)
    return Work(seconds=seconds, stall_seconds=stall, before=before.values(), values={"temp_folder": folder})


def _vacuum(handle: Handle) -> tuple[float, float]:
    with handle.holding_lock() as held:
        handle.rows("VACUUM", stage="rewriting the file")
    return held.seconds, held.stall


def checkpoint(handle: Handle, report: Report) -> None:
    """In WAL mode the file only shrinks at a checkpoint: a gentle one first, then a short try to cut the `-wal`."""
    if not handle.header.wal:
        return
    report.stage("checkpoint")
    write_back(handle)


def write_back(handle: Handle) -> None:
    """Have the `-wal` written into the file and cut, as far as others allow."""
    handle.lock_wait = _TRUNCATE_WAIT
    handle.rows("PRAGMA wal_checkpoint(PASSIVE)", stage="checkpointing")
    handle.rows("PRAGMA wal_checkpoint(TRUNCATE)", stage="checkpointing")


def held_back(handle: Handle) -> str:
    """Why a `-wal` could not be written back."""
    readers = openers_of(handle.place, handle.connection).doing(Doing.READING)
    who = f"it is held by {readers}" if readers else "a reader holds it"
    return f"the new content is still in -wal, since {who}; the file shrinks when that reader is done"
