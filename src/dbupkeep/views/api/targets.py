"""Routes of targets: what is maintained, and what past operations took and gave."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from dbupkeep.codec import rfc3339, to_json
from dbupkeep.config.names import LONGEST_NAME
from dbupkeep.definitions import Target
from dbupkeep.documents import Document
from dbupkeep.errors import UsageError
from dbupkeep.ledger import TargetSummary
from dbupkeep.views.api.contract import NOT_FOUND, UNCHANGED
from dbupkeep.views.api.models.asked import WantedHistory
from dbupkeep.views.api.models.jobs import History
from dbupkeep.views.api.models.service import TargetDetail, TargetList
from dbupkeep.views.web.answers import answer
from dbupkeep.views.web.cursors import cursor_of, next_link, no_cursor, place_of
from dbupkeep.views.web.desk import AtDesk, Desk
from dbupkeep.views.web.orders import databases_of, key_of
from dbupkeep.views.web.roles import Viewer

router = APIRouter(tags=["targets"])

KNOWN = 500
"""Databases of a target that are listed."""

MOMENT = timedelta(microseconds=999)
"""What a measurement does not tell of its time."""

LATEST = datetime(9999, 1, 1, tzinfo=UTC)

AT_ONE_MOMENT = 10_000
"""Measurements that may have been made in one millisecond."""

HISTORY = "history"
"""What a cursor of measurements begins with."""


@router.get("/targets", response_model=TargetList, responses=UNCHANGED)
def targets(request: Request, desk: AtDesk, _caller: Viewer) -> Response:
    """The targets of the configuration, and what is known of each."""
    summaries = desk.app.reader.targets()
    found = [_target(target, databases_of(target, summaries)) for target in desk.config().targets.values()]
    return answer(request, {"targets": found})


@router.get("/targets/{name}", response_model=TargetDetail, responses=UNCHANGED | NOT_FOUND)
def target(
    request: Request, desk: AtDesk, _caller: Viewer,
    name: Annotated[str, Path(max_length=LONGEST_NAME, description="The name of a target.")],
) -> Response:  # fmt: skip
    """One target, with its databases."""
    wanted = desk.config().target(name)
    found = databases_of(wanted, desk.app.reader.targets())
    return answer(request, {**_target(wanted, found), "known": [_database(each) for each in found[:KNOWN]]})


@router.get("/history", response_model=History, responses=UNCHANGED | NOT_FOUND)
def history(request: Request, desk: AtDesk, _caller: Viewer, wanted: Annotated[WantedHistory, Query()]) -> Response:
    """What past operations took and gave, the newest first, against what was predicted. Outlives the runs themselves."""
    moment, passed = _place(wanted.cursor)
    key, until = _key(desk, wanted), moment and moment + MOMENT
    # More than one may have ended at one moment, so a place is a moment and how many of it are passed.
    found = desk.app.reader.measurements(target=key, until=until, limit=passed + wanted.limit + 1)[passed:]
    shown = found[: wanted.limit]
    document: Document = {"measurements": [{**to_json(each), "gain": each.gain} for each in shown], "cursor": None}
    if len(found) == len(shown):
        return answer(request, document)
    last = shown[-1].at
    same = sum(each.at == last for each in shown) + (passed if moment == last else 0)
    document["cursor"] = cursor_of(HISTORY, last.isoformat(), same)
    return answer(request, document, headers=next_link(request, cursor=document["cursor"]))


def _place(cursor: str) -> tuple[datetime | None, int]:
    if not cursor:
        return None, 0
    moment, passed = place_of(cursor, HISTORY, str, int)
    try:
        found = datetime.fromisoformat(str(moment)).astimezone(UTC)
        return min(found, LATEST), range(AT_ONE_MOMENT).index(int(passed))
    except (ValueError, OverflowError):
        raise no_cursor() from None


def _key(desk: Desk, wanted: WantedHistory) -> str:
    if wanted.target is None:
        return wanted.database
    found = desk.config().target(wanted.target)
    if found.is_fleet:
        raise UsageError(f"{found.name} stands for several databases", hint="name one of them by `database`")
    return key_of(found)


def _target(target: Target, known: Sequence[TargetSummary]) -> Document:
    last = known[0] if known else None
    return {
        "name": target.name,
        "engine": target.engine,
        "url": target.url,
        "several": target.is_fleet,
        "parallel": target.parallel,
        "labels": dict(target.labels),
        "databases": len(known),
        "runs": sum(each.runs for each in known),
        "last_run_at": _time(last.last_run_at) if last else None,
        "last_status": (last.last_status or None) if last else None,
    }


def _database(summary: TargetSummary) -> Document:
    return {
        "url": summary.key,
        "name": summary.name,
        "runs": summary.runs,
        "last_run_at": _time(summary.last_run_at),
        "last_status": summary.last_status or None,
    }


def _time(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None
