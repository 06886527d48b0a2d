"""One open database file: how it is opened, how long it waits for locks, how it is stopped."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, TypeVar
from urllib.parse import quote

import apsw
from msgspec import Struct

from dbupkeep.engine import Stop
from dbupkeep.engines.sqlite import header as headers
from dbupkeep.engines.sqlite import hooks
from dbupkeep.engines.sqlite.faults import told
from dbupkeep.engines.sqlite.header import Header
from dbupkeep.engines.sqlite.paths import Place, examine
from dbupkeep.errors import Busy, Interrupted, Kind, NotPermitted, Refused
from dbupkeep.plans import PlanItem

HANDLER_OPS = 10_000
"""How many steps of SQLite's machine between two looks at the stop flag: costs 1 %, answers within milliseconds."""

Row = tuple[Any, ...]
T = TypeVar("T")

_LATELY = 0.1
"""Seconds since the last look at a lock within which it is still being waited for: a look is taken every 5 ms."""


class View(StrEnum):
    """How a file was opened."""

    WORK = "rw"
    SOLE = "sole"  # to be held against everybody else from the first read to its end
    READ = "ro"
    STILL = "immutable"  # a WAL database that nobody has open: an ordinary look would leave -wal and -shm behind
    ORPHAN = "orphan"  # the same with a -wal that a crash or a copy left without its -shm, read without making one

    @property
    def quiet(self) -> bool:
        """Whether nobody else may open the file meanwhile, since no lock is held on it."""
        return self in {View.STILL, View.ORPHAN}


class Held(Struct):
    """Seconds that a statement took, and those of them in which others could not write."""

    seconds: float = 0.0
    stall: float = 0.0


_DOES = re.compile(
    r"VACUUM|REINDEX|ANALYZE|PRAGMA (?:optimize|incremental_vacuum|wal_checkpoint|integrity_check|quick_check)"
)
"""What is worth telling of all that is asked of SQLite."""


class Handle:
    """A connection with what belongs to it. One thread works; any thread may call `interrupt`."""

    def __init__(self, path: Path, view: View) -> None:
        """Open an existing database. Raises a `TargetError` or `Busy`; never creates a file."""
        self.path = path
        self.lock_wait = 0.5
        self.callbacks = 0
        self.tell: Callable[[str], object] | None = None
        """Told each statement that does something, before it is carried out."""
        self.alarm: Callable[[], bool] | None = None
        """Another reason to end a statement: looked at as often as the wish to stop."""
        self._asked = threading.Event()
        self._gate = threading.Lock()
        self._past_return = False
        self.waited = 0.0
        """Seconds for which the item has waited for locks, the pauses between its tries included."""
        self._pausing = False
        self._waited_since = 0.0
        self._free_at = 0.0
        self._open(view)

    def _open(self, view: View) -> None:
        self.place: Place = examine(self.path)
        self.header: Header = read_header(self.place)
        if view in {View.WORK, View.SOLE} and not self.place.writable:
            raise _read_only(self.path)
        self.wal_bytes = self.place.size_beside("-wal") or 0
        self.view = view_of(self.place, wal=self.header.wal) if view is View.READ else view
        with told(self.path, stage="opening"):
            self.connection = connect(self.path, self.view)
            hooks.apply(self.connection)
        self.connection.set_busy_handler(self._busy)

    def reopen(self, view: View) -> None:
        """Close the file, and open in another way the one that has the path now. Raises as at first."""
        with suppress(apsw.Error):  # a fault of the disk while it tidies up; who opens the file next does that
            self.connection.close()
        self._past_return = False
        self._open(view)
        self.watch()

    # --- statements ---

    def rows(self, sql: str, *, stage: str = "") -> list[Row]:
        """Run one statement to its end. Raises our errors."""
        if self.tell is not None and _DOES.match(sql):
            self.tell(sql)
        with told(self.path, stage=stage, connection=self.connection):
            return self.connection.execute(sql).fetchall()

    def pragma(self, name: str, value: str | int | None = None) -> Any:  # noqa: ANN401 - whatever the pragma answers
        """Read or set a pragma; the value is quoted by the driver."""
        with told(self.path, connection=self.connection):
            return self.connection.pragma(name) if value is None else self.connection.pragma(name, value)

    # --- locks ---

    def _busy(self, count: int) -> bool:
        now = perf_counter()
        if not count:
            self._waited_since = now
        if self._asked.is_set() or now - self._waited_since > self.lock_wait:
            return False
        self._asked.wait(0.005)
        self._free_at = perf_counter()
        self.waited += self._free_at - now
        return True

    @property
    def waiting(self) -> bool:
        """Whether a lock is being waited for. From any thread."""
        return self._pausing or perf_counter() - self._free_at < _LATELY

    @contextmanager
    def holding_lock(self) -> Iterator[Held]:
        """Time what runs inside, and how long of it others are kept out: from the last wait for the lock on."""
        held = Held()
        started = perf_counter()
        self._free_at = 0.0
        yield held
        ended = perf_counter()
        held.seconds, held.stall = ended - started, ended - max(started, self._free_at)

    def patiently(self, work: Callable[[], T], item: PlanItem) -> T:
        """Try work that needs a lock, as often and as long as the item's options say, with random pauses between."""
        self.lock_wait = float(item.options.get("lock_wait") or 0.5)
        tries = int(item.options.get("lock_tries") or 1)
        random = Random()  # noqa: S311 - spreads tries, keeps no secret
        while True:
            self.check_stop()
            tries -= 1
            try:
                return work()
            except Busy:
                if tries <= 0:
                    raise
            self._rest(self.lock_wait * (0.5 + random.random()))

    def _rest(self, seconds: float) -> None:
        """Pause between two tries for a lock, which is waiting for it too."""
        began, self._pausing = perf_counter(), True
        self._asked.wait(seconds)
        self._pausing = False
        self.waited += perf_counter() - began

    # --- identity ---

    def check_same(self, item: PlanItem) -> None:
        """Raise `Refused` (replaced) unless the path still leads to the file that was planned for and is open here."""
        now = examine(self.path)
        opened = (self.place.device, self.place.inode)
        planned = (item.evidence.get("device", now.device), item.evidence.get("inode", now.inode))
        if (now.device, now.inode) != opened or planned != opened:
            raise Refused(
                f"{self.path} was replaced",
                why="another file has its name now than at the time of the plan",
                hint="plan again; the new file was not touched",
                kind=Kind.REPLACED,
            )

    def is_still(self) -> bool:
        """Whether nobody opened the file, or wrote to it, since this handle did."""
        then, now = self.place, examine(self.path)
        alone = (now.size_beside("-wal") or 0) == self.wal_bytes and now.size_beside("-shm") is None
        return alone and (now.inode, now.bytes, now.modified_ns) == (then.inode, then.bytes, then.modified_ns)

    # --- stopping ---

    def watch(self, other: apsw.Connection | None = None) -> None:
        """Look at the stop flag every `HANDLER_OPS` steps from now on, and count the looks; of another connection too."""
        self.callbacks = 0
        (other or self.connection).set_progress_handler(self._tick, HANDLER_OPS)

    def _tick(self) -> bool:
        self.callbacks += 1
        return self._asked.is_set() or (self.alarm is not None and self.alarm())

    def pass_return(self) -> bool:
        """Note that what comes next cannot be stopped any more; False when a stop was asked for before."""
        with self._gate:
            self._past_return = not self._asked.is_set()
            return self._past_return

    def interrupt(self) -> Stop:
        """Ask what runs, or runs next, to end."""
        with self._gate:
            self._asked.set()
            if self._past_return:
                return Stop.UNSTOPPABLE
        try:
            self.connection.interrupt()
        except apsw.ConnectionClosedError:
            return Stop.STOPPED
        return Stop.STOPPED

    def pause(self, seconds: float) -> None:
        """Leave the file to others for a moment. Raises `Interrupted` when a stop is asked for."""
        self._asked.wait(seconds)
        self.check_stop()

    def check_stop(self) -> None:
        """Raise `Interrupted` when a stop was asked for."""
        if self._asked.is_set():
            raise Interrupted(f"the work on {self.path} was stopped", why="it was asked to stop", hint="run it again")

    @contextmanager
    def one_item(self) -> Iterator[None]:
        """Frame one item: a stop that was asked for before counts, and is used up at the end."""
        try:
            self.check_stop()
            self.watch()
            self.waited = 0.0
            yield
        except (
            Busy,
            NotPermitted,
        ):  # the two that a stop asked for in good time makes out of waiting and of `pass_return`
            self.check_stop()
            raise
        finally:
            self._asked.clear()
            self._past_return = False
            with suppress(apsw.ConnectionClosedError):
                self.connection.set_progress_handler(None)

    def close(self) -> None:
        """Close the connection; safe to repeat."""
        self.connection.close()


def read_header(place: Place) -> Header:
    """Read the header through SQLite's own file layer, which keeps the locks of other connections here alive."""
    data = _start_of(place)
    found = headers.parse(data, place.bytes, str(place.path))
    lone = not any(place.size_beside(suffix) for suffix in ("-wal", "-journal"))
    size = place.path.stat().st_size
    if lone and headers.missing_bytes(found, size):
        if _start_of(place) != data:  # another program shrank the file between the header and its size
            return read_header(place)
        raise headers.truncated(found, size, str(place.path))
    return found


def _start_of(place: Place) -> bytes:
    flags = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY
    # Where a rewrite elsewhere makes us wait in `open`, a connection lets the other threads go on, and a `VFSFile` does not.
    with told(place.path, stage="reading the header"), closing(connect(place.path, View.READ)):
        file = apsw.VFSFile("unix", str(place.path), [flags, 0])
        try:
            return file.xRead(min(place.bytes, headers.LOOK), 0)
        finally:
            file.xClose()


def view_of(place: Place, *, wal: bool) -> View:
    """How to read a database such that no file is left beside it; without a `-shm` nobody has a WAL database open."""
    if not wal or place.size_beside("-shm") is not None:
        return View.READ
    return View.ORPHAN if place.size_beside("-wal") else View.STILL


def connect(path: Path, view: View) -> apsw.Connection:
    """Open a connection that trusts no schema and loads no extension; a reading one leaves the `-wal` as it is."""
    writes = view in {View.WORK, View.SOLE}
    quiet = {View.STILL: "&immutable=1", View.ORPHAN: "&vfs=unix-none"}.get(view, "")
    access = apsw.SQLITE_OPEN_READWRITE if writes else apsw.SQLITE_OPEN_READONLY
    if view is View.SOLE:  # what it makes beside the file must be what it seems
        access |= apsw.SQLITE_OPEN_NOFOLLOW
    uri = f"file:{quote(os.fsencode(path))}?mode={'rw' if writes else 'ro'}{quiet}"
    connection = apsw.Connection(uri, flags=access | apsw.SQLITE_OPEN_URI)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0)
    if not writes:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    if view in {View.SOLE, View.ORPHAN}:  # of an orphan nobody here has locks that closing could drop, without a `-shm`
        connection.pragma("locking_mode", "exclusive")  # keeps the index of the -wal in memory
    return connection


def literal(path: Path) -> str:
    """A path as text in a statement. Raises `Refused` for what no statement can have in it."""
    if "\0" in str(path):
        raise Refused("the path has a NUL in it", kind=Kind.NOT_A_DATABASE)
    return "'" + str(path).replace("'", "''") + "'"


def _read_only(path: Path) -> Refused:
    return Refused(
        f"{path} is read-only",
        why="its mode, its folder or its file system does not let this user write",
        hint="make the file and its folder writable, or run as their owner; it can be surveyed and checked as it is",
        kind=Kind.READ_ONLY,
    )
