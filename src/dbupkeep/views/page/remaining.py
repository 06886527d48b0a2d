"""How much longer a run will take, as a range: predictions are wrong by a factor, and the run itself shows by which. Pure."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from dbupkeep.jobs import Job
from dbupkeep.progress import Progress
from dbupkeep.views import words

MARGIN = 1.3
"""What is predicted may take so many times longer, or shorter, even when the run has kept to its prediction so far."""

EARLY = 0.05
"""Before that share is done the run itself says nothing of its pace."""

ALIKE = 1.5
"""A range whose ends are closer than this is told as one time."""


class Remaining(Struct, frozen=True, kw_only=True):
    """Seconds from now."""

    least: float
    most: float

    @property
    def said(self) -> str:
        """In words: `about 2 min left`, `40 s to 2 min left`."""
        if self.most < 1:
            return "almost done"
        if self.most <= self.least * ALIKE:
            return f"about {words.duration(_round((self.least + self.most) / 2))} left"
        return f"{words.duration(_round(self.least))} to {words.duration(_round(self.most))} left"


def remaining(run: Job, progress: Progress, *, at_a_time: int, now: datetime) -> Remaining | None:
    """What is left of a run that goes on, `at_a_time` operations side by side; None when nobody can know."""
    if run.status.ended or progress.fraction is None or not run.stats.weight_total or run.started_at is None:
        return None
    left = 1.0 - progress.fraction
    predicted = run.stats.weight_total / 1000 * left / max(1, at_a_time)
    if progress.fraction < EARLY or run.paused:  # a pause is no pace
        return Remaining(least=predicted / MARGIN, most=predicted * MARGIN)
    passed = (now - run.started_at).total_seconds()
    paced = passed / progress.fraction * left
    return Remaining(least=min(predicted, paced), most=max(predicted / MARGIN, paced) * MARGIN)


def _round(seconds: float) -> float:
    """To what can be meant by it."""
    step = next((step for most, step in ((10, 1), (60, 5), (600, 15), (3600, 60)) if seconds < most), 300)
    return max(1, round(seconds / step) * step)
