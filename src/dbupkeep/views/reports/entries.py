"""One operation as a report tells of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from dbupkeep.documents import Document, job_document
from dbupkeep.jobs import Job, JobStatus
from dbupkeep.results import gain_of

WAITED, SLEPT = "lock_wait_seconds", "throttled_seconds"
"""Where an engine says, among the values of a result, for how long an operation waited for locks, or slept for others."""


class Entry(Struct, frozen=True, kw_only=True):
    """An operation of a run, with what came of it."""

    job: Job
    database: str  # its name in the run

    @property
    def operation(self) -> str:
        """The operation with its object; of a job of another kind its name."""
        named = [str(self.job.config[key]) for key in ("operation", "object") if self.job.config.get(key)]
        return " ".join(named) or self.job.name

    @property
    def why(self) -> str:
        """Why it ended as it did, in a sentence or two."""
        error, result = self.job.error or {}, self.job.result or {}
        return str(error.get("message") or self.job.reason or result.get("reason") or "")

    @property
    def hint(self) -> str:
        """What to do about it."""
        return str((self.job.error or {}).get("hint") or (self.job.result or {}).get("hint") or "")

    @property
    def in_a_row(self) -> int:
        """How many runs in a row, this one included, put it off."""
        return int((self.job.result or {}).get("in_a_row", 1)) if self.job.status is JobStatus.DEFERRED else 0

    @property
    def often(self) -> bool:
        """Whether it was put off so often that somebody must look."""
        return bool(self.job.often)

    @property
    def gain(self) -> int:
        """Bytes given back; below 0 where the database grew."""
        return gain_of(self.job.result) if self.job.status is JobStatus.COMPLETED else 0

    @property
    def sizes(self) -> tuple[int | None, int | None]:
        """Bytes before and after."""
        result = self.job.result or {}
        return (result.get("before") or {}).get("bytes"), (result.get("after") or {}).get("bytes")

    @property
    def seconds(self) -> float | None:
        """How long its last attempt took."""
        began, ended = self.job.started_at, self.job.finished_at
        return (ended - began).total_seconds() if began and ended else None

    @property
    def ineffective(self) -> bool:
        """Whether it was done, and was of no use."""
        return bool(self.job.ineffective)

    @property
    def said(self) -> Sequence[str]:
        """What the engine said."""
        result = self.job.result or {}
        notices = [str(notice.get("message", "")) for notice in result.get("notices", ())]
        return [*map(str, result.get("messages", ())), *filter(None, notices)]

    def value(self, name: str) -> float:
        """A figure of its result; 0 where there is none."""
        found = ((self.job.result or {}).get("values") or {}).get(name)
        return float(found) if isinstance(found, (int, float)) else 0.0

    def document(self) -> Document:
        """As JSON: the job's own document, with what a report adds."""
        added: dict[str, Any] = {"database": self.database, "given_back": self.gain, "seconds": self.seconds}
        return {**job_document(self.job), **added, "why": self.why or None, "in_a_row": self.in_a_row or None}


class Reason(Struct, frozen=True, kw_only=True):
    """One reason that several things have in common."""

    text: str
    names: tuple[str, ...]  # the first ones
    count: int

    def document(self) -> Document:
        """As JSON."""
        return {"reason": self.text, "count": self.count, "names": list(self.names)}


NAMED = 20
"""Names that are kept for each reason."""


def reasons(said: Iterable[tuple[str, str]]) -> tuple[Reason, ...]:
    """Pairs of reason and name by their reason, the most frequent first."""
    by_text: dict[str, list[str]] = {}
    for text, name in said:
        by_text.setdefault(text, []).append(name)
    found = (Reason(text=text, names=tuple(names[:NAMED]), count=len(names)) for text, names in by_text.items())
    return tuple(sorted(found, key=lambda reason: -reason.count))


def when(entry: Entry) -> datetime:
    """When it was last heard of."""
    return entry.job.finished_at or entry.job.started_at or entry.job.created_at
