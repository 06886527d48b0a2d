"""Which indexes are rebuilt together, decided without a server."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from dbupkeep.definitions import Policy
from dbupkeep.engines.postgresql.drift import drift
from dbupkeep.engines.postgresql.grouping import LEAST, MOST
from dbupkeep.engines.postgresql.inquiry import SMALL
from dbupkeep.engines.postgresql.remains import Intent, attempts, intents, of_one_at_work, text_of
from dbupkeep.estimates import OF_MEMBERS, History, Measurement
from dbupkeep.facts import DatabaseFacts, ObjectFacts, Value
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, Proposal
from dbupkeep.testing.engine_suite import item_of
from tests.unit.test_postgresql_decisions import NOW, database, due, plan

REINDEX, CHECK = Operation.REINDEX, Operation.CHECK
FORCE = Policy(force=True)


def index(number: int, *, table: int | None = None, size: int = 16384, **values: Any) -> ObjectFacts:
    """An index of a table of its own, or of another one's."""
    of = number if table is None else table
    known: dict[str, Value] = {
        "oid": 20_000 + number, "table_oid": 16_384 + of, "toast_oid": None, "tablespace": 0, "valid": True,
        "permitted": True, "owned": True, "table_bytes": 16384, "rows": 200.0,
    }  # fmt: skip
    return ObjectFacts(
        name=f"public.i{number}", kind="index", table=f"public.t{of}", bytes=size, values={**known, **values}
    )


def many(count: int = 40, **values: Any) -> list[ObjectFacts]:
    return [index(number, **values) for number in range(1, count + 1)]


def small(*indexes: ObjectFacts, **values: Any) -> DatabaseFacts:
    return database(*indexes, indexes=len(indexes), **values)


def groups(found: list[Proposal]) -> list[Proposal]:
    return [each for each in found if each.members]


def test_small_indexes_share_an_item_for_each_hold_of_their_tables() -> None:
    indexes = many()
    found = due(small(*indexes), REINDEX, policy=FORCE)
    assert found == groups(found)
    assert sorted(name for each in found for name in each.members) == sorted(each.name for each in indexes)
    assert (
        {each.object for each in found} == {each.hold for each in found} == {f"small tables {n}" for n in (1, 2, 3, 4)}
    )
    oids = {each.name: each.values["oid"] for each in indexes}
    tables = {each.name: each.values["table_oid"] for each in indexes}
    for each in found:
        assert json.loads(str(each.evidence["oids"])) == [oids[name] for name in each.members]
        assert json.loads(str(each.evidence["tables"])) == [tables[name] for name in each.members]
        assert each.evidence["bytes"] == 16384 * len(each.members)
        assert each.reason.startswith(f"{len(each.members)} small indexes (")
        assert drift(item_of(each), small(*indexes)) == ""
        assert each.members[1] in drift(item_of(each), small(*(i for i in indexes if i.name != each.members[1])))


@pytest.mark.parametrize("count", [3990, 4000, 4001, 4002])
def test_a_big_group_is_cut_into_parts_that_follow_each_other(count: int) -> None:
    indexes = many(count)
    found = due(small(*indexes), REINDEX, policy=FORCE)
    assert sorted(name for each in found for name in each.members or [each.object]) == sorted(
        each.name for each in indexes
    )
    sizes = [len(each.members) for each in found]
    assert max(sizes) == MOST
    assert all(size <= LEAST for size in {each.hold: len(each.members) for each in found}.values()), "the last ones"
    assert len({each.object for each in found}) == len(found) < 4 * 6
    assert {each.hold for each in found} == {f"small tables {n}" for n in (1, 2, 3, 4)}
    assert all(each.object.partition(", part ")[0] == each.hold for each in found if each.members)


def test_indexes_of_one_table_are_of_one_group() -> None:
    indexes = [index(number, table=number % 5) for number in range(40)]
    found = due(small(*indexes), REINDEX, policy=FORCE)
    holds = {name: each.hold for each in found for name in each.members}
    assert len(holds) == len(indexes)
    assert len({(each.table, holds[each.name]) for each in indexes}) == 5


@pytest.mark.parametrize(("count", "settings"), [(15, {}), (40, {"group_from": 41}), (40, {"group_bytes": 8192})])
def test_few_or_bigger_ones_have_an_item_each(count: int, settings: dict[str, float]) -> None:
    found = due(small(*many(count)), REINDEX, policy=Policy(force=True, thresholds={"reindex": settings}))
    assert (len(found), groups(found)) == (count, [])


APART: dict[str, dict[str, Any]] = {
    "big": {"size": SMALL + 1},
    "of a big table": {"table_bytes": SMALL + 1},
    "not permitted": {"permitted": False},
    "of an exclusion constraint": {"exclusion": True},
    "an unfinished copy of ours": {"valid": False, "copy": True, "comment": "dbupkeep: a copy"},
    "an unfinished copy of others": {"valid": False, "copy": True},
    "invalid, of a TOAST table": {"valid": False, "toast": True},
}


@pytest.mark.parametrize("kind", list(APART))
def test_what_is_not_just_rebuilt_is_apart(kind: str) -> None:
    found = plan(small(*many(), index(99, **APART[kind])), REINDEX, policy=FORCE)
    assert "public.i99" not in {name for each in found for name in each.members}
    (alone,) = [each for each in found if each.object == "public.i99" or each.evidence.get("index") == "public.i99"]
    assert len(groups(found)) == 4
    assert alone.evidence.get("bytes") != 0


def test_what_is_in_the_way_of_one_defers_that_one() -> None:
    lock = {
        "snapshot": False,
        "relations": [16_384 + 7],
        "seconds": 100.0,
        "prepared": False,
        "described": "pid 9 (app)",
    }
    at_work = {str(16_384 + 8): "autovacuum to prevent wraparound (pid 5)"}
    facts = small(*many(), long_transactions=json.dumps([lock]), at_work=json.dumps(at_work))
    found = plan(facts, REINDEX, policy=FORCE)
    deferred = {each.object: each.reason for each in found if each.decision is Decision.DEFER}
    assert deferred.keys() == {"public.i7", "public.i8"}
    assert "pid 9 (app)" in deferred["public.i7"]
    assert sum(len(each.members) for each in groups(found)) == 38
    assert {each.decision for each in groups(found)} == {Decision.RUN}


def test_a_snapshot_defers_each_for_itself() -> None:
    snapshot = {"snapshot": True, "relations": [], "seconds": 100.0, "prepared": False, "described": "pid 9 (app)"}
    found = plan(small(*many(), long_transactions=json.dumps([snapshot])), REINDEX, policy=FORCE)
    assert {each.decision for each in found} == {Decision.DEFER}


def test_a_prepared_transaction_defers_whatever_its_age() -> None:
    left = {"snapshot": False, "relations": [16_384 + 7], "seconds": 2.0, "prepared": True, "described": "it"}
    for seen, deferred in ((left, {"public.i7"}), ({**left, "prepared": False}, set[str]())):
        found = plan(small(*many(), long_transactions=json.dumps([seen])), REINDEX, policy=FORCE)
        assert {each.object for each in found if each.decision is Decision.DEFER} == deferred


def test_groups_go_by_what_presses_most_in_them_and_the_big_go_first() -> None:
    indexes = [*many(), index(98, size=500 << 20, table_bytes=1 << 30), index(99, valid=False)]
    found = due(small(*indexes), REINDEX, policy=FORCE)
    assert found[0].members[0] == "public.i99"
    assert "first of all public.i99: it is invalid" in found[0].reason
    assert found[0].evidence["valid"] is False
    assert found[1].object == "public.i98"


def test_a_collation_that_changed_is_kept_for_each_and_due_once() -> None:
    changed: dict[str, Any] = {"collation": "german", "recorded": "1", "actual": "2"}
    facts = small(*many(**changed))
    found = due(facts, REINDEX)
    assert len(found) == 4
    of_all = {name: "2" for each in found for name in each.members}
    kept = {name: version for each in found for name, version in json.loads(str(each.evidence["collations"])).items()}
    assert kept == of_all
    runs = [past(each, {name: {"collation": "2"} for name in each.members}) for each in found]
    assert due(facts, REINDEX, history=History(own=runs)) == []
    later = [past(each, {}, days_ago=0) for each in found]  # of other members
    assert due(facts, REINDEX, history=History(own=[*later, *runs])) == []
    again = due(facts, REINDEX, history=History(own=[*later, *runs[1:]]))
    assert {each.object for each in again} == set(found[0].members), "too few to share an item"
    assert {each.hold for each in again} == {found[0].hold}
    third = small(*many(**{**changed, "actual": "3"}))
    assert len(due(third, REINDEX, history=History(own=runs))) == 4


def test_what_a_check_found_is_due_until_its_group_was_rebuilt() -> None:
    facts = small(*many())
    damage = past(None, {}, object="public.t3", operation=CHECK, days_ago=2, damaged=json.dumps(["public.i3"]))
    (damaged,) = due(facts, REINDEX, history=History(own=[damage]))
    assert (damaged.object, damaged.members) == ("public.i3", ())
    rebuilt = past(None, {"public.i3": {}}, object=damaged.hold, days_ago=1)
    assert due(facts, REINDEX, history=History(own=[rebuilt, damage])) == []
    others = past(None, {"public.i4": {}}, object=damaged.hold, days_ago=1)
    assert due(facts, REINDEX, history=History(own=[others, damage]))


def test_a_member_that_gained_little_is_left_alone_for_a_while() -> None:
    bloated: dict[str, Any] = {"least": 200_000.0, "most": 210_000.0, "how": "by statistics", "source": "estimated"}
    facts = small(*[index(n, size=400_000, **bloated) for n in range(1, 41)])
    policy = Policy(thresholds={"reindex": {"min_bytes": 1000}})
    found = due(facts, REINDEX, policy=policy)
    assert len(found) == 4
    gains = {name: gain for each in found for name, gain in json.loads(str(each.evidence["gains"])).items()}
    assert gains.keys() == {f"public.i{n}" for n in range(1, 41)}
    assert sum(gains.values()) == sum(each.estimate.gain_bytes or 0 for each in found)
    little: dict[str, Value] = {"before": 400_000, "bytes": 390_000, "predicted": 200_000}
    runs = [past(each, dict.fromkeys(each.members, little)) for each in found]
    assert due(facts, REINDEX, policy=policy, history=History(own=runs)) == []


def test_room_is_wanted_for_all_of_a_group_in_each_tablespace() -> None:
    facts = small(*many(), *[index(n, tablespace=7, size=32768) for n in range(41, 81)])
    for each in due(facts, REINDEX, policy=Policy(force=True, space_factor=1.0)):
        assert [need.folder for need in each.space] == ["tablespace 7", "data folder of the server", "pg_wal"]
        assert sum(need.needed for need in each.space[:2]) == each.evidence["bytes"]
        assert each.evidence["tablespace"] == 7


def past(
    proposal: Proposal | None, members: dict[str, dict[str, Value]], *, object: str = "",
    operation: Operation = REINDEX, days_ago: int = 1, **values: Value,
) -> Measurement:  # fmt: skip
    return Measurement(
        at=NOW - timedelta(days=days_ago), engine="postgresql", target="t", object=proposal.object if proposal else object,
        operation=operation, method="concurrently", seconds=1.0, work_bytes=1, bytes_before=1, bytes_after=1,
        values={**values, OF_MEMBERS: json.dumps(members)},
    )  # fmt: skip


# --- what a lost attempt has left ---


def intent(number: int, *, relation: int | None = None) -> Intent:
    return Intent(index=number, relation=relation or 100 + number, name=f"public.i{number}", invalid=(), bytes=8192)


def copy(oid: int, name: str, relation: int, *, comment: str | None = None) -> dict[str, Any]:
    return {"oid": oid, "name": name, "schema": "public", "relation": relation, "comment": comment}


def test_a_group_is_one_note_and_single_ones_are_still_read() -> None:
    group = [intent(1), replace(intent(2), invalid=(7, 8))]
    notes = [intent(3).text(), "", text_of(group), '{"rebuild": [3]}']
    assert attempts(notes) == [[intent(3)], group]
    assert intents(notes, "public.i2") == [group[1]]


def test_an_attempt_was_at_one_index_when_it_was_lost_so_it_left_one_copy_at_most() -> None:
    group = [intent(1), intent(2), intent(3)]
    ours, old = copy(50, "i2_ccnew", 102), copy(3, "i3_ccold", 103)
    assert of_one_at_work([ours], group) == [ours]
    assert of_one_at_work([old], group) == [old]
    assert of_one_at_work([ours, old], group) == [], "one of them is a stranger's"
    assert of_one_at_work([ours, copy(60, "i9_ccnew", 109)], group) == [ours], "that one is of no table of ours"
    marked = copy(51, "i1_ccnew", 101, comment="dbupkeep: an unfinished copy")
    assert of_one_at_work([ours, marked], group) == [ours]


def test_of_several_indexes_of_one_table_the_copy_tells_which_it_was() -> None:
    group = [intent(1, relation=100), intent(2, relation=100)]
    assert [row["oid"] for row in of_one_at_work([copy(50, "i2_ccnew", 100)], group)] == [50]
