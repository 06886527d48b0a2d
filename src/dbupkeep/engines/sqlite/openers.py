"""Who else has the file open, and what they hold on it: from a lease and from `/proc`, without opening the file.

SQLite's locks are POSIX locks on agreed bytes: of the database in its rollback modes, of the `-shm` in WAL mode.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

import apsw
from msgspec import Struct
from typing_extensions import override

from dbupkeep.engines.sqlite.lease import leads_to, nobody_else
from dbupkeep.engines.sqlite.paths import Place

PROC = Path("/proc")

_PENDING = 0x40000000
_RESERVED = _PENDING + 1
_SHARED = range(_PENDING + 2, _PENDING + 512)
_WAL_WRITE = 120
_WAL_READ = range(123, 128)
_INTERPRETERS = ("python", "node", "ruby", "perl", "php", "java", "bun", "deno")


class Doing(IntEnum):
    """What an opener does, as far as its locks tell."""

    IDLE = 0
    READING = 1
    WRITING = 2


class Opener(Struct, frozen=True, kw_only=True):
    """Another process with the file open, or another connection of this one."""

    pid: int
    command: str
    doing: Doing

    @override
    def __str__(self) -> str:
        """Name it for a person."""
        act = {Doing.IDLE: "idle", Doing.READING: "in a read transaction", Doing.WRITING: "in a write transaction"}
        return f"process {self.pid} ({self.command}), {act[self.doing]}"


class Openers(Struct, frozen=True, kw_only=True):
    """All that could be found. `complete` is False where other users' processes could not be looked into."""

    found: tuple[Opener, ...]
    complete: bool = True

    def __bool__(self) -> bool:
        """Whether anybody was found."""
        return bool(self.found)

    @override
    def __str__(self) -> str:
        """Name the first few."""
        shown = "; ".join(str(opener) for opener in self.found[:3])
        return shown + (f" and {len(self.found) - 3} more" if len(self.found) > 3 else "")  # noqa: PLR2004

    def doing(self, least: Doing) -> Openers:
        """Those that do at least so much."""
        return Openers(found=tuple(o for o in self.found if o.doing >= least), complete=self.complete)


def openers_of(place: Place, own: apsw.Connection | None = None, *, thorough: bool = True) -> Openers:
    """Find the other openers of a database. `thorough` also finds those that hold no lock, for a look at each process."""
    if thorough and nobody_else(place.device, place.inode):
        return Openers(found=())
    held = _lock_holders(place)
    others, complete = _descriptor_holders(place) if thorough else (set(), False)
    pids = sorted((set(held) | others) - {os.getpid(), 0, -1})
    found = [Opener(pid=pid, command=_command(pid), doing=held.get(pid, Doing.IDLE)) for pid in pids]
    if _also_here(place, own):
        found.append(Opener(pid=os.getpid(), command="another connection of this program", doing=Doing.IDLE))
    return Openers(found=tuple(found), complete=complete)


def holders_of(place: Place) -> Openers:
    """Who holds a lock that work may wait for: those that write, else those that read. Quick, and from any thread."""
    held = _lock_holders(place)
    others = {pid: doing for pid, doing in held.items() if pid not in {os.getpid(), 0, -1} and doing >= Doing.READING}
    most = max(others.values(), default=Doing.IDLE)
    found = (Opener(pid=pid, command=_command(pid), doing=doing) for pid, doing in sorted(others.items()))
    return Openers(found=tuple(one for one in found if one.doing is most), complete=False)


def _also_here(place: Place, own: apsw.Connection | None) -> bool:
    return any(_works_on(connection, place) for connection in apsw.connections() if connection is not own)


def _works_on(connection: apsw.Connection, place: Place) -> bool:
    """Whether a connection of this process can write the file.

    One that another thread is just using, or has closed, does not say what it is on. That is no loss: operations on
    one file wait for each other, so those are the ledger's and other databases'.
    """
    try:
        return connection.filename == str(place.path) and not connection.readonly("main")
    except (apsw.ThreadingViolationError, apsw.ConnectionClosedError):
        return False


def _lock_holders(place: Place) -> Mapping[int, Doing]:
    try:
        lines = (PROC / "locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    inodes = {str(place.inode): ""}
    with suppress(OSError):
        inodes = {str(place.inode): "file of -shm", str(place.beside("-shm").stat().st_ino): "-shm"}
    held: dict[int, Doing] = {}
    for fields in (line.split() for line in lines if "POSIX" in line and "->" not in line):
        inode = fields[5].rpartition(":")[2]
        if inode in inodes:
            pid = int(fields[4])
            doing = _doing(inodes[inode], first=int(fields[6]), exclusive=fields[3] == "WRITE")
            if _has_open(pid, place):
                held[pid] = max(held.get(pid, Doing.IDLE), doing)
    return held


def _doing(where: str, *, first: int, exclusive: bool) -> Doing:
    """What a lock says. In WAL mode all is said by the `-shm`: the file itself is held as long as it is merely open."""
    if where == "-shm":
        if first == _WAL_WRITE:
            return Doing.WRITING
        return Doing.READING if first in _WAL_READ else Doing.IDLE
    if first in {_RESERVED, _PENDING} or (first in _SHARED and exclusive):
        return Doing.WRITING
    return Doing.READING if first in _SHARED and not where else Doing.IDLE


def _has_open(pid: int, place: Place) -> bool:
    """Inode numbers repeat between file systems, so the holder is asked where that is allowed."""
    try:
        return _opened_by(str(PROC / str(pid)), place)
    except OSError:
        return True


def _descriptor_holders(place: Place) -> tuple[set[int], bool]:
    pids, complete = set(), True
    for entry in _processes():
        try:
            if _opened_by(entry, place):
                pids.add(int(Path(entry).name))
        except PermissionError:
            complete = False
        except OSError:
            continue  # it ended while we looked
    return pids, complete


def _processes() -> Sequence[str]:
    try:
        with os.scandir(PROC) as entries:
            return [entry.path for entry in entries if entry.name.isdigit()]
    except OSError:
        return []


def _opened_by(process: str, place: Place) -> bool:
    with os.scandir(f"{process}/fd") as descriptors:
        return any(leads_to(descriptor, place.device, place.inode) for descriptor in descriptors)


def _command(pid: int) -> str:
    """The program's name, with the script of an interpreter; never its other arguments, which may hold secrets."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        name = (PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "ended"
    script = Path(words[1]).name if len(words) > 1 and not words[1].startswith("-") else ""
    text = f"{name} {script}" if script and name.startswith(_INTERPRETERS) else name
    return "".join(_printable(text))


def _printable(text: str) -> Iterable[str]:
    return (char if char.isprintable() else "?" for char in text[:80])
