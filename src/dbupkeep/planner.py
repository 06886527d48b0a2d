"""From an engine's proposals to the items of a plan: redundant work removed, order and waits decided. Names no engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dbupkeep.operations import CATALOGUE
from dbupkeep.plans import Decision, PlanItem, Proposal


def lay_out(proposals: Sequence[Proposal]) -> tuple[PlanItem, ...]:
    """Place proposals: on one hold by rank of operation, holds in the engine's own order of benefit.

    Each item that runs waits for the one before it on the same hold, or on the whole target; an item whose operation
    is a gate bars those after it unless it completes.
    """
    ordered = _ordered(_without_redundant(proposals))
    items: list[PlanItem] = []
    for place, proposal in enumerate(ordered):
        before = [item for item in items if item.decision is Decision.RUN and _meet(item.hold, proposal.hold)]
        runs = proposal.decision is Decision.RUN
        gates = tuple(item.place for item in before if CATALOGUE[item.operation].gate)
        last = _last_of_each_hold(before)
        items.append(_placed(proposal, place, tuple(sorted({*last, *gates})) if runs else (), gates if runs else ()))
    return tuple(items)


def _without_redundant(proposals: Sequence[Proposal]) -> list[Proposal]:
    kept = []
    for proposal in proposals:
        reason = _covered(proposal, proposals)
        kept.append(dataclasses.replace(proposal, decision=Decision.SKIP, reason=reason) if reason else proposal)
    return kept


def _covered(proposal: Proposal, proposals: Sequence[Proposal]) -> str:
    """Why another proposal makes this one redundant, if one does."""
    for other in proposals:
        if other is not proposal and other.decision is Decision.RUN and _contains(other.hold, proposal.hold):
            reason = other.covers.get(proposal.operation)
            if reason:
                return reason
    return ""


def _ordered(proposals: Sequence[Proposal]) -> list[Proposal]:
    first: dict[str, int] = {}
    for position, proposal in enumerate(proposals):
        first.setdefault(proposal.hold, position)
    return sorted(proposals, key=lambda proposal: (first[proposal.hold], CATALOGUE[proposal.operation].rank))


def _last_of_each_hold(items: Sequence[PlanItem]) -> set[int]:
    """It is enough to wait for the last item of each hold: that one waits for those before it."""
    return set({item.hold: item.place for item in items}.values())


def _meet(one: str, other: str) -> bool:
    return not one or not other or one == other


def _contains(outer: str, inner: str) -> bool:
    return not outer or outer == inner


def _placed(proposal: Proposal, place: int, after: tuple[int, ...], gates: tuple[int, ...]) -> PlanItem:
    values = {field.name: getattr(proposal, field.name) for field in dataclasses.fields(Proposal)}
    return PlanItem(**values, place=place, after=after, gates=gates)
