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
    if row.get("prepared"):
        return f"blocked by prepared transaction {row['prepared']!r} for {seconds:.0f} s"
    if row.get("blocker") is None:
        return f"waiting for a lock for {seconds:.0f} s"
    who = ", ".join(str(row[name]) for name in ("blocker_role", "blocker_name", "blocker_state") if row.get(name))
    return f"blocked by pid {row['blocker']}" + (f" ({who})" if who else "") + f" for {seconds:.0f} s"


_BUILD: Mapping[str, tuple[float, float, str]] = {
    "waiting for writers before build": (0.0, 0.0, "lockers"),
    "building index": (0.0, 0.3, "blocks"),
    "building index: scanning table": (0.0, 0.3, "blocks"),
    "building index: sorting live tuples": (0.3, 0.4, ""),
    "building index: sorting dead tuples": (0.4, 0.4, ""),
    "building index: loading tuples in tree": (0.4, 0.6, "tuples"),
    "waiting for writers before validation": (0.6, 0.6, "lockers"),
    "index validation: scanning index": (0.6, 0.7, "blocks"),
    "index validation: sorting tuples": (0.7, 0.72, "tuples"),
    "index validation: scanning table": (0.72, 0.97, "blocks"),
    "waiting for old snapshots": (0.97, 0.97, "lockers"),
    "waiting for readers before marking dead": (0.98, 0.98, "lockers"),
    "waiting for readers before dropping": (0.98, 0.98, "lockers"),
}
"""For each phase of a rebuild: the share of the whole at its beginning and end, and what the server counts in it."""


def of_reindex(row: Row) -> Progress:
    """How far a rebuild is: counted within each phase; what share of the whole a phase is, is an estimate."""
    phase = str(row["phase"])
    first, last, unit = _BUILD.get(phase, (None, None, ""))
    total = float(row[f"{unit}_total"] or 0) if unit else 0.0
    done = min(total, float(row[f"{unit}_done"] or 0)) if unit else 0.0
    stage = f"{phase} ({done:.0f} of {total:.0f})" if unit == "lockers" and total else phase
    if first is None or last is None:
        return Progress(stage=stage)
    fraction = first + (last - first) * (done / total if total else 0.0)
    counted = unit if unit != "lockers" else ""
    return Progress(
        current=done if counted else 0,
        total=total if counted and total else None,
        unit={"blocks": "pages", "tuples": "rows"}.get(counted, ""),
        fraction=min(ALMOST, fraction),
        source=Source.ESTIMATED,
        stage=stage,
    )


def of_rewrite(row: Row) -> Progress:
    """How far VACUUM FULL or REPACK is: pages of the table are counted, then indexes; the share of each is an estimate."""
    phase = str(row["phase"])
    indexes = float(row.get("indexes") or 0)
    heap = 0.5 if indexes else 0.95
    total = float(row.get("heap_blks_total") or 0)
    done = float(row.get("heap_blks_scanned") or 0)
    if phase.startswith("seq scanning") and total:
        fraction = heap * min(1.0, done / total)
        return Progress(
            current=done,
            total=total,
            unit="pages",
            fraction=min(ALMOST, fraction),
            source=Source.ESTIMATED,
            stage=phase,
        )
    if phase.startswith("rebuilding index") and indexes:
        built = float(row.get("index_rebuild_count") or 0)
        fraction = heap + (0.95 - heap) * min(1.0, built / indexes)
        return Progress(
            current=built, total=indexes, unit="indexes", fraction=fraction, source=Source.ESTIMATED, stage=phase
        )
    return Progress(stage=phase)
