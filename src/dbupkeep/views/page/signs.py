"""What stands for the state of a job: a tone beside its mark, and a word. Nothing is told by colour alone."""

from __future__ import annotations

from collections.abc import Mapping

from dbupkeep.jobs import LEFT_OUT, Job, JobStatus, Outcome

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

WORDS: Mapping[JobStatus, str] = {
    JobStatus.COMPLETED: "done", JobStatus.RUNNING: "running", JobStatus.PENDING: "waiting", JobStatus.FAILED: "failed",
    JobStatus.DEFERRED: "deferred", JobStatus.CANCELLED: "cancelled", JobStatus.SKIPPED: "skipped",
}  # fmt: skip
"""In the order in which jobs are counted."""

_ENDED: Mapping[str, str] = {
    Outcome.NOTHING_TO_DO: "nothing to do", Outcome.PARTIAL: "partly done", Outcome.STOPPED: "stopped early",
}  # fmt: skip


def state(job: Job) -> str:
    """The word for people: what was asked of it, else how it ended, else its status."""
    if not job.status.ended:
        asked = (
            (job.cancel_requested, "cancelling"), (job.stop_requested, "stopping after what runs"), (job.paused, "paused"),
        )  # fmt: skip
        return next((word for is_so, word in asked if is_so), WORDS[job.status])
    return LEFT_OUT if job.left_out else _ENDED.get(job.outcome, WORDS[job.status])
