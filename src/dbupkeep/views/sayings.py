"""What a verb did or set going, in a sentence that promises no more than is so. For API and command line."""

from __future__ import annotations

from collections.abc import Sequence

from dbupkeep.jobs import Job, JobStatus, Phase
from dbupkeep.views import words


def cancelled(job: Job) -> str:
    """Of `cancel`."""
    if job.status is JobStatus.CANCELLED:
        return f"Cancelled {_name(job)}."
    if job.status.ended:
        return ended_before(job)
    if job.phase is Phase.EXECUTION:
        return f"{_name(job)} is told to stop; if it is past the point of return, it ends by itself."
    return f"Cancelling {_name(job)}: what waited has ended, what runs ({_running(job)}) is told to stop."


def stopped(job: Job) -> str:
    """Of `stop`."""
    if job.status.ended:
        return f"{_name(job)} has ended: {_state(job)}."
    return f"{_name(job)} ends after what runs now ({_running(job)}); what had not started is given up."


def paused(run: Job) -> str:
    """Of `pause`, which is for a whole run."""
    if run.status.ended:
        return ended_before(run)
    return f"Paused {_name(run)}: nothing new starts in it; what runs ({_running(run)}) goes on to its end."


def resumed(run: Job, *, served: bool) -> str:
    """Of `resume`; `served`: whether a worker process is there for it."""
    if run.status.ended:
        return ended_before(run)
    return f"{_name(run)} goes on. {_served(served)}".strip()


def skipped(job: Job) -> str:
    """Of `skip`."""
    if job.phase is Phase.EXECUTION:
        return f"{_name(job)} is left out."
    return f"What had not started in {_name(job)} is left out; what runs goes on."


def retried(jobs: Sequence[Job], *, served: bool) -> str:
    """Of `retry`."""
    return f"{words.counted(len(jobs), 'operation')} will be tried again. {_served(served)}".strip()


def limited(run: Job) -> str:
    """Of new limits, which are for a whole run."""
    said = f"Limits of {_name(run)}: {words.limits(run.at_a_time, run.until)}."
    if run.at_a_time and run.stats.running:
        said += " How many at a time holds for the next operation that starts."
    return said


def ended_before(job: Job) -> str:
    """Of any of them, where the job had ended already."""
    return f"{_name(job)} had ended before: {_state(job)}."


def _name(job: Job) -> str:
    return words.name(job.name)


def _state(job: Job) -> str:
    return (job.outcome or job.status.value).replace("_", " ")


def _running(job: Job) -> str:
    return words.counted(job.stats.running, "job")


def _served(served: bool) -> str:  # noqa: FBT001 - the one thing that it is about
    return "" if served else "No worker process is there for it now, so nothing starts until one is."
