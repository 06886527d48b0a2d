"""Counters that survive: each end counted once, whatever is pruned, restarted or done again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dbupkeep.clock import SystemClock
from dbupkeep.events import JobCompleted, JobDeferred, JobFailed, Recorded
from dbupkeep.followers.totals import TotalsFollower
from dbupkeep.jobs import Job
from dbupkeep.outbox import Post, state_of
from dbupkeep.results import reckon
from dbupkeep.testing.pair_kit import execution, orchestration
from dbupkeep.totals import MOST, SECONDS, STOP_LIMIT, Totals


def count(bench: Any, *, save: bool = True) -> Totals:
    at = Post(TotalsFollower(bench.app.reader), **bench.parts())
    while at.step(bench.app.reader.newest(), lambda: True):
        pass
    if save:
        at.save()
    state = at._state
    assert state is not None
    return Totals(state.memory)


def test_ends_are_counted_by_engine_operation_and_outcome(bench: Any) -> None:
    bench.says = {"analyze": "it broke", "reindex": "busy"}
    bench.run("nightly", "scripted:///a", "scripted:///b", operations=("vacuum", "analyze", "reindex"))
    totals = count(bench)
    assert {labels: value for labels, value in totals.counts("operations") if value} == {
        ("scripted", "vacuum", "completed"): 2,
        ("scripted", "analyze", "failed"): 2,
        ("scripted", "reindex", "deferred"): 2,
    }
    assert dict(totals.counts("runs")) == {("failed",): 1}
    assert dict(totals.counts("blocking")) == {}  # no engine looked at that
    assert dict(totals.counts("reclaimed"))["scripted", "vacuum"] == 2  # as scripted: a byte each
    seen = {labels: buckets[-1] for labels, buckets, _ in totals.histograms("durations")}
    assert seen["scripted", "vacuum"] == ("+Inf", 2)


def test_counters_go_on_after_pruning_and_over_starts_and_are_not_doubled_by_a_crash(bench: Any) -> None:
    bench.run()
    count(bench)
    bench.run()
    count(bench, save=False)  # killed before it was kept
    assert dict(count(bench).counts("runs")) == {("done",): 2}
    bench.app.ledger.prune(SystemClock().now() + timedelta(days=1))
    assert dict(count(bench).counts("runs")) == {("done",): 2}
    bench.run()
    assert dict(count(bench).counts("runs")) == {("done",): 3}
    state = state_of(bench.app.reader, "totals")
    assert state is not None
    assert state.after == bench.app.reader.newest()


def test_deferrals_from_the_third_in_a_row_are_counted_of_their_own(bench: Any) -> None:
    bench.says = {"vacuum": "busy"}
    for _ in range(4):
        bench.run()
    assert dict(count(bench).counts("deferred_often")) == {("scripted", "vacuum"): 2}


def test_the_last_success_is_that_of_a_target_and_a_job(bench: Any) -> None:
    run = bench.run("nightly", "scripted:///a", "scripted:///b")
    bench.says = {"vacuum": "it broke"}
    bench.run("nightly", "scripted:///a")
    known = dict(count(bench).states("last_success"))
    assert run.finished_at is not None
    assert set(known) == {("a", "nightly"), ("b", "nightly")}
    for at in known.values():
        assert abs(at - run.finished_at.timestamp()) < 0.01


def plan_document(bench: Any, job: Job, **changes: Any) -> dict[str, Any]:
    plan = dict(bench.app.reader.get("plan", job.plan_id))
    return {**plan, **changes}


def test_a_survey_says_how_far_the_wraparound_is_and_a_fleet_does_not_count_by_file(bench: Any) -> None:
    parent = bench.app.reader.children(bench.run().id)[1]
    facts = plan_document(bench, parent)["facts"]
    age = {**facts, "values": {"database_age": 1_000_000_000}}
    bench.app.lifecycle.keep("plan", parent.plan_id, plan_document(bench, parent, facts=age))
    totals = count(bench)
    assert dict(totals.states("wraparound")) == {("a",): STOP_LIMIT - 1_000_000_000}
    assert dict(totals.states("database_bytes")) == {("a",): 1 << 20}
    bench.app.lifecycle.keep("plan", parent.plan_id, plan_document(bench, parent, fleet=True))
    fresh = Totals({})
    follower = TotalsFollower(bench.app.reader)
    follower.fold(fresh.document, bench.app.reader.events(), SystemClock().now())
    assert dict(fresh.states("database_bytes")) == {}


def test_a_database_that_is_not_there_has_no_size(bench: Any) -> None:
    bench.run()
    assert dict(count(bench).states("database_bytes")) == {("a",): 1 << 20}
    parent = bench.app.reader.children(bench.run().id)[1]
    facts = {**plan_document(bench, parent)["facts"], "version": "", "bytes": 0}  # as `submit_unsurveyed` leaves them
    bench.app.lifecycle.keep("plan", parent.plan_id, plan_document(bench, parent, facts=facts))
    assert dict(count(bench).states("database_bytes")) == {}


def test_families_of_states_stay_small() -> None:
    totals, now = Totals({}), SystemClock().now()
    for number in range(MOST + 10):
        totals.state("database_bytes", (f"t{number}",), number, now + timedelta(seconds=number))
    kept = dict(totals.states("database_bytes"))
    assert len(kept) == MOST
    assert ("t0",) not in kept
    totals.state("database_bytes", (f"t{MOST}",), 7, now)  # older than what is known
    assert dict(totals.states("database_bytes"))[f"t{MOST}",] == MOST


@pytest.mark.parametrize(("seconds", "first"), [(0.0, 0.01), (0.01, 0.01), (0.4, 0.5), (1e9, None)])
def test_a_value_is_in_the_bucket_of_its_bound(seconds: float, first: float | None) -> None:
    totals = Totals({})
    totals.observe("durations", ("a", "b"), seconds)
    ((_, buckets, total),) = totals.histograms("durations")
    full = [float(bound) for bound, count in buckets if count and bound != "+Inf"]
    assert min(full, default=None) == first
    assert len(buckets) == len(SECONDS) + 1
    assert total == seconds


def test_what_an_end_says_in_numbers() -> None:
    job = execution(orchestration(target="postgresql://db1/shop"), 0, hold="public.t", target="postgresql://db1/shop")

    def of(event: Any) -> Any:
        at = SystemClock().now()
        recorded = Recorded(seq=1, at=at, job_id=job.id, parent_id=job.parent_id, correlation_id=job.id, event=event)
        return reckon(recorded, job)

    result = {
        "effective": "no", "seconds": 2.5, "before": {"bytes": 100}, "after": {"bytes": 130}, "overrun_seconds": 3,
        "blocking_seconds": 0.25, "values": {"lock_wait_seconds": 0.5},
    }  # fmt: skip
    end = of(JobCompleted(result=result))
    assert (end.engine, end.operation) == ("postgresql", "vacuum")
    assert (end.given_back, end.seconds, end.lock_wait, end.blocking, end.overrun) == (0, 2.5, 0.5, 0.25, 3)
    assert end.ineffective
    assert of(JobFailed(error={"kind": "permission"})).error_kind == "permission"
    assert of(JobDeferred(reason="busy", in_a_row=4)).in_a_row == 4
