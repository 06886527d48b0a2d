"""Progress as lines: for files, pipes and logs. A line when something begins or ends, and a sign of life in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from dbupkeep import events as happened
from dbupkeep.clock import Clock
from dbupkeep.documents import event_document, progress_of
from dbupkeep.events import Event, Recorded
from dbupkeep.jobs import Job, JobType
from dbupkeep.plans import Source
from dbupkeep.views import words
from dbupkeep.views.watching import Look, Watch

SIGN_OF_LIFE = 10.0
"""Seconds without a line, at most, while something runs."""


class View(Protocol):
    """What a run is shown on."""

    def show(self, look: Look) -> None:
        """Show a look."""
        ...

    def say(self, text: str) -> None:
        """Tell a message."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


class NoView:
    """Shows nothing; messages are told."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` writes a message."""
        self._say = say

    def show(self, look: Look) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Tell it."""
        self._say(text)

    def close(self) -> None:
        """Nothing."""


class EventView(NoView):
    """One JSON document a line for everything that happens."""

    def __init__(self, say: Callable[[str], None], write: Callable[[Mapping[str, Any]], None]) -> None:
        """`write` writes one document."""
        super().__init__(say)
        self._write = write

    def show(self, look: Look) -> None:  # type: ignore[explicit-override] # of 3.12; the backport is slow to import
        """Write what is new."""
        for recorded in look.news:
            self._write(event_document(recorded))


class PlainView(Struct, kw_only=True):
    """Lines on standard error."""

    write: Callable[[str], None]
    watch: Watch
    clock: Clock
    last: float = 0.0  # when the last line was written, of a clock that only goes on

    def show(self, look: Look) -> None:
        """Write a line for each thing that happened, or where the last one was long ago, how far it is."""
        news = (recorded for recorded in look.news if not _is_statement(recorded.event))
        lines = [line for recorded in news if (line := event_line(recorded, self.watch))]
        now = self.clock.monotonic()
        if not lines and look.running and now - self.last >= SIGN_OF_LIFE:
            lines = [self._alive(job) for job in look.running]
        for line in lines:
            self.write(line)
            self.last = now

    def say(self, text: str) -> None:
        """Write it."""
        self.write(text)

    def close(self) -> None:
        """Nothing."""

    def _alive(self, job: Job) -> str:
        progress = progress_of(job)
        since = words.duration(round((self.clock.now() - job.started_at).total_seconds())) if job.started_at else ""
        far = ""
        if progress.fraction is not None:
            far = ("about " if progress.source is Source.ESTIMATED else "") + words.share(progress.fraction)
        return f"{subject(job, self.watch)}: " + words.listed([far, words.name(progress.stage), f"for {since}"])


def _is_statement(event: Event) -> bool:
    """What is sent to the database stands in the log, word for word; who watches is told what it is for."""
    return isinstance(event, happened.StageReached) and event.stage == happened.STATEMENT


def event_line(recorded: Recorded, watch: Watch) -> str:
    """What happened, as a sentence; empty where it is not worth one."""
    job = watch.job(recorded.job_id)
    said = in_words(recorded.event)
    return f"{subject(job, watch)}: {said}" if job is not None and said else ""


def subject(job: Job, watch: Watch) -> str:
    """Which job is spoken of: `app.db vacuum`, `app.db reindex orders_idx`, or a parent's name."""
    if job.type != JobType.DATABASE_MAINTENANCE_OPERATION:
        return words.name(job.name)
    parts = (watch.place(job), str(job.config.get("operation", "")), str(job.config.get("object", "")))
    return " ".join(words.name(part) for part in parts if part)


def in_words(event: Event) -> str:
    """What happened, whatever it happened to; empty where it is not worth a line."""
    match event:
        case happened.JobStarted(attempt=attempt):
            said = "started" if attempt == 1 else f"started, attempt {attempt}"
        case happened.StageReached(stage=happened.NOTED):
            said = ""  # for an attempt's recovery, not for people
        case happened.StageReached(stage=stage, message=message):
            said = words.name(f"{stage}: {message}" if message else stage)
        case happened.JobCompleted(result=result):
            said = "done" + (f": {words.name(str(result['reason']))}" if result.get("reason") else "")
        case happened.JobFailed(error=error):
            hint = f" ({words.name(str(error['hint']))})" if error.get("hint") else ""
            said = f"failed: {words.name(str(error.get('message', '')))}{hint}"
        case happened.AttemptLost(attempt=attempt) | happened.JobReturned(attempt=attempt):
            said = _with_reason(f"attempt {attempt} {_SAID[event.name]}", event)
        case happened.LimitsChanged():
            said = _with_reason(f"limits changed to {words.limits(event.at_a_time, event.until)}", event)
        case happened.ParentSettled(outcome=outcome):
            said = outcome.replace("_", " ")
        case _:
            said = _with_reason(_SAID.get(event.name, event.name.replace("_", " ")), event)
    return said


_SAID = {
    "job_submitted": "", "job_skipped": "skipped", "job_deferred": "deferred", "job_cancelled": "cancelled",
    "attempt_lost": "lost", "job_returned": "given back", "cancel_requested": "cancel requested",
    "stop_requested": "ends after what runs", "deferral_repeated": "",
    "run_paused": "paused", "run_resumed": "resumed", "job_retried": "another attempt was asked for",
    "parent_reopened": "opened again",
}  # fmt: skip


def _with_reason(said: str, event: Event) -> str:
    by, reason = (words.name(str(getattr(event, name, ""))) for name in ("by", "reason"))
    return (said + (f" by {by}" if by else "") + (f": {reason}" if reason else "")) if said else ""
