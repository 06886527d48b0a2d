"""Decisions of the SQLite engine: pure, from facts that are written here."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import structs

from dbupkeep.definitions import Policy
from dbupkeep.engine import Scope
from dbupkeep.engines import sqlite as engine
from dbupkeep.errors import UsageError
from dbupkeep.estimates import History, Measurement
from dbupkeep.facts import DatabaseFacts, ObjectFacts
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, Proposal, Source
from dbupkeep.testing.engine_suite import item_of

NOW = datetime(2026, 1, 31, tzinfo=UTC)
MIB = 1024 * 1024


def facts(*, pages: int = 1000, free: int = 0, page_size: int = 4096, **more: Any) -> DatabaseFacts:
    values: dict[str, Any] = {
        "pages": pages, "free_pages": free, "page_size": page_size, "free_bytes": free * page_size,
        "free_share": free / pages, "live_bytes": (pages - free) * page_size, "auto_vacuum": 0, "journal_mode": "wal",
        "tables": 2, "indexes": 3, "rowid_tables": "[]", "rowid_dependents": "[]", "stale_tables": "[]",
        "unanalyzed": 0, "outgrown": 0, "samples": 0, "lacking": "", "openers": 0, "openers_named": "",
        "folder": "/data", "folder_free": 10**12, "temp": "/temp", "temp_free": 10**12, "one_volume": False,
    }  # fmt: skip
    return DatabaseFacts(
        target="sqlite:///app.db", engine="sqlite", version="3", surveyed_at=NOW, bytes=pages * page_size,
        identity={"device": 1, "inode": 2, "application_id": 0}, values=values | more,
        objects=tuple(ObjectFacts(name=name, kind="index", table="t") for name in ("i", "j", "k")),
    )  # fmt: skip


def decide(
    found: DatabaseFacts,
    operation: Operation = Operation.VACUUM,
    policy: Policy | None = None,
    *past: Measurement,
    fleet: bool = False,
) -> list[Proposal]:
    scope = Scope(operations=(operation,), now=NOW, fleet=fleet)
    return list(engine.assess(found, policy or Policy(), History(own=past), scope))


def run_of(operation: Operation, *, days_ago: float = 1, **more: Any) -> Measurement:
    fields: dict[str, Any] = {
        "at": NOW - timedelta(days=days_ago), "engine": "sqlite", "target": "", "object": "", "operation": operation,
        "method": "", "seconds": 1.0, "work_bytes": 100 * MIB, "bytes_before": 100, "bytes_after": 50,
    }  # fmt: skip
    return Measurement(**(fields | more))


@pytest.mark.parametrize(
    ("pages", "free", "page_size", "fleet", "due"),
    [
        (1024, 256, 4096, False, True),  # 25 % and 1 MiB exactly
        (1024, 255, 4096, False, False),  # a page short of either
        (1028, 256, 4096, False, False),  # 1 MiB, but 24.9 %
        (800, 255, 4096, False, False),  # 32 %, but a page short of 1 MiB
        (64, 16, 4096, True, True),  # a fleet: 25 % and 16 pages
        (60, 15, 4096, True, False),
        (65, 16, 4096, True, False),
        (64, 16, 512, True, True),  # pages count, not bytes
        (10, 0, 4096, True, False),
    ],
)
def test_vacuum_is_due_by_share_and_size(pages: int, free: int, page_size: int, fleet: bool, due: bool) -> None:
    (proposal,) = decide(facts(pages=pages, free=free, page_size=page_size), fleet=fleet)
    assert (proposal.decision is Decision.RUN) is due
    assert f"{free:,} of {pages:,} pages" in proposal.reason
    assert "25 %" in proposal.reason


def test_thresholds_are_settings_and_force_needs_none() -> None:
    found = facts(pages=1000, free=100)
    assert decide(found)[0].decision is Decision.SKIP
    lower = Policy(thresholds={"vacuum": {"min_share": 0.1, "min_bytes": 1}})
    assert decide(found, Operation.VACUUM, lower)[0].decision is Decision.RUN
    assert decide(facts(), Operation.VACUUM, Policy(force=True))[0].decision is Decision.RUN


def test_run_that_gained_too_little_is_not_believed_again_soon() -> None:
    found, little = facts(free=500), run_of(Operation.VACUUM, predicted_gain=1000, bytes_before=2000, bytes_after=1900)
    (skipped,) = decide(found, Operation.VACUUM, None, little)
    assert skipped.decision is Decision.SKIP
    assert "100 bytes" in skipped.reason
    assert "10 days" in skipped.reason
    assert decide(found, Operation.VACUUM, Policy(force=True), little)[0].decision is Decision.RUN
    long_ago = structs.replace(little, at=NOW - timedelta(days=11))
    assert decide(found, Operation.VACUUM, None, long_ago)[0].decision is Decision.RUN
    good = structs.replace(little, bytes_after=1000)
    assert decide(found, Operation.VACUUM, None, good)[0].decision is Decision.RUN


def test_expected_gain_follows_what_earlier_runs_gave() -> None:
    found = facts(pages=1024, free=256)
    meagre = run_of(Operation.VACUUM, predicted_gain=1000, bytes_before=1600, bytes_after=1000, effective="yes")  # 60 %
    (skipped,) = decide(found, Operation.VACUUM, None, meagre)
    assert skipped.decision is Decision.SKIP
    assert "60 %" in skipped.reason
    (bigger,) = decide(facts(pages=2048, free=1024), Operation.VACUUM, None, meagre)
    assert bigger.decision is Decision.RUN
    assert bigger.estimate.gain_bytes == int(0.6 * 4 * MIB)
    assert bigger.estimate.gain_source is Source.HISTORY


def test_time_comes_from_own_history_where_there_is_some() -> None:
    found = facts(pages=51200, free=25600)  # 100 MiB live
    (first,) = decide(found)
    assert first.estimate.seconds_source is Source.ESTIMATED
    slow = run_of(Operation.VACUUM, seconds=20.0, predicted_gain=50)
    (second,) = decide(found, Operation.VACUUM, None, slow)
    assert second.estimate.seconds_source is Source.HISTORY
    assert second.estimate.seconds == pytest.approx(20.0)
    assert second.weight == 20_000


def test_space_is_wanted_on_both_volumes_and_for_the_copy() -> None:
    found = facts(pages=2000, free=1000)
    live = 1000 * 4096
    apart = decide(found)[0].space
    assert {need.folder: need.needed for need in apart} == {"/data": int(1.2 * live), "/temp": int(1.2 * live)}
    together = decide(facts(pages=2000, free=1000, one_volume=True))[0].space
    assert [(need.folder, need.needed) for need in together] == [("/data", int(1.2 * 2 * live))]
    copied = decide(found, Operation.VACUUM, Policy(backup_first=True, space_factor=1.0))[0].space
    assert {need.folder: need.needed for need in copied} == {"/data": 2 * live, "/temp": live}


def test_vacuum_covers_reindex_but_not_known_damage() -> None:
    found = facts(free=500)
    assert Operation.REINDEX in decide(found)[0].covers
    broken = run_of(Operation.CHECK, values={"damaged": json.dumps(["i"])})
    assert not decide(found, Operation.VACUUM, None, broken)[0].covers
    assert not decide(found, Operation.VACUUM, Policy(force=True))[0].covers
    sliced = facts(free=500, auto_vacuum=2, rowid_dependents='["x"]')
    assert not decide(sliced)[0].covers


@pytest.mark.parametrize("auto_vacuum", [0, 1, 2])
def test_long_stall_beside_others_means_slices_or_later(auto_vacuum: int) -> None:
    big = facts(pages=10**6, free=5 * 10**5, openers=1, openers_named="process 7 (app)", auto_vacuum=auto_vacuum)
    (proposal,) = decide(big)
    if auto_vacuum == 2:
        assert (proposal.decision, proposal.method) == (Decision.RUN, "incremental")
    else:
        assert proposal.decision is Decision.DEFER
        assert "process 7 (app)" in proposal.reason
        assert "20.5 s" in proposal.reason
        assert not proposal.covers
    alone = facts(pages=10**6, free=5 * 10**5, auto_vacuum=auto_vacuum)
    assert decide(alone)[0].method == "in place"
    patient = Policy(max_stall=timedelta(minutes=1))
    assert decide(big, Operation.VACUUM, patient)[0].method == "in place"


def test_reindex_is_proposed_for_known_damage_until_it_was_done() -> None:
    found = facts()
    (idle,) = decide(found, Operation.REINDEX)
    assert idle.decision is Decision.SKIP
    assert "3 indexes" in idle.reason
    broken = run_of(Operation.CHECK, days_ago=3, values={"damaged": json.dumps(["i", "k", "gone"])})
    proposals = decide(found, Operation.REINDEX, None, broken)
    assert [(p.object, p.decision) for p in proposals] == [("i", Decision.RUN), ("k", Decision.RUN)]
    rebuilt = run_of(Operation.REINDEX, days_ago=2, object="i")
    assert [p.object for p in decide(found, Operation.REINDEX, None, rebuilt, broken)] == ["k"]
    everything = run_of(Operation.REINDEX, days_ago=2)
    assert decide(found, Operation.REINDEX, None, everything, broken)[0].decision is Decision.SKIP
    (forced,) = decide(found, Operation.REINDEX, Policy(force=True))
    assert (forced.object, forced.decision) == ("", Decision.RUN)


def test_optimize_makes_analyze_redundant_unless_that_would_do_more() -> None:
    stale = facts(stale_tables='["t"]', unanalyzed=1)
    assert Operation.ANALYZE in decide(stale, Operation.OPTIMIZE)[0].covers
    assert not decide(stale, Operation.OPTIMIZE, Policy(force=True))[0].covers
    own = Policy(thresholds={"analyze": {"analysis_limit": 0}})
    assert not decide(stale, Operation.OPTIMIZE, own)[0].covers
    sampled = facts(stale_tables='["t"]', unanalyzed=1, samples=24)
    (proposal,) = decide(sampled, Operation.OPTIMIZE)
    assert not proposal.covers
    assert [notice.code for notice in proposal.notices] == ["stat4_lost"]


def test_analyze_limit_is_a_setting() -> None:
    stale = facts(stale_tables='["t"]', unanalyzed=1)
    assert decide(stale, Operation.ANALYZE)[0].options["analysis_limit"] == 400
    more = Policy(thresholds={"analyze": {"analysis_limit": 1000}})
    assert decide(stale, Operation.ANALYZE, more)[0].options["analysis_limit"] == 1000


def test_check_method_is_a_setting_and_an_unknown_one_an_error() -> None:
    assert decide(facts(), Operation.CHECK)[0].method == "quick_check"
    deep = Policy(thresholds={"check": {"method": "integrity_check"}})
    assert decide(facts(), Operation.CHECK, deep)[0].method == "integrity_check"
    with pytest.raises(UsageError, match="no check is called"):
        decide(facts(), Operation.CHECK, Policy(thresholds={"check": {"method": "glance"}}))


@pytest.mark.parametrize("value", ["abc", -1, None], ids=str)
def test_a_threshold_that_is_no_number_is_an_error_and_not_always_due(value: Any) -> None:
    with pytest.raises(UsageError, match="min_share"):
        decide(facts(free=900), Operation.VACUUM, Policy(thresholds={"vacuum": {"min_share": value}}))


def test_check_keeps_writers_out_in_a_rollback_journal_mode_alone() -> None:
    big = facts(pages=10**6, openers=1)
    assert decide(big, Operation.CHECK)[0].decision is Decision.RUN
    assert decide(facts(pages=10**6, openers=1, journal_mode="delete"), Operation.CHECK)[0].decision is Decision.DEFER


@pytest.mark.parametrize("operation", list(Operation))
def test_something_missing_defers_what_is_due_and_names_it(operation: Operation) -> None:
    found = facts(free=500, stale_tables='["t"]', unanalyzed=1, lacking="collation swedish")
    (proposal,) = decide(found, operation, Policy(force=True))
    assert proposal.decision is Decision.DEFER
    assert "collation swedish" in proposal.reason


def test_nothing_is_written_after_a_check_that_found_more_than_indexes_damaged() -> None:
    bloated = facts(free=600)
    broken = run_of(Operation.CHECK, values={"damaged": "[]"})
    (deferred,) = decide(bloated, Operation.VACUUM, None, broken)
    assert deferred.decision is Decision.DEFER
    assert "found damage" in deferred.reason
    sound = run_of(Operation.CHECK, days_ago=0.5)
    for policy, past in ((Policy(), (sound, broken)), (Policy(force=True), (broken,))):
        (proposal,) = decide(bloated, Operation.VACUUM, policy, *past)
        assert proposal.decision is Decision.RUN


def test_no_lock_is_waited_for_longer_than_writers_may_wait() -> None:
    quick = Policy(max_stall=timedelta(milliseconds=100))
    assert decide(facts(free=500), Operation.VACUUM, quick)[0].options["lock_wait"] == pytest.approx(0.1)
    assert decide(facts(free=500))[0].options["lock_wait"] == pytest.approx(0.5)


# --- drift ---


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"identity": {"device": 1, "inode": 3, "application_id": 0}}, "replaced"),
        ({"identity": {"device": 9, "inode": 2, "application_id": 0}}, "volume"),
        ({"identity": {"device": 1, "inode": 2, "application_id": 5}}, "application id"),
        ({"values": {"free_pages": 100}}, "500 pages were free"),
        ({"values": {"auto_vacuum": 2}}, "auto_vacuum"),
        ({"values": {"rowid_dependents": '["f"]'}}, "depends on rowids"),
        ({"values": {"pages": 10**5}}, "grew"),
        ({"values": {"free_pages": 300, "pages": 1900}}, ""),  # ordinary life
        ({"values": {"schema_version": 99}}, ""),
        ({}, ""),
    ],
)
def test_drift_names_what_changed(change: dict[str, dict[str, Any]], word: str) -> None:
    found = facts(free=500)
    (proposal,) = decide(found)
    later = structs.replace(
        found, identity=change.get("identity", found.identity), values={**found.values, **change.get("values", {})}
    )
    said = engine.drift(item_of(proposal), later)
    assert (word in said) if word else not said


def test_drift_of_statistics_and_indexes() -> None:
    stale = facts(stale_tables='["t"]', unanalyzed=1)
    for operation in (Operation.ANALYZE, Operation.OPTIMIZE):
        item = item_of(decide(stale, operation)[0])
        assert not engine.drift(item, stale)
        assert "none does now" in engine.drift(item, facts())
    broken = run_of(Operation.CHECK, values={"damaged": json.dumps(["i"])})
    item = item_of(decide(facts(), Operation.REINDEX, None, broken)[0])
    assert not engine.drift(item, facts())
    without = structs.replace(facts(), objects=facts().objects[1:])
    assert "'i' is gone" in engine.drift(item, without)


def test_forced_items_do_not_drift_by_need() -> None:
    (proposal,) = decide(facts(free=500), Operation.VACUUM, Policy(force=True))
    assert not engine.drift(item_of(proposal), facts(free=0))
