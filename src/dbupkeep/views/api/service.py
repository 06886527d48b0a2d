"""Routes of the service itself: whether it does what it is there for, and who works."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

import dbupkeep
from dbupkeep.codec import rfc3339
from dbupkeep.views.api.contract import UNCHANGED
from dbupkeep.views.api.models.service import Alive, Health, WorkerList
from dbupkeep.views.condition import condition
from dbupkeep.views.web.answers import answer
from dbupkeep.views.web.desk import AtDesk
from dbupkeep.views.web.roles import Viewer

router = APIRouter(tags=["service"])

public = APIRouter(tags=["service"])
"""For who has no token."""


@public.get("/healthz", response_model=Alive)
def alive(request: Request, desk: AtDesk) -> Response:
    """That the service answers and its ledger can be read; 503 where it cannot. Says nothing else, and wants no token."""
    desk.app.reader.newest()
    return answer(request, {"status": "ok"})


@router.get("/health", response_model=Health, responses=UNCHANGED)
def health(request: Request, desk: AtDesk, _caller: Viewer) -> Response:
    """Whether runs start when they are due, succeed, and people are told; how old the last success of each job is."""
    document = condition(desk.app, desk.config()).document()
    return answer(request, {**document, "version": dbupkeep.__version__})


@router.get("/workers", response_model=WorkerList, responses=UNCHANGED)
def workers(request: Request, desk: AtDesk, _caller: Viewer) -> Response:
    """Worker processes, and what they are on."""
    found = [
        {
            "id": worker.id,
            "lanes": list(worker.lanes),
            "busy": [key.rpartition("/")[0] for key in worker.busy],
            "alive": worker.alive,
            "seen_at": rfc3339(worker.seen_at),
        }
        for worker in desk.app.queue.workers()
    ]
    return answer(request, {"workers": found})
