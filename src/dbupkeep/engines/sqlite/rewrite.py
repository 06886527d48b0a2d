"""VACUUM by a new file that takes the place of the old one: half the work, where nobody else has the file open.

What keeps it safe, each proved as long as it matters: a lease of the kernel on the old file (`lease`) and SQLite's own
exclusive lock, from before the first page is read until the new file has the name; a check of the new file; an exchange
of the names that can be undone (`twin`). Where one is missing, the file is rewritten in place, and the evidence says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter

import apsw
from msgspec.structs import replace

from dbupkeep.engine import Report, Work
from dbupkeep.engines.sqlite import hooks, in_place, leftovers, space, twin
from dbupkeep.engines.sqlite.alone import obstacle
from dbupkeep.engines.sqlite.faults import told
from dbupkeep.engines.sqlite.handle import Handle, View, connect, literal
from dbupkeep.engines.sqlite.inquiry import STALL_CONSENT
from dbupkeep.engines.sqlite.lease import Lease, Opened, Unproved, leased
from dbupkeep.engines.sqlite.openers import openers_of
from dbupkeep.engines.sqlite.progress import ThreadBytes, followed
from dbupkeep.engines.sqlite.sizes import Sizes, measure
from dbupkeep.engines.sqlite.twin import Twin
from dbupkeep.errors import Busy, Interrupted, OperationError, UpkeepError
from dbupkeep.facts import Value
from dbupkeep.plans import PlanItem
from dbupkeep.progress import Progress, measured
from dbupkeep.quantities import duration

METHOD = "new file"

COPYING = "copying into a new file"
CHECKING = "checking the new file"
PLACING = "taking the place of the old file"

RENEWS = "inode"
"""The evidence that is another one afterwards: the operations that follow in a plan find it in the result."""

_PASSES = 3
"""Live content is moved three times: read, written to the new file, and read there for the check."""

_KEPT = ("page_size", "encoding", "auto_vacuum", "user_version", "application_id")
_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name, tbl_name, sql"


def run(handle: Handle, item: PlanItem, report: Report, tag: str) -> Work:
    """Rewrite the file. Raises `Busy`, `Interrupted`, `Refused` (space, replaced), `Damaged` or `OperationError`."""
    before = measure(handle)
    try:
        return _Rewrite(handle, item, report, before).run(leftovers.twin_name(handle.place, tag))
    except Unproved as unproved:
        who = openers_of(handle.place, handle.connection) if isinstance(unproved, Opened) else None
        why = f"{unproved}: {who}" if who else str(unproved)
        if who:
            _spare(handle, item, why)
    report.stage("in place instead", why)
    work = in_place.run(handle, item, report)
    return replace(work, values={**work.values, "method": in_place.METHOD, "why_in_place": why})


def _spare(handle: Handle, item: PlanItem, why: str) -> None:
    """Raise `Busy` where who has come to open the file would have to wait for longer than the policy allows."""
    stall, most = item.estimate.stall_seconds or 0, item.options.get("max_stall")
    if item.options.get(STALL_CONSENT) or most is None or stall <= float(most):
        return
    raise Busy(
        f"the VACUUM of {handle.path} is put off",
        why=f"{why}; in place it would keep writers waiting for about {duration(stall)}, longer than the allowed {duration(float(most))}",
        hint=f"raise max_stall, run it when nobody has the file open, or consent to {STALL_CONSENT}",
    )


def mend(handle: Handle, item: PlanItem, tag: str, notes: Sequence[str]) -> dict[str, Value] | None:
    """After a lost attempt: remove its new file, or the old one that it replaced. Returns what the latter changed."""
    noted = [json.loads(note)["new_file"] for note in notes if "new_file" in note]
    last = noted[-1] if noted else {}
    inode, planned = handle.place.inode, item.evidence.get(RENEWS)
    placed = bool(last) and inode == last["by"]
    if not placed and inode not in {last.get("inode", planned), planned}:
        return None  # another program's file: what lies beside it may be all that is left of ours
    for path in leftovers.twins_of(handle.place, tag):
        leftovers.remove(path)
    if not placed and last.get("wal") and not handle.header.wal:
        handle.patiently(partial(handle.rows, "PRAGMA journal_mode = wal", stage="going back to WAL mode"), item)
        handle.reopen(View.WORK)
    return _renewed(int(last["inode"]), inode) if placed else None


def _renewed(old: int, new: int) -> dict[str, Value]:
    return {"method": METHOD, RENEWS: new, f"replaced_{RENEWS}": old}


class _Rewrite:
    """One attempt; the handle is on whatever file has the name afterwards."""

    def __init__(self, handle: Handle, item: PlanItem, report: Report, before: Sizes) -> None:
        self._handle = handle
        self._item = item
        self._report = report
        self._before = before
        self._moved = ThreadBytes()
        self._stage = COPYING

    def run(self, path: Path) -> Work:
        handle = self._handle
        self._look()
        factor = float(self._item.options.get("space_factor") or 1)
        space.choose(handle.path, temp=0, journal=0, twin=self._before.live_bytes, factor=factor)
        began, old = perf_counter(), handle.place.inode
        handle.reopen(View.SOLE)
        try:
            with followed(self._report, self._sample):
                lease, descriptor = self._alone()
                new = self._replaced(path, lease, descriptor)
        except OSError as error:
            raise OperationError(f"a new file for {handle.path} could not be made", why=str(error)) from error
        finally:
            handle.alarm = None
            handle.reopen(View.WORK)
        seconds = perf_counter() - began
        return Work(
            seconds=seconds, stall_seconds=seconds, before=self._before.values(), values=_renewed(old, new)
        )  # fmt: skip

    def _sample(self) -> Progress:
        moved = self._moved.moved()
        if moved is None:
            return Progress(stage=self._stage)
        return measured(moved, _PASSES * max(1, self._before.live_bytes), "bytes", stage=self._stage)

    def _enter(self, stage: str, message: str = "") -> None:
        self._stage = stage
        self._report.stage(stage, message)

    def _look(self) -> None:
        """See that nothing speaks against it: before the work, and once more before the exchange."""
        if why := obstacle(self._handle.place):
            raise Unproved(why)

    def _alone(self) -> tuple[Lease, int]:
        """Shut everybody else out, before the first page is read."""
        handle = self._handle
        handle.check_same(self._item)
        lease, descriptor = leased(handle.place.device, handle.place.inode)
        handle.alarm = lambda: lease.broken
        try:
            handle.rows("BEGIN EXCLUSIVE")  # in exclusive mode the lock stays
            handle.rows("COMMIT")
            if handle.header.wal:
                handle.rows("PRAGMA wal_checkpoint(TRUNCATE)", stage="checkpointing")
        except Busy as error:
            raise Opened from error
        if handle.place.size_beside("-journal"):
            raise Unproved("a journal lies beside it")
        return lease, descriptor

    def _replaced(self, path: Path, lease: Lease, descriptor: int) -> int:
        handle = self._handle
        try:
            self._enter(COPYING)
            with twin.reserved(path, handle.path, descriptor):
                handle.rows(f"VACUUM INTO {literal(path)}", stage=COPYING)
            with twin.opened(path, _beside(handle, path)) as new:
                self._enter(CHECKING)
                self._check(new)
                new.resemble(handle.path, descriptor)
                self._place(new, lease, descriptor)
                return new.inode
        except Interrupted as error:
            handle.check_stop()
            if lease.broken:
                raise Opened from error
            raise
        except Busy as error:
            raise Opened from error

    def _check(self, new: Twin) -> None:
        """The new file is sound, and is the same database. Raises `Unproved` for faults that the old one has as well."""
        handle = self._handle
        with told(new.path, stage=CHECKING, connection=new.connection):
            if handle.header.wal:
                new.connection.execute("PRAGMA journal_mode = wal").fetchall()
            faults = new.connection.execute("PRAGMA quick_check(1)").fetchall()
            kept = [new.connection.pragma(name) for name in _KEPT]
            schema = new.connection.execute(_SCHEMA).fetchall()
        if faults != [("ok",)]:
            if handle.rows("PRAGMA quick_check(1)", stage=CHECKING) != [("ok",)]:
                raise Unproved(f"the check of the new file finds what the old one has too ({faults[0][0]})")
            raise _unlike(handle.path, str(faults[0][0]))
        if kept != [handle.pragma(name) for name in _KEPT] or schema != handle.rows(_SCHEMA):
            raise _unlike(handle.path, "its settings or its schema differ")

    def _place(self, new: Twin, lease: Lease, descriptor: int) -> None:
        handle = self._handle
        self._look()
        wal = handle.header.wal
        note = {"inode": handle.place.inode, "by": new.inode, "wal": wal}
        self._report.note(json.dumps({"new_file": note}))
        if not handle.pass_return():
            handle.check_stop()
        self._enter(PLACING, "can no longer be stopped")
        with _without_journal(handle):
            new.take_place(handle.place, lease, descriptor)


@contextmanager
def _without_journal(handle: Handle) -> Iterator[None]:
    """Keep no file that is called after the database, which may be those of the new one soon; undone when that fails.

    In exclusive mode SQLite keeps its journal, and deletes it by its name when the connection is closed; so it is given up
    by a change to a journal in memory, in which nothing is written any more.
    """
    journal = handle.place.beside("-journal")  # if there is one, it is empty or that of this connection
    place, wal = handle.place, handle.header.wal
    try:
        if wal:  # whoever opens the old file at the last moment must not use a -wal that belongs to the new one
            _journal(handle, "delete")
        _journal(handle, "memory")
        journal.unlink(missing_ok=True)
        yield
    except BaseException:
        if wal and twin.leads_to(place.path, place.device, place.inode):
            _back_to_wal(handle)
        raise


def _back_to_wal(handle: Handle) -> None:
    try:
        _journal(handle, "delete")
        _journal(handle, "wal")
    except (UpkeepError, Unproved) as error:
        raise OperationError(
            f"{handle.path} was taken out of WAL mode for the exchange, which failed, and could not be brought back",
            why=str(error),
            hint="set it again with `PRAGMA journal_mode = wal`; nothing else was changed",
        ) from error


def _journal(handle: Handle, mode: str) -> None:
    if handle.rows(f"PRAGMA journal_mode = {mode}") != [(mode,)]:
        raise Unproved(f"its journal cannot be changed to {mode}")


def _beside(handle: Handle, path: Path) -> apsw.Connection:
    """A connection to the new file that stops when that to the old one does."""
    with told(path, stage=CHECKING):
        connection = connect(path, View.SOLE)
        hooks.apply(connection)
    handle.watch(connection)
    return connection


def _unlike(path: Path, why: str) -> OperationError:
    return OperationError(
        f"the new file for {path} is not as it should be",
        why=why,
        hint="the database was not touched; look at the disk and its log, and check the database",
    )
