"""Runs that ended as OpenTelemetry traces; the extra `otel` brings the SDK, and `OTEL_*` variables say where they go."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation import set_span_in_context
from typing_extensions import override

from dbupkeep import spans
from dbupkeep.events import ParentSettled, Recorded
from dbupkeep.follower import Memory, Message, Undelivered
from dbupkeep.jobs import Job
from dbupkeep.ledger import JobQuery, Reader

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
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
        from opentelemetry.sdk.trace.export import SpanExportResult

        run = self._reader.job(str(message.data["run_id"]))
        if run is None:  # pruned meanwhile
            return
        exporter = self._exporter = self._exporter or _exporter()
        recorded = _recorded(spans.trace_id(run.id), spans.spans_of(run, self._below(run), self._events(run)))
        for start in range(0, len(recorded), BATCH):
            if exporter.export(recorded[start : start + BATCH]) is not SpanExportResult.SUCCESS:
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
    from importlib.util import find_spec

    return all(_there(find_spec, module) for module in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"))


def _there(find: Any, module: str) -> bool:  # noqa: ANN401 - `find_spec`
    try:
        return find(module) is not None
    except ModuleNotFoundError:  # one of the packages that it is in is not there
        return False


def _exporter() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _recorded(trace: int, found: Iterator[spans.Span]) -> list[ReadableSpan]:
    """Our spans as the SDK's, with the identifiers that we gave them."""
    from opentelemetry.sdk.trace import SpanProcessor

    ended: list[ReadableSpan] = []

    class Keep(SpanProcessor):
        @override
        def on_end(self, span: ReadableSpan) -> None:
            ended.append(span)

    ids = _Ids(trace)
    provider = _provider(ids)
    provider.add_span_processor(Keep())
    tracer = provider.get_tracer("dbupkeep")
    for each in found:
        ids.span = each.id
        parent = set_span_in_context(NonRecordingSpan(_context(trace, each.parent))) if each.parent else None
        span = tracer.start_span(
            each.name,
            context=parent,
            kind=SpanKind.CLIENT if each.works else SpanKind.INTERNAL,
            attributes=dict(each.attributes),
            links=[Link(_context(trace, each.linked))] if each.linked else (),
            start_time=_nanoseconds(each.begins),
        )
        for event in each.events:
            span.add_event(event.name, dict(event.attributes), timestamp=_nanoseconds(event.at))
        if each.failed:
            span.set_status(Status(StatusCode.ERROR, each.failed))
        span.end(end_time=_nanoseconds(each.ends))
    return ended


class _Ids:
    """Gives the identifiers that were chosen; fulfils the SDK's `IdGenerator`."""

    def __init__(self, trace: int) -> None:
        self.trace, self.span = trace, 0

    def generate_span_id(self) -> int:
        return self.span

    def generate_trace_id(self) -> int:
        return self.trace

    def is_trace_id_random(self) -> bool:
        return False


def _provider(ids: _Ids) -> TracerProvider:
    """With the resource that the variables say, and every span kept: runs are few."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "dbupkeep"}
    made: Any = ids
    return TracerProvider(resource=Resource.create(named), id_generator=made, sampler=ALWAYS_ON, shutdown_on_exit=False)


def _context(trace: int, span: int) -> SpanContext:
    return SpanContext(trace_id=trace, span_id=span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6) * 1000
