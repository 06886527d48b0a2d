"""Room for what is written anew, WAL that slots keep, and replicas that are behind: shown in the plan, looked at again before the work."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count, islice
from typing import Any

import psycopg
import pytest
from msgspec import structs

from dbupkeep.definitions import Policy
from dbupkeep.engine import Scope
from dbupkeep.engines import load
from dbupkeep.engines.postgresql import maintain, volumes
from dbupkeep.engines.postgresql.inquiry import BUCKETS
from dbupkeep.engines.postgresql.room import Kept
from dbupkeep.errors import Busy, Kind, Refused
from dbupkeep.estimates import History
from dbupkeep.facts import DatabaseFacts, ObjectFacts, Value
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, Proposal
from dbupkeep.testing.engine_suite import Recorder, item_of
from tests.plugins.postgresql import NEWEST, clone, start
from tests.plugins.postgresql_bench import Workbench, in_thread, until

pytestmark = pytest.mark.engine("postgresql")

OPTIMIZE, REINDEX = Operation.OPTIMIZE, Operation.REINDEX
CONSENT = frozenset({"exclusive_lock"})
FORCE = Policy(force=True, consents=CONSENT)
GIB = 1 << 30


# --- replicas ---


@pytest.fixture
def standby(newest: Workbench) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a standby of the newest server."""
    server = clone(newest.database.server)
    with server.connect() as connection:
        yield connection
    server.remove()


def test_everything_that_writes_waits_for_a_replica_that_is_behind(
    newest: Workbench, standby: psycopg.Connection[Any]
) -> None:
    newest.bloat(rows=2000, dead=1000)
    limits = {"max_lag_bytes": 1000, "lag_patience": 0.1}
    policy = structs.replace(FORCE, thresholds=dict.fromkeys(Operation, limits))
    paused(standby)
    newest.database.execute("CREATE TABLE more AS SELECT generate_series(1, 10000) AS a")
    notices = {notice.code: notice.message for notice in newest.facts(Operation.ANALYZE).notices}
    assert "1 replica streams from this server" in notices["replicas"]
    for operation in (Operation.VACUUM, Operation.ANALYZE, REINDEX, OPTIMIZE):
        item = item_of(newest.due(operation, policy=policy)[0])
        with pytest.raises(Busy) as raised:
            newest.perform(item)
        assert item.operation is operation
        assert "behind" in raised.value.why


def test_between_the_statements_of_a_group_it_is_looked_again(
    newest: Workbench, standby: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintain, "BATCH", 32)
    for name in of_one_group(40):
        newest.database.execute(f"CREATE TABLE {name} AS SELECT generate_series(1, 100) AS a")
    group = next(item_of(each) for each in newest.due(Operation.ANALYZE, policy=FORCE) if len(each.members) > 32)
    group = structs.replace(group, options={**group.options, "max_lag_bytes": 1000, "lag_patience": 60.0})
    until(lambda: newest.database.value("SELECT replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication"))
    recorder = Recorder(on_stage=lambda _: paused(standby))
    running = in_thread(lambda: newest.perform(group, recorder))
    until(lambda: any("waiting for a replica" in seen.stage for seen in recorder.seen))
    assert 0 < newest.database.value("SELECT count(*) FROM pg_stat_user_tables WHERE analyze_count > 0") < 40
    standby.execute("SELECT pg_wal_replay_resume()")
    running.outcome()


def paused(standby: psycopg.Connection[Any]) -> None:
    """Have it replay nothing more."""
    standby.execute("SELECT pg_wal_replay_pause()")
    until(lambda: standby.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",))


def of_one_group(number: int) -> Iterator[str]:
    """Names of small tables that share a group."""
    names = (f"s{n}" for n in count())
    yield from islice((name for name in names if zlib.crc32(f"public.{name}".encode()) % BUCKETS == 0), number)


# --- WAL that slots keep ---


@pytest.fixture
def kept() -> Iterator[Workbench]:
    """A server on which a slot whose consumer is away may keep nothing more than the WAL file of now."""
    server = start(NEWEST, max_slot_wal_keep_size=0)
    bench = Workbench(database=server.create())
    bench.database.execute(
        "CREATE TABLE t (id int PRIMARY KEY, a text)",
        "INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 50000) n",
        "VACUUM ANALYZE t",
        "DELETE FROM t WHERE id % 2 = 0",
        "SELECT pg_create_physical_replication_slot('away', true)",
    )
    yield bench
    server.remove()


def test_a_rewrite_that_would_lose_a_slot_is_put_off_with_the_figures(kept: Workbench) -> None:
    found = next(each for each in kept.plan(OPTIMIZE, policy=FORCE) if each.object == "public.t")
    assert found.decision is Decision.DEFER
    assert "the replication slot away has no consumer now and would be lost" in found.reason
    assert re.search(r"keeps .* of WAL, max_slot_wal_keep_size allows .* more, and about .* MiB would", found.reason)
    assert "WAL, all kept by the slot away" in found.space[1].purpose
    with pytest.raises(Busy) as raised:
        kept.perform(item_of(found))
    assert "would be lost" in raised.value.why
    state = kept.database.value("SELECT wal_status FROM pg_replication_slots")
    assert state in ("reserved", "extended", "unreserved")
    kept.database.execute("SELECT pg_drop_replication_slot('away')")
    assert (
        next(each for each in kept.plan(OPTIMIZE, policy=FORCE) if each.object == "public.t").decision is Decision.RUN
    )


def test_wal_that_is_kept_has_to_fit_on_its_volume(newest: Workbench) -> None:
    newest.bloat()
    slots = [{"name": "away", "active": False, "bytes": 5 * GIB, "safe": None}]
    facts = with_values(newest, wal_kept=json.dumps({"most": GIB, "keep": 0, "slots": slots}))
    for free, decision in ((4 * GIB, Decision.DEFER), (400 * GIB, Decision.RUN)):
        volume = json.dumps({"0": 900 * GIB, "0 is on": 1, "wal": free, "wal is on": 2})
        found = decided(facts, heap(8 * GIB), free_bytes=volume)
        assert found.decision is decision
        assert [need.needed for need in found.space] == [int(8 * GIB * 1.2), 8 * GIB]
    together = json.dumps({"0": 12 * GIB, "0 is on": 1, "wal": 12 * GIB, "wal is on": 1})
    found = decided(facts, heap(8 * GIB), free_bytes=together)
    assert found.decision is Decision.DEFER, "each would fit, both do not"
    assert "on the volume of data and WAL" in found.reason
    without = with_values(newest, wal_kept=json.dumps({"most": GIB, "keep": 0, "slots": None}))
    assert decided(without, heap(8 * GIB), free_bytes=together).decision is Decision.RUN


def test_a_slot_that_keeps_up_is_in_nobodys_way() -> None:
    def of(**slot: object) -> Kept:
        known = {"name": "s", "active": True, "bytes": 1000, "safe": 5 * GIB, **slot}
        return Kept.of(json.dumps({"most": GIB, "keep": 0, "slots": [known]}))

    lag = 64 << 20
    assert of().lost(8 * GIB, lag) == ""
    assert "is behind and would be lost" in of(bytes=GIB).lost(8 * GIB, lag)
    assert of(active=False).lost(4 * GIB, lag) == ""
    assert "has no consumer" in of(active=False).lost(8 * GIB, lag)
    assert of(active=False, safe=None).lost(8 * GIB, lag) == ""
    assert of().need(8 * GIB, lag, None).needed == GIB, "what the server lets lie about in any case"
    assert Kept.of("").need(8 * GIB, lag, None).needed == 0


# --- room for new files ---


def test_a_rebuild_shows_its_room_and_is_refused_where_there_is_too_little(
    newest: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest.bloat()
    item = item_of(newest.due(REINDEX, policy=FORCE)[0])
    assert (item.space[0].available or 0) > item.space[0].needed > 0
    assert item.space[1].folder == "pg_wal"
    monkeypatch.setattr(volumes, "free", lambda _: '{"0": 1000}')
    with pytest.raises(Refused) as raised:
        newest.perform(item)
    assert raised.value.kind is Kind.SPACE
    assert "1,000 are free" in raised.value.why
    (deferred, *_) = newest.plan(REINDEX, policy=FORCE)
    assert deferred.decision is Decision.DEFER
    assert "1,000 are free" in deferred.reason


@pytest.mark.parametrize("method", ["VACUUM FULL", "pg_repack", "REPACK (CONCURRENTLY)", "concurrently", "blocking"])
def test_what_is_big_wants_its_room_declared_where_it_cannot_be_seen(newest: Workbench, method: str) -> None:
    newest.bloat()
    values: dict[str, Value] = {"free_bytes": "{}", "version_number": 180004}
    thing = heap(20 * GIB)
    if method in ("concurrently", "blocking"):
        thing = index(20 * GIB, exclusion=method == "blocking")
    else:
        values["pg_repack"] = "ready" if method == "pg_repack" else "pg_repack is not on this server"
        values["version_number"] = 190000 if method.startswith("REPACK") else 180004
    facts = with_values(newest)
    refused = decided(facts, thing, **values)
    assert refused.decision is Decision.SKIP
    assert "declare it by the setting `space_declared`" in refused.reason
    for setting, value in (("space_declared", 100 * GIB), ("undeclared_bytes", 100 * GIB)):
        policy = structs.replace(FORCE, thresholds={key: {setting: value} for key in Operation})
        allowed = decided(facts, thing, policy, **values)
        assert (allowed.decision, allowed.method) == (Decision.RUN, method)


def test_a_big_rewrite_that_was_planned_where_room_was_seen_is_refused_where_it_is_not(
    newest: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest.bloat()
    monkeypatch.setattr(volumes, "on_this_machine", lambda _: False)
    policy = structs.replace(FORCE, thresholds={key: {"undeclared_bytes": GIB} for key in Operation})
    for operation in (REINDEX, OPTIMIZE):
        item = item_of(newest.due(operation, policy=policy)[0])
        assert item.space[0].available is None
        item = structs.replace(item, options={**item.options, "undeclared_bytes": 1000})
        with pytest.raises(Refused) as raised:
            newest.perform(item)
        assert raised.value.kind is Kind.SPACE
        assert "space_declared" in raised.value.why


# --- decided without the size ---


def with_values(bench: Workbench, **values: Value) -> DatabaseFacts:
    facts = bench.facts()
    return structs.replace(facts, values={**facts.values, **values})


def decided(facts: DatabaseFacts, thing: ObjectFacts, policy: Policy | None = None, /, **values: Value) -> Proposal:
    known: dict[str, Value] = {"pg_repack": "pg_repack is not on this server", **facts.values, **values}
    faked = structs.replace(facts, objects=(thing,), values=known)
    operation = OPTIMIZE if thing.kind == "heap" else REINDEX
    scope = Scope(operations=(operation,), now=datetime.now(UTC))
    return load("postgresql").assess(faked, policy or FORCE, History(), scope)[0]


def heap(size: int) -> ObjectFacts:
    values: dict[str, Value] = {
        "oid": 1, "persistence": "p", "relation_kind": "r", "identity": True, "keyed": True, "gain": 0.5, "how": "by its pages",
        "source": "measured", "main_bytes": size, "index_bytes": 0, "tablespace": 0, "age": 1, "permitted": True,
    }  # fmt: skip
    return ObjectFacts(name="public.big", kind="heap", bytes=size, values=values)


def index(size: int, **values: Value) -> ObjectFacts:
    known: dict[str, Value] = {
        "oid": 1, "valid": True, "table_oid": 2, "toast_oid": None, "table_bytes": size, "tablespace": 0, "owned": True,
        "rows": 1.0, "toast": False, "method": "btree",
    }  # fmt: skip
    return ObjectFacts(name="public.big_k", kind="index", table="public.big", bytes=size, values={**known, **values})
