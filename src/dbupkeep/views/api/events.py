"""Routes of events: what happened, and what happens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse

from dbupkeep.documents import event_document
from dbupkeep.views.api.contract import NOT_FOUND, STREAM, UNCHANGED
from dbupkeep.views.api.models.asked import LARGEST, WantedEvents
from dbupkeep.views.api.models.jobs import EventList
from dbupkeep.views.api.models.words import Word
from dbupkeep.views.web.answers import answer
from dbupkeep.views.web.cursors import next_link
from dbupkeep.views.web.desk import AtDesk, Desk
from dbupkeep.views.web.roles import Viewer

router = APIRouter(tags=["events"])


@router.get("/events", response_model=EventList, responses=UNCHANGED | NOT_FOUND)
def events(request: Request, desk: AtDesk, _caller: Viewer, wanted: Annotated[WantedEvents, Query()]) -> Response:
    """What happened, in order: to all jobs, or to those of one run."""
    run = desk.run(wanted.run).id if wanted.run else ""
    return some_events(request, desk, run, after=wanted.after, limit=wanted.limit)


@router.get("/events/stream", response_class=Response, responses=STREAM | NOT_FOUND)
def event_stream(
    desk: AtDesk,
    _caller: Viewer,
    run: Annotated[Word, Query(description="Events of this run.")] = "",
    after: Annotated[int | None, Query(ge=0, le=LARGEST, description="Begin after the event of this number.")] = None,
    last_event_id: Annotated[int | None, Header(ge=0, le=LARGEST, description="The same, as browsers say it.")] = None,
) -> Response:
    """What happens, as server-sent events: all of it, or what belongs to one run; from now on where no number is given.

    A message with an `id` is one event (see `Event`); none is left out and none comes twice, also over a restart of the
    service, for who comes back with the last `id`. A message `progress` has no `id`: it tells how far what runs is now.
    """
    found = desk.run(run).id if run else ""
    place = desk.feed.begin(after if last_event_id is None else last_event_id)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return EventSourceResponse(desk.feed.follow(place, found), headers=headers)


def some_events(request: Request, desk: Desk, run: str, *, after: int, limit: int) -> Response:
    """A page of events."""
    found = desk.app.reader.events(after, correlation_id=run, limit=limit)
    last = found[-1].seq if found else after
    document = {"events": [event_document(each) for each in found], "after": last}
    return answer(request, document, headers=next_link(request, after=last) if len(found) == limit else {})
