"""What a cut-off operation leaves: nothing inside the database, since SQLite rolls back; a backup copy beside it."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from dbupkeep.clock import new_id
from dbupkeep.engine import Evidence, Leftover
from dbupkeep.engines.sqlite.handle import Handle
from dbupkeep.engines.sqlite.in_place import held_back, write_back
from dbupkeep.engines.sqlite.paths import Place
from dbupkeep.engines.sqlite.sizes import measure
from dbupkeep.errors import Refused
from dbupkeep.jobs import Effective
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem

_MARK = ".dbupkeep-"
_END = ".copy"
_TAG = re.compile(r"[^A-Za-z0-9_-]")

_DONE = 0.1
"""A lost VACUUM was in fact done when no more than this part of the planned free pages is left."""


def copy_name(place: Place, tag: str) -> Path:
    """Where the backup copy of an attempt goes: beside the database, named after the attempt."""
    return place.beside(f"{_MARK}{_TAG.sub('_', tag) or new_id()}{_END}")


def copies(place: Place) -> list[Path]:
    """All backup copies of this database that are there."""
    start = f"{place.path.name}{_MARK}"
    with os.scandir(place.path.parent) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.name.startswith(start) and entry.name.endswith(_END) and entry.is_file(follow_symlinks=False)
        )


def beside(place: Place) -> list[Leftover]:
    """Backup copies, and what a cut-off program left of its own. Changes nothing."""
    return [
        Leftover(
            name=str(path),
            bytes=path.stat().st_size,
            ours=_is_ours(path, place),
            explanation="a backup copy from before an operation that was cut off or did not pass its check",
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
    path.unlink()


def recover(handle: Handle, item: PlanItem, tag: str) -> Evidence | None:
    """After a lost attempt: SQLite has rolled back or kept its work when the file was opened; see which, and tidy up."""
    if handle.header.wal:  # what the lost attempt wrote there is not a part of what the next one begins with
        write_back(handle)
    after = measure(handle)
    copy = copy_name(handle.place, tag) if tag else None
    if copy and copy.exists() and handle.rows("PRAGMA quick_check(1)") == [("ok",)]:
        copy.unlink()
    planned, pages = int(item.evidence.get("free_pages") or 0), int(item.evidence.get("pages") or 0)
    if item.operation is not Operation.VACUUM or not planned or after.free_pages > _DONE * planned:
        return None
    if after.pages >= pages:  # others have used the free pages
        return None
    size = pages * after.page_size
    done = after.bytes < size
    said = f"the attempt before did it: {after.free_pages:,} free pages are left of {planned:,}"
    return Evidence(
        effective=Effective.YES if done else Effective.NO,
        reason=said if done else f"{said}; {held_back(handle)}",
        before={
            **after.values(), "bytes": size, "file_bytes": size, "wal_bytes": 0, "pages": pages, "free_pages": planned
        },
        after=after.values(),
    )  # fmt: skip


def _is_ours(path: Path, place: Place) -> bool:
    found = path.lstat()
    private = not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    return stat.S_ISREG(found.st_mode) and private and found.st_uid in {os.geteuid(), place.path.stat().st_uid}
