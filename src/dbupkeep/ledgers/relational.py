"""The ledger's writes on named SQL statements: what each dialect shares.

A dialect gives transactions (`SqlTx`) and their durability; everything that the port promises of one transaction's
content is here, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from dbupkeep.clock import Clock
from dbupkeep.codec import to_json
from dbupkeep.errors import IllegalTransition, UnknownName
from dbupkeep.estimates import Measurement
from dbupkeep.events import Event, JobRetried, JobSubmitted, LimitsChanged, RunPaused, RunResumed
from dbupkeep.jobs import Delivery, Job, JobStatus, Phase, apply, shift
from dbupkeep.ledger import Change, Control, Place, Wait
from dbupkeep.ledgers import rows
from dbupkeep.progress import Progress
from dbupkeep.sql import SqlTx

LAST = 2**31 - 1
"""No child stands there, or behind it."""


class RelationalTx:
    """An open transaction, with the reads that the ledger port promises inside it."""

    def __init__(self, sql: SqlTx, clock: Clock) -> None:
        """Stand on a dialect's transaction."""
        self.sql = sql
        self.clock = clock
        self._known: dict[str, Job] = {}  # nobody else changes them before the transaction ends

    def job(self, job_id: str) -> Job | None:
        """One job, locked until the transaction ends."""
        job = self._known.get(job_id)
        if job is None and (row := self.sql.one("job", id=job_id)):
            job = self._known[job_id] = rows.job_of(row)
        return job

    def keep(self, job: Job) -> None:
        """Know a job as it was written."""
        self._known[job.id] = job

    def forget(self, job_id: str = "") -> None:
        """Read a job anew (none named: all), since a statement changed what is not known here."""
        if job_id:
            self._known.pop(job_id, None)
        else:
            self._known.clear()

    def lock_target(self, target: str) -> bool:
        """See that nobody else releases on a target before the transaction ends; whether that had to be waited for."""
        return False

    def before(self, job: Job) -> Job | None:
        """The newest ended job that was to do the same on the same target, before this one."""
        asked = {"target": job.target, "type": str(job.type), "config": rows.dump(job.config), "id": job.id}
        row = self.sql.one("job_before", **asked)
        return rows.job_of(row) if row else None

    def unended(self, parent_id: str, *, before: Place | None = None, limit: int | None = None) -> Sequence[Job]:
        """The children that have not ended, in order."""
        if limit is None:
            return [rows.job_of(row) for row in self.sql.all("jobs_unended", parent_id=parent_id)]
        place, job_id = before or (LAST, "")
        found = self.sql.all("jobs_unended_last", parent_id=parent_id, place=place, id=job_id, limit=limit)
        return [rows.job_of(row) for row in reversed(found)]

    def children(self, parent_id: str) -> Sequence[Job]:
        """All direct children, in order."""
        return [rows.job_of(row) for row in self.sql.all("children", parent_id=parent_id)]

    def out(self, correlation_id: str) -> Sequence[Job]:
        """The operations of a run that are deliverable and have not ended."""
        return [rows.job_of(row) for row in self.sql.all("out_of_run", correlation_id=correlation_id)]

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        """A document."""
        row = self.sql.one("document", kind=kind, key=key)
        return rows.load(row["doc"]) if row else None


class RelationalWrites:
    """The ledger's writes; each takes the transaction that it belongs to."""

    def insert(self, tx: RelationalTx, jobs: Sequence[Job], waits: Sequence[Wait], slots: Mapping[str, int]) -> None:
        """Add new jobs in order, each with its event, its parent's counts, and its waits."""
        new = {job.id: job for job in jobs}
        _check_parents(tx, jobs, new)
        counted = _with_counts(jobs, new)
        waits = _once_each(waits)
        waiting = Counter(wait.job_id for wait in waits)
        now = tx.clock.now()
        for job in counted:
            tx.sql.run("job_insert", **rows.job_row(job, waiting[job.id]))
            tx.sql.run("event_insert", **rows.event_row(job, JobSubmitted(), now))
        for job in counted:
            if job.parent_id not in new:
                self._shift_parent(tx, before=None, after=job)
        for wait in waits:
            tx.sql.run("wait_insert", on_id=wait.on_id, job_id=wait.job_id, gate=int(wait.gate))
        for on_id in {wait.on_id for wait in waits if wait.job_id not in new}:
            _withhold(tx, on_id)
            tx.forget()
        for job_id in {wait.job_id for wait in waits if wait.on_id not in new or wait.job_id not in new}:
            tx.sql.run("wait_count", id=job_id)
        root = tx.job(jobs[0].correlation_id) if jobs else None
        limit = root.at_a_time if root else 0
        for target, count in sorted(slots.items()):
            tx.sql.run("slots_set", target=target, slots=limit or count)

    def append(self, tx: RelationalTx, job_id: str, event: Event, attempt: int | None = None) -> Change | None:
        """The one write of a job's life; None when it came from an attempt that is not the current one."""
        before = tx.job(job_id)
        if before is None and attempt is not None:  # its run was pruned meanwhile
            return None
        if before is None:
            raise UnknownName(f"no job {job_id}", hint="list them with `dbupkeep jobs`")
        if attempt is not None and (before.attempt != attempt or before.status is not JobStatus.RUNNING):
            return None
        now = tx.clock.now()
        after = apply(before, event, now)
        if after != before:
            tx.sql.run("job_update", **rows.state_row(after))
            tx.keep(after)
        tx.sql.run("event_insert", **rows.event_row(after, event, now))
        parent = None if after.is_root else self._shift_parent(tx, before=before, after=after)
        touched, barred = self._consequences(tx, before, after, event)
        return Change(before=before, after=after, parent=parent, touched=touched, barred=barred)

    def release(self, tx: RelationalTx, targets: Collection[str]) -> Sequence[Delivery]:
        """Make jobs of these targets deliverable, as far as slots and holds allow."""
        released: list[Delivery] = []
        for target in sorted(set(targets)):
            tx.lock_target(target)
            free = (tx.sql.one("slots_free", target=target) or {"free": 0})["free"]
            while free > 0 and (found := self._release_some(tx, target, free)):
                released.extend(found)
                free -= len(found)
        return released

    def _release_some(self, tx: RelationalTx, target: str, free: int) -> list[Delivery]:
        """Up to `free` deliveries; fewer, though more are ready, where many of the next ones want one hold."""
        released: list[Delivery] = []
        for row in tx.sql.all("ready", target=target, limit=free):
            if tx.sql.run("hold_take", job_id=row["id"]):
                tx.sql.run("released_set", id=row["id"], released=1)
                tx.forget(row["id"])
                released.append(Delivery(job_id=row["id"], attempt=row["attempt"] + 1, lane=row["lane"]))
        return released

    def put(self, tx: RelationalTx, kind: str, key: str, doc: Mapping[str, Any], version: int | None = None) -> bool:
        """Store a document; with `version`, only over that version (0: only a new one)."""
        values = {"kind": kind, "key": key, "doc": rows.dump(doc), "updated_at": rows.moment_text(tx.clock.now())}
        if version is None:
            return bool(tx.sql.run("document_put", **values))
        if version == 0:
            return bool(tx.sql.run("document_insert", **values))
        return bool(tx.sql.run("document_update", **values, version=version))

    def measure(self, tx: RelationalTx, sample: Measurement) -> None:
        """Keep a measurement."""
        tx.sql.run("measurement_insert", **rows.measurement_row(sample))

    def report(self, tx: RelationalTx, job_id: str, attempt: int, progress: Progress | None) -> Control:
        """Keep the last progress of a running attempt; say what is wanted of it."""
        state = tx.sql.one("job_control", id=job_id)
        if state is None or state["attempt"] != attempt or state["status"] != JobStatus.RUNNING:
            return Control(fenced=True)
        if progress is not None:
            tx.sql.run("job_progress", id=job_id, attempt=attempt, progress=rows.dump(to_json(progress)))
        until = rows.moment_or_none(state["until"])
        return Control(cancel=bool(state["cancel_requested"]), paused=bool(state["paused"]), until=until)

    def prune_some(self, tx: RelationalTx, before: datetime, limit: int = 100) -> tuple[int, int]:
        """Remove up to `limit` ended runs with all their jobs, and old plans that were never carried out.

        Returns how many runs and jobs were removed.
        """
        runs = tx.sql.all("prunable", before=rows.moment_text(before), limit=limit)
        tx.sql.run("prune_saved", before=rows.moment_text(before))
        removed = 0
        for run in runs:
            for statement in (
                "prune_waits",
                "prune_events",
                "prune_plans",
                "prune_blocking",
                "prune_definition",
                "prune_once",
            ):
                tx.sql.run(statement, correlation_id=run["id"])
            removed += tx.sql.run("prune_jobs", correlation_id=run["id"])
        return len(runs), removed

    def _shift_parent(self, tx: RelationalTx, *, before: Job | None, after: Job) -> Job | None:
        """Keep the counts of the parent in step; returns the parent as it is now."""
        parent = tx.job(after.parent_id)
        if parent is None:  # it cannot be: the schema refers
            return None
        stats = shift(parent.stats, before=before, after=after)
        if stats == parent.stats:
            return parent
        tx.sql.run("job_counts", **rows.counts_row(parent.id, stats))
        grown = replace(parent, stats=stats)
        tx.keep(grown)
        if grown.stats.weight_total != parent.stats.weight_total and not parent.is_root:
            self._shift_parent(tx, before=parent, after=grown)
        return grown

    def _consequences(
        self, tx: RelationalTx, before: Job, after: Job, event: Event
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What else the event means: holds, waits, released jobs. Returns targets touched and jobs barred."""
        if isinstance(event, (RunPaused, LimitsChanged)):
            _withhold_run(tx, after)
        if isinstance(event, (RunPaused, RunResumed, LimitsChanged)):
            return tuple(row["target"] for row in tx.sql.all("run_targets", correlation_id=after.correlation_id)), ()
        if isinstance(event, JobRetried):
            tx.sql.run("released_set", id=after.id, released=0)
            tx.sql.run("wait_count", id=after.id)
            tx.forget(after.id)
        if before.status.ended and not after.status.ended:
            return self._reopen(tx, after)
        if after.status.ended and not before.status.ended:
            return self._end(tx, after, event)
        return (), ()

    def _reopen(self, tx: RelationalTx, after: Job) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What waits for the job waits again, also where it was made deliverable already."""
        _withhold(tx, after.id)
        tx.sql.run("successors_bound", on_id=after.id)
        tx.forget()
        targets = {after.target, *(row["target"] for row in tx.sql.all("successors", on_id=after.id))} - {""}
        closed = tx.sql.one("gates_closed", job_id=after.id) if after.phase is Phase.EXECUTION else None
        return tuple(sorted(targets)), (after.id,) if closed else ()

    def _end(self, tx: RelationalTx, after: Job, event: Event) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if after.phase is Phase.EXECUTION:
            tx.sql.run("hold_drop", job_id=after.id)
        successors = tx.sql.all("successors", on_id=after.id)
        if successors:
            tx.sql.run("successors_freed", on_id=after.id)
        passed = after.status in (JobStatus.COMPLETED, JobStatus.SKIPPED) and not getattr(event, "barred", False)
        barred = [row["id"] for row in successors if row["gate"] and not passed and row["status"] == "pending"]
        touched = {after.target, *(row["target"] for row in successors), *_next_of_limited(tx, after)} - {""}
        return tuple(sorted(touched)), tuple(barred)


def _withhold_run(tx: RelationalTx, root: Job) -> None:
    """Take back the release of all of a run that has not begun; with a limit, its targets take as many at a time."""
    for row in tx.sql.all("run_targets", correlation_id=root.id):
        tx.lock_target(row["target"])
    tx.sql.run("run_withhold_holds", correlation_id=root.id)
    tx.sql.run("run_withhold", correlation_id=root.id)
    if root.at_a_time:
        tx.sql.run("run_slots", correlation_id=root.id, slots=root.at_a_time)
    tx.forget()


def _next_of_limited(tx: RelationalTx, ended: Job) -> Iterable[str]:
    """Where the run of an ended job may go on, if its limit was what held it up: that may be on any of its targets."""
    root = tx.job(ended.correlation_id) if ended.phase is Phase.EXECUTION else None
    if root is None or not root.at_a_time:
        return ()
    found = tx.sql.all("ready_of_run", correlation_id=root.id, limit=root.at_a_time)
    return [row["target"] for row in found]


def _withhold(tx: RelationalTx, on_id: str) -> None:
    """Take back the release of what waits for a job and has not begun."""
    tx.sql.run("successors_hold_drop", on_id=on_id)
    tx.sql.run("successors_withheld", on_id=on_id)


def _check_parents(tx: RelationalTx, jobs: Iterable[Job], new: Mapping[str, Job]) -> None:
    """Whoever starts a job must exist, watch others, and not have ended."""
    for parent_id in {job.parent_id for job in jobs} - set(new):
        parent = tx.job(parent_id)
        if parent is None:
            raise UnknownName(f"no job {parent_id} to start others", hint="list them with `dbupkeep jobs`")
        if parent.status.ended or parent.cancel_requested or parent.stop_requested:
            ending = "being cancelled" if parent.cancel_requested else "being stopped"
            state = parent.status if parent.status.ended else ending
            raise IllegalTransition(f"job {parent_id} is {state} and starts nothing more")


def _once_each(waits: Iterable[Wait]) -> list[Wait]:
    """Waits without repetitions; what is a gate once is a gate."""
    gates: dict[tuple[str, str], bool] = {}
    for wait in waits:
        pair = (wait.on_id, wait.job_id)
        gates[pair] = gates.get(pair, False) or wait.gate
    return [Wait(on_id=on_id, job_id=job_id, gate=gate) for (on_id, job_id), gate in gates.items()]


def _with_counts(jobs: Sequence[Job], new: Mapping[str, Job]) -> list[Job]:
    """New parents with the counts of their new children, innermost first, in the given order."""
    stats = {job.id: job.stats for job in jobs}
    for job in reversed(jobs):
        if not job.is_root and job.parent_id in new:
            child = replace(job, stats=stats[job.id])
            stats[job.parent_id] = shift(stats[job.parent_id], before=None, after=child)
    return [replace(job, stats=stats[job.id]) for job in jobs]
