"""Whether a database can be replaced safely by a rewritten one, as far as looking tells; `lease` proves the rest."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from dbupkeep.engines.sqlite.openers import PROC
from dbupkeep.engines.sqlite.paths import Place

FILE_SYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs"})
"""Local ones, where a lease sees every opener and two names can be exchanged at once."""

_FIRST_PIDS = "pid:[4026531836]"
"""The process namespace of the machine itself; in one of a container others are not seen."""

_ESCAPED = str.maketrans({" ": "\\040", "\t": "\\011", "\n": "\\012", "\\": "\\134"})
"""How the kernel writes names in `mountinfo`."""


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
    """Whether a file of that name is mounted by itself somewhere, or in a layer, as containers do: there it stays what it was."""
    unseen = "a container may have mounted the file by itself, and not all processes can be looked at"
    try:
        whole = str((PROC / "self/ns/pid").readlink()) == _FIRST_PIDS and (PROC / "1/mountinfo").exists()
        processes = [entry for entry in os.listdir(PROC) if entry.isdigit()] if whole else []  # noqa: PTH208 - names
    except OSError:
        whole = False
    if not whole:
        return unseen
    marks = [mark for name in names for mark in _marks(name.translate(_ESCAPED))]
    seen: set[str] = set()
    for process in processes:
        try:
            if _mounts(f"{PROC}/{process}", marks, seen):
                return f"process {process} has the file mounted by itself, or in a layer"
        except PermissionError:
            return unseen
        except OSError:
            continue  # it ended while we looked
    return ""


def _marks(name: str) -> Iterable[bytes]:
    """What a line of `mountinfo` has in it that mounts the file, or as the upper layer a folder that it is in."""
    yield b" " + os.fsencode(name) + b" "
    for folder in Path(name).parents:
        yield b"upperdir=" + os.fsencode(folder) + b","


def _mounts(process: str, marks: Sequence[bytes], seen: set[str]) -> bool:
    """Whether a process sees such a mount; each mount namespace that we may name is read once."""
    try:
        space = os.readlink(f"{process}/ns/mnt")  # noqa: PTH115 - there are many of them
    except PermissionError:
        space = process
    if space in seen:
        return False
    text = Path(process, "mountinfo").read_bytes()
    seen.add(space)
    return any(mark in text for mark in marks)
