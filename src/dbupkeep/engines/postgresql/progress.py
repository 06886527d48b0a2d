"""From the server's progress views to ours. Pure; a column that a version does not have is not missed.

Where the server has no number, there is none: until 16, "vacuuming indexes" is told by its name alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dbupkeep.plans import Source
from dbupkeep.progress import ALMOST, Progress, measured

Row = Mapping[str, Any]


def of_vacuum(row: Row, *, heap_pages: float, index_pages: float, dead: bool) -> Progress:
    """How far a VACUUM is: pages read and written of those expected, while the server counts them.

    Indexes are read once more than never only where there are dead rows; that weight is an estimate.
    """
    phase = str(row["phase"])
    scanned, vacuumed = float(row["heap_blks_scanned"] or 0), float(row["heap_blks_vacuumed"] or 0)
    heap = float(row["heap_blks_total"] or 0) or heap_pages
    if not dead or not index_pages:
        return measured(scanned, heap, "pages", stage=phase)
    read = scanned + vacuumed
    done, total = _indexes_done(row)
    if phase in ("vacuuming indexes", "cleaning up indexes"):
        if not total:
            return Progress(current=read, unit="pages", stage=phase)
        read = scanned + index_pages * done / total
    elif int(row["index_vacuum_count"] or 0):
        read += index_pages
    whole = 2 * heap + index_pages
    return Progress(
        current=read,
        total=whole,
        unit="pages",
        fraction=min(ALMOST, read / whole) if whole else None,
        source=Source.ESTIMATED if whole else Source.UNKNOWN,
        stage=phase,
    )


def of_analyze(row: Row) -> Progress:
    """How far an ANALYZE is: sampled pages are counted, partitions too; computing is told by its name alone."""
    phase = str(row["phase"])
    children = float(row.get("child_tables_total") or 0)
    if children:
        return measured(float(row["child_tables_done"] or 0), children, "partitions", stage=phase)
    if phase.startswith("acquiring"):
        return measured(
            float(row["sample_blks_scanned"] or 0), float(row["sample_blks_total"] or 0), "pages", stage=phase
        )
    return Progress(stage=phase)


def _indexes_done(row: Row) -> tuple[float, float]:
    """Processed and all indexes, from 17 on."""
    return float(row.get("indexes_processed") or 0), float(row.get("indexes_total") or 0)


def waiting(row: Row, seconds: float) -> str:
    """Who a session waits for, as a sentence; empty when it does not wait for a lock."""
    if row.get("wait_event_type") != "Lock":
        return ""
    if row.get("blocker") is None:
        return f"waiting for a lock for {seconds:.0f} s"
    who = ", ".join(str(row[name]) for name in ("blocker_role", "blocker_name", "blocker_state") if row.get(name))
    return f"blocked by pid {row['blocker']}" + (f" ({who})" if who else "") + f" for {seconds:.0f} s"
