"""What is to come: the next days with windows and predicted runs, each job in plain words, and its targets."""

from __future__ import annotations

from datetime import timedelta

from fastapi.responses import HTMLResponse

from dbupkeep.scheduler import faulty_file
from dbupkeep.views.page import agenda
from dbupkeep.views.page.room import room
from dbupkeep.views.page.sheet import ToLook
from dbupkeep.views.pictures.calendar import calendar
from dbupkeep.views.scheduled import is_served

router = room()

DAYS = 14

TABLED = 60
"""Due times in the table behind the picture."""


@router.get("/schedule")
def schedule(sheet: ToLook) -> HTMLResponse:
    """The days to come."""
    now = sheet.now.astimezone()
    until = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=DAYS)
    config = sheet.desk.config()
    coming = agenda.appointments(sheet.reader, config.jobs.values(), sheet.now)
    runs, windows = agenda.runs(coming, until), agenda.windows(coming, sheet.now, until)
    return sheet.show(
        "schedule.html",
        coming=coming,
        served=is_served(sheet.reader, sheet.now),
        picture=calendar(now.date(), DAYS, windows=windows, runs=runs, now=now),
        runs=sorted(runs, key=lambda run: run.begins)[:TABLED],
        bands=[run for run in runs if run.band],
        overruns=[run for run in runs if run.overruns],
        targets=config.targets.values(),
        file=config.file,
        faulty=faulty_file(sheet.reader),
    )
