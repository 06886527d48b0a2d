"""What stands for the state of a job: a mark, a word and a tone. Nothing is told by colour alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbupkeep.jobs import LEFT_OUT, Job, JobStatus, JobType, Outcome
from dbupkeep.views import words
from dbupkeep.views.lengths import worked

MARKS: Mapping[str, str] = {
    JobStatus.PENDING: "·",
    JobStatus.RUNNING: "▸",
    JobStatus.COMPLETED: "✓",
    JobStatus.FAILED: "✗",
    JobStatus.CANCELLED: "×",
    JobStatus.SKIPPED: "–",
    JobStatus.DEFERRED: "‖",
}

TONES: Mapping[str, str] = {
    JobStatus.PENDING: "quiet",
    JobStatus.RUNNING: "busy",
    JobStatus.COMPLETED: "good",
    JobStatus.FAILED: "bad",
    JobStatus.CANCELLED: "warn",
    JobStatus.SKIPPED: "quiet",
    JobStatus.DEFERRED: "warn",
}
"""Classes of the style sheet."""


def state(job: Job) -> str:
    """The word for people: what was asked of it, else how it ended, else its status."""
    if not job.status.ended:
        asked = (
            (job.cancel_requested, "cancelling"), (job.stop_requested, "stopping after what runs"), (job.paused, "paused"),
        )  # fmt: skip
        return next((word for is_so, word in asked if is_so), _GOING.get(job.status, job.status.value))
    if job.left_out:
        return LEFT_OUT
    return _ENDED.get(job.outcome, "") or _GOING.get(job.status, "") or job.status.value


_GOING: Mapping[str, str] = {JobStatus.PENDING: "waiting", JobStatus.COMPLETED: "done"}
_ENDED: Mapping[str, str] = {
    Outcome.NOTHING_TO_DO: "nothing to do", Outcome.PARTIAL: "partly done", Outcome.STOPPED: "stopped early",
}  # fmt: skip


def took(job: Job, below: Sequence[Job] | None = None) -> str:
    """How long an ended job took; of a database, with what is `below` it, the time that operations of it were at work.

    Empty for one that did nothing.
    """
    if job.started_at is None or job.finished_at is None or job.status is JobStatus.SKIPPED:
        return ""
    if below is not None and job.type == JobType.DATABASE_MAINTENANCE_PARENT:
        seconds = worked(below)
        return "" if seconds is None else words.duration(seconds)
    return words.duration((job.finished_at - job.started_at).total_seconds())
