"""From what a person calls a job to the job."""

from __future__ import annotations

from dbupkeep.errors import UnknownName
from dbupkeep.jobs import Job, JobStatus
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.logs import printable


def find(reader: Reader, text: str) -> Job:
    """A job by its id, by a beginning of it, as `RUN/2` for the second job below a run, or the `last` run.

    A run and its operations are made in the same moment and so begin alike; the run goes first. Raises `UnknownName`.
    """
    first, *places = text.split("/")
    job = _root(reader, first) or reader.job(first)
    if job is None:
        raise UnknownName(f"there is no job {printable(text)}", hint="`dbupkeep jobs --all` lists them")
    for place in places:
        children = reader.children(job.id)
        if not place.isdecimal() or not 0 < int(place) <= len(children):
            raise UnknownName(f"{job.name} has no job number {printable(place)}", hint=f"it has {len(children)}")
        job = children[int(place) - 1]
    return job


def newest_unfinished(reader: Reader) -> Job:
    """The newest run that has not ended. Raises `UnknownName`."""
    running = JobQuery(roots=True, statuses=(JobStatus.PENDING, JobStatus.RUNNING))
    jobs = reader.jobs(running, limit=1).jobs
    if not jobs:
        raise UnknownName("there is no run to resume", why="all have ended", hint="`dbupkeep jobs` lists them")
    return jobs[0]


def _root(reader: Reader, text: str) -> Job | None:
    if text == "last":
        page = reader.jobs(JobQuery(roots=True), limit=1)
        return page.jobs[0] if page.jobs else None
    if not text:
        return None
    # Ids are texts in order, so those that begin with `text` come right after it.
    page = reader.jobs(JobQuery(roots=True, newest_first=False), cursor=text, limit=2)
    found = [job for job in page.jobs if job.id.startswith(text)]
    return found[0] if len(found) == 1 else None
