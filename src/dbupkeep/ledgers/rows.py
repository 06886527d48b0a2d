"""Jobs, events and measurements as rows, and back; the same for every dialect.

Moments go in as RFC 3339 text and may come back as text or as `datetime`, documents as JSON text or as parsed
values: whatever the driver gives.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dbupkeep import events
from dbupkeep.codec import from_json, to_json
from dbupkeep.definitions import ErrorPolicy
from dbupkeep.estimates import Measurement
from dbupkeep.jobs import ChildStats, Job, JobStatus, Phase
from dbupkeep.sql import Row

NO_ERRORS = ErrorPolicy()
NO_STATS = ChildStats()


def job_row(job: Job, waits_left: int = 0) -> dict[str, Any]:
    """All columns of a job."""
    return {
        "id": job.id,
        "parent_id": job.parent_id,
        "correlation_id": job.correlation_id,
        "type": str(job.type),
        "phase": job.phase.value,
        "name": storable(job.name),
        "config": dump(job.config),
        "target": job.target,
        "hold": job.hold,
        "lane": job.lane,
        "plan_id": job.plan_id,
        "place": job.place,
        "weight": job.weight,
        "errors": "{}" if job.errors == NO_ERRORS else dump(to_json(job.errors)),
        "waits_left": waits_left,
        "estimate": dump_or_none(job.estimate),
        "created_at": moment_text(job.created_at),
        **state_row(job),
        **counts_row(job.id, job.stats),
    }


def state_row(job: Job) -> dict[str, Any]:
    """The columns that a job's life changes."""
    return {
        "id": job.id,
        "status": job.status.value,
        "reason": storable(job.reason),
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "cancel_requested": int(job.cancel_requested),
        "stop_requested": int(job.stop_requested),
        "paused": int(job.paused),
        "at_a_time": job.at_a_time,
        "until": moment_text(job.until),
        "outcome": job.outcome,
        "progress": dump_or_none(job.progress),
        "result": dump_or_none(job.result),
        "error": dump_or_none(job.error),
        "started_at": moment_text(job.started_at),
        "finished_at": moment_text(job.finished_at),
    }


def counts_row(job_id: str, stats: ChildStats) -> dict[str, Any]:
    """The columns of a parent's counts."""
    return {
        "id": job_id,
        "n_pending": stats.pending,
        "n_running": stats.running,
        "n_completed": stats.completed,
        "n_failed": stats.failed,
        "n_cancelled": stats.cancelled,
        "n_skipped": stats.skipped,
        "n_deferred": stats.deferred,
        "n_partial": stats.partial,
        "n_ineffective": stats.ineffective,
        "n_often": stats.often,
        "weight_total": stats.weight_total,
        "weight_ended": stats.weight_ended,
    }


def job_of(row: Row) -> Job:
    """A job of its row."""
    phase = Phase(row["phase"])
    return Job(
        id=row["id"],
        parent_id=row["parent_id"],
        correlation_id=row["correlation_id"],
        type=row["type"],
        phase=phase,
        name=row["name"],
        created_at=_moment(row["created_at"]),
        status=JobStatus(row["status"]),
        reason=row["reason"],
        config=load(row["config"]),
        target=row["target"],
        hold=row["hold"],
        lane=row["lane"],
        plan_id=row["plan_id"],
        place=row["place"],
        weight=row["weight"],
        errors=NO_ERRORS if row["errors"] in ("{}", {}) else from_json(ErrorPolicy, load(row["errors"])),
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        cancel_requested=bool(row["cancel_requested"]),
        stop_requested=bool(row["stop_requested"]),
        paused=bool(row["paused"]),
        at_a_time=row["at_a_time"],
        until=moment_or_none(row["until"]),
        released=bool(row["released"]),
        outcome=row["outcome"],
        stats=_stats(row) if phase is Phase.ORCHESTRATION else NO_STATS,
        progress=load(row["progress"]),
        estimate=load(row["estimate"]),
        result=load(row["result"]),
        error=load(row["error"]),
        started_at=moment_or_none(row["started_at"]),
        finished_at=moment_or_none(row["finished_at"]),
    )


def _stats(row: Row) -> ChildStats:
    return ChildStats(
        pending=row["n_pending"],
        running=row["n_running"],
        completed=row["n_completed"],
        failed=row["n_failed"],
        cancelled=row["n_cancelled"],
        skipped=row["n_skipped"],
        deferred=row["n_deferred"],
        partial=row["n_partial"],
        ineffective=row["n_ineffective"],
        often=row["n_often"],
        weight_total=row["weight_total"],
        weight_ended=row["weight_ended"],
    )


def event_row(job: Job, event: events.Event, at: datetime) -> dict[str, Any]:
    """All columns of an event."""
    return {
        "at": moment_text(at),
        "event": event.name,
        "job_id": job.id,
        "parent_id": job.parent_id,
        "correlation_id": job.correlation_id,
        "data": dump(event.data()),
    }


def recorded_of(row: Row) -> events.Recorded:
    """An event of its row."""
    return events.Recorded(
        seq=row["seq"],
        at=_moment(row["at"]),
        job_id=row["job_id"],
        parent_id=row["parent_id"],
        correlation_id=row["correlation_id"],
        event=events.read(row["event"], load(row["data"])),
    )


def measurement_row(sample: Measurement) -> dict[str, Any]:
    """All columns of a measurement."""
    return {
        "at": moment_text(sample.at),
        "engine": sample.engine,
        "target": sample.target,
        "object": sample.object,
        "operation": sample.operation.value,
        "doc": dump(to_json(sample)),
    }


def measurement_of(row: Row) -> Measurement:
    """A measurement of its row."""
    return from_json(Measurement, load(row["doc"]))


_ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def dump(value: Any) -> str:  # noqa: ANN401 - JSON
    """Write JSON; a number that JSON does not have is nothing."""
    try:
        text = _ENCODE(value)
    except ValueError:
        text = dump(_finite(value))
    return storable(text)


def storable(text: str) -> str:
    """The text without what a store cannot hold: bytes that are no character, as in the names of some files."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode(errors="replace").decode().replace("\0", "?")


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None


def dump_or_none(value: Mapping[str, Any] | None) -> str | None:
    """Write JSON, or nothing."""
    return None if value is None else dump(value)


def load(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Read JSON text; what the driver has parsed already stays as it is."""
    return json.loads(value) if isinstance(value, str) else value


def moment_text(moment: datetime | None) -> str | None:
    """A moment in UTC, so written that text order is time order."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds")


def moment_or_none(value: str | datetime | None) -> datetime | None:
    """A moment, or none."""
    return None if value is None else _moment(value)


def _moment(value: str | datetime) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
