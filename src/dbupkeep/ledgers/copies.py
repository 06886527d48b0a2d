"""Copies of the embedded ledger: made while processes work on it, checked, and put back where nobody does.

A copy is one file in SQLite's own format that only its owner may read; it can be opened as a ledger where it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import cast

import apsw
from msgspec import Struct
from msgspec.structs import replace

from dbupkeep.clock import boot_id, is_gone, new_id
from dbupkeep.errors import LedgerError, Missing
from dbupkeep.ledgers.sqlite import check_header, translated

PATIENCE_MS = 5_000
"""How long a lock on the ledger is waited for; who only writes something is done by then."""

BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a file. A killed process leaves it, and it would be read into whatever file is put there."""


class Copy(Struct, frozen=True, kw_only=True):
    """A ledger that was checked through and through."""

    path: Path
    bytes: int
    version: int  # of its schema
    runs: int
    unended: int  # jobs that are to go on
    event: int  # the number of the newest event; 0: none


def check(path: Path) -> Copy:
    """Read all of a ledger, or of a copy of one. Raises `Missing`, and `LedgerError` when it is damaged or no ledger."""
    if not path.is_file():
        raise Missing(f"there is no file {path}", hint="check the path")
    with _told(path):
        check_header(path)
        with closing(_open(path)) as connection:
            return _checked(connection, path)


def back_up(ledger: Path, to: Path, *, force: bool = False) -> Copy:
    """Write a copy of the ledger as it is at one moment, and check it; whoever works on the ledger goes on.

    The copy appears as a whole or not at all. Raises `LedgerError`: it is there already (without `force`), no space,
    the ledger is damaged.
    """
    _refuse_existing(to, force=force)
    if not ledger.is_file():
        raise Missing(f"there is no ledger {ledger}", hint="the first run makes one; or name it with --ledger")
    if to.exists() and to.samefile(ledger):
        raise LedgerError("a ledger is no copy of itself", hint="name another file")
    draft = _draft(to)
    try:
        with _told(ledger), closing(_open(ledger)) as connection:
            connection.execute("vacuum into ?", (str(draft),))
        found = check(draft)
        _put(draft, to, force=force)
    finally:
        draft.unlink(missing_ok=True)
    return replace(found, path=to)


def restore(copy: Path, ledger: Path, now: datetime, *, force: bool = False) -> tuple[Copy, Path | None]:
    """Put a copy in the place of the ledger; what was there is kept beside it, and its path returned.

    Raises `LedgerError` when the copy is damaged, when there is a ledger (without `force`), and, force or not, when a
    process has that open. A damaged ledger is moved aside as it is, and so is what is left of one that is lost.
    """
    found = check(copy)
    if ledger.exists() and ledger.samefile(copy):
        raise LedgerError("a ledger cannot be restored from itself", hint="name a copy of it")
    _refuse_existing(ledger, force=force)
    ledger.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = _beside(ledger, now)
    if ledger.exists() and _is_sound(ledger):
        with _told(ledger), _alone(ledger) as connection:
            _keep(connection, kept)
            _overwrite(connection, copy)
    else:
        _refuse_open(ledger)
        _move_away(ledger, kept)
        _place(copy, ledger)
    return found, kept if kept.exists() else None


def _beside(ledger: Path, now: datetime) -> Path:
    """A name for what was there that nothing has yet: it may be the very copy that is put back."""
    stem = f"{ledger.name}.replaced-{now:%Y%m%dT%H%M%SZ}"
    return next(path for n in count(1) if not (path := ledger.with_name(stem if n == 1 else f"{stem}-{n}")).exists())


def _checked(connection: apsw.Connection, path: Path) -> Copy:
    verdict = "; ".join(str(row[0]) for row in connection.execute("pragma integrity_check(5)"))
    if verdict != "ok":
        raise LedgerError(f"{path} is damaged", why=verdict.replace("\n", " "), hint="restore it from another copy")
    lost = connection.execute("pragma foreign_key_check").fetchall()
    if lost:
        raise LedgerError(f"{path} is damaged", why=f"{len(lost)} rows refer to nothing", hint="restore another copy")
    runs, unended, event = (
        int(cast("int", connection.execute(text).get))
        for text in (
            "select count(*) from jobs where parent_id = id",
            "select count(*) from jobs where status in ('pending', 'running')",
            "select coalesce(max(seq), 0) from events",
        )
    )
    version = int(cast("int", connection.pragma("user_version")))
    size = int(cast("int", connection.pragma("page_count"))) * int(cast("int", connection.pragma("page_size")))
    return Copy(path=path, bytes=size, version=version, runs=runs, unended=unended, event=event)


def _is_sound(ledger: Path) -> bool:
    try:
        check(ledger)
    except LedgerError:
        return False
    return True


@contextmanager
def _alone(ledger: Path) -> Iterator[apsw.Connection]:
    """The ledger, locked against all others. Raises `LedgerError` when a process has it open."""
    with closing(_open(ledger)) as connection:
        if workers := _workers(connection):
            raise _in_use(
                ledger, f"{workers} worker processes are on it" if workers > 1 else "a worker process is on it"
            )
        try:
            # Whoever has a file in WAL open holds a lock on it for as long, which this change of mode does not get past.
            connection.pragma("journal_mode", "delete")
            connection.pragma("locking_mode", "exclusive")
            connection.execute("begin exclusive")
        except apsw.BusyError:
            raise _in_use(ledger, "a process has it open") from None
        yield connection


def _refuse_open(ledger: Path) -> None:
    """Raise `LedgerError` when a process has a damaged ledger open, as far as it can still be locked; changes nothing."""
    try:
        with closing(_open(ledger)) as connection:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.pragma("locking_mode", "exclusive")
            connection.execute("begin exclusive")
            connection.execute("rollback")
    except apsw.BusyError:
        raise _in_use(ledger, "a process has it open") from None
    except apsw.Error:
        return  # nothing is left in it that could be locked


def _workers(connection: apsw.Connection) -> int:
    """Worker processes of this machine that live, as far as the ledger knows of them."""
    rows = connection.execute("select process from workers where boot = ? and lease > 0", (boot_id(),))
    return sum(bool(process) and not is_gone(str(process)) for (process,) in rows)


def _in_use(ledger: Path, why: str) -> LedgerError:
    return LedgerError(
        f"the ledger {ledger} is in use and is not replaced",
        why=why,
        hint="stop `dbupkeep serve`, `worker` and `run` first; `fuser` or `lsof` tell who has the file open",
    )


def _keep(connection: apsw.Connection, kept: Path) -> None:
    """Write what is there to a file beside it. A transaction is open, so page by page."""
    draft = _draft(kept)
    try:
        with closing(_open(draft)) as target:
            connection.execute("commit")  # the lock stays: the mode is exclusive
            with target.backup("main", connection, "main") as backup:
                backup.step()
        _put(draft, kept, force=True)
    finally:
        draft.unlink(missing_ok=True)


def _overwrite(connection: apsw.Connection, copy: Path) -> None:
    """Replace all content in one transaction: whatever ends this process, it is the old ledger or the new one."""
    with closing(_open(copy)) as source, connection.backup("main", source, "main") as backup:
        backup.step()


def _place(copy: Path, ledger: Path) -> None:
    """Put a copy where no file is."""
    draft = _draft(ledger)
    try:
        with _told(copy), closing(_open(copy)) as connection:
            connection.execute("vacuum into ?", (str(draft),))
        _put(draft, ledger, force=False)
    finally:
        draft.unlink(missing_ok=True)


def _move_away(ledger: Path, kept: Path) -> None:
    """Keep a damaged file with all that belongs to it, or what is left of that."""
    for suffix in (*BESIDE, ""):
        with suppress(FileNotFoundError):
            Path(f"{ledger}{suffix}").rename(f"{kept}{suffix}")


def _refuse_existing(path: Path, *, force: bool) -> None:
    if path.exists() and not force:
        raise _existing(path)


def _existing(path: Path) -> LedgerError:
    return LedgerError(f"{path} is there already and is not overwritten", hint="name another file, or give --force")


def _draft(beside: Path) -> Path:
    """A new empty file that only its owner may read; SQLite fills it."""
    draft = beside.with_name(f".{beside.name}.{new_id()[-12:]}.new")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise LedgerError(
            f"nothing can be written beside {beside}", why=error.strerror or str(error), hint="name another folder"
        ) from error
    return draft


def _put(draft: Path, path: Path, *, force: bool) -> None:
    """Have a whole file appear at a place, on disk. No connection to it is open here any more."""
    try:
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        for suffix in BESIDE if force or not path.exists() else ():
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        if force:
            draft.replace(path)
        else:
            path.hardlink_to(draft)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise _existing(path) from None
    except OSError as error:
        raise LedgerError(
            f"{path} cannot be written", why=error.strerror or str(error), hint="name another place"
        ) from error


def _open(path: Path) -> apsw.Connection:
    """A connection that makes no file. Not read-only: it may have to recover what a killed process left."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(PATIENCE_MS)
    return connection


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of SQLite in our words."""
    try:
        yield
    except apsw.Error as error:
        raise translated(error, path) from error
