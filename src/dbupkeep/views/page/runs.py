"""The page of a run: how far it is, its timeline, its databases, tables and operations, and what may be asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from fastapi.responses import HTMLResponse, Response

from dbupkeep.events import Recorded
from dbupkeep.jobs import WORK, Job, JobStatus, JobType, Phase
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.views import words
from dbupkeep.views.lengths import took
from dbupkeep.views.page import filters, promises
from dbupkeep.views.page.lanes import GHOSTS, Course, course
from dbupkeep.views.page.memory import AtHand, Memory
from dbupkeep.views.page.remaining import remaining
from dbupkeep.views.page.room import room
from dbupkeep.views.page.sheet import ToLook
from dbupkeep.views.page.signs import state
from dbupkeep.views.page.tree import counted, listing
from dbupkeep.views.reports.entries import Entry
from dbupkeep.views.reports.html import run_html
from dbupkeep.views.reports.run import of_run
from dbupkeep.views.watching import Watch

router = room()

OPERATIONS = 10_000
"""Operations that a timeline is made of; of more, those that were planned last."""

EVENTS = 3000
"""Events of a run up to which each attempt is drawn; of a bigger one, the last attempt of each operation."""

REPORTED = 50_000
"""Events that a report is made of, about."""

BEGUN = (JobStatus.RUNNING, JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.DEFERRED)

GOING = 200
"""Runs that go on among which one of the same name is looked for."""


@router.get("/runs/{job_id}")
def run(sheet: ToLook, memory: AtHand, job_id: str, q: str = "", page: int = 1, at: str = "") -> Response:
    """A run, or a database of one; `q` filters, `page` turns the pages, `at` finds the one that a job is on."""
    job = sheet.job(job_id)
    if job.phase is Phase.EXECUTION:
        return sheet.go(place_of(job))
    reader, wanted = sheet.reader, filters.read(q)
    look = Watch(reader=reader, root_id=job.id, after=sheet.seq).look()
    children = reader.children(job.id)
    top = job if job.is_root else sheet.job(job.correlation_id)
    drawn = _course(reader, job, children, sheet.now)
    return sheet.show(
        "run.html",
        run=job,
        above=None if job.is_root else sheet.job(job.parent_id),
        top=top,
        progress=look.progress,
        running=look.running,
        gained=memory.gain(job),
        gained_by=_gained_by(memory),
        said=_said(children, paused=top.paused and not top.status.ended),
        left=remaining(job, look.progress, at_a_time=len(look.running), now=sheet.now),
        course=drawn,
        listing=listing(job, children, reader.children, wanted, page, at=at),
        problems=_problems(children),
        other=_other(reader, job),
        buttons=promises.of_run(job),
        wanted=wanted,
        suggestions=filters.SUGGESTIONS,
    )


@router.get("/runs/{job_id}/report.html")
def report(sheet: ToLook, memory: AtHand, job_id: str) -> Response:
    """The report of a run as one file that needs nothing else, to keep, to mail, or to attach to a ticket."""
    job, reader = sheet.job(job_id), sheet.reader
    found = of_run(job, reader.children, _events(reader, job))
    gained = memory.gain(job)
    back = f"{words.size(gained)} given back" if gained > 0 else ""
    headline = words.listed([words.name(job.name), state(job), back, took(job), _said(reader.children(job.id))])
    kept = {"Content-Disposition": f'attachment; filename="dbupkeep-{job.id[:13]}.html"'}
    return HTMLResponse(run_html(found, headline=headline, now=sheet.now), headers=kept)


@router.get("/jobs/{job_id}")
def job(sheet: ToLook, job_id: str) -> Response:
    """Wherever a job is shown: a run has a page, an operation a place on one."""
    found = sheet.job(job_id)
    return sheet.go(place_of(found))


def place_of(job: Job) -> str:
    """Where a job is found, within the site."""
    return f"runs/{job.id}" if job.phase is Phase.ORCHESTRATION else f"runs/{job.parent_id}?at={job.id}#{job.id}"


def _course(reader: Reader, run: Job, children: Sequence[Job], now: datetime) -> Course:
    entries = [Entry(job=job, database=name) for job, name in _operations(reader, run, children)]
    events: Sequence[Recorded] = ()
    if 0 < len(entries) <= EVENTS:
        events = reader.events(0, correlation_id=run.correlation_id, limit=EVENTS + 1)
    return course(run, entries, events if len(events) <= EVENTS else (), now)


def _operations(reader: Reader, run: Job, children: Sequence[Job]) -> Iterator[tuple[Job, str]]:
    """Operations that have begun, and the next ones, with the names of their databases, in order."""
    names = {child.id: child.name for child in children if child.phase is Phase.ORCHESTRATION}
    if not names:
        yield from ((child, run.name) for child in children)
        return
    begun = JobQuery(correlation_id=run.correlation_id, types=WORK, statuses=BEGUN)
    waiting = JobQuery(correlation_id=run.correlation_id, types=WORK, statuses=(JobStatus.PENDING,), newest_first=False)
    for job in (*reversed(reader.jobs(begun, limit=OPERATIONS).jobs), *reader.jobs(waiting, limit=GHOSTS).jobs):
        if job.parent_id in names or job.parent_id == run.id:
            yield job, names.get(job.parent_id, run.name)


def _gained_by(memory: Memory) -> Callable[[Job], str]:
    """What a database gave back, in words; empty where it is nothing."""

    def said(job: Job) -> str:
        gained = memory.gain(job)
        return words.size(gained) if gained > 0 else ""

    return said


def _other(reader: Reader, run: Job) -> Job | None:
    """An older run of the same name that goes on as well, so that this one waits for what it holds."""
    if run.status.ended or not run.is_root:
        return None
    going = reader.jobs(JobQuery(roots=True, statuses=(JobStatus.PENDING, JobStatus.RUNNING)), limit=GOING).jobs
    return next((each for each in going if each.name == run.name and each.created_at < run.created_at), None)


def _said(children: Sequence[Job], *, paused: bool = False) -> str:
    """The operations of a run, or its databases, counted by their state."""
    databases = [job for job in children if job.phase is Phase.ORCHESTRATION]
    idle = sum(int(((job.result or {}).get("values") or {}).get("idle") or 0) for job in children)
    if not databases and not idle:
        operations = [job for job in children if job.type != JobType.DATABASE_DISCOVERY]
        lost = any(job.status is JobStatus.FAILED for job in children if job not in operations)
        return counted(operations) or ("discovery failed" if lost else "nothing yet")
    quiet = [f"{idle:,} needed nothing"] if idle else []
    return (
        words.counted(len(databases) + idle, "database")
        + ": "
        + ", ".join(filter(None, [counted(databases, paused=paused), *quiet]))
    )


def _events(reader: Reader, run: Job) -> Sequence[Recorded]:
    """What happened in the run of a job, from its beginning."""
    found: list[Recorded] = []
    while len(found) < REPORTED and (
        more := reader.events(found[-1].seq if found else 0, correlation_id=run.correlation_id)
    ):
        found += more
    return found


def _problems(children: Sequence[Job]) -> Sequence[str]:
    """Places that could not be maintained, as discoveries said."""
    found = [job for job in children if job.type == JobType.DATABASE_DISCOVERY]
    return [str(message) for job in found for message in (job.result or {}).get("messages", ())]
