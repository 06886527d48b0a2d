"""Proof that nobody else has a file open, and word when somebody comes to open it: a write lease on Linux.

The kernel grants the lease only while no other descriptor of the file exists, in whatever process, container or mount
namespace; idle connections, which hold no locks, have one too. While the lease lasts, whoever opens the file waits in
`open`, and the holder learns of it. `/proc` alone could prove nothing: it is looked at before somebody comes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from dbupkeep.engines.sqlite.openers import PROC, own_descriptors
from dbupkeep.engines.sqlite.paths import Place

FILE_SYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs"})
"""Local ones, where a lease sees every opener and two names can be exchanged at once."""

_FIRST_PIDS = "pid:[4026531836]"
"""The process namespace of the machine itself; in one of a container others are not seen."""

_ESCAPED = str.maketrans({" ": "\\040", "\t": "\\011", "\n": "\\012", "\\": "\\134"})
"""How the kernel writes names in `mountinfo`."""


class Unproved(Exception):
    """It is not proved that the file can be replaced safely; the text says why. Nothing was changed."""


class Opened(Unproved):
    """Another program has the file open, or has just come to open it."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("another program has it open")


class Lease:
    """A write lease on an open file; it ends when the descriptor is closed."""

    def __init__(self, descriptor: int) -> None:
        """Take it, on a descriptor whose file nobody else has open. Raises `Unproved`."""
        self._descriptor = descriptor
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # is ignored; the default, SIGIO, would end this process
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            raise _refusal(error) from error

    @property
    def broken(self) -> bool:
        """Whether somebody waits to open the file, or waited until the kernel gave in. Cheap."""
        return fcntl.fcntl(self._descriptor, fcntl.F_GETLEASE) != fcntl.F_WRLCK

    @property
    def whole(self) -> bool:
        """Whether nobody has opened the file since, nor is about to: one more grant counts the descriptors anew."""
        if self.broken:
            return False
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            return False
        return not self.broken


def leased(device: int, inode: int) -> tuple[Lease, int]:
    """A lease on the one descriptor that SQLite has of a file here, and that descriptor. Raises `Unproved`."""
    found = own_descriptors(device, inode)
    if len(found) != 1:
        raise Unproved("this program has it open more than once")
    return Lease(found[0]), found[0]


def obstacle(place: Place) -> str:
    """What keeps the file from being replaced safely, as far as looking tells; empty when nothing does."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return "only Linux can prove that nobody else has a file open"
    if os.geteuid() not in {0, place.path.stat().st_uid}:
        return "it belongs to another user, and the kernel proves to the owner alone that nobody else has it open"
    if place.size_beside("-journal"):
        return "a journal lies beside it"
    mount = _mount_of(place.path.parent)
    if mount.kind not in FILE_SYSTEMS:
        return f"on the file system {mount.kind or 'here'} other openers may go unseen"
    return _mounted({str(place.path), mount.inside(place.path)})


def _refusal(error: OSError) -> Unproved:
    if error.errno == errno.EAGAIN:
        return Opened()
    return Unproved(f"the kernel does not prove that nobody else has it open ({error.strerror})")


class _Mount(NamedTuple):
    """A line of `mountinfo`: the kind of the file system, which folder of it is mounted, and where."""

    kind: str = ""
    root: str = ""
    point: str = ""

    def inside(self, path: Path) -> str:
        """The path of a file as its file system knows it, by which other mounts of it are called."""
        return os.path.normpath(f"{self.root}/{os.path.relpath(path, self.point)}")


def _mount_of(folder: Path) -> _Mount:
    """What a folder is mounted by; nothing where that cannot be found out."""
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        try:
            about = (PROC / f"self/fdinfo/{descriptor}").read_text().split()
        finally:
            os.close(descriptor)
        lines = os.fsdecode((PROC / "self/mountinfo").read_bytes()).splitlines()
    except OSError:
        return _Mount()
    number = about[about.index("mnt_id:") + 1]
    own = next((line.split() for line in lines if line.startswith(f"{number} ")), None)
    return _Mount(own[own.index("-") + 1], _plain(own[3]), _plain(own[4])) if own else _Mount()


def _plain(name: str) -> str:
    """A name of `mountinfo` without its escapes."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), name)


def _mounted(names: Iterable[str]) -> str:
    """Whether a file of that name is mounted by itself somewhere, as containers do: replaced, it would vanish there."""
    unseen = "a container may have mounted the file by itself, and not all processes can be looked at"
    try:
        whole = str((PROC / "self/ns/pid").readlink()) == _FIRST_PIDS and (PROC / "1/mountinfo").exists()
        processes = [entry for entry in os.listdir(PROC) if entry.isdigit()] if whole else []  # noqa: PTH208 - names
    except OSError:
        whole = False
    if not whole:
        return unseen
    marks = [b" " + os.fsencode(name.translate(_ESCAPED)) + b" " for name in names]
    seen: set[str] = set()
    for process in processes:
        try:
            if _mounts(PROC / process, marks, seen):
                return f"process {process} has the file mounted by itself"
        except PermissionError:
            return unseen
        except OSError:
            continue  # it ended while we looked
    return ""


def _mounts(process: Path, marks: Sequence[bytes], seen: set[str]) -> bool:
    """Whether a process sees such a mount; each mount namespace that we may name is read once."""
    try:
        space = str((process / "ns/mnt").readlink())
    except PermissionError:
        space = str(process)
    if space in seen:
        return False
    text = (process / "mountinfo").read_bytes()
    seen.add(space)
    return any(mark in text for mark in marks)
