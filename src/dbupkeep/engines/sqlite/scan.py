"""Find the databases of a folder and tell which are due, mostly by their first page.

Runs in a process of its own (`python -m dbupkeep.engines.sqlite.scan`): it opens and closes files, which in a process
that holds connections to them would drop SQLite's locks. The request is one JSON line on standard input; each file is
one JSON line on standard output: `[path, due, problem]`.

What the header cannot say: a non-empty `-wal` may hold a newer header, and whether statistics are stale is known to
SQLite alone, so for such files a read-only connection is opened. Statistics that are missing altogether show in the
first page of a small schema. What is no database is a problem that is named; a database that cannot be read, or has
been cut off, is due, so that its survey fails in the open. Damaged indexes are found by a check, not by a scan: a request for REINDEX alone makes
nothing due here.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import apsw
from msgspec import Struct

from dbupkeep.engines.sqlite import header as headers
from dbupkeep.engines.sqlite.handle import View, connect
from dbupkeep.engines.sqlite.header import Header
from dbupkeep.engines.sqlite.paths import SIDE_FILES
from dbupkeep.engines.sqlite.statistics import staleness
from dbupkeep.errors import Refused

Line = tuple[str, bool, str]
"""Path, whether a survey is worth while, and why it cannot be worked on, if so."""

_LEAF = 0x0D
"""The kind of page that holds the whole schema, when it is the first page."""


class Request(Struct, frozen=True, kw_only=True):
    """What to look for."""

    root: str
    pattern: str
    recursive: bool
    exclude: tuple[str, ...]
    min_share: float
    min_pages: float
    vacuum: bool = True
    statistics: bool = False
    always: bool = False  # a check was asked for, or force: everything is due


def scan(request: Request) -> Iterator[Line]:
    """Go through the folder, in order of names."""
    seen: set[tuple[int, int]] = set()
    for entry, names in _entries(request, request.root):
        line = _judge(request, entry, names, seen)
        if line:
            yield line


def _entries(request: Request, folder: str) -> Iterator[tuple[os.DirEntry[str], Mapping[str, os.DirEntry[str]]]]:
    try:
        with os.scandir(folder) as found:
            names = {entry.name: entry for entry in found}
    except PermissionError:
        return
    for name in sorted(names):
        entry = names[name]
        if _excluded(request, entry):
            continue
        if entry.is_dir(follow_symlinks=False):
            if request.recursive:
                yield from _entries(request, entry.path)
        elif _wanted(request, entry, names):
            yield entry, names


def _excluded(request: Request, entry: os.DirEntry[str]) -> bool:
    relative = os.path.relpath(entry.path, request.root) if request.exclude else ""
    return any(fnmatch(entry.name, pattern) or fnmatch(relative, pattern) for pattern in request.exclude)


def _wanted(request: Request, entry: os.DirEntry[str], names: Mapping[str, os.DirEntry[str]]) -> bool:
    """Whether it matches the pattern and is not one of SQLite's own side files, or a copy of ours."""
    pattern = request.pattern.removeprefix("**/")
    subject = os.path.relpath(entry.path, request.root) if "/" in pattern else entry.name
    if not fnmatch(subject, pattern) or (".dbupkeep-" in entry.name and entry.name.endswith(".copy")):
        return False
    return not any(entry.name.endswith(suffix) and entry.name.removesuffix(suffix) in names for suffix in SIDE_FILES)


def _judge(
    request: Request, entry: os.DirEntry[str], names: Mapping[str, os.DirEntry[str]], seen: set[tuple[int, int]]
) -> Line | None:
    path = entry.path
    if entry.is_symlink():
        path = os.path.realpath(path)
        if not path.startswith(f"{request.root.rstrip('/')}/"):
            return entry.path, False, f"it is a symbolic link to {path}, outside of the folder, and is not followed"
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path for each of ten thousand files costs more than the stat
    except OSError as error:
        return entry.path, False, f"it cannot be looked at: {error.strerror}"
    if not _is_file(found) or (found.st_dev, found.st_ino) in seen:
        return None
    if found.st_nlink == 1:
        seen.add((found.st_dev, found.st_ino))
    return _judge_file(request, path, found, wal=_has_wal(path, names))


def _judge_file(request: Request, path: str, found: os.stat_result, *, wal: bool) -> Line:
    if not found.st_size:
        return path, False, "it is empty (0 bytes), so there is no database in it"
    if found.st_nlink > 1:
        return path, False, f"it has {found.st_nlink} hard links, by which SQLite can be led to corrupt it"
    try:
        data = _start(path)
        header = headers.parse(data, found.st_size, path)
    except OSError:
        return path, True, ""  # the survey fails with the reason, and so does the file's parent: never green
    except Refused as error:
        return path, False, error.why
    if not wal and headers.missing_bytes(header, found.st_size):
        return path, True, ""  # as above
    return path, _due(request, path, header, data, wal=wal), ""


def _due(request: Request, path: str, header: Header, data: bytes, *, wal: bool) -> bool:
    if request.always:
        return True
    if wal:
        return _look(request, path, header, pages_too=request.vacuum)
    if request.vacuum and _bloated(request, header.pages, header.free_pages):
        return True
    return request.statistics and _statistics_due(request, path, header, data)


def _bloated(request: Request, pages: int, free: int) -> bool:
    return free >= max(1, request.min_pages) and free >= request.min_share * pages


def _statistics_due(request: Request, path: str, header: Header, data: bytes) -> bool:
    """By the first page where it holds the whole schema: without an index nothing is due, without statistics they are."""
    whole = header.page_size <= len(data) and data[headers.SIZE] == _LEAF
    if whole and b"index" not in data:
        return False
    if whole and b"sqlite_stat1" not in data:
        return True
    return _look(request, path, header)


def _look(request: Request, path: str, header: Header, *, pages_too: bool = False) -> bool:
    """Ask SQLite, read-only. What it cannot tell is left to the survey, which can explain it."""
    view = View.READ
    if header.wal and not os.path.exists(f"{path}-shm"):  # noqa: PTH110 - as above
        view = View.ORPHAN if _size(f"{path}-wal") else View.STILL
    try:
        connection = connect(Path(path), view)
        try:
            connection.execute("BEGIN")  # one lock for all that is read
            if pages_too:
                pages, free = connection.pragma("page_count"), connection.pragma("freelist_count")
                if _bloated(request, int(pages), int(free)):
                    return True
            return request.statistics and bool(staleness(connection).tables)
        finally:
            connection.close()
    except apsw.Error:
        return True


def _start(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return os.read(descriptor, headers.LOOK)
    finally:
        os.close(descriptor)


def _is_file(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode)


def _has_wal(path: str, names: Mapping[str, os.DirEntry[str]]) -> bool:
    """The folder's list says whether a `-wal` is there at all, which spares most files a second look."""
    name = f"{os.path.basename(path)}-wal"  # noqa: PTH119 - as above
    return name in names and bool(_size(f"{path}-wal"))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - as above
    except OSError:
        return 0


def main(lines: Iterable[str], write: Any) -> None:  # noqa: ANN401 - a text stream's write
    """Answer one request."""
    asked = json.loads(next(iter(lines)))
    asked["exclude"] = tuple(asked["exclude"])
    for line in scan(Request(**asked)):
        write(json.dumps(line) + "\n")
