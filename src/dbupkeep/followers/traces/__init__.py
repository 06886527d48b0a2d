"""Runs that ended as OpenTelemetry traces; the extra `otel` brings the SDK, and `OTEL_*` variables say where they go."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dbupkeep.events import ParentSettled, Recorded
from dbupkeep.follower import Memory, Message, Undelivered
from dbupkeep.jobs import Job
from dbupkeep.ledger import JobQuery, Reader

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

PLACES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Variables of which one must be set for anything to be sent."""

BATCH = 500
"""Spans sent at a time."""

PAGE = 1000


class TracesFollower:
    """Fulfils `dbupkeep.follower.Follower`."""

    name = "traces"
    from_start = False

    def __init__(self, reader: Reader, exporter: SpanExporter | None = None) -> None:
        """Without an `exporter`, one over OTLP and HTTP is made when it is first needed, as the variables say."""
        self._reader = reader
        self._exporter = exporter

    def fold(self, memory: Memory, events: Sequence[Recorded], now: datetime) -> Sequence[Message]:
        """A trace for each run that ended."""
        return [
            Message(id=f"trace_{recorded.job_id}_{recorded.seq}", kind="trace", at=recorded.at, data={"run_id": recorded.job_id})
            for recorded in events
            if isinstance(recorded.event, ParentSettled) and recorded.job_id == recorded.correlation_id
        ]  # fmt: skip

    def deliver(self, message: Message) -> None:
        """Send a run's spans. Raises `Undelivered`."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import SpanExportResult

        from dbupkeep.followers.traces.export import recorded
        from dbupkeep.followers.traces.spans import spans_of, trace_id

        run = self._reader.job(str(message.data["run_id"]))
        if run is None:  # pruned meanwhile
            return
        exporter = self._exporter = self._exporter or OTLPSpanExporter()
        spans = recorded(trace_id(run.id), spans_of(run, self._below(run), self._events(run)))
        for start in range(0, len(spans), BATCH):
            if exporter.export(spans[start : start + BATCH]) is not SpanExportResult.SUCCESS:
                raise Undelivered("the collector did not take the spans")

    def _below(self, run: Job) -> Iterator[Job]:
        query, cursor = JobQuery(correlation_id=run.id, newest_first=False), ""
        while True:
            page = self._reader.jobs(query, cursor=cursor, limit=PAGE)
            yield from (job for job in page.jobs if job.id != run.id)
            cursor = page.cursor
            if not cursor:
                return

    def _events(self, run: Job) -> list[Recorded]:
        found: list[Recorded] = []
        while more := self._reader.events(found[-1].seq if found else 0, correlation_id=run.id, limit=PAGE):
            found.extend(more)
        return found


def is_wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the variables say that traces are to be sent, and the SDK is there."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return False
    if not any(environ.get(place) for place in PLACES):
        return False
    return all(_is_there(module) for module in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"))


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # one of the packages that it is in is not there
        return False
