"""PostgreSQL decided on without a server: also for versions that cannot be run here (13, 14.0 to 14.3, 17, 19)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dbupkeep.definitions import Policy, Setting
from dbupkeep.engine import Scope
from dbupkeep.engines.postgresql import names, needs, progress
from dbupkeep.engines.postgresql.assess import assess
from dbupkeep.engines.postgresql.doctor import settings_findings, version_finding
from dbupkeep.engines.postgresql.drift import drift
from dbupkeep.engines.postgresql.names import Patterns
from dbupkeep.engines.postgresql.options import options_of
from dbupkeep.engines.postgresql.queries import query
from dbupkeep.engines.postgresql.selection import FLAGS, selection
from dbupkeep.engines.postgresql.survey import of_partitions
from dbupkeep.engines.postgresql.urls import expected_key, key_of, parameters_of, target_of, with_database
from dbupkeep.engines.postgresql.versions import Version
from dbupkeep.errors import UsageError
from dbupkeep.estimates import History, Measurement
from dbupkeep.facts import DatabaseFacts, ObjectFacts, Value
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, Proposal, Source
from dbupkeep.testing.engine_suite import item_of

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ALL = [130014, 140003, 140012, 150018, 160014, 170002, 180004, 190000]
SERVER: Mapping[str, Value] = {
    "vacuum_base": 50.0, "vacuum_scale": 0.2, "vacuum_max": None, "insert_base": 1000.0, "insert_scale": 0.2,
    "analyze_base": 50.0, "analyze_scale": 0.1, "freeze_max_age": 200e6, "multixact_freeze_max_age": 400e6,
    "sees_statistics": True, "standby": False, "role": "keeper", "tables": 10, "partitioned_tables": 0,
}  # fmt: skip


def table(name: str = "public.t", kind: str = "table", *, size: int = 10 << 20, **values: Value) -> ObjectFacts:
    basic: dict[str, Value] = {"oid": 16384 + sum(name.encode()), "rows": 10_000.0, "pages": 1280, "permitted": True}
    return ObjectFacts(name=name, kind=kind, bytes=size, values={**basic, **values})


def database(*tables: ObjectFacts, version: int = 180004, **values: Value) -> DatabaseFacts:
    return DatabaseFacts(
        target="postgresql://db1:5432/shop", engine="postgresql", version=str(Version(version)), surveyed_at=NOW,
        bytes=1 << 30, identity={"system": "7", "database_oid": 5}, objects=tables,
        values={**SERVER, "version_number": version, **values},
    )  # fmt: skip


def plan(
    facts: DatabaseFacts, *operations: Operation, policy: Policy | None = None, history: History | None = None,
    **config: Setting,
) -> list[Proposal]:  # fmt: skip
    scope = Scope(operations=operations, now=NOW, config=config)
    return list(assess(facts, policy or Policy(), history or History(), scope))


def due(facts: DatabaseFacts, operation: Operation, **more: object) -> list[Proposal]:
    return [each for each in plan(facts, operation, **more) if each.decision is Decision.RUN]  # type: ignore[arg-type] # passed on


# --- versions ---


@pytest.mark.parametrize("number", ALL)
def test_a_version_gets_only_the_options_it_has(number: int) -> None:
    version = Version(number)
    wanted: dict[str, Value] = {
        "process_toast": False, "buffer_usage_limit": "128MB", "parallel_workers": 2, "freeze": True,
    }  # fmt: skip
    options = " ".join(options_of(wanted, version, skip_locked=True))
    assert "TRUNCATE FALSE" in options
    assert "PARALLEL 2" in options
    assert ("PROCESS_TOAST" in options) == (number >= 140000)
    assert ("SKIP_DATABASE_STATS" in options) == (number >= 160000)
    assert ("BUFFER_USAGE_LIMIT '128MB'" in options) == (number >= 160000)


@pytest.mark.parametrize("number", ALL)
def test_a_version_gets_only_the_settings_and_queries_it_has(number: int) -> None:
    version = Version(number)
    assert ("client_connection_check_interval" in version.session_settings) == (number >= 140000)
    assert ("transaction_timeout" in version.session_settings) == (number >= 170000)
    assert ("stats_fetch_consistency" in version.session_settings) == (number >= 150000)
    assert ("MAINTAIN" in query("tables", version)) == (number >= 170000)
    assert ("relallfrozen" in query("tables", version)) == (number >= 180000)
    assert ("datcollversion" in query("collations", version)) == (number >= 150000)
    assert ("waitstart" in query("held_up", version)) == (number >= 140000)
    assert "{{" not in query("tables", version)


@pytest.mark.parametrize(("number", "sound"), [(140000, False), (140003, False), (140004, True), (130014, True)])
def test_versions_that_build_wrong_indexes_are_told(number: int, sound: bool) -> None:
    assert version_finding(Version(number)).ok is sound
    assert Version(number).broken_concurrently is not sound


def test_settings_that_make_maintenance_blind_are_told() -> None:
    row = {"track_counts": False, "autovacuum": False, "client_check": "0"}
    found = {each.subject: each.ok for each in settings_findings(Version(180000), row)}
    assert found == {"statistics": False, "autovacuum": False, "dead clients": True}
    (_, last) = settings_findings(Version(130000), {**row, "track_counts": True, "autovacuum": True})
    assert "before PostgreSQL 14" in last.message


# --- needs ---


def test_the_servers_own_formula_at_a_share_of_it() -> None:
    at = needs.vacuum_need(table(dead=1026), SERVER, share=0.5, freeze_share=0.5)
    assert at.due
    assert at.score == pytest.approx(1026 / 1025)
    assert not needs.vacuum_need(table(dead=1025), SERVER, share=0.5, freeze_share=0.5).due
    assert not needs.vacuum_need(table(dead=1026), SERVER, share=1.0, freeze_share=0.5).due


def test_the_most_that_18_lets_gather_is_kept_to() -> None:
    huge = table(rows=10e9, dead=60_000_000.0)
    assert not needs.vacuum_need(huge, SERVER, share=0.5, freeze_share=0.5).due
    assert needs.vacuum_need(huge, {**SERVER, "vacuum_max": 100e6}, share=0.5, freeze_share=0.5).due
    assert not needs.vacuum_need(huge, {**SERVER, "vacuum_max": -1.0}, share=0.5, freeze_share=0.5).due


def test_from_18_on_only_rows_not_yet_frozen_count_for_inserts() -> None:
    at = table(inserted=700)
    assert not needs.vacuum_need(at, SERVER, share=0.5, freeze_share=0.5).due
    frozen = table(inserted=700, frozen_pages=1200)
    assert needs.vacuum_need(frozen, SERVER, share=0.5, freeze_share=0.5).due


def test_a_toast_table_takes_the_settings_of_its_table_unless_it_has_its_own() -> None:
    toast: dict[str, Any] = {"toast_oid": 9, "toast_rows": 1000.0, "toast_dead": 300}
    assert needs.vacuum_need(table(**toast), SERVER, share=0.5, freeze_share=0.5).due
    assert not needs.vacuum_need(table(**toast, set_vacuum_scale=2.0), SERVER, share=0.5, freeze_share=0.5).due
    own = table(**toast, set_vacuum_scale=2.0, toast_set_vacuum_scale=0.1)
    assert needs.vacuum_need(own, SERVER, share=0.5, freeze_share=0.5).due


def test_a_tables_own_freeze_limit_can_only_lower_the_servers() -> None:
    old = table(age=150e6)
    assert needs.vacuum_need(old, SERVER, share=0.5, freeze_share=0.5).freeze
    assert not needs.vacuum_need(table(age=90e6, set_freeze_max_age=1e9), SERVER, share=0.5, freeze_share=0.5).due
    assert needs.vacuum_need(table(age=90e6, set_freeze_max_age=1e8), SERVER, share=0.5, freeze_share=0.5).due


def test_multixacts_age_too() -> None:
    assert needs.vacuum_need(table(multixact_age=201e6), SERVER, share=0.5, freeze_share=0.5).freeze


def test_missing_statistics_go_before_old_ones() -> None:
    old = needs.analyze_need(table(modified=9000, analyzed=True), SERVER, share=0.5)
    none = needs.analyze_need(table(missing_statistics=2, analyzed=True), SERVER, share=0.5)
    assert none.score > old.score > 1
    assert not needs.analyze_need(table(missing_statistics=2, rows=0.0, size=0), SERVER, share=0.5).due


def test_without_a_look_at_statistics_counters_tell() -> None:
    blind = {**SERVER, "sees_statistics": False}
    assert needs.analyze_need(table(analyzed=False), blind, share=0.5).due
    assert not needs.analyze_need(table(analyzed=True), blind, share=0.5).due
    assert not needs.analyze_need(table(analyzed=False), SERVER, share=0.5).due  # lost in a crash, perhaps


# --- plans ---


def test_freezing_first_by_age_then_by_benefit() -> None:
    facts = database(
        table("public.small", dead=9000, size=2 << 20),
        table("public.big", dead=9000, size=500 << 20),
        table("public.old", age=110e6),
        table("public.older", age=190e6),
    )
    assert [each.object for each in due(facts, Operation.VACUUM)] == [
        "public.older", "public.old", "public.big", "public.small",
    ]  # fmt: skip


def test_what_is_due_by_age_is_frozen_for_good() -> None:
    (frozen,) = due(database(table(age=110e6)), Operation.VACUUM)
    assert frozen.options["aggressive"] is True
    assert frozen.options["freeze_min_age"] == 50_000_000
    (low,) = due(database(table(age=110e6, set_freeze_max_age=1e6)), Operation.VACUUM)
    assert low.options["freeze_min_age"] == 250_000
    (plain,) = due(database(table(dead=9000)), Operation.VACUUM)
    assert plain.options["aggressive"] is False


def test_a_lowered_age_becomes_the_databases_own() -> None:
    (frozen,) = due(database(table(age=110e6)), Operation.VACUUM)
    assert "SKIP_DATABASE_STATS" not in options_of(frozen.options, Version(180000))
    (plain,) = due(database(table(dead=9000)), Operation.VACUUM)
    assert "SKIP_DATABASE_STATS" in options_of(plain.options, Version(180000))


@pytest.mark.parametrize(("seconds", "decision"), [(7200.0, Decision.DEFER), (60.0, Decision.RUN)])
def test_what_could_not_be_removed_waits_until_its_keeper_is_gone(seconds: float, decision: Decision) -> None:
    past = Measurement(
        at=NOW - timedelta(hours=1), engine="postgresql", target="x", object="public.t", operation=Operation.VACUUM,
        method="plain", seconds=2.0, work_bytes=1, bytes_before=1, bytes_after=1, effective="no",
    )  # fmt: skip
    history = History(own=(past,))
    facts = database(table(dead=9000), horizon_holder="pid 7", horizon_seconds=seconds)
    assert plan(facts, Operation.VACUUM, history=history)[0].decision is decision
    assert plan(database(table(dead=9000)), Operation.VACUUM, history=history)[0].decision is Decision.RUN
    assert plan(facts, Operation.VACUUM, history=history, policy=Policy(force=True))[0].decision is Decision.RUN


def test_wraparound_is_warned_of() -> None:
    def hint(name: str, age: float) -> str:
        aged = replace(table(), values={**table(toast_oid=7).values, name: age})
        ((notice,),) = (each.notices for each in due(database(aged), Operation.VACUUM))
        assert notice.code == "wraparound"
        return notice.hint

    for name in ("age", "toast_age", "multixact_age", "toast_multixact_age"):
        assert "let this run now" in hint(name, 1.1e9)
        assert "at once" in hint(name, 1.7e9)


def test_a_table_under_a_forced_vacuum_is_left_to_it() -> None:
    worker = json.dumps({"16384": "x", str(table().values["oid"]): "autovacuum to prevent wraparound (pid 9)"})
    (deferred, _) = plan(database(table(dead=9000), at_work=worker), Operation.VACUUM)
    assert deferred.decision is Decision.DEFER
    assert "must not be disturbed" in deferred.reason


def test_tables_of_others_are_one_item_that_says_what_to_grant() -> None:
    facts = database(table("public.a", dead=9000, permitted=False), table("public.b", dead=9000, permitted=False))
    (denied,) = due(facts, Operation.VACUUM)
    assert denied.members == ("public.a", "public.b")
    assert "keeper may not maintain" in denied.notices[0].message


def test_catalogs_of_a_role_that_may_not_are_counted_only() -> None:
    facts = database(table("pg_catalog.pg_class", dead=9000, permitted=False, system=True))
    (idle,) = plan(facts, Operation.VACUUM)
    assert idle.decision is Decision.SKIP


def test_a_standby_is_skipped() -> None:
    (skipped, _) = plan(database(table(dead=9000), standby=True), Operation.VACUUM)
    assert skipped.decision is Decision.SKIP
    assert "standby" in skipped.reason


def test_vacuum_and_analyze_of_one_table_share_its_hold() -> None:
    facts = database(table(dead=9000, modified=9000))
    first, second = due(facts, Operation.VACUUM), due(facts, Operation.ANALYZE)
    assert first[0].hold == second[0].hold == "public.t"


@pytest.mark.parametrize(
    ("number", "wanted"), [(170002, ["public.parent"]), (180004, ["public.leaf", "public.parent"])]
)
def test_a_partitioned_tables_analyze_reaches_its_partitions_until_17(number: int, wanted: list[str]) -> None:
    parent = table("public.parent", "partitioned table", modified=9000, size=0)
    leaf = table("public.leaf", modified=9000, parent=parent.values["oid"])
    items = due(database(parent, leaf, version=number), Operation.ANALYZE)
    assert sorted(each.object for each in items) == wanted
    assert [each.options["only"] for each in items if each.object == "public.parent"] == [number >= 180000]


@pytest.mark.parametrize(("later", "anew"), [(timedelta(hours=1), 100.0), (timedelta(minutes=1), 0.0)])
def test_a_partition_that_was_analyzed_anew_has_changed_for_its_parents_too(later: timedelta, anew: float) -> None:
    grandparent = {"oid": 1, "kind": "p", "parent": None, "rows": -1.0, "pages": 0, "modified": 0, "analyzed_at": NOW}
    parent = {**grandparent, "oid": 2, "parent": 1}
    leaf = {"oid": 3, "kind": "r", "parent": 2, "rows": 1000.0, "pages": 5, "modified": 7, "analyzed_at": NOW + later}
    sums = of_partitions([grandparent, parent, leaf], 0.1)
    for oid in (1, 2):
        assert needs.number(sums[oid], "anew") == anew
        assert (sums[oid]["rows"], sums[oid]["modified"], sums[oid]["partitions"]) == (1000.0, 7.0, 1)


def test_a_partitioned_table_that_we_analyzed_last_is_not_due_by_its_partitions() -> None:
    parent = table("public.parent", "partitioned table", anew=9000.0, anew_at=NOW.timestamp() - 100, size=0)
    assert due(database(parent), Operation.ANALYZE)
    ours = Measurement(
        at=NOW, engine="postgresql", target="x", object="public.parent", operation=Operation.ANALYZE, method="sample",
        seconds=1.0, work_bytes=1, bytes_before=1, bytes_after=1,
    )  # fmt: skip
    assert due(database(parent), Operation.ANALYZE, history=History(own=(ours,))) == []


def test_history_makes_the_estimate() -> None:
    past = Measurement(
        at=NOW, engine="postgresql", target="x", object="public.t", operation=Operation.VACUUM, method="plain",
        seconds=2.0, work_bytes=10 << 20, bytes_before=1, bytes_after=1,
    )  # fmt: skip
    (item,) = due(database(table(dead=9000)), Operation.VACUUM, history=History(own=(past,)))
    assert (item.estimate.seconds, item.estimate.seconds_source) == (2.0, Source.HISTORY)


def test_drift_looks_at_server_version_table_and_need() -> None:
    facts = database(table(dead=9000, vacuums=1))
    (proposal,) = due(facts, Operation.VACUUM)
    item = item_of(proposal)
    assert drift(item, facts) == ""
    assert "another server" in drift(item, replace(facts, identity={"system": "8", "database_oid": 5}))
    assert "another database" in drift(item, replace(facts, identity={"system": "7", "database_oid": 6}))
    assert "upgraded" in drift(item, database(table(dead=9000), version=190001))
    assert "standby" in drift(item, database(table(dead=9000), standby=True))
    assert "gone" in drift(item, database())
    assert "maintained since" in drift(item, database(table(dead=10, vacuums=2)))
    assert "grew" in drift(item, database(table(dead=9000, size=900 << 20)))


def test_drift_names_the_members_of_a_group_that_are_gone_or_renamed() -> None:
    tables = [table(f"public.t{n}", size=9000, dead=9000, oid=n) for n in range(1, 31)]
    items = [item_of(proposal) for proposal in due(database(*tables), Operation.VACUUM)]
    assert all(len(item.members) > 3 for item in items)
    assert [drift(item, database(*tables)) for item in items] == [""] * len(items)
    renamed = [replace(each, name="public.new") if each.name == "public.t7" else each for each in tables]
    without = [each for each in renamed if each.name != "public.t1"]
    said = [drift(item, database(*without)) for item in items]
    for name in ("public.t1", "public.t7"):
        assert [name in item.members for item in items] == [name in sentence for sentence in said]


# --- selection ---


def test_flags_are_vacuumdbs() -> None:
    chosen = selection({"table": 'orders, sales.*, "Strange,Name"', "exclude_table": "sales.old_*"})
    assert chosen.takes("public", "orders")
    assert chosen.takes("sales", "new")
    assert chosen.takes("any", "Strange,Name")
    assert not chosen.takes("sales", "old_2019")
    assert not chosen.takes("public", "Orders")
    assert selection({"exclude_schema": "audit*"}).takes("public", "x")
    assert not selection({"exclude_schema": "audit*"}).takes("audit_2020", "x")
    assert not selection({"schema": "sales"}).takes("public", "x")


def test_a_flag_that_is_none_is_refused_with_its_neighbour() -> None:
    with pytest.raises(UsageError) as raised:
        selection({"skip_lockd": True})
    assert "skip_locked" in raised.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_xid_age": "many"},
        {"min_xid_age": -1},
        {"skip_locked": "maybe"},
        {"table": "a", "schema": "b"},
        {"index_cleanup": "banana"},
        {"parallel_workers": "two"},
        {"process_main": "never"},
        {"process_main": False, "process_toast": False},
        {"index": "a(b)"},
    ],
    ids=str,
)
def test_a_flag_of_a_wrong_value_is_refused(wrong: dict[str, Setting]) -> None:
    with pytest.raises(UsageError):
        selection(wrong)


@pytest.mark.parametrize("text", ["12'; DROP TABLE x", "128TB", "64kB", "17GB", "-1", "", "MB", "1 2", "1e3"])
def test_a_size_that_is_none_never_gets_into_a_statement(text: str) -> None:
    if text:
        with pytest.raises(UsageError):
            plan(database(table(dead=9000)), Operation.VACUUM, buffer_usage_limit=text)
    else:
        (item, _) = plan(database(table(dead=9000)), Operation.VACUUM, buffer_usage_limit=text)
        assert item.options["buffer_usage_limit"] == ""


@pytest.mark.parametrize(
    ("given", "said"), [(None, ""), ("auto", ""), ("off", "OFF"), (False, "OFF"), ("on", "ON"), (True, "ON")]
)
def test_what_is_wanted_of_indexes(given: Setting, said: str) -> None:
    (item,) = due(database(table(dead=9000)), Operation.VACUUM, index_cleanup=given)
    options = " ".join(options_of(item.options, Version(180000)))
    assert (f"INDEX_CLEANUP {said}" in options) if said else ("INDEX_CLEANUP" not in options)


def test_a_size_of_nothing_is_a_size() -> None:
    (item,) = due(database(table(dead=9000)), Operation.VACUUM, buffer_usage_limit=0)
    assert "BUFFER_USAGE_LIMIT '0'" in options_of(item.options, Version(180000))


def test_only_what_lacks_statistics() -> None:
    facts = database(table("public.a", modified=9000, analyzed=True), table("public.b", missing_statistics=1))
    assert [each.object for each in due(facts, Operation.ANALYZE, missing_stats_only=True)] == ["public.b"]


@pytest.mark.parametrize("number", ALL)
def test_toast_tables_alone_are_never_more_than_that(number: int) -> None:
    facts = database(
        table("public.a", dead=9000), table("public.b", toast_oid=7, toast_rows=100.0, toast_dead=900), version=number
    )
    found = plan(facts, Operation.VACUUM, process_main=False)
    run = [each for each in found if each.decision is Decision.RUN]
    if number < 160000:
        assert not run
        assert "from PostgreSQL 16 on" in found[0].reason
        return
    (item,) = run
    assert item.object == "public.b"
    assert "PROCESS_MAIN FALSE" in options_of(item.options, Version(number))
    forced = due(facts, Operation.VACUUM, process_main=False, policy=Policy(force=True))
    assert [each.object for each in forced] == ["public.b"], "what has no TOAST table has nothing to be vacuumed"


def test_what_a_version_lacks_is_told_where_it_was_asked_for() -> None:
    facts = database(table(dead=9000), version=130014)
    (told,) = due(facts, Operation.VACUUM, process_toast=False)[0].notices
    assert "process_toast (from PostgreSQL 14 on)" in told.message
    assert due(facts, Operation.VACUUM, process_toast=True)[0].notices == ()


def test_where_no_table_is_left_that_is_said() -> None:
    facts = database(tables=0)
    for operation in (Operation.VACUUM, Operation.ANALYZE):
        assert plan(facts, operation, table="a", exclude_table="a")[0].reason == "no table is left of what was chosen"
        assert plan(facts, operation, min_xid_age=9)[0].reason == "no table is as old as was asked for"


def test_a_capital_without_quotes_is_a_small_letter_too() -> None:
    chosen = selection({"table": 'Orders, Sales.*, "Exact"'})
    assert chosen.takes("public", "orders")
    assert chosen.takes("public", "Orders")
    assert chosen.takes("sales", "x")
    assert chosen.takes("public", "Exact")
    assert not chosen.takes("public", "exact")
    assert not chosen.takes("public", "oRders")


def test_a_pattern_says_what_fits_it_not() -> None:
    patterns = Patterns.of('orders, sales.*, tmp_*, "odd*", none.orders')
    names = [("public", "orders"), ("sales", "x"), ("public", "odd")]
    assert [(each.written, each.wild) for each in patterns.unmatched(names)] == [
        ("tmp_*", True), ('"odd*"', False), ("none.orders", False),
    ]  # fmt: skip


def test_stages_are_one_item_for_all() -> None:
    facts = database(table("public.a"), table("public.b"))
    (item,) = due(facts, Operation.ANALYZE, analyze_in_stages=True)
    assert (item.method, item.hold, len(item.members)) == ("in stages", "", 2)


def test_every_flag_is_explained() -> None:
    assert all(len(text) > 10 for text in FLAGS.values())


# --- progress ---

VACUUM_13 = {"relid": 1, "phase": "scanning heap", "heap_blks_total": 100, "heap_blks_scanned": 40, "heap_blks_vacuumed": 0,
             "index_vacuum_count": 0, "max_dead_tuples": 1, "num_dead_tuples": 1}  # fmt: skip
VACUUM_17 = {**VACUUM_13, "indexes_total": 4, "indexes_processed": 2, "dead_tuple_bytes": 1}


def test_progress_without_dead_rows_is_measured() -> None:
    seen = progress.of_vacuum(VACUUM_13, heap_pages=100, index_pages=50, dead=False)
    assert (seen.fraction, seen.source, seen.stage) == (0.4, Source.MEASURED, "scanning heap")


def test_until_16_the_index_phase_has_no_number() -> None:
    at = {**VACUUM_13, "phase": "vacuuming indexes", "heap_blks_scanned": 100}
    assert progress.of_vacuum(at, heap_pages=100, index_pages=50, dead=True).fraction is None


def test_from_17_on_it_has_one() -> None:
    at = {**VACUUM_17, "phase": "vacuuming indexes", "heap_blks_scanned": 100}
    assert progress.of_vacuum(at, heap_pages=100, index_pages=50, dead=True).fraction == pytest.approx(125 / 250)


def test_progress_never_goes_back_over_the_phases() -> None:
    steps = [
        {**VACUUM_17, "heap_blks_scanned": 50},
        {**VACUUM_17, "heap_blks_scanned": 100},
        {**VACUUM_17, "phase": "vacuuming indexes", "heap_blks_scanned": 100, "indexes_processed": 4},
        {**VACUUM_17, "phase": "vacuuming heap", "heap_blks_scanned": 100, "index_vacuum_count": 1, "heap_blks_vacuumed": 50},
        {**VACUUM_17, "phase": "vacuuming heap", "heap_blks_scanned": 100, "index_vacuum_count": 1, "heap_blks_vacuumed": 100},
    ]  # fmt: skip
    seen = [progress.of_vacuum(step, heap_pages=100, index_pages=50, dead=True).fraction or 0 for step in steps]
    assert seen == sorted(seen)
    assert seen[-1] < 1


def test_analyze_counts_sampled_pages_or_partitions() -> None:
    row = {"phase": "acquiring sample rows", "sample_blks_total": 10, "sample_blks_scanned": 5, "child_tables_total": 0}
    assert progress.of_analyze(row).fraction == 0.5
    assert progress.of_analyze({**row, "child_tables_total": 4, "child_tables_done": 1}).fraction == 0.25
    assert progress.of_analyze({**row, "phase": "computing statistics"}).fraction is None


def test_a_wait_names_who_is_waited_for() -> None:
    row = {
        "wait_event_type": "Lock",
        "blocker": 7,
        "blocker_role": "app",
        "blocker_name": "web",
        "blocker_state": "active",
    }
    assert progress.waiting(row, 12.3) == "blocked by pid 7 (app, web, active) for 12 s"
    assert progress.waiting({**row, "wait_event_type": "IO"}, 12.3) == ""


# --- names and URLs ---

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=63)


@given(schema=TEXTS, name=TEXTS)
def test_a_qualified_name_can_be_read_again(schema: str, name: str) -> None:
    assert names.split(names.told(schema, name)) == (schema, name)
    literal = Patterns.of('"{}"."{}"'.format(schema.replace('"', '""'), name.replace('"', '""')))
    assert literal.match(schema, name)


def test_keys_are_the_same_for_every_way_of_writing() -> None:
    assert key_of("db1", 5432, "shop") == "postgresql://db1:5432/shop"
    assert key_of("/var/run/postgresql", 5432, "a/b") == "postgresql://%2Fvar%2Frun%2Fpostgresql:5432/a%2Fb"


@pytest.mark.parametrize("name", ["plain", "with space", "a/b?c=d&e", 'quo"te', "ключ"])
def test_another_database_of_the_same_server(name: str) -> None:
    url = with_database("postgresql://keeper@db1:5433/shop?sslmode=require", name)
    found = parameters_of(url, {})
    assert (found["dbname"], found["host"], found["port"], found["user"]) == (name, "db1", "5433", "keeper")
    assert found["sslmode"] == "require"


def test_what_the_environment_says_is_left_alone() -> None:
    assert "connect_timeout" in parameters_of("postgresql://db1/shop", {})
    assert "connect_timeout" not in parameters_of("postgresql://db1/shop", {"PGCONNECT_TIMEOUT": "3"})


def test_an_attempt_looks_for_the_sessions_of_all_attempts_before_it() -> None:
    from dbupkeep.engines.postgresql.orphans import _up_to

    assert _up_to("dbupkeep:0123456789ab:3") == [f"dbupkeep:0123456789ab:{n}" for n in (1, 2, 3)]
    assert _up_to("something else") == ["something else"]


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("postgresql://a:1,b:2/shop?target_session_attrs=read-write", "postgresql://a:1,b:2/shop"),
        ("postgresql:///shop?host=a,b&port=1,2", "postgresql://a:1,b:2/shop"),
        ("postgresql://a,b/shop", "postgresql://a:5432,b:5432/shop"),
        ("postgresql:///shop?host=a,b&port=7", "postgresql://a:7,b:7/shop"),
    ],
)
def test_several_hosts_are_one_database(url: str, key: str) -> None:
    assert expected_key(target_of(url)) == key
