"""A run that has ended as spans: the run is the root, each attempt of each operation a span below it. Pure.

Identifiers are made of the run's and its jobs' own, so a run that is told twice is the same trace both times.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

from msgspec import Struct, field
from msgspec.structs import replace

from dbupkeep.events import NOTED, AttemptLost, JobReturned, JobStarted, Recorded, StageReached
from dbupkeep.jobs import Job, JobStatus, Phase
from dbupkeep.results import ENDINGS, engine_of, reckon

Attributes = Mapping[str, str | int | float | bool]

MOST_STAGES = 100
"""Stages told of one attempt."""


class SpanEvent(Struct, frozen=True, kw_only=True):
    """A moment within a span."""

    name: str
    at: datetime
    attributes: Attributes = field(default_factory=dict)


class Span(Struct, frozen=True, kw_only=True):
    """What took a time."""

    name: str
    id: int  # 64 bits
    parent: int  # 0: the root
    begins: datetime
    ends: datetime
    failed: str = ""  # why, if it did
    works: bool = False  # on a database, rather than watching others
    attributes: Attributes = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    linked: int = 0  # the attempt before


def trace_id(run_id: str) -> int:
    """128 bits, of the run's own identifier."""
    return UUID(run_id).int


def spans_of(run: Job, jobs: Iterable[Job], events: Sequence[Recorded]) -> Iterator[Span]:
    """The spans of a run: `jobs` are all below it, `events` all of it, in order. Times of what never ended are its own."""
    mine: dict[str, list[Recorded]] = {}
    for recorded in events:
        mine.setdefault(recorded.job_id, []).append(recorded)
    yield _watching(run, 0)
    for job in jobs:
        if job.phase is Phase.ORCHESTRATION:
            yield _watching(job, _id(job.parent_id))
        else:
            yield from _attempts(job, mine.get(job.id, []))


def _watching(job: Job, parent: int) -> Span:
    begins = job.started_at or job.created_at
    return Span(
        name=f"{job.type} {job.name}",
        id=_id(job.id),
        parent=parent,
        begins=begins,
        ends=max(begins, job.finished_at or begins),
        failed=job.outcome if job.status is JobStatus.FAILED else "",
        attributes={
            "dbupkeep.job.id": job.id,
            "dbupkeep.job.type": str(job.type),
            "dbupkeep.outcome": job.outcome,
            **({"dbupkeep.target": job.target} if job.target else {}),
        },
    )


def _attempts(job: Job, events: Sequence[Recorded]) -> Iterator[Span]:
    """A span for each attempt, linked to the one before; what was skipped or put off without one is a moment."""
    span: Span | None = None
    before = 0
    for recorded in events:
        event = recorded.event
        if isinstance(event, JobStarted):
            span = _begun(job, recorded, event.attempt, before)
        elif isinstance(event, StageReached) and span and len(span.events) < MOST_STAGES and event.stage != NOTED:
            stage = SpanEvent(name=event.stage, at=recorded.at, attributes=_texts({"message": event.message}))
            span = replace(span, events=(*span.events, stage))
        elif isinstance(event, (AttemptLost, JobReturned)) and span:
            yield replace(
                span, ends=recorded.at, failed=event.reason, attributes={**span.attributes, "error.type": "lost"}
            )
            before, span = span.id, None
        elif event.name in ENDINGS:
            yield _ended(span or _begun(job, recorded, job.attempt, before), job, recorded)
            before, span = (span.id if span else before), None


def _begun(job: Job, recorded: Recorded, attempt: int, before: int) -> Span:
    operation, object = str(job.config.get("operation", "")).upper(), str(job.config.get("object", ""))
    summary = " ".join(part for part in (operation, object) if part)
    return Span(
        name=summary or job.name,
        id=_id(f"{job.id}/{recorded.seq}"),  # an end without an attempt has the number of the one before
        parent=_id(job.parent_id),
        begins=recorded.at,
        ends=recorded.at,
        works=bool(operation),
        linked=before,
        attributes={
            "dbupkeep.job.id": job.id,
            "dbupkeep.attempt": attempt,
            **(_database(job, operation, object, summary) if operation else {}),
        },
    )


def _database(job: Job, operation: str, object: str, summary: str) -> Attributes:
    """By the semantic conventions of databases."""
    place = urlsplit(job.target)
    return _texts(
        {
            "db.system.name": engine_of(job.target),
            "db.namespace": unquote(place.path.rpartition("/")[2]),
            "db.operation.name": operation,
            "db.collection.name": object if operation != "REINDEX" else "",
            "db.query.summary": summary,
            "server.address": place.hostname or "",
            **({"server.port": place.port} if place.port else {}),
        }
    )


def _ended(span: Span, job: Job, recorded: Recorded) -> Span:
    end = reckon(recorded, job)
    attributes = {
        "dbupkeep.status": end.status.value,
        "dbupkeep.effective": end.effective,
        "dbupkeep.reason": str(getattr(recorded.event, "reason", "")),
        "error.type": end.error_kind,
    }
    numbers = {"dbupkeep.given_back_bytes": end.given_back, "dbupkeep.blocking_seconds": end.blocking}
    return replace(
        span,
        ends=max(span.begins, recorded.at),
        failed=str(getattr(recorded.event, "error", {}).get("message", "")) if end.status is JobStatus.FAILED else "",
        attributes={
            **span.attributes,
            **_texts(attributes),
            **{name: value for name, value in numbers.items() if value},
        },
        events=(*span.events, *_lock_wait(span, end.lock_wait)),
    )


def _lock_wait(span: Span, seconds: float | None) -> Iterator[SpanEvent]:
    """A wait for locks, told where it may have ended at the earliest: when in the work it was nobody keeps."""
    if seconds:
        yield SpanEvent(
            name="lock wait",
            at=span.begins + timedelta(seconds=seconds),
            attributes={"dbupkeep.lock_wait_seconds": seconds},
        )


def _id(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") or 1


def _texts(values: Mapping[str, Any]) -> Attributes:
    """Without what is empty."""
    return {name: value for name, value in values.items() if value not in ("", None)}
