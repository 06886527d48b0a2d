"""From reports and counters to what a person sees: a fraction with its source, never backwards, never invented."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from dbupkeep.jobs import ChildStats, Job
from dbupkeep.plans import Source


class Progress(Struct, frozen=True, kw_only=True):
    """How far something is. Without a `fraction` nobody knows, and then nothing is made up."""

    current: float = 0
    total: float | None = None
    unit: str = ""  # `bytes`, `indexes`, `operations`
    fraction: float | None = None  # 0 to 1; 1 only at the end
    source: Source = Source.UNKNOWN
    stage: str = ""


ALMOST = 0.99
"""What is still running is never shown as finished."""


def measured(current: float, total: float | None, unit: str, *, stage: str = "") -> Progress:
    """Progress that was counted; unknown when the total is."""
    if not total or total <= 0:
        return Progress(current=current, unit=unit, stage=stage)
    fraction = min(ALMOST, max(0.0, current / total))
    return Progress(current=current, total=total, unit=unit, fraction=fraction, source=Source.MEASURED, stage=stage)


def forward(last: Progress | None, new: Progress) -> Progress:
    """The new report, held at the last fraction where it would go back."""
    if last is None or last.fraction is None:
        return new
    if new.fraction is None or new.fraction < last.fraction:
        return replace(new, fraction=last.fraction, source=last.source)
    return new


def of_parent(stats: ChildStats, running: Iterable[Job], *, ended: bool, still_growing: bool = False) -> Progress:
    """A parent's progress: ended weight plus the fraction of what runs, over the whole weight.

    While a run still finds databases its whole is not known, and so neither is its fraction; nor is it while nothing
    has ended and nobody knows how far the running ones are.
    """
    done = stats.total - stats.unended
    if ended:
        return Progress(current=done, total=done, unit="jobs", fraction=1.0, source=Source.MEASURED)
    if still_growing or not stats.weight_total:
        return Progress(current=done, total=None if still_growing else stats.total, unit="jobs")
    known = [(_weight(job), (job.progress or {}).get("fraction")) for job in running]
    part = sum(weight * fraction for weight, fraction in known if fraction is not None)
    if not stats.weight_ended and all(fraction is None for _, fraction in known):
        return Progress(current=done, total=stats.total, unit="jobs")
    fraction = min(ALMOST, (stats.weight_ended + part) / stats.weight_total)
    # The weights are expected times, so the whole is an estimate even where each part was measured.
    return Progress(current=done, total=stats.total, unit="jobs", fraction=fraction, source=Source.ESTIMATED)


def _weight(job: Job) -> int:
    return max(job.weight, job.stats.weight_total)
