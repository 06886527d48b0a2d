"""What a cut-off operation leaves: nothing inside the database, since SQLite rolls back; beside it a copy, or a new file."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from dbupkeep.clock import new_id
from dbupkeep.engine import Evidence, Leftover
from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.in_place import held_back, write_back
from dbupkeep.engines.sqlite.paths import SIDE_FILES, Place
from dbupkeep.engines.sqlite.sizes import measure
from dbupkeep.errors import Refused
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem

_MARK = ".dbupkeep-"
_COPY = ".copy"
_TWIN = ".new"
_EXPLAINED = {
    _COPY: "a backup copy from before an operation that was cut off or did not pass its check",
    _TWIN: "a rewritten file from a VACUUM that was cut off before or after it took the place of the database",
}
_TAG = re.compile(r"[^A-Za-z0-9_-]")

_DONE = 0.1
"""A lost VACUUM was in fact done when no more than this part of the planned free pages is left."""


def copy_name(place: Place, tag: str) -> Path:
    """Where the backup copy of an attempt goes: beside the database, named after the attempt."""
    return _named(place, tag, _COPY)


def twin_name(place: Place, tag: str) -> Path:
    """Where an attempt writes the new file that is to take the place of the database: beside it, for the same volume."""
    return _named(place, tag, _TWIN)


def _named(place: Place, tag: str, end: str) -> Path:
    return place.beside(f"{_MARK}{_TAG.sub('_', tag) or new_id()}{end}")


def copies(place: Place) -> list[Path]:
    """All backup copies and new files of this database that are there."""
    start = f"{place.path.name}{_MARK}"
    with os.scandir(place.path.parent) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(start)
            and entry.name.endswith((_COPY, _TWIN))
            and entry.is_file(follow_symlinks=False)
        )


def twins_of(place: Place, tag: str) -> list[Path]:
    """The names of the new files of an attempt, and of those before it of the same job: only the number differs."""
    job, _, number = tag.rpartition(":")
    tags = [f"{job}:{attempt}" for attempt in range(1, int(number) + 1)] if number.isdigit() else [tag] if tag else []
    return [twin_name(place, one) for one in tags]


def remove(path: Path) -> None:
    """Remove one with what SQLite may have left beside it; safe to repeat."""
    path.unlink(missing_ok=True)
    remove_beside(path)


def remove_beside(path: Path) -> None:
    """Remove what SQLite may have left beside one."""
    for suffix in SIDE_FILES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def beside(place: Place) -> list[Leftover]:
    """Backup copies, and what a cut-off program left of its own. Changes nothing."""
    return [
        Leftover(
            name=str(path), bytes=path.stat().st_size, ours=_is_ours(path, place), explanation=_EXPLAINED[path.suffix]
        )
        for path in copies(place)
    ]


def clean(place: Place, leftover: Leftover) -> None:
    """Remove one. Raises `Refused` for what is not proved ours, whatever the argument says of itself."""
    path = Path(leftover.name)
    if path not in copies(place) or not _is_ours(path, place):
        raise Refused(
            f"{leftover.name} is not removed",
            why="only copies that dbupkeep made beside this database, and that its owner alone can read, are",
            hint="remove it by hand when you know what it is",
        )
    remove(path)


def recover(handle: Handle, item: PlanItem, tag: str, *, done: bool = False) -> Evidence | None:
    """After a lost attempt: SQLite has rolled back or kept its work when the file was opened; see which, and tidy up.

    `done`: it is known already that the attempt did its work.
    """
    if handle.header.wal:  # what the lost attempt wrote there is not a part of what the next one begins with
        write_back(handle)
    after = measure(handle)
    copy = copy_name(handle.place, tag) if tag else None
    if copy and copy.exists() and handle.rows("PRAGMA quick_check(1)") == [("ok",)]:
        copy.unlink()
    planned, pages = int(item.evidence.get("free_pages") or 0), int(item.evidence.get("pages") or 0)
    packed = planned and after.free_pages <= _DONE * planned and after.pages < pages  # else others use the free pages
    if item.operation is not Operation.VACUUM or not (done or packed):
        return None
    size = pages * after.page_size
    shrank = after.bytes < size
    said = f"the attempt before did it: {after.free_pages:,} free pages are left of {planned:,}"
    return Evidence(
        effective=Effective.YES if shrank else Effective.NO,
        reason=said if shrank else f"{said}; {held_back(handle)}",
        before={
            **after.values(), "bytes": size, "file_bytes": size, "wal_bytes": 0, "pages": pages, "free_pages": planned
        },
        after=after.values(),
    )  # fmt: skip


def _is_ours(path: Path, place: Place) -> bool:
    """Ours are private; but a new file gets the rights of the database just before it takes the place."""
    found, database = path.lstat(), place.path.stat()
    owned = stat.S_ISREG(found.st_mode) and found.st_uid in {os.geteuid(), database.st_uid}
    private = not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    alike = (found.st_mode, found.st_uid) == (database.st_mode, database.st_uid)
    return owned and (private or (alike and path.suffix == _TWIN))
