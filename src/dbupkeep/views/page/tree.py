"""The rows of a run: database, then table, then operation; of thousands, pages. Pure, but for what `children_of` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

from msgspec import Struct

from dbupkeep.documents import progress_of
from dbupkeep.jobs import LEFT_OUT, Job, JobStatus, JobType, Phase
from dbupkeep.progress import Progress
from dbupkeep.views.lengths import took
from dbupkeep.views.page.filters import Filter
from dbupkeep.views.page.promises import Button, of_operation, of_run
from dbupkeep.views.page.signs import WORDS
from dbupkeep.views.page.trouble import Sort, sort_of
from dbupkeep.views.reports.entries import Entry

ROWS = 60
"""Operations on one page of a run of one database, about; a table is never divided."""

DATABASES = 40
"""Databases on one page of a run over several."""

BUDGET = 100
"""Operations on such a page; a database that has no room any more leads to a page of its own."""

FEW = 6
"""A database with so few operations lists them also where there is nothing to see in them."""

ChildrenOf = Callable[[str], Sequence[Job]]


class Row(Struct, frozen=True, kw_only=True, dict=True):
    """One operation, or a discovery."""

    entry: Entry

    @property
    def job(self) -> Job:
        """The job itself."""
        return self.entry.job

    @cached_property
    def progress(self) -> Progress:
        """How far it is."""
        return progress_of(self.job)

    @property
    def sort(self) -> Sort | None:
        """What is wrong with it, if something is."""
        return sort_of(self.job)

    @property
    def operation(self) -> str:
        """The word for what is done."""
        return str(self.job.config.get("operation") or "discovery")

    @property
    def object(self) -> str:
        """What it is done to; empty for the whole database."""
        return str(self.job.config.get("object") or "")

    @property
    def table(self) -> str:
        """The table that it belongs to, as the plan holds it; empty for the whole database."""
        return self.job.hold.partition("|")[2] if self.object else ""

    @property
    def blocked(self) -> str:
        """Who it waits for now, if it does."""
        stage = self.progress.stage if self.job.status is JobStatus.RUNNING else ""
        return stage if stage.startswith(("blocked by", "waiting for")) else ""

    @property
    def buttons(self) -> Sequence[Button]:
        """What may be asked of it."""
        return of_operation(self.job)

    @cached_property
    def figures(self) -> Sequence[tuple[str, Any, Any]]:
        """What was counted before and after."""
        result = self.job.result or {}
        before: Mapping[str, Any] = result.get("before") or {}
        after: Mapping[str, Any] = result.get("after") or {}
        names = dict.fromkeys((*before, *after))
        return [(name, before.get(name), after.get(name)) for name in names]

    @cached_property
    def values(self) -> Sequence[tuple[str, Any]]:
        """What else its engine measured."""
        return [
            (name, value) for name, value in ((self.job.result or {}).get("values") or {}).items() if value is not None
        ]


class Table(Struct, frozen=True, kw_only=True):
    """The operations on one table, or on the whole database."""

    name: str
    rows: Sequence[Row]

    @property
    def open(self) -> bool:
        """Whether there is something to see in it."""
        return any(row.job.status is JobStatus.RUNNING or row.sort for row in self.rows)

    @property
    def gained(self) -> int:
        """Bytes given back."""
        return sum(row.entry.gain for row in self.rows)

    @property
    def counts(self) -> str:
        """Its operations, counted by their state."""
        return counted(row.job for row in self.rows)


class Database(Struct, frozen=True, kw_only=True):
    """The operations on one database."""

    job: Job
    tables: Sequence[Table]
    progress: Progress
    took: str = ""  # for how long operations of it were at work
    single: bool = False  # the run is of this one alone
    shown: bool = True  # whether its operations are listed, or it leads to a page of its own

    @property
    def gained(self) -> int:
        """Bytes given back."""
        return sum(row.entry.gain for table in self.tables for row in table.rows)

    @property
    def open(self) -> bool:
        """Whether there is something to see in it."""
        return self.job.status in (
            JobStatus.RUNNING,
            JobStatus.FAILED,
            JobStatus.DEFERRED,
            JobStatus.CANCELLED,
        ) or bool(self.job.stats.ineffective)

    @property
    def buttons(self) -> Sequence[Button]:
        """What may be asked of it."""
        return of_run(self.job)


class Listing(Struct, frozen=True, kw_only=True):
    """One page of the rows."""

    databases: Sequence[Database]
    others: Sequence[Row]  # what is no operation on a database: discoveries
    page: int
    pages: int
    total: int  # of all pages: databases of a run over several, else operations


def listing(
    run: Job, children: Sequence[Job], children_of: ChildrenOf, wanted: Filter, page: int, *, at: str = ""
) -> Listing:
    """The rows that are wanted, of a run with these direct children: a page of them.

    Of a run of one database, whose operations have no pages of their own, the page that has the operation `at` goes before.
    """
    parents = [job for job in children if job.phase is Phase.ORCHESTRATION]
    children_of = cache(children_of)  # what is filtered is read before it is listed
    if not parents and all(job.type != JobType.DATABASE_DISCOVERY for job in children):
        return _of_one(run, children, wanted, page, at)
    others = [Row(entry=Entry(job=job, database=run.name)) for job in children if job.phase is not Phase.ORCHESTRATION]
    fitting = [job for job in _in_order(parents) if wanted.below or wanted.fits(job)]
    if wanted.below:
        found = [(job, [child for child in children_of(job.id) if wanted.fits(child, job.name)]) for job in fitting]
        pairs = [(job, operations) for job, operations in found if operations]
    else:
        pairs = [(job, []) for job in fitting]
    pages = max(1, -(-len(pairs) // DATABASES))
    number = min(max(1, page), pages)
    databases = list(_within_budget(pairs[(number - 1) * DATABASES : number * DATABASES], children_of, wanted))
    shown = [row for row in others if wanted.fits(row.job)] if number == 1 else []
    return Listing(databases=databases, others=shown, page=number, pages=pages, total=len(pairs))


def _within_budget(
    pairs: Iterable[tuple[Job, Sequence[Job]]], children_of: ChildrenOf, wanted: Filter
) -> Iterator[Database]:
    """Databases, each with its operations as long as there is room for them."""
    left = BUDGET
    for job, found in pairs:
        below = children_of(job.id)
        worth = wanted.below or job.stats.total <= FEW or job.status not in QUIET or job.stats.ineffective > 0
        shown = worth and (job.stats.total <= left or left == BUDGET)
        operations = (found or below) if shown else ()
        left -= len(operations)
        yield Database(
            job=job, tables=_tables(job, operations), progress=_progress(job, below), took=took(job, below), shown=shown
        )


QUIET = (JobStatus.COMPLETED, JobStatus.PENDING, JobStatus.SKIPPED)
"""Databases in whose operations there is nothing to see."""


def counted(jobs: Iterable[Job], *, paused: bool = False) -> str:
    """Jobs by their state: `3 done, 1 waiting`; `paused` says whether their run is."""
    counts: dict[str, int] = {}
    for job in jobs:
        word = _word(job, paused=paused)
        counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{counts[word]:,} {word}" for word in (*WORDS.values(), "paused", LEFT_OUT) if word in counts)


def _word(job: Job, *, paused: bool) -> str:
    """A parent goes on while all below it waits; people would not call that running."""
    if job.left_out:
        return LEFT_OUT
    if job.phase is Phase.ORCHESTRATION and job.status is JobStatus.RUNNING and job.stats.pending:
        return WORDS[job.status] if job.stats.running else "paused" if paused else "waiting"
    return WORDS[job.status]


_ORDER: Sequence[JobStatus] = (
    JobStatus.RUNNING, JobStatus.FAILED, JobStatus.DEFERRED, JobStatus.CANCELLED, JobStatus.PENDING,
    JobStatus.COMPLETED, JobStatus.SKIPPED,
)  # fmt: skip
"""What a person looks for first."""


def _in_order(parents: Iterable[Job]) -> Sequence[Job]:
    return sorted(parents, key=lambda job: _ORDER.index(job.status))


def _of_one(run: Job, children: Sequence[Job], wanted: Filter, page: int, at: str) -> Listing:
    """A run of one database: its tables, some on each page."""
    fitting = [job for job in children if wanted.fits(job, run.name)]
    tables = _tables(run, fitting)
    pages = _pages([len(table.rows) for table in tables])
    holding = (n for n, part in enumerate(pages, 1) if any(row.job.id == at for i in part for row in tables[i].rows))
    number = next(holding, min(max(1, page), max(1, len(pages))))
    on_page = [tables[index] for index in pages[number - 1]] if pages else []
    database = Database(
        job=run, tables=on_page, progress=_progress(run, children), took=took(run, children), single=True
    )
    return Listing(databases=[database], others=(), page=number, pages=len(pages), total=len(fitting))


def _tables(database: Job, jobs: Iterable[Job]) -> Sequence[Table]:
    """Operations by their table, in the order of the plan."""
    tables: dict[str, list[Row]] = {}
    for job in jobs:
        row = Row(entry=Entry(job=job, database=database.name))
        tables.setdefault(row.table or row.object, []).append(row)
    return [Table(name=name, rows=rows) for name, rows in tables.items()]


def _progress(job: Job, children: Sequence[Job]) -> Progress:
    return progress_of(job, [child for child in children if child.status is JobStatus.RUNNING])


def _pages(sizes: Sequence[int]) -> Sequence[range]:
    """Things of these sizes divided into pages of about `ROWS`, each a range of their numbers."""
    pages: list[range] = []
    begin = size = 0
    for number, each in enumerate(sizes):
        if size and size + each > ROWS:
            pages.append(range(begin, number))
            begin, size = number, 0
        size += each
    return [*pages, range(begin, len(sizes))] if sizes else []
