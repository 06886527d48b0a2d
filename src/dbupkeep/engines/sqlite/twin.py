"""The rewritten copy of a database: how it is made beside it, made like it, and put in its place."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from dbupkeep.engines.sqlite import leftovers
from dbupkeep.engines.sqlite.faults import told
from dbupkeep.engines.sqlite.header import CHANGE_COUNTER, VALID_FOR, WRITE_VERSION
from dbupkeep.engines.sqlite.lease import Lease, Opened, Unproved, leased
from dbupkeep.engines.sqlite.paths import Place

_HERE = -100
_EXCHANGE = 2
"""For `renameat2`: paths as they are written, and both names kept."""

_LONG = struct.calcsize("l")
_GET_FLAGS = 0x80006601 | _LONG << 16
_GET_ATTRIBUTES = 0x801C581F
"""What `ioctl` is asked for: the flags of `chattr`, and those of a quota project with it."""

_OF_CONTENT = 0x80000 | 0x10000000 | 0x1000  # extents, inline data, an index: how it lies there, no wish of a person
_HAS_ATTRIBUTES = 0x80000000

_READ_ONLY = b"\xff\x01"
"""A write version that no SQLite knows, and a read version without WAL: it may be read, and a write is an error."""


class Twin:
    """The new file with a connection that keeps everybody else out of it, until it is closed."""

    def __init__(self, path: Path, connection: apsw.Connection, found: os.stat_result) -> None:
        """Lock it, of which `found` was seen. Raises `Busy` or `Unproved` when somebody else has opened it."""
        self.path = path
        self.connection = connection
        self.device, self.inode = found.st_dev, found.st_ino
        with told(path, connection=connection):
            connection.execute("BEGIN EXCLUSIVE; COMMIT")  # in exclusive mode the lock stays
        self._lease, self.descriptor = leased(self.device, self.inode)

    def resemble(self, original: Path, old: int) -> None:
        """Take over owner, mode, access lists, labels and flags, and be on disk. Raises `Unproved` where one is left."""
        _make_alike(original, old, self.descriptor)
        os.fsync(self.descriptor)

    def take_place(self, place: Place, lease: Lease, old: int) -> None:
        """Exchange the names, and let the old file go once that is sure. Raises `Unproved` with all as it was.

        Who opens the name meanwhile waits for the lease on the one or the other file, and both are locked, so that it
        can still be undone.
        """
        self._ready(place, lease)
        _exchange(self.path, place.path)
        replaced = not leads_to(self.path, place.device, place.inode)
        if replaced or not lease.whole:
            _exchange(self.path, place.path)
            _to_disk(place.path.parent)
            _blunt(self.descriptor)
            raise Unproved("another file was put in its place") if replaced else Opened
        _to_disk(place.path.parent)
        self.path.unlink()
        _blunt(old)

    def _ready(self, place: Place, lease: Lease) -> None:
        if not leads_to(place.path, place.device, place.inode) or place.path.lstat().st_nlink != 1:
            raise Unproved("its name leads to another file now, or it has more names")
        if not leads_to(self.path, self.device, self.inode):
            raise Unproved("the copy was taken away")
        if place.size_beside("-wal") is not None or place.size_beside("-journal"):
            raise Unproved("a journal lies beside it")
        if not (lease.whole and self._lease.whole):
            raise Opened


@contextmanager
def reserved(path: Path, original: Path, old: int) -> Iterator[None]:
    """Make an empty file that its owner alone may read, to be filled inside; it is removed if that fails.

    Raises `Unproved` at once when it could not be made like the original. Afterwards it goes on from the change counter of the file with the descriptor `old`, as after any other change.
    """
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise Unproved(f"{path} is in the way") from error
    try:
        _make_alike(original, old, descriptor)
        os.fchmod(descriptor, 0o600)
        yield
        _count_on(descriptor, old)
    except BaseException:
        leftovers.remove(path)
        raise
    finally:
        os.close(descriptor)  # no connection has it open, so there are no locks to be lost


@contextmanager
def opened(path: Path, connection: apsw.Connection) -> Iterator[Twin]:
    """The new file through a connection in exclusive mode; it is removed at the end unless it has taken the place."""
    found = path.lstat()
    try:
        yield Twin(path, connection, found)
    finally:
        with suppress(apsw.Error):  # of a journal that goes away with it
            connection.close()
        leftovers.remove_beside(path)  # SQLite keeps them when the file has got another name
        if leads_to(path, found.st_dev, found.st_ino):
            path.unlink()


def _count_on(descriptor: int, old: int) -> None:
    counter = (int.from_bytes(os.pread(old, 4, CHANGE_COUNTER)) + 1) & 0xFFFFFFFF
    for offset in (CHANGE_COUNTER, VALID_FOR):
        os.pwrite(descriptor, counter.to_bytes(4), offset)


def leads_to(path: Path, device: int, inode: int) -> bool:
    """Whether a name is that of exactly this file."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (device, inode)


def _exchange(one: Path, other: Path) -> None:
    """Exchange two names at once; neither is ever missing. Raises `Unproved` where that cannot be done."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise Unproved("this system cannot exchange two names at once")
    if call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        raise Unproved(f"the names cannot be exchanged ({os.strerror(ctypes.get_errno())})")


def _blunt(descriptor: int) -> None:
    """Let nobody write any more to a file that has lost its name, who found it by that at the very last moment."""
    os.pwrite(descriptor, _READ_ONLY, WRITE_VERSION)


def _to_disk(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_alike(original: Path, old: int, to: int) -> None:
    try:
        _copy_rights(original, to)
    except OSError as error:
        raise Unproved(f"its owner, mode or attributes cannot be given to another file ({error})") from error
    if _rights(original) != _rights(to) or _flags(old) != _flags(to):
        raise Unproved("it has attributes that another file cannot be given")


def _copy_rights(original: Path, to: int) -> None:
    wanted, own = original.stat(), os.fstat(to)
    if (own.st_uid, own.st_gid) != (wanted.st_uid, wanted.st_gid):
        os.fchown(to, wanted.st_uid, wanted.st_gid)
    os.fchmod(to, stat.S_IMODE(wanted.st_mode))
    marks, there = _marks(original), _marks(to)
    for name in there.keys() - marks.keys():
        os.removexattr(to, name)
    for name, value in marks.items():
        if there.get(name) != value:
            os.setxattr(to, name, value)


def _rights(file: Path | int) -> tuple[int, int, int, dict[str, bytes]]:
    found = os.stat(file)  # noqa: PTH116 - of descriptors too
    return found.st_uid, found.st_gid, found.st_mode, _marks(file)


def _marks(file: Path | int) -> dict[str, bytes]:
    """Extended attributes: access lists and security labels are among them."""
    try:
        names = os.listxattr(file)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return {}
        raise
    return {name: os.getxattr(file, name) for name in names}


def _flags(descriptor: int) -> tuple[int, ...]:
    """What `chattr` and quota projects set, as far as the file system knows them."""
    found = [0, 0, 0, 0, 0]
    with suppress(OSError):
        raw = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(_LONG))
        found[0] = int.from_bytes(raw[:4], sys.byteorder) & ~_OF_CONTENT
    with suppress(OSError):
        flags, extent, _, project, copied = struct.unpack("5I8x", fcntl.ioctl(descriptor, _GET_ATTRIBUTES, bytes(28)))
        found[1:] = [flags & ~_HAS_ATTRIBUTES, extent, project, copied]
    return tuple(found)
