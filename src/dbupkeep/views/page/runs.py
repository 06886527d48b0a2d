"""The page of a run: how far it is, its timeline, its databases, tables and operations, and what may be asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from fastapi.responses import HTMLResponse, Response

from dbupkeep.events import Recorded
from dbupkeep.jobs import Job, JobType, Phase
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.views.page import filters, promises
from dbupkeep.views.page.lanes import Course, course
from dbupkeep.views.page.memory import AtHand
from dbupkeep.views.page.remaining import remaining
from dbupkeep.views.page.room import room
from dbupkeep.views.page.sheet import ToLook
from dbupkeep.views.page.tree import listing
from dbupkeep.views.reports.entries import Entry
from dbupkeep.views.watching import Watch

router = room()

OPERATIONS = 1500
"""Operations that a timeline is made of; of more, those that began last."""

EVENTS = 3000
"""Events of a run up to which each attempt is drawn; of a bigger one, the last attempt of each operation."""

WORK = (JobType.DATABASE_MAINTENANCE_OPERATION.value, JobType.DATABASE_DISCOVERY.value)


@router.get("/runs/{job_id}")
def run(sheet: ToLook, memory: AtHand, job_id: str, q: str = "", page: int = 1) -> HTMLResponse:
    """A run, or a database of one; `q` filters, `page` turns the pages."""
    job = sheet.job(job_id)
    reader, wanted = sheet.reader, filters.read(q)
    look = Watch(reader=reader, root_id=job.id, after=sheet.seq).look()
    children = [child for child in reader.children(job.id) if child.id != job.id]
    drawn = _course(reader, job, children, sheet.now)
    return sheet.show(
        "run.html",
        run=job,
        above=None if job.is_root else sheet.job(job.parent_id),
        top=job if job.is_root else sheet.job(job.correlation_id),
        progress=look.progress,
        running=look.running,
        gained=memory.gain(job),
        left=remaining(job, look.progress, at_a_time=len(look.running), now=sheet.now),
        course=drawn,
        listing=listing(job, children, reader.children, wanted, page),
        problems=_problems(children),
        buttons=promises.of_run(job),
        wanted=wanted,
        suggestions=filters.SUGGESTIONS,
    )


@router.get("/jobs/{job_id}")
def job(sheet: ToLook, job_id: str) -> Response:
    """Wherever a job is shown: a run has a page, an operation a place on one."""
    found = sheet.job(job_id)
    return sheet.go(place_of(found))


def place_of(job: Job) -> str:
    """Where a job is found, within the site."""
    return f"runs/{job.id}" if job.phase is Phase.ORCHESTRATION else f"runs/{job.parent_id}#{job.id}"


def _course(reader: Reader, run: Job, children: Sequence[Job], now: datetime) -> Course:
    entries = [Entry(job=job, database=name) for job, name in _operations(reader, run, children)]
    events: Sequence[Recorded] = ()
    if 0 < len(entries) <= OPERATIONS and run.is_root:
        events = reader.events(0, correlation_id=run.id, limit=EVENTS + 1)
    return course(run, entries, events if len(events) <= EVENTS else (), now)


def _operations(reader: Reader, run: Job, children: Sequence[Job]) -> Iterator[tuple[Job, str]]:
    """Operations with the names of their databases, in order."""
    names = {child.id: child.name for child in children if child.phase is Phase.ORCHESTRATION}
    if not names:
        yield from ((child, run.name) for child in children)
        return
    query = JobQuery(correlation_id=run.correlation_id, types=WORK, newest_first=True)
    found = reader.jobs(query, limit=OPERATIONS).jobs
    yield from (
        (job, names.get(job.parent_id, run.name)) for job in reversed(found) if job.parent_id in {*names, run.id}
    )


def _problems(children: Sequence[Job]) -> Sequence[str]:
    """Places that could not be maintained, as discoveries said."""
    found = [job for job in children if job.type == JobType.DATABASE_DISCOVERY]
    return [str(message) for job in found for message in (job.result or {}).get("messages", ())]
