"""What a person asks for by a button: the verbs of the command line, each a form that leads back to where it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi.responses import RedirectResponse
from msgspec.structs import replace

from dbupkeep.errors import UnknownName, UsageError
from dbupkeep.lifecycle import Lifecycle
from dbupkeep.views import moments
from dbupkeep.views.page.form import Fields
from dbupkeep.views.page.room import is_within, room
from dbupkeep.views.page.runs import place_of
from dbupkeep.views.page.sheet import Sheet, ToAct

router = room()

VERBS: Mapping[str, Callable[..., object]] = {
    "pause": Lifecycle.pause,
    "resume": Lifecycle.resume,
    "stop": Lifecycle.stop,
    "cancel": Lifecycle.cancel,
    "skip": Lifecycle.skip,
    "retry": Lifecycle.retry,
}


@router.post("/jobs/{job_id}/limits")
def limits(sheet: ToAct, fields: Fields, job_id: str) -> RedirectResponse:
    """Other limits for a run while it goes: `at_a_time` operations, an end by `until`; an empty end is none."""
    job, at_a_time, until = sheet.job(job_id), fields.get("at_a_time", ""), fields.get("until", "")
    if at_a_time and not at_a_time.isdecimal():
        raise UsageError(f"{at_a_time!r} is no number of operations", hint="give a whole number from 1 on")
    sheet.desk.app.lifecycle.limit(
        job.id,
        at_a_time=int(at_a_time) if at_a_time else None,
        until=moments.ahead(until, sheet.now) if until else None,
        open_end=not until,
        by=sheet.caller.name,
    )
    return sheet.go(place_of(job))


@router.post("/jobs/{job_id}/{verb}")
def ask(sheet: ToAct, fields: Fields, job_id: str, verb: str) -> RedirectResponse:
    """One of the verbs; the field `back` is the page to come back to."""
    if verb not in VERBS:
        raise UnknownName(f"nothing is called {verb}", hint=f"there is {', '.join(VERBS)}")
    job = sheet.job(job_id)
    VERBS[verb](sheet.desk.app.lifecycle, job.id, by=sheet.caller.name)
    back = _back(sheet, fields.get("back", ""))
    return sheet.go(place_of(job) if back is None else back)


@router.post("/schedule/start")
def start(sheet: ToAct, fields: Fields) -> RedirectResponse:
    """Start the `job` of the configuration now, whenever it is due by itself."""
    definition = replace(sheet.desk.config().job(fields.get("job", "")), requested_by=sheet.caller.name)
    run_id = sheet.desk.app.runs.create_run(definition)
    return sheet.go(f"runs/{run_id}")


def _back(sheet: Sheet, back: str) -> str | None:
    """A page of this site, as the form said it; anything else is nothing."""
    inside = back.removeprefix(sheet.root)
    return inside if back.startswith(sheet.root) and is_within(f"/{inside}") else None
