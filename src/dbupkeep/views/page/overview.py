"""The first page: how things are in a sentence, what runs, what was not done and why, what is next, the newest runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from fastapi.responses import HTMLResponse
from msgspec import Struct

from dbupkeep.jobs import Job, JobStatus, JobType
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.progress import Progress
from dbupkeep.views.counting import of_databases
from dbupkeep.views.page import agenda, filters, promises, trouble
from dbupkeep.views.page.headline import State, headline
from dbupkeep.views.page.memory import AtHand
from dbupkeep.views.page.remaining import Remaining, remaining
from dbupkeep.views.page.room import room
from dbupkeep.views.page.sheet import Sheet, ToLook
from dbupkeep.views.page.tables import jobs_said
from dbupkeep.views.page.tree import counted
from dbupkeep.views.reports.entries import Entry
from dbupkeep.views.scheduled import is_served
from dbupkeep.views.watching import Watch

router = room()

LOOKED_AT = 200
"""Newest runs that are looked at for what they left undone."""

SHOWN = 15
"""Runs that are listed."""

TROUBLES = 60
"""Things not done that are listed."""

SEARCHED = 1000
"""Newest runs that a filter goes over."""

DAY = timedelta(days=1)


class Past(Struct, frozen=True, kw_only=True):
    """A run in the list."""

    run: Job
    gained: int
    jobs: str  # below it, counted by their state


class Going(Struct, frozen=True, kw_only=True):
    """A run that goes on."""

    run: Job
    progress: Progress
    running: Sequence[Entry]  # operations at work
    gained: int
    left: Remaining | None


@router.get("/")
def overview(sheet: ToLook, memory: AtHand, q: str = "", before: str = "") -> HTMLResponse:
    """The overview; `q` filters the runs, `before` leads to older ones."""
    wanted, reader = filters.read(q), sheet.reader
    newest = reader.jobs(JobQuery(roots=True), limit=LOOKED_AT).jobs
    runs, older = _runs(reader, wanted, before)
    recent = [run for run in newest if (run.finished_at or sheet.now) >= sheet.now - DAY]
    once = {run.id: run for run in (*recent, *runs)}
    gained = {run_id: memory.gain(run) for run_id, run in once.items()}  # of one that goes on it is much to read
    going = [_going(sheet, run, gained[run.id]) for run in newest if not run.status.ended]
    found = trouble.troubles(reader, trouble.newest_of_each(newest))
    coming = agenda.appointments(reader, sheet.desk.config().jobs.values(), sheet.now)
    is_so = _state(sheet, found, coming, running=len(going), gained=sum(gained[run.id] for run in recent))
    return sheet.show(
        "overview.html",
        headline=headline(is_so, sheet.now),
        going=going,
        troubles=found[:TROUBLES],
        more_troubles=max(0, len(found) - TROUBLES),
        coming=coming,
        served=is_so.served,
        runs=[Past(run=run, gained=gained[run.id], jobs=_jobs(reader, run)) for run in runs],
        older=older,
        RETRY=promises.RETRY,
        wanted=wanted,
        before=before,
        suggestions=[each for each in filters.SUGGESTIONS if each.startswith("state:")],
    )


def _state(
    sheet: Sheet, found: Sequence[trouble.Trouble], coming: Sequence[agenda.Appointment], *, running: int, gained: int
) -> State:
    return State(
        databases=len(sheet.reader.targets()),
        troubled=len({each.entry.job.target for each in found}),
        failed=len({each.entry.job.target for each in found if each.sort is trouble.Sort.FAILED}),
        running=running,
        gained=gained,
        due=min((each.due for each in coming if each.due), default=None),
        served=is_served(sheet.reader, sheet.now),
    )


def _going(sheet: Sheet, run: Job, gained: int) -> Going:
    watch = Watch(reader=sheet.reader, root_id=run.id, after=sheet.seq)
    look = watch.look()
    return Going(
        run=of_databases(sheet.reader, run),
        progress=look.progress,
        running=[Entry(job=job, database=watch.place(job)) for job in look.running],
        gained=gained,
        left=remaining(run, look.progress, at_a_time=len(look.running), now=sheet.now),
    )


def _jobs(reader: Reader, run: Job) -> str:
    """What is below a run; whether a database of it is at work, only the database itself says."""
    if run.status.ended:
        return jobs_said(of_databases(reader, run))
    below = [job for job in reader.children(run.id) if job.type != JobType.DATABASE_DISCOVERY]
    return counted(below, paused=run.paused) or "nothing yet"


def _runs(reader: Reader, wanted: filters.Filter, before: str) -> tuple[Sequence[Job], str]:
    """Runs of the list, and where older ones begin; empty when there are none."""
    statuses = tuple(status for status in JobStatus if status.value in wanted.states)
    if wanted.states and not statuses:
        return [], ""
    limit = SEARCHED if wanted.words or wanted.engines else SHOWN
    page = reader.jobs(JobQuery(roots=True, statuses=statuses), cursor=before, limit=limit)
    fitting = [run for run in page.jobs if wanted.fits(run)] if limit == SEARCHED else list(page.jobs)
    shown = fitting[:SHOWN]
    return shown, shown[-1].id if len(fitting) > SHOWN else page.cursor
