"""Routes of the audit trail and of tokens: for administrators, since both tell who does what."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from dbupkeep.documents import act_document, trail_document
from dbupkeep.ledger import verified
from dbupkeep.views.api.contract import UNCHANGED
from dbupkeep.views.api.models.service import ActList, Verification
from dbupkeep.views.web.answers import answer
from dbupkeep.views.web.cursors import next_link
from dbupkeep.views.web.desk import AtDesk
from dbupkeep.views.web.roles import Admin

router = APIRouter(tags=["audit"])

MOST = 1000
"""Entries in one answer."""

Before = Annotated[int, Query(ge=0, le=2**62, description="Only entries below this number; 0: from the newest on.")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="How many.")]
Words = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")]


@router.get("/audit", response_model=ActList, responses=UNCHANGED)
def audit(
    request: Request, desk: AtDesk, _caller: Admin, before: Before = 0, limit: Limit = 100, who: Words = "",
    what: Words = "",
) -> Response:  # fmt: skip
    """What was asked for, newest first; `next` is the `before` of the following page, null on the last one."""
    found = desk.app.ledger.acts(before=before, who=who, what=what, limit=limit)
    following = found[-1].seq if len(found) == limit and found[-1].seq > 1 else None
    document = {"acts": [act_document(each) for each in found], "next": following}
    return answer(request, document, headers=next_link(request, before=following) if following else {})


@router.get("/audit/verification", response_model=Verification, responses=UNCHANGED)
def verification(request: Request, desk: AtDesk, _caller: Admin) -> Response:
    """Whether the trail is whole, as far as its seals say, and the newest seal."""
    ends, faults = verified(desk.app.ledger)
    return answer(request, trail_document(ends, list(islice(faults, MOST))))
