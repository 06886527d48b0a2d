"""Runs as traces: what the SDK exports, and what a collector gets over HTTP."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from typing import Any
from uuid import UUID

import pytest

from dbupkeep.errors import Lost
from dbupkeep.ledger import JobQuery
from dbupkeep.outbox import Post, state_of
from dbupkeep.plans import PlanItem

pytest.importorskip("opentelemetry.sdk", reason="wants the extra otel")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from dbupkeep.followers.traces import TracesFollower, is_wanted


def deliver(bench: Any, follower: TracesFollower) -> None:
    at = Post(follower, **bench.parts())
    while at.step(bench.app.reader.newest(), lambda: True):
        pass


class Traced:
    """What was exported of the runs of a test."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench
        self.exporter = InMemorySpanExporter()
        self.follower = TracesFollower(bench.app.reader, self.exporter)
        deliver(bench, self.follower)

    def of(self, run: Any) -> dict[str, ReadableSpan]:
        deliver(self.bench, self.follower)
        found = [span for span in self.exporter.get_finished_spans() if span.context.trace_id == UUID(run.id).int]
        assert len({span.context.span_id for span in found}) == len(found)
        return {span.name: span for span in found}


@pytest.fixture
def traced(bench: Any) -> Traced:
    return Traced(bench)


def test_a_run_is_a_trace_with_a_span_for_each_job(bench: Any, traced: Traced) -> None:
    bench.says = {"analyze": "it broke"}
    run = bench.run("nightly", "scripted:///srv/a", operations=("vacuum", "analyze"))
    found = traced.of(run)
    root = found["maintenance_run nightly"]
    parent = found["database_maintenance_parent a"]
    vacuum, analyze = found["VACUUM"], found["ANALYZE"]
    assert root.parent is None
    assert parent.parent is not None
    assert parent.parent.span_id == root.context.span_id
    for operation in (vacuum, analyze):
        assert operation.parent is not None
        assert operation.parent.span_id == parent.context.span_id
        assert operation.kind is SpanKind.CLIENT
        assert root.start_time <= operation.start_time <= operation.end_time <= root.end_time  # type: ignore[operator]
    assert root.status.status_code is StatusCode.ERROR
    assert vacuum.status.status_code is StatusCode.UNSET
    assert analyze.status.description == "it broke, on a" or "it broke" in (analyze.status.description or "")
    assert vacuum.attributes is not None
    assert vacuum.attributes["db.system.name"] == "scripted"
    assert vacuum.attributes["db.namespace"] == "a"
    assert vacuum.attributes["db.operation.name"] == "VACUUM"
    assert vacuum.attributes["db.query.summary"] == "VACUUM"
    assert vacuum.attributes["dbupkeep.given_back_bytes"] == 1
    assert (analyze.attributes or {})["error.type"] == "engine"
    assert root.resource.attributes["service.name"] == "dbupkeep"


def test_a_repeat_is_the_same_trace(bench: Any, traced: Traced) -> None:
    run = bench.run()
    first = traced.of(run)
    again = InMemorySpanExporter()
    follower = TracesFollower(bench.app.reader, again)
    state = state_of(bench.app.reader, "traces")
    assert state is not None
    message = follower.fold({}, bench.app.reader.events(), bench.clock.now())[-1]
    follower.deliver(message)
    assert {span.context.span_id for span in again.get_finished_spans()} == {
        span.context.span_id for span in first.values()
    }
    assert {span.context.trace_id for span in again.get_finished_spans()} == {UUID(run.id).int}


def test_stages_are_events_and_another_attempt_is_linked_to_the_one_before(bench: Any, traced: Traced) -> None:
    attempts = []

    def act(session: Any, item: PlanItem, report: Any) -> None:
        attempts.append(item.operation)
        report.stage("copying", "fast")
        if len(attempts) == 1:
            raise Lost("the connection went away")

    bench.engine.act = act
    run = bench.run()
    deliver(bench, traced.follower)
    tries = sorted(
        (span for span in traced.exporter.get_finished_spans() if span.name == "VACUUM"),
        key=lambda span: span.start_time or 0,
    )
    assert len(tries) == 2
    lost, done = tries
    assert run.outcome == "done"
    assert lost.status.status_code is StatusCode.ERROR
    assert [link.context.span_id for link in done.links] == [lost.context.span_id]
    assert [event.name for event in done.events] == ["copying"]
    assert (done.attributes or {})["dbupkeep.attempt"] == 2


def test_an_end_after_a_lost_attempt_has_a_span_of_its_own(bench: Any, traced: Traced) -> None:
    def act(session: Any, item: PlanItem, report: Any) -> None:
        bench.app.lifecycle.cancel(bench.app.reader.jobs(JobQuery(roots=True)).jobs[0].id)
        raise Lost("the connection went away")

    bench.engine.act = act
    run = bench.run()
    traced.of(run)  # no identifier twice
    tries = [span for span in traced.exporter.get_finished_spans() if span.name == "VACUUM"]
    for span in tries:
        assert span.context.span_id not in [link.context.span_id for link in span.links]


class Down(SpanExporter):
    """A collector that takes nothing."""

    def export(self, spans: Any) -> SpanExportResult:  # type: ignore[explicit-override]
        return SpanExportResult.FAILURE


def test_what_the_collector_does_not_take_is_sent_again(bench: Any) -> None:
    follower = TracesFollower(bench.app.reader, Down())
    deliver(bench, follower)
    bench.run()
    deliver(bench, follower)
    state = state_of(bench.app.reader, "traces")
    assert state is not None
    assert len(state.outbox) == 1
    assert "did not take" in state.reason


@pytest.fixture
def collector(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "upkeep-of-shop")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop")
    return receiver


def test_the_variables_say_where_traces_go(bench: Any, collector: Any) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    assert is_wanted()
    (follower,) = [each for each in bench.app.followers(_no_config()) if each.name == "traces"]
    deliver(bench, follower)
    run = bench.run()
    deliver(bench, follower)
    (got,) = collector.received
    assert got.path == "/v1/traces"
    assert got.headers["x-tenant"] == "shop"
    body = gzip.decompress(got.body) if got.headers.get("content-encoding") == "gzip" else got.body
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert attributes["service.name"] == "upkeep-of-shop"
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    assert {span.trace_id for span in spans} == {UUID(run.id).bytes}
    assert "VACUUM" in {span.name for span in spans}
    root = hashlib.sha256(run.id.encode()).digest()[:8]
    assert [span.name for span in spans if span.span_id == root] == ["maintenance_run nightly"]


def _no_config() -> Any:
    from dbupkeep.config import Config

    return Config()


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_nothing_is_sent_unless_somebody_says_where(environ: dict[str, str], wanted: bool) -> None:
    assert is_wanted(environ) is wanted


def test_without_the_sdk_there_is_no_follower_of_traces() -> None:
    code = """
import sys
for name in ("opentelemetry.sdk", "opentelemetry.exporter"):
    sys.modules[name] = None
from dbupkeep.followers.traces import is_wanted
assert not is_wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
