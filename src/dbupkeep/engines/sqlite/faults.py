"""From SQLite's result codes to our errors. The extended code decides; the text is only shown."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import apsw

from dbupkeep.errors import (
    Busy,
    Damaged,
    Interrupted,
    Kind,
    Missing,
    NotPermitted,
    OperationError,
    Refused,
    UpkeepError,
)

Make = Callable[[Path, str], UpkeepError]

_LACKING = re.compile(
    r"no such collation sequence|unknown function|no such function|no such module|unsafe use of|unknown tokenizer"
    r"|no such tokenizer|error in tokenizer constructor"
)

_FULL_ERRNO = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def told(path: Path, *, stage: str = "", connection: apsw.Connection | None = None) -> Iterator[None]:
    """Turn what SQLite raises inside into one of our errors, with SQLite's own as its cause."""
    try:
        yield
    except apsw.Error as error:
        number = connection.system_errno if connection else 0
        raise error_of(error, path, system_errno=number).at(target=str(path), stage=stage) from error


def error_of(error: apsw.Error, path: Path, *, system_errno: int = 0) -> UpkeepError:
    """The error that a person should see for one of SQLite's."""
    text = str(error)
    if _LACKING.search(text):
        return _capability(text)
    extended = getattr(error, "extendedresult", 0) or getattr(error, "result", 0)
    primary = extended & 0xFF
    if primary == apsw.SQLITE_IOERR:
        return _io(path, text, extended, system_errno)
    make = _BY_CODE.get(extended) or _BY_CODE.get(primary)
    if make:
        return make(path, text)
    return OperationError(
        f"SQLite refused the statement on {path}",
        why=text,
        hint=f"SQLite result code {extended}; `dbupkeep doctor` checks the surroundings",
    )


def is_hot_journal(error: apsw.Error) -> bool:
    """Whether a read-only connection met the journal of an interrupted transaction."""
    return bool(getattr(error, "extendedresult", 0) == apsw.SQLITE_READONLY_ROLLBACK)


def _capability(text: str) -> Refused:
    return Refused(
        "the database needs something that this program does not have",
        why=text,
        hint="register it with a hook: DBUPKEEP_SQLITE_HOOK=module:function is called with each connection"
        " (functions need the flag SQLITE_INNOCUOUS)",
        kind=Kind.CAPABILITY,
    )


def _io(path: Path, text: str, extended: int, number: int) -> UpkeepError:
    why = f"{text} ({os.strerror(number)})" if number else text
    if number in _FULL_ERRNO:
        return _full(path, why)
    return OperationError(
        f"reading or writing {path} failed",
        why=why,
        hint=f"SQLite rolled the work back; look at the disk and its log (result code {extended})",
    )


def _full(path: Path, text: str) -> OperationError:
    return OperationError(
        f"the disk filled up while {path} was worked on",
        why=text,
        hint="SQLite rolled the work back and the database is as before; free space beside the file and in the"
        " temporary folder, then retry",
        kind=Kind.SPACE,
    )


def _busy(path: Path, text: str) -> Busy:
    return Busy(f"{path} is locked by another program", why=text, hint="try again when that program is idle")


def _damaged(path: Path, text: str) -> Damaged:
    return Damaged(
        f"{path} is corrupt",
        why=text,
        hint="stop writing to it, keep a copy of the file with its -wal or -journal, and restore a backup;"
        " `.recover` of the sqlite3 shell saves what can be saved",
    )


def _not_a_database(path: Path, text: str) -> Refused:
    return Refused(f"{path} is not a SQLite database", why=text, hint="check the path, or open it with its own key")


def _moved(path: Path, text: str) -> Refused:
    return Refused(
        f"{path} was replaced while it was worked on",
        why="another program moved, renamed or deleted the file; the new file was not touched",
        hint="plan again",
        kind=Kind.REPLACED,
    )


def _read_only(path: Path, text: str) -> Refused:
    return Refused(
        f"{path} is read-only",
        why=text,
        hint="make the file and its folder writable, or run as their owner",
        kind=Kind.READ_ONLY,
    )


def _hot(path: Path, text: str) -> Refused:
    return Refused(
        f"{path} has an interrupted transaction that must be rolled back first",
        why="a hot journal lies beside it, and a read-only look does not recover it",
        hint="the next program that opens it for writing rolls it back",
        kind=Kind.READ_ONLY,
    )


def _cannot_open(path: Path, text: str) -> UpkeepError:
    if not path.exists():
        return Missing(f"there is no file {path}", why=text, hint="check the path; nothing was created")
    return NotPermitted(
        f"{path} cannot be opened", why=text, hint="check the rights on the file, -wal, -shm and folder"
    )


def _denied(path: Path, text: str) -> NotPermitted:
    return NotPermitted(f"{path} does not permit it", why=text, hint="run as a user who may")


def _interrupted(path: Path, text: str) -> Interrupted:
    return Interrupted(f"the work on {path} was stopped", why="it was asked to stop", hint="run it again to go on")


def _broken(path: Path, text: str) -> Damaged:
    return Damaged(
        f"rows of {path} break a constraint, so an index cannot be built on them",
        why=text,
        hint="find and mend those rows with `PRAGMA integrity_check`, then run it again",
    )


def _memory(path: Path, text: str) -> OperationError:
    return OperationError(f"memory ran out while {path} was worked on", why=text, hint="free memory, then retry")


_BY_CODE: Mapping[int, Make] = {
    apsw.SQLITE_BUSY: _busy,
    apsw.SQLITE_LOCKED: _busy,
    apsw.SQLITE_PROTOCOL: _busy,
    apsw.SQLITE_FULL: _full,
    apsw.SQLITE_INTERRUPT: _interrupted,
    apsw.SQLITE_CORRUPT: _damaged,
    apsw.SQLITE_NOTADB: _not_a_database,
    apsw.SQLITE_READONLY: _read_only,
    apsw.SQLITE_READONLY_DBMOVED: _moved,
    apsw.SQLITE_READONLY_ROLLBACK: _hot,
    apsw.SQLITE_CANTOPEN: _cannot_open,
    apsw.SQLITE_PERM: _denied,
    apsw.SQLITE_AUTH: _denied,
    apsw.SQLITE_CONSTRAINT: _broken,
    apsw.SQLITE_NOMEM: _memory,
}
