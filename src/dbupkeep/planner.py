"""From an engine's proposals to the items of a plan: redundant work removed, order and waits decided. Names no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from msgspec import structs

from dbupkeep.operations import CATALOGUE, Operation
from dbupkeep.plans import Decision, PlanItem, Proposal

WHOLE = ""
"""The hold that meets every other one."""

Work = tuple[Operation, str]
"""An operation and the object it is for; empty: the whole target."""

_FIELDS = Proposal.__struct_fields__


def lay_out(proposals: Sequence[Proposal], put_off: Mapping[Work, int] | None = None) -> tuple[PlanItem, ...]:
    """Place proposals: on one hold by rank of operation, holds in the engine's own order of benefit.

    Holds on which work was `put_off` by the runs before go first, that put off most often before all: nothing starves.
    They do not pass what needs the whole target, which may be a gate.
    Each item that runs waits for the one before it on the same hold, or on the whole target; an item whose operation
    is a gate bars those after it unless it completes.
    """
    items: list[PlanItem] = []
    last: dict[str, int] = {}  # by hold; the last one is enough, since it waits for those before it
    gates: dict[str, list[int]] = {}
    for place, proposal in enumerate(_ordered(_without_redundant(proposals), put_off or {})):
        if proposal.decision is not Decision.RUN:
            items.append(_placed(proposal, place, (), ()))
            continue
        met = {proposal.hold, WHOLE} if proposal.hold != WHOLE else {*last}
        barred_by = sorted(gate for hold in met for gate in gates.get(hold, ()))
        after = {last[hold] for hold in met if hold in last}
        items.append(_placed(proposal, place, tuple(sorted(after.union(barred_by))), tuple(barred_by)))
        last[proposal.hold] = place
        if CATALOGUE[proposal.operation].gate:
            gates.setdefault(proposal.hold, []).append(place)
    return tuple(items)


def _without_redundant(proposals: Sequence[Proposal]) -> list[Proposal]:
    covering: dict[str, list[tuple[int, Proposal]]] = {}
    for position, proposal in enumerate(proposals):
        if proposal.covers and proposal.decision is Decision.RUN:
            covering.setdefault(proposal.hold, []).append((position, proposal))
    kept = []
    for proposal in proposals:
        reason = _covered(proposal, covering) if covering else ""
        kept.append(structs.replace(proposal, decision=Decision.SKIP, reason=reason) if reason else proposal)
    return kept


def _covered(proposal: Proposal, covering: Mapping[str, Sequence[tuple[int, Proposal]]]) -> str:
    """Why another proposal, on the same hold or on the whole target, makes this one redundant, if one does."""
    reasons = [
        (position, other.covers[proposal.operation])
        for hold in {proposal.hold, WHOLE}
        for position, other in covering.get(hold, ())
        if other is not proposal and other.covers.get(proposal.operation)
    ]
    return min(reasons)[1] if reasons else ""


def _ordered(proposals: Sequence[Proposal], put_off: Mapping[Work, int]) -> list[Proposal]:
    turns = _turns(proposals)
    in_turn = sorted(range(len(proposals)), key=lambda position: (*turns[position], position))
    ordered = [proposals[position] for position in in_turn]
    age: dict[str, int] = {}
    for proposal in proposals:
        age[proposal.hold] = max(age.get(proposal.hold, 0), put_off.get((proposal.operation, proposal.object), 0))
    between = (list(part) for _, part in groupby(ordered, key=lambda proposal: proposal.hold == WHOLE))
    return [proposal for part in between for proposal in sorted(part, key=lambda proposal: -age[proposal.hold])]


def _turns(proposals: Sequence[Proposal]) -> list[tuple[int, int]]:
    """When each proposal has its turn: its hold's first position, then the rank of its operation.

    Of several of one operation on a hold, those after the first have turns of their own: what is on other holds goes
    between them, so that no long row is left to one worker at the end.
    """
    first: dict[str, int] = {}
    for position, proposal in enumerate(proposals):
        first.setdefault(proposal.hold, position)
    turns = [(0, 0)] * len(proposals)
    last: dict[str, tuple[int, Operation | None]] = {}
    by_rank = sorted(range(len(proposals)), key=lambda position: CATALOGUE[proposals[position].operation].rank)
    for position in by_rank:
        proposal = proposals[position]
        turn, operation = last.get(proposal.hold, (first[proposal.hold], None))
        turn = max(turn, position) if operation is proposal.operation else turn
        turns[position] = (turn, CATALOGUE[proposal.operation].rank)
        last[proposal.hold] = (turn, proposal.operation)
    return turns


def _placed(proposal: Proposal, place: int, after: tuple[int, ...], gates: tuple[int, ...]) -> PlanItem:
    values = {name: getattr(proposal, name) for name in _FIELDS}
    return PlanItem(**values, place=place, after=after, gates=gates)
