"""What is said of a single job: its mark, its state, and why it ended so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from dbupkeep.jobs import LEFT_OUT, Job, JobStatus, JobType, Phase
from dbupkeep.views import marks, words
from dbupkeep.views.terminal import Terminal, wrap

ChildrenOf = Callable[[str], Sequence[Job]]
"""The direct children of a parent by its id, in order."""

_COLORS: Mapping[JobStatus, str] = {
    JobStatus.PENDING: "dim",
    JobStatus.RUNNING: "cyan",
    JobStatus.COMPLETED: "green",
    JobStatus.FAILED: "red",
    JobStatus.CANCELLED: "yellow",
    JobStatus.SKIPPED: "dim",
    JobStatus.DEFERRED: "yellow",
}

MARKS: Mapping[JobStatus, tuple[str, str]] = {status: (mark, _COLORS[status]) for status, mark in marks.MARKS.items()}
"""Each with its style on a terminal."""

SHORT = 13
"""Characters of a run's id that are shown: its time of birth, to the millisecond."""


def short(job: Job) -> str:
    """As much of a run's id as is needed to name it; all of another job's."""
    return job.id[:SHORT] if job.is_root else job.id


def operation_name(job: Job) -> str:
    """The operation and its object; of any other job its name."""
    if job.type != JobType.DATABASE_MAINTENANCE_OPERATION:
        return words.name(job.name)
    return " ".join(words.name(str(job.config[key])) for key in ("operation", "object") if job.config.get(key))


def aside(job: Job, terminal: Terminal, indent: int) -> Iterator[str]:
    """Why it ended so, and what to do about it."""
    error, result = job.error or {}, job.result or {}
    if error:
        yield from text_lines(str(error.get("message", "")), terminal, indent, "red")
        yield from text_lines(str(error.get("hint", "")), terminal, indent, "dim", "hint: ")
    elif job.reason:
        yield from text_lines(job.reason, terminal, indent, "dim")
        yield from text_lines(str(result.get("hint", "")), terminal, indent, "dim", "hint: ")
    elif result.get("reason"):
        yield from text_lines(str(result["reason"]), terminal, indent, "dim")
    if job.attempt > 1:
        yield from text_lines(f"attempt {job.attempt}", terminal, indent, "dim")
    stall = result.get("stall_seconds")
    if stall and job.status is JobStatus.COMPLETED and job.config.get("operation") == "vacuum":
        yield from text_lines(f"writers were kept out for {words.duration(stall)} at most", terminal, indent, "dim")


def text_lines(text: str, terminal: Terminal, indent: int, style: str, before: str = "") -> Iterator[str]:
    """A text behind blanks, as wide as the terminal; nothing where it is empty."""
    if text:
        for line in wrap(before + words.name(text), terminal.width, indent=indent):
            yield terminal.paint(line, style)


def state(job: Job) -> str:
    """The word for people: a parent's outcome, else the status."""
    if job.cancel_requested and not job.status.ended:
        return "cancelling"
    if job.stop_requested and not job.status.ended:
        return "stopping"
    if job.paused and not job.status.ended:
        return "paused"
    if job.left_out:
        return LEFT_OUT
    if waits(job):
        return "waiting"
    return job.outcome.replace("_", " ") if job.outcome else job.status.value


def waits(job: Job) -> bool:
    """Whether a parent is under way and nothing right below it runs: it is open, but nobody is at work on it."""
    return job.phase is Phase.ORCHESTRATION and job.status is JobStatus.RUNNING and not job.stats.running
