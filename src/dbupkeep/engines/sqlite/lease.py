"""A write lease on an open file, on Linux: proof that nobody else has it open, and word when somebody comes to open it.

The kernel grants the lease only while no other descriptor of the file exists, in whatever process, container or mount
namespace; idle connections, which hold no locks, have one too. While the lease lasts, whoever opens the file waits in
`open`, and the holder learns of it. `/proc` alone could prove nothing: it is looked at before somebody comes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from contextlib import suppress


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

    def end(self) -> None:
        """Give it up, and let in who waits."""
        with suppress(OSError):  # it was taken away already
            fcntl.fcntl(self._descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)

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
    found = _own_descriptors(device, inode)
    if len(found) != 1:
        raise Unproved("this program has it open more than once")
    return Lease(found[0]), found[0]


def nobody_else(device: int, inode: int) -> bool:
    """Whether it is proved that nobody but one connection here has a file open; False proves nothing."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        lease, _ = leased(device, inode)
    except Unproved:
        return False
    lease.end()
    return True


def _own_descriptors(device: int, inode: int) -> list[int]:
    """The descriptors of a file in this process; none is opened or closed for it."""
    with os.scandir("/proc/self/fd") as descriptors:
        return [int(one.name) for one in descriptors if leads_to(one, device, inode)]


def leads_to(descriptor: os.DirEntry[str], device: int, inode: int) -> bool:
    """Whether an entry of a process's descriptors is one of this file."""
    try:
        found = descriptor.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (device, inode)


def _refusal(error: OSError) -> Unproved:
    if error.errno == errno.EAGAIN:
        return Opened()
    return Unproved(f"the kernel does not prove that nobody else has it open ({error.strerror})")
