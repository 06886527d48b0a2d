"""The ledger's reads on named SQL statements: what each dialect shares. Each read is one short statement."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dbupkeep.errors import UnknownName
from dbupkeep.estimates import Measurement
from dbupkeep.events import Recorded
from dbupkeep.jobs import Job
from dbupkeep.ledger import Backlog, JobQuery, Page, TargetSummary
from dbupkeep.ledgers import rows
from dbupkeep.sql import SqlTx

END = "\uffff"

LATEST = datetime(9999, 12, 31, tzinfo=UTC)


class RelationalReads:
    """What faces may ask of the record; a dialect adds `health`."""

    def reading(self) -> SqlTx:
        """A connection of this thread that only reads."""
        raise NotImplementedError

    def job(self, job_id: str) -> Job | None:
        """One job by its id or an unambiguous beginning of it."""
        if not job_id:
            return None
        found = self.reading().all("jobs_like", prefix=job_id, end=job_id + END)
        if found and (len(found) == 1 or found[0]["id"] == job_id):
            return rows.job_of(found[0])
        if found:
            raise UnknownName(f"several jobs begin with {job_id}", hint="give more of the identifier")
        return None

    def jobs(self, query: JobQuery, *, cursor: str = "", limit: int = 100) -> Page:
        """Jobs by id order."""
        conditions, values = _conditions(query)
        if cursor:
            conditions.append("id < :cursor" if query.newest_first else "id > :cursor")
        direction = "desc" if query.newest_first else "asc"
        text = f"select * from jobs where {' and '.join(conditions)} order by id {direction} limit :limit"  # noqa: S608 - fixed words only
        found = self.query(text, {**values, "cursor": cursor, "limit": limit + 1})
        jobs = tuple(rows.job_of(row) for row in found[:limit])
        return Page(jobs=jobs, cursor=jobs[-1].id if len(found) > limit else "")

    def query(self, text: str, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Run a composed statement."""
        raise NotImplementedError

    def children(self, parent_id: str) -> Sequence[Job]:
        """The direct children, in order."""
        return [rows.job_of(row) for row in self.reading().all("children", parent_id=parent_id)]

    def events(self, after: int = 0, *, correlation_id: str = "", limit: int = 1000) -> Sequence[Recorded]:
        """Events with a higher number, in order."""
        if correlation_id:
            found = self.reading().all("events_of_run", correlation_id=correlation_id, after=after, limit=limit)
        else:
            found = self.reading().all("events_after", after=after, limit=limit)
        return [rows.recorded_of(row) for row in found]

    def newest(self) -> int:
        """The number of the newest event."""
        row = self.reading().one("event_newest")
        return int(row["seq"]) if row else 0

    def measurements(
        self, *, target: str = "", engine: str = "", until: datetime | None = None, limit: int = 100
    ) -> Sequence[Measurement]:
        """Measurements, newest first."""
        which = {"until": rows.moment_text(until or LATEST), "limit": limit}
        if target:
            found = self.reading().all("measurements_of_target", target=target, **which)
        elif engine:
            found = self.reading().all("measurements_of_engine", engine=engine, **which)
        else:
            found = self.reading().all("measurements", **which)
        return [rows.measurement_of(row) for row in found]

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        """A document."""
        row = self.reading().one("document", kind=kind, key=key)
        return rows.load(row["doc"]) if row else None

    def backlog(self) -> Backlog:
        """What has not ended."""
        tx = self.reading()
        waiting, out = tx.one("backlog_waiting") or {}, tx.one("backlog_out") or {}
        oldest = tx.one("job", id=waiting["oldest"]) if waiting.get("oldest") else None
        return Backlog(
            pending=waiting.get("pending") or 0,
            deliverable=out.get("deliverable") or 0,
            running=out.get("running") or 0,
            oldest_pending_at=rows.moment_or_none(oldest["created_at"]) if oldest else None,
        )

    def targets(self) -> Sequence[TargetSummary]:
        """The targets that ever had a job."""
        return [
            TargetSummary(
                key=row["target"],
                name=row["name"],
                last_run_at=rows.moment_or_none(row["last_run_at"]),
                last_status=row["status"],
                runs=row["runs"],
            )
            for row in self.reading().all("targets")
        ]


def _conditions(query: JobQuery) -> tuple[list[str], dict[str, Any]]:
    """The conditions of a query as fixed text, and its values."""
    conditions, values = ["1 = 1"], {}
    for column, wanted in (("status", query.statuses), ("type", query.types)):
        if wanted:
            names = {f"{column}_{n}": str(value) for n, value in enumerate(wanted)}
            conditions.append(f"{column} in ({', '.join(f':{name}' for name in names)})")
            values.update(names)
    if query.target:
        conditions.append("(target = :target or target like :target_end escape '!' or name = :target)")
        plain = re.sub("[!%_]", r"!\g<0>", query.target)
        values.update(target=query.target, target_end=f"%{plain}")
    if query.roots:
        conditions.append("parent_id = id")
    if query.parent_id:
        conditions.append("parent_id = :parent_id and id <> :parent_id")
        values["parent_id"] = query.parent_id
    if query.correlation_id:
        conditions.append("correlation_id = :correlation_id")
        values["correlation_id"] = query.correlation_id
    if query.released:
        conditions.append("released = 1 and status in ('pending', 'running')")
        # What lost its attempt in a paused run keeps what it holds, but is not handed out.
        paused = "select 1 from jobs r where r.id = jobs.correlation_id and r.paused = 1"
        conditions.append(f"(status = 'running' or not exists ({paused}))")
    return conditions, values
