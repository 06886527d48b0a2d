"""Disk space for the work: how much, on which volume, and the temporary folder where there is enough of it.

SQLite's temporary folder is one setting for the whole process, so those who want the same folder share it and
one who wants another waits for them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.errors import Kind, Refused
from dbupkeep.plans import SpaceNeed

_CANDIDATES = ("/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108 - SQLite's own list, in its order


class Room(Struct, frozen=True, kw_only=True):
    """Where a database's work can put its bytes: the database's folder and the temporary one."""

    folder: str
    folder_free: int
    temp: str
    temp_free: int
    shared: bool  # whether both are on one volume


def room_for(path: Path, temp: str = "") -> Room:
    """Measure both volumes; the temporary folder is SQLite's own choice unless one is given."""
    folder, temp = str(path.parent), temp or default_temp()
    return Room(
        folder=folder,
        folder_free=free_bytes(folder),
        temp=temp,
        temp_free=free_bytes(temp),
        shared=_same_volume(folder, temp),
    )


def _same_volume(folder: str, temp: str) -> bool:
    return Path(folder).stat().st_dev == Path(temp).stat().st_dev


def default_temp() -> str:
    """The temporary folder that SQLite chooses by itself."""
    named = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"))
    for folder in (*named, *_CANDIDATES, "."):
        if folder and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):  # noqa: PTH112 - as above
            return folder
    return "."


def free_bytes(folder: str) -> int:
    """What an ordinary user can still write there."""
    volume = os.statvfs(folder)
    return volume.f_bavail * volume.f_frsize


def needs(
    room: Room, *, temp: int, journal: int, copy: int = 0, twin: int = 0, factor: float = 1.0
) -> tuple[SpaceNeed, ...]:
    """The space that work wants on each volume, added up where both are one."""
    beside = [("rollback journal or -wal", journal), ("new file", twin), ("backup copy", copy)]
    if room.shared:
        beside.insert(0, ("temporary file", temp))
    purpose = " and ".join(name for name, size in beside if size)
    wanted = [
        SpaceNeed(
            purpose=purpose,
            folder=room.folder,
            needed=int(factor * sum(size for _, size in beside)),
            available=room.folder_free,
        )
    ]
    if not room.shared and temp:
        needed = int(factor * temp)
        wanted.append(SpaceNeed(purpose="temporary file", folder=room.temp, needed=needed, available=room.temp_free))
    return tuple(need for need in wanted if need.needed)


def choose(path: Path, *, temp: int, journal: int, copy: int = 0, twin: int = 0, factor: float = 1.0) -> str:
    """Pick the temporary folder for work that is about to start: SQLite's own, else the database's own folder.

    Raises `Refused` (kind space) with needed and available bytes when neither way has the room.
    """
    usual = needs(room_for(path), temp=temp, journal=journal, copy=copy, twin=twin, factor=factor)
    if all(need.enough for need in usual):
        return default_temp()
    beside = needs(room_for(path, str(path.parent)), temp=temp, journal=journal, copy=copy, twin=twin, factor=factor)
    if all(need.enough for need in beside):
        return str(path.parent)
    raise shortage(path, usual)


def shortage(path: Path, wanted: Sequence[SpaceNeed]) -> Refused:
    """The error that names what is missing."""
    lacks = [
        f"{need.folder} needs {need.needed:,} bytes for the {need.purpose} and has {need.available:,}"
        for need in wanted
        if not need.enough
    ]
    return Refused(
        f"there is not enough disk space to work on {path}",
        why="; ".join(lacks),
        hint=f"free space there{_or_elsewhere(wanted)}; nothing was changed",
        kind=Kind.SPACE,
    )


def _or_elsewhere(wanted: Sequence[SpaceNeed]) -> str:
    """Only a temporary file can be put elsewhere; a journal lies beside its database."""
    movable = any("temporary file" in need.purpose for need in wanted if not need.enough)
    return ", or set SQLITE_TMPDIR to a folder on a volume that has it" if movable else ""


class _TempFolder:
    """Who uses which temporary folder in this process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._folder = ""
        self._users = 0

    def enter(self, handle: Handle, folder: str, check: Callable[[], None]) -> None:
        with self._changed:
            while self._users and self._folder != folder:
                check()
                self._changed.wait(0.1)
            if not self._users and folder != default_temp():
                handle.pragma("temp_store_directory", folder)
            self._folder = folder
            self._users += 1

    def leave(self, handle: Handle) -> None:
        with self._changed:
            self._users -= 1
            if not self._users:
                if self._folder != default_temp():
                    handle.pragma("temp_store_directory", "")
                self._changed.notify_all()


_TEMP = _TempFolder()  # the setting it guards is one for the process, and so is this


@contextmanager
def temp_folder(handle: Handle, folder: str) -> Iterator[None]:
    """Have SQLite put temporary files there for the time of the work; waits while others use another folder."""
    _TEMP.enter(handle, folder, handle.check_stop)
    try:
        yield
    finally:
        _TEMP.leave(handle)
