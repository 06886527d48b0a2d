"""Routes of the audit trail and of tokens: for administrators, since both tell who does what."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query

from dbupkeep.audit import everything, faults
from dbupkeep.documents import act_document
from dbupkeep.views.web.desk import AtDesk
from dbupkeep.views.web.roles import Admin

router = APIRouter(tags=["audit"])

MOST = 1000
"""Entries in one answer."""

Before = Annotated[int, Query(ge=0, le=2**62, description="Only entries below this number; 0: from the newest on.")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="How many.")]
Word = Annotated[str, Query(max_length=200)]


@router.get("/audit")
def audit(
    desk: AtDesk, _caller: Admin, before: Before = 0, limit: Limit = 100, who: Word = "", what: Word = ""
) -> dict[str, Any]:
    """What was asked for, newest first; `next` is the `before` of the following page, null on the last one."""
    found = desk.app.ledger.acts(before=before, who=who, what=what, limit=limit)
    return {
        "acts": [act_document(each) for each in found],
        "next": found[-1].seq if len(found) == limit and found[-1].seq > 1 else None,
    }


@router.get("/audit/verification")
def verification(desk: AtDesk, _caller: Admin) -> dict[str, Any]:
    """Whether the trail is whole, as far as its seals say, and the newest seal."""
    trail = desk.app.ledger
    ends = trail.ends()
    found = list(islice(faults(everything(trail.acts_after), ends), MOST))
    return {
        "whole": not found,
        "faults": found,
        "pruned": ends.pruned,
        "newest": {"number": ends.last, "seal": ends.last_seal},
    }
