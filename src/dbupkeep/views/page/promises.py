"""What a request really does, in honest words: of a run, and of a single operation that is half done. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from dbupkeep.jobs import Job, JobStatus, Phase
from dbupkeep.lifecycle import RETRIABLE


class Button(Struct, frozen=True, kw_only=True):
    """Something that may be asked of a job."""

    verb: str  # the last part of the address
    label: str
    promise: str  # what happens then
    grave: bool = False  # asked once more before it is done
    sure: str = ""  # what a grave one is called when it is asked once more, where its label does not say of what


PAUSE = Button(verb="pause", label="Pause", promise="Starts nothing new; what runs goes on.")
RESUME = Button(verb="resume", label="Resume", promise="Goes on with what waits.")
STOP = Button(
    verb="stop", label="Stop after current", grave=True,
    promise="What runs comes to its end, what waits is given up. A retry or the next run does it.",
)  # fmt: skip
CANCEL_RUN = Button(
    verb="cancel", label="Cancel", grave=True,
    promise="What runs is told to stop now, what waits is given up. No database is left half changed: see each operation.",
)  # fmt: skip
RETRY_RUN = Button(
    verb="retry", label="Try again", promise="Gives another attempt to what failed, was deferred or was cancelled, and to nothing else.",
)  # fmt: skip
SKIP = Button(verb="skip", label="Skip", promise="Leaves this operation out of this run; what waits for it goes on.")
RETRY = Button(verb="retry", label="Try again", promise="Gives this operation another attempt.")

HALF_DONE: Mapping[tuple[str, str], str] = {
    ("sqlite", "vacuum"): "SQLite rolls back, and the file stays as it was. Once it writes back it cannot be stopped.",
    ("sqlite", "reindex"): "The index at work stays as it was; indexes that were rebuilt before stay rebuilt.",
    ("sqlite", "analyze"): "The old statistics stay, but for tables that were finished before.",
    ("sqlite", "optimize"): "The old statistics stay, but for tables that were finished before.",
    ("sqlite", "check"): "A check changes nothing; it is not known then whether the database is sound.",
    ("postgresql", "vacuum"): "Rows that were removed before stay removed; the rest is left for the next VACUUM.",
    ("postgresql", "reindex"): "The old index stays in use, and what was built of the new one is removed.",
    ("postgresql", "analyze"): "The old statistics stay.",
    ("postgresql", "optimize"): "The table stays as it was, and what was written of the copy is removed.",
    ("postgresql", "check"): "A check changes nothing; it is not known then whether the objects are sound.",
}  # fmt: skip
"""What an engine does with an operation that is cut off."""


def of_run(run: Job) -> Sequence[Button]:
    """What may be asked of a run, or of a database of one."""
    if run.status.ended:
        return [RETRY_RUN] if any((run.stats.failed, run.stats.deferred, run.stats.cancelled)) else []
    if run.cancel_requested:
        return []
    pausing = [] if not run.is_root else [RESUME] if run.paused else [PAUSE]
    of_what = "this run" if run.is_root else "this database"
    stop = replace(STOP, sure=f"Stop {of_what} after what runs")
    return [*pausing, *([] if run.stop_requested else [stop]), replace(CANCEL_RUN, sure=f"Cancel {of_what}")]


def of_operation(job: Job) -> Sequence[Button]:
    """What may be asked of an operation."""
    if job.phase is Phase.ORCHESTRATION:
        return of_run(job)
    if job.status is JobStatus.PENDING:
        return [SKIP]
    if job.status is JobStatus.RUNNING:
        return [] if job.cancel_requested else [_cancel(job)]
    return [RETRY] if job.status in RETRIABLE else []


def _cancel(job: Job) -> Button:
    engine, operation = job.target.partition(":")[0], str(job.config.get("operation", ""))
    promise = HALF_DONE.get(
        (engine, operation), "It is told to stop; what it does with what is half done is up to its engine."
    )
    return Button(verb="cancel", label="Cancel statement", promise=promise, grave=True)
