"""Whether the library and the surroundings of a file are such that maintenance is safe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import apsw

from dbupkeep.engine import Finding
from dbupkeep.engines.sqlite import hooks, words
from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.openers import openers_of
from dbupkeep.engines.sqlite.schema import lacking
from dbupkeep.engines.sqlite.sizes import measure
from dbupkeep.engines.sqlite.space import room_for

_WAL_RESET_FIXED = 3_051_003
"""Before it, two processes on one WAL database could lose pages (https://www.sqlite.org/wal.html)."""

_NETWORK = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "afs", "ceph", "gluster", "lustre")


def doctor(handle: Handle) -> list[Finding]:
    """Check everything that can be checked by looking."""
    return [*_library(), *_rights(handle), *_file_system(handle), *_room(handle), *_hooks(handle), *_sight(handle)]


def _library() -> Iterator[Finding]:
    version = apsw.sqlite_lib_version()
    sound = apsw.SQLITE_VERSION_NUMBER >= _WAL_RESET_FIXED
    yield Finding(
        subject="SQLite",
        ok=sound,
        message=f"{version}, through apsw {apsw.apsw_version()}",
        hint="" if sound else "versions before 3.51.3 can lose pages of WAL databases: upgrade apsw",
    )
    stat4 = "ENABLE_STAT4" in apsw.compile_options
    message = "built with STAT4: a full ANALYZE also keeps samples in sqlite_stat4" if stat4 else "built without STAT4"
    yield Finding(subject="statistics", ok=True, message=message)


def _rights(handle: Handle) -> Iterator[Finding]:
    writable = handle.place.writable
    yield Finding(
        subject="rights",
        ok=writable,
        message="file and folder can be written"
        if writable
        else "file or folder is read-only: it can only be surveyed and checked",
        hint="" if writable else "run as their owner",
    )


def _file_system(handle: Handle) -> Iterator[Finding]:
    kind = _kind_of(handle.path)
    network = kind.startswith(_NETWORK)
    yield Finding(
        subject="file system",
        ok=not network,
        message=f"{kind or 'unknown'}" + (", over a network" if network else ""),
        hint="file locks over a network are not to be trusted: run dbupkeep on the machine that has the disk"
        if network
        else "",
    )


def _room(handle: Handle) -> Iterator[Finding]:
    room, live = room_for(handle.path), measure(handle).live_bytes
    wanted = live * (2 if room.shared else 1)
    enough = room.folder_free >= wanted and room.temp_free >= live
    yield Finding(
        subject="disk space",
        ok=enough,
        message=f"{words.size(room.folder_free)} free in {room.folder}, {words.size(room.temp_free)} in {room.temp};"
        f" VACUUM wants about {words.size(live)} in each",
        hint="" if enough else "free space, or set SQLITE_TMPDIR to a folder on a roomier volume",
    )


def _hooks(handle: Handle) -> Iterator[Finding]:
    missing = lacking(handle)
    named = os.environ.get(hooks.VARIABLE, "")
    yield Finding(
        subject="functions and collations",
        ok=not missing,
        message=f"missing: {missing}" if missing else f"all there{f' (hook {named})' if named else ''}",
        hint=f"register them with {hooks.VARIABLE}=module:function" if missing else "",
    )


def _sight(handle: Handle) -> Iterator[Finding]:
    openers = openers_of(handle.place, handle.connection)
    yield Finding(
        subject="other programs",
        ok=True,
        message=f"open in {openers}" if openers else "nobody else has the file open, as far as can be seen",
        hint="" if openers.complete else "processes of other users cannot be looked into; their locks are still seen",
    )


def _kind_of(path: Path) -> str:
    """The file system by the longest mount point above the path."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text(errors="replace").splitlines()]
    except OSError:
        return ""
    above = [(len(m[1]), m[2]) for m in mounts if m[1] == "/" or f"{path}/".startswith(f"{m[1]}/")]
    return max(above, default=(0, ""))[1]
