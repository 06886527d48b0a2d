"""Spans as the SDK of OpenTelemetry has them; imported when a trace is sent, and not before."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation import set_span_in_context
from typing_extensions import override

from dbupkeep.followers.traces.spans import Span


def recorded(trace: int, found: Iterable[Span]) -> list[ReadableSpan]:
    """Our spans as the SDK's, with the identifiers that we gave them."""
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
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "dbupkeep"}
    made: Any = ids
    return TracerProvider(resource=Resource.create(named), id_generator=made, sampler=ALWAYS_ON, shutdown_on_exit=False)


def _context(trace: int, span: int) -> SpanContext:
    return SpanContext(trace_id=trace, span_id=span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6) * 1000
