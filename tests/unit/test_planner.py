"""How proposals become items of a plan, against the rules written down plainly."""

from __future__ import annotations

import random

import pytest

from dbupkeep.operations import CATALOGUE, Operation
from dbupkeep.planner import lay_out
from dbupkeep.plans import Decision, PlanItem, Proposal

RUN, SKIP = Decision.RUN, Decision.SKIP


def proposal(operation: Operation, hold: str = "", *, decision: Decision = RUN, **more: object) -> Proposal:
    return Proposal(operation=operation, object=hold, hold=hold, decision=decision, reason="due", **more)  # type: ignore[arg-type]


def meets(one: PlanItem, other: PlanItem) -> bool:
    return not one.hold or not other.hold or one.hold == other.hold


def ancestors(items: tuple[PlanItem, ...], item: PlanItem) -> set[int]:
    return {*item.after}.union(*(ancestors(items, items[place]) for place in item.after))


def test_what_covers_an_operation_on_the_whole_target_makes_it_redundant() -> None:
    covering = proposal(Operation.VACUUM, covers={Operation.REINDEX: "VACUUM rebuilds every index"})
    items = lay_out([proposal(Operation.REINDEX, "orders"), covering])
    reindex = next(item for item in items if item.operation is Operation.REINDEX)
    assert (reindex.decision, reindex.reason) == (SKIP, "VACUUM rebuilds every index")


def test_what_does_not_run_covers_nothing() -> None:
    covering = proposal(Operation.VACUUM, decision=SKIP, covers={Operation.REINDEX: "rebuilt"})
    assert lay_out([covering, proposal(Operation.REINDEX)])[1].decision is RUN


def test_of_many_on_one_hold_those_on_others_go_between() -> None:
    indexes = [proposal(Operation.REINDEX, hold) for hold in ("orders", "items", "orders", "orders", "items")]
    items = lay_out([*indexes, proposal(Operation.ANALYZE, "orders")])
    assert [item.hold for item in items] == ["orders", "items", "orders", "orders", "orders", "items"]
    assert [item.after for item in items] == [(), (), (0,), (2,), (3,), (1,)]
    assert items[4].operation is Operation.ANALYZE


@pytest.mark.parametrize("seed", range(200))
def test_no_two_operations_meet_and_gates_bar_all_that_follows(seed: int) -> None:
    chance = random.Random(seed)
    proposals = [
        proposal(
            chance.choice(list(Operation)), chance.choice(["", "a", "b", "c"]), decision=chance.choice([RUN, SKIP])
        )
        for _ in range(chance.randrange(9))
    ]
    items = lay_out(proposals)
    assert [item.place for item in items] == list(range(len(proposals)))
    for item in items:
        before = [other for other in items[: item.place] if other.decision is RUN and meets(item, other)]
        if item.decision is RUN:
            assert {other.place for other in before} <= ancestors(items, item)
            assert set(item.gates) == {other.place for other in before if CATALOGUE[other.operation].gate}
        else:
            assert not item.after
            assert not item.gates
