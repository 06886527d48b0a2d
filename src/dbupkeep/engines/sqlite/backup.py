"""A copy beside the database, kept until the work on it has passed a check."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dbupkeep.engine import Report, Work
from dbupkeep.engines.sqlite import leftovers, space
from dbupkeep.engines.sqlite.handle import Handle, literal
from dbupkeep.engines.sqlite.progress import ThreadBytes, counted, followed
from dbupkeep.engines.sqlite.sizes import measure
from dbupkeep.errors import Busy, Damaged, Interrupted, Refused, UpkeepError
from dbupkeep.plans import PlanItem


@contextmanager
def kept(handle: Handle, item: PlanItem, report: Report, tag: str) -> Iterator[Path]:
    """Make a copy, readable by its owner alone and on disk before the work inside starts.

    It stays when the work is done, until `settle`; work that was never begun or was rolled back needs no copy.
    """
    copy = leftovers.copy_name(handle.place, tag)
    report.stage("backup copy", f"kept as {copy} until the check has passed")
    try:
        _make(handle, item, report, copy)
        yield copy
    except (Busy, Interrupted, Refused):
        copy.unlink(missing_ok=True)
        raise


def _make(handle: Handle, item: PlanItem, report: Report, copy: Path) -> None:
    live = measure(handle).live_bytes
    space.choose(handle.path, temp=live, journal=live, copy=live, factor=float(item.options.get("space_factor") or 1))
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with followed(report, counted(ThreadBytes().written, live, "bytes", "backup copy")):
            handle.rows(f"VACUUM INTO {literal(copy)}", stage="making the backup copy")
        _to_disk(copy)
    except UpkeepError:
        copy.unlink(missing_ok=True)
        raise


def settle(handle: Handle, work: Work) -> None:
    """Check the database and drop the copy. Raises `Damaged`, which names the copy that is kept."""
    copy = work.values.get("backup")
    if not copy:
        return
    faults = [str(row[0]) for row in handle.rows("PRAGMA quick_check(10)", stage="checking the result")]
    if faults != ["ok"]:
        raise Damaged(
            f"{handle.path} did not pass the check after the work",
            why="; ".join(faults),
            hint=f"the copy from before is kept: {copy}",
        )
    Path(str(copy)).unlink(missing_ok=True)


def _to_disk(copy: Path) -> None:
    """The copy is nobody's open database, so opening it here harms no lock."""
    for path in (copy, copy.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
