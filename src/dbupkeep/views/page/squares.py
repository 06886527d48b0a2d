"""What is known of each database of a fleet by its last operations: its size, what could be given back, whether it is well. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from dbupkeep.jobs import Job, JobStatus
from dbupkeep.views import words
from dbupkeep.views.pictures.heatmap import Square
from dbupkeep.views.reports.entries import Entry

BAD = (JobStatus.FAILED, JobStatus.DEFERRED)


class Known(Struct, frozen=True, kw_only=True):
    """One database by its newest operations."""

    target: str
    name: str
    parent: Job
    bytes: int | None
    reclaimable: int | None  # bytes
    trouble: str = ""  # why its upkeep did not come to a good end

    @property
    def share(self) -> float | None:
        """Of it what could be given back, 0 to 1."""
        return None if not self.bytes or self.reclaimable is None else min(1.0, self.reclaimable / self.bytes)

    def square(self, href: str) -> Square:
        """For the picture."""
        size = words.size(self.bytes) if self.bytes is not None else "size not known"
        back = f"{words.share(self.share)} could be given back" if self.share is not None else ""
        note = words.listed([words.name(self.name), size, back, words.name(self.trouble)])
        return Square(
            name=self.name, note=note, bytes=self.bytes or 0, share=self.share, blocked=bool(self.trouble), href=href
        )


def known(parents: Iterable[Job], operations: Iterable[Job], planned: Callable[[Job], int | None]) -> Sequence[Known]:
    """Databases by their names, made of their newest parents and the operations below those.

    `planned` gives the bytes of a database as its plan saw them; it is asked where no operation says how big the whole is.
    """
    below: dict[str, list[Job]] = {}
    for job in operations:
        below.setdefault(job.parent_id, []).append(job)
    found = [_known(parent, below.get(parent.id, []), planned) for parent in parents]
    return sorted(found, key=lambda each: each.name)


def _known(parent: Job, jobs: Sequence[Job], planned: Callable[[Job], int | None]) -> Known:
    size = free = None
    for job in sorted(jobs, key=lambda each: each.finished_at or each.created_at):
        if not job.config.get("object"):  # of an object the figures are its own
            size, free = _sizes(_figures(job), size, free)
    if size is None:
        size = planned(parent)
    expected = sum(
        int((job.estimate or {}).get("gain_bytes") or 0) for job in jobs if job.status is not JobStatus.COMPLETED
    )
    bad = next((job for job in jobs if job.status in BAD), None)
    return Known(
        target=parent.target,
        name=parent.name,
        parent=parent,
        bytes=size,
        reclaimable=expected if free is None and jobs else free,
        trouble=Entry(job=bad, database=parent.name).why or bad.status.value if bad else "",
    )


def _figures(job: Job) -> Mapping[str, Any]:
    """The newest figures of an operation."""
    result = job.result or {}
    found: Mapping[str, Any] = result.get("after") or result.get("before") or {}
    return found or (result if "pages" in result else {})  # what was skipped keeps what the plan saw


def _sizes(figures: Mapping[str, Any], size: int | None, free: int | None) -> tuple[int | None, int | None]:
    """Bytes, and those of free pages, where the figures have them; else what was known before."""
    pages, unused, page = (figures.get(name) for name in ("pages", "free_pages", "page_size"))
    if isinstance(figures.get("bytes"), (int, float)):
        size = int(figures["bytes"])
    if isinstance(unused, (int, float)) and isinstance(pages, (int, float)) and pages:
        each = page if isinstance(page, (int, float)) else (size or 0) / pages
        free = int(unused * each)
    return size, free
