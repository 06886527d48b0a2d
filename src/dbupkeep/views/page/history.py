"""What upkeep has given over time, and how right its predictions were: for all databases, or for one."""

from __future__ import annotations

from fastapi.responses import HTMLResponse

from dbupkeep.ledger import JobQuery
from dbupkeep.views import words
from dbupkeep.views.page import past
from dbupkeep.views.page.memory import AtHand
from dbupkeep.views.page.room import room
from dbupkeep.views.page.sheet import ToLook
from dbupkeep.views.pictures.gains import gains
from dbupkeep.views.pictures.scatter import scatter

router = room()

RUNS = 60
"""Runs that are drawn."""

SAMPLES = 10_000
"""Measurements that are looked at, the newest ones."""

POINTS = 600
"""Predictions that are drawn, the newest ones."""

LISTED = 25
"""Measurements, and things that grow back, that are listed."""


@router.get("/history")
def history(sheet: ToLook, memory: AtHand, target: str = "") -> HTMLResponse:
    """The past; `target` is the key of one database."""
    reader = sheet.reader
    samples = reader.measurements(target=target, limit=SAMPLES)
    runs = reader.jobs(JobQuery(roots=True), limit=RUNS).jobs
    gained_by = past.gained_on(samples, target) if target else memory.gain
    tallies = [each for each in past.tallies(runs, samples, gained_by) if each.gained or each.run.stats.completed]
    days = len({(each.run.started_at or each.run.created_at).astimezone().date() for each in tallies}) > 1
    seconds = past.points(samples[:POINTS], of="seconds")
    gained = past.points(samples[:POINTS], of="bytes")
    return sheet.show(
        "history.html",
        target=target,
        tallies=tallies,
        gains=gains([each.bar(f"{sheet.root}runs/{each.run.id}", days=days) for each in tallies]),
        seconds=seconds,
        seconds_picture=scatter(seconds, title="seconds, predicted against actual", told=words.duration),
        seconds_off=past.off_by(seconds),
        gained=gained,
        gained_picture=scatter(gained, title="bytes given back, predicted against actual", told=words.size, base=16.0),
        gained_off=past.off_by(gained),
        regrowths=past.regrowths(samples)[:LISTED],
        samples=samples[:LISTED],
        targets=sorted({sample.target for sample in samples}) if not target else (),
        place=words.place,
    )
