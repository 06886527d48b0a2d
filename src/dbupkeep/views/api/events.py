"""Routes of events: what happened, and what happens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse

from dbupkeep.views.web.desk import AtDesk
from dbupkeep.views.web.roles import Viewer

router = APIRouter(tags=["events"])

Seq = Annotated[int, Query(ge=0, le=2**63 - 1, description="Begin after the event of this number.")]


@router.get("/events/stream", response_class=Response)
def stream(
    desk: AtDesk,
    _caller: Viewer,
    run: str = "",
    after: Seq | None = None,
    last_event_id: Annotated[int | None, Header(ge=0, le=2**63 - 1)] = None,
) -> Response:
    """What happens, as server-sent events: all of it, or what belongs to the run of one job."""
    place = desk.feed.begin(after if last_event_id is None else last_event_id)
    followed = desk.feed.follow(place, desk.job(run).correlation_id if run else "")
    return EventSourceResponse(followed, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
