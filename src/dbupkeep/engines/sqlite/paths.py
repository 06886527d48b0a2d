"""From what a person wrote to a file, and back: paths, `sqlite:` URLs, and what kind of file it is.

Nothing here opens a file: closing a descriptor of a live database drops the locks that SQLite holds on it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from msgspec import Struct

from dbupkeep.definitions import Target
from dbupkeep.errors import Kind, Missing, NotPermitted, Refused, UsageError

SCHEME = "sqlite://"

SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database."""

_AS_IT_IS = "/ !$&'()*+,;=:@[]{}~^`|<>\""  # everything that a URL reader does not take for syntax of its own


def target_of(
    text: str,
    *,
    name: str = "",
    pattern: str = "",
    recursive: bool = False,
    exclude: tuple[str, ...] = (),
    labels: Mapping[str, str] | None = None,
) -> Target:
    """Make a target of a path or a `sqlite:///` URL; the url of the result has the real, absolute path.

    Symbolic links are followed here, once; what was written is kept as the label `given` when it differs.
    """
    is_url = text.lower().startswith(("sqlite:", "file:"))
    if is_url and "?" in text:
        raise UsageError(
            "a url of a SQLite file takes no parameters",
            why=f"?{text.partition('?')[2]} stands behind the path",
            hint="leave it out; a question mark in the name of the file is written %3F",
        )
    written = _written(text) if is_url else Path(text).expanduser()
    if not str(text).strip() or "\0" in text:
        raise UsageError("no database was named", why="the path is empty or has a NUL in it", hint="give a path")
    real = Path(os.path.realpath(written))
    marks = dict(labels or {})
    if real != written.absolute():
        marks["given"] = str(written)
    return Target(
        name=name or str(written),
        url=url_of(real),
        pattern=pattern,
        recursive=recursive,
        exclude=exclude,
        labels=marks,
    )


def url_of(path: Path | str) -> str:
    """Write an absolute path as a URL; only what would be read as syntax is escaped."""
    return SCHEME + quote(os.fsencode(path), safe=_AS_IT_IS)


def path_of(url: str) -> Path:
    """Read the path of a `sqlite:` URL, wherever the program stands; one slash too many is forgiven."""
    rest = url.partition(":")[2]
    rest = rest.removeprefix("//") if rest.startswith("//") else rest
    path = Path(os.fsdecode(unquote(rest, errors="surrogateescape"))) if rest else Path()
    return Path("/" + str(path).lstrip("/")) if rest.startswith("//") else path


def _written(url: str) -> Path:
    """The path that a person means, who may write a relative one as other tools want it: `sqlite:///app.db`."""
    path = path_of(url)
    relative = Path(str(path).lstrip("/"))
    absolute = path.is_absolute() and not url.partition(":")[2].startswith("////")
    return relative if absolute and not os.path.lexists(path) and os.path.lexists(relative) else path


class Place(Struct, frozen=True, kw_only=True):
    """A regular file that may be a database."""

    path: Path
    device: int
    inode: int
    bytes: int
    writable: bool
    modified_ns: int

    def beside(self, suffix: str) -> Path:
        """One of the files that SQLite keeps beside it."""
        return Path(f"{self.path}{suffix}")

    def size_beside(self, suffix: str) -> int | None:
        """The size of a side file; None when it is not there."""
        try:
            return self.beside(suffix).stat().st_size
        except FileNotFoundError:
            return None

    @property
    def footprint(self) -> int:
        """Bytes on disk now: the file and its `-wal`."""
        return self.path.stat().st_size + (self.size_beside("-wal") or 0)


def examine(path: Path) -> Place:
    """See what kind of file it is. Raises `Missing`, `NotPermitted` or `Refused` (each kind its own words)."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        hint = "check the path; a database is never created here"
        raise Missing(f"there is no file {path}", why="nothing is at that path", hint=hint) from None
    except PermissionError as error:
        raise NotPermitted(
            f"{path} cannot be reached",
            why=str(error.strerror),
            hint="run as a user who may enter its folder",
        ) from error
    except OSError as error:  # a loop of links, a name that is too long, a file system that is gone
        raise Missing(f"{path} cannot be reached", why=str(error.strerror), hint="check the path") from error
    _refuse_other_than_text(path)
    _refuse_other_than_file(path, found)
    if not os.access(path, os.R_OK):
        raise NotPermitted(f"{path} cannot be read", why="its mode does not allow it", hint="run as its owner")
    return Place(
        path=path,
        device=found.st_dev,
        inode=found.st_ino,
        bytes=found.st_size,
        writable=_writable(path, found.st_mode),
        modified_ns=found.st_mtime_ns,
    )


def _refuse_other_than_text(path: Path) -> None:
    """SQLite takes paths as UTF-8 only."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise Refused(
            f"the path {os.fsencode(path)!r} is not in UTF-8",
            why="SQLite's library takes no other paths",
            hint="rename the file or the folder",
        ) from None


def _refuse_other_than_file(path: Path, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise Refused(
            f"{path} is a folder",
            why="a SQLite database is one file",
            hint="name a file in it, or give a pattern such as '*.db' to search the folder",
        )
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"{path} is not a regular file", why="it is a device, a pipe or a socket", hint="name a file")
    if found.st_size == 0:
        raise Refused(
            f"{path} is empty",
            why="a file of 0 bytes holds no database, and opening it for work would make one",
            hint="check the path; the program that owns it has not written to it yet",
        )
    if found.st_nlink > 1:
        raise Refused(
            f"{path} has {found.st_nlink} hard links",
            why="SQLite names its journal after the path, so a second name of the same file can corrupt it",
            hint="copy the file to a single name, and remove the others",
            kind=Kind.HARD_LINKED,
        )


def _writable(path: Path, mode: int) -> bool:
    """Whether work may write there; a file without any write bit is read-only on purpose, also for root."""
    anybody = mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    mounted = not os.statvfs(path).f_flag & os.ST_RDONLY
    return bool(anybody) and mounted and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
