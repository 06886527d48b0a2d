"""Where the space is: each fleet of the configuration as a heat map, and every database that the ledger knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fastapi.responses import HTMLResponse
from msgspec import Struct

from dbupkeep.definitions import Target
from dbupkeep.jobs import Job, JobType, Phase
from dbupkeep.ledger import JobQuery, Reader
from dbupkeep.views.page import filters, squares
from dbupkeep.views.page.memory import AtHand, Memory
from dbupkeep.views.page.room import room
from dbupkeep.views.page.sheet import ToLook
from dbupkeep.views.pictures.heatmap import STEPS, heatmap
from dbupkeep.views.pictures.svg import Svg

router = room()

RUNS = 10
"""Newest runs that are looked through for what is known of each database."""

OPERATIONS = 20_000
"""Operations of one run that are read."""

LISTED = 100
"""Databases in a table; of more, the biggest ones by what could be given back."""

OPERATION = (JobType.DATABASE_MAINTENANCE_OPERATION.value,)


class Fleet(Struct, frozen=True, kw_only=True):
    """Databases of one place, or those that stand alone."""

    name: str
    url: str  # empty: those of no fleet
    databases: Sequence[squares.Known]
    picture: Svg
    idle: int = 0  # that the newest run looked at, and that needed nothing
    problems: Sequence[str] = ()

    @property
    def bytes(self) -> int:
        """All that is known."""
        return sum(each.bytes or 0 for each in self.databases)

    @property
    def reclaimable(self) -> int:
        """What could be given back."""
        return sum(each.reclaimable or 0 for each in self.databases)

    @property
    def listed(self) -> Sequence[squares.Known]:
        """Those of the table."""
        return sorted(self.databases, key=lambda each: (not each.trouble, -(each.reclaimable or 0), each.name))[:LISTED]


@router.get("/databases")
def databases(sheet: ToLook, memory: AtHand, q: str = "") -> HTMLResponse:
    """All databases by their newest runs; none is opened for it."""
    reader, wanted = sheet.reader, filters.read(q)
    runs = reader.jobs(JobQuery(roots=True), limit=RUNS).jobs
    found, discoveries = _known(reader, memory, runs)
    known = [each for each in found if wanted.fits(each.parent, each.name)]
    places = [target for target in sheet.desk.config().targets.values() if target.is_fleet]
    fleets = list(_fleets(known, places, discoveries, sheet.root))
    return sheet.show(
        "databases.html", fleets=fleets, wanted=wanted, steps=STEPS, suggestions=("engine:sqlite", "engine:postgresql")
    )


def _known(reader: Reader, memory: Memory, runs: Iterable[Job]) -> tuple[Sequence[squares.Known], Sequence[Job]]:
    """Each database by the newest of some runs that was on it, and the discoveries of these runs."""
    parents: dict[str, Job] = {}
    operations: list[Job] = []
    discoveries: list[Job] = []
    for run in runs:
        below = [run] if run.type == JobType.DATABASE_MAINTENANCE_PARENT else reader.children(run.id)
        discoveries += [job for job in below if job.type == JobType.DATABASE_DISCOVERY]
        new = [job for job in below if job.phase is Phase.ORCHESTRATION and job.target and job.target not in parents]
        parents |= {job.target: job for job in new}
        if new:
            operations += reader.jobs(JobQuery(correlation_id=run.id, types=OPERATION), limit=OPERATIONS).jobs
    return squares.known(parents.values(), operations, memory.planned_bytes), discoveries


def _fleets(
    known: Sequence[squares.Known], places: Sequence[Target], discoveries: Sequence[Job], root: str
) -> Iterator[Fleet]:
    left = list(known)
    for place in places:
        below = place.url.rstrip("/") + "/"
        inside = [each for each in left if each.target.startswith(below)]
        left = [each for each in left if not each.target.startswith(below)]
        found = next((job for job in discoveries if job.target == f"discovery:{place.url}" and job.result), None)
        result = (found.result or {}) if found else {}
        idle = int((result.get("values") or {}).get("idle") or 0)
        problems = [str(message) for message in result.get("messages", ())]
        yield _fleet(place.name, place.url, inside, root, idle=idle, problems=problems)
    if left:
        yield _fleet("", "", left, root)


def _fleet(
    name: str, url: str, databases: Sequence[squares.Known], root: str, *, idle: int = 0, problems: Sequence[str] = ()
) -> Fleet:
    drawn = [each.square(f"{root}runs/{each.parent.id}") for each in databases]
    return Fleet(name=name, url=url, databases=databases, picture=heatmap(drawn), idle=idle, problems=problems)
