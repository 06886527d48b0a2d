"""Looking at a run while it goes, from whatever process: what happened since the last look, and how far it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from dbupkeep.codec import to_json
from dbupkeep.documents import progress_of
from dbupkeep.errors import UnknownName
from dbupkeep.events import JobCompleted, Recorded
from dbupkeep.jobs import WORK, Job, JobStatus, JobType, Phase
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.progress import Progress
from dbupkeep.results import gain_of

RUNNING_SHOWN = 50
"""Running operations that are looked at in one go; more than a machine can do at a time."""

BEGUN_SHOWN = 1000
"""Databases of a run that have begun which are looked at for its progress."""

PAGE = 500
PARENTS = (JobType.DATABASE_MAINTENANCE_PARENT.value,)


class Look(Struct, frozen=True, kw_only=True):
    """A run at one moment."""

    root: Job
    progress: Progress
    running: tuple[Job, ...]  # operations and discoveries at work
    news: tuple[Recorded, ...]  # what happened since the last look
    gained: int  # bytes given back so far, as far as was seen


class Watch(Struct, kw_only=True):
    """Looks at one run again and again; remembers what it has told."""

    reader: Reader
    root_id: str
    after: int = 0  # the number of the last event that was told
    _gained: int = 0
    _fraction: float = 0.0
    _names: dict[str, Job] = field(default_factory=dict)

    def look(self) -> Look:
        """The run now. A fraction never goes back. Raises `UnknownName` when the run was pruned meanwhile."""
        root = self.reader.job(self.root_id)
        if root is None:
            raise UnknownName(
                f"the run {self.root_id} is gone", hint="it was pruned; `dbupkeep jobs` lists what there is"
            )
        # Events after the job: what the job says has happened is then always among them, or comes with the next look.
        news = tuple(self._news(root))
        self._gained += sum(_gain(each) for each in news)
        running = self._running(root)
        progress = self._progress(root, running)
        return Look(root=root, progress=progress, running=running, news=news, gained=self._gained)

    def job(self, job_id: str) -> Job | None:
        """A job of the run by its id, remembered: name, config and parent never change."""
        if job_id not in self._names:
            job = self.reader.job(job_id)
            if job is None:
                return None
            self._names[job_id] = job
        return self._names[job_id]

    def place(self, job: Job) -> str:
        """The name of the database that an operation is on."""
        parent = self.job(job.parent_id)
        return parent.name if parent and parent.id != job.id else job.name

    def _news(self, root: Job) -> Iterator[Recorded]:
        while True:
            events = self.reader.events(self.after, correlation_id=root.correlation_id, limit=PAGE)
            for event in events:
                self.after = event.seq
                if root.is_root or root.id in (event.job_id, event.parent_id):
                    yield event
            if len(events) < PAGE:
                return

    def _running(self, root: Job) -> tuple[Job, ...]:
        if root.phase is Phase.EXECUTION:
            return (root,) if root.status is JobStatus.RUNNING else ()
        query = JobQuery(
            statuses=(JobStatus.RUNNING,), types=WORK, correlation_id=root.correlation_id, newest_first=False
        )
        found = self.reader.jobs(query, limit=RUNNING_SHOWN).jobs
        return found if root.is_root else tuple(job for job in found if job.parent_id == root.id)

    def _progress(self, root: Job, running: Sequence[Job]) -> Progress:
        """How far the run is; its databases count with what has ended in them, also while nothing of them runs."""
        growing = any(job.type == JobType.DATABASE_DISCOVERY for job in running)
        progress = progress_of(root, self._children(root, running), still_growing=growing)
        if progress.fraction is None:
            return progress
        self._fraction = max(self._fraction, progress.fraction)
        return replace(progress, fraction=self._fraction)

    def _children(self, root: Job, running: Sequence[Job]) -> list[Job]:
        """What of the run is under way right below it, parents with their own progress filled in."""
        direct = [job for job in running if job.parent_id == root.id]
        if root.type != JobType.MAINTENANCE_RUN or root.status.ended:
            return direct
        parents = {job.id: job for job in begun(self.reader, root.id)}
        below: dict[str, list[Job]] = {}
        for job in running:
            if job.parent_id != root.id:
                below.setdefault(job.parent_id, []).append(job)
        for parent_id in below:
            if parent_id not in parents and (parent := self.reader.job(parent_id)) is not None:
                parents[parent_id] = parent
        return direct + [with_progress(parent, below.get(parent_id, ())) for parent_id, parent in parents.items()]


def begun(reader: Reader, run_id: str = "") -> Sequence[Job]:
    """Databases of a run (of all runs) that have not ended and of which something has: they count while nothing runs."""
    query = JobQuery(statuses=(JobStatus.RUNNING,), types=PARENTS, correlation_id=run_id, newest_first=False)
    return [job for job in reader.jobs(query, limit=BEGUN_SHOWN).jobs if not job.is_root and job.stats.weight_ended]


def with_progress(parent: Job, running: Sequence[Job], *, still_growing: bool = False) -> Job:
    """A parent with its progress filled in, which that of the run above it is made of."""
    return replace(parent, progress=to_json(progress_of(parent, running, still_growing=still_growing)))


def _gain(recorded: Recorded) -> int:
    event = recorded.event
    return gain_of(event.result) if isinstance(event, JobCompleted) else 0
