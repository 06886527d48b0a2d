"""The one JSON of a job, for every face: command line, API, page and events say the same of the same job.

Times are RFC 3339 in UTC, sizes are bytes, durations are seconds; what is not known is null. Fields are only ever
added, never renamed or removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from msgspec.structs import replace

from dbupkeep.audit import Ends, Entry
from dbupkeep.codec import rfc3339, to_json
from dbupkeep.events import Recorded
from dbupkeep.facts import Notice
from dbupkeep.jobs import ChildStats, Job, JobStatus, JobType, Phase
from dbupkeep.plans import Plan, PlanItem, RunPlan, Source, SpaceNeed
from dbupkeep.progress import Progress, of_parent

Document = dict[str, Any]
"""What `json.dumps` takes, its keys in the order in which they are printed."""


def job_document(job: Job, *, running: Iterable[Job] = (), still_growing: bool = False) -> Document:
    """One job. A parent's progress counts the `running` children that are given; `still_growing`: more will come."""
    document = {
        "id": job.id,
        "parent_id": job.parent_id,
        "type": str(job.type),
        "phase": job.phase.value,
        "name": job.name,
        "status": job.status.value,
        "reason": job.reason or None,
        "config": _config(job),
        "target": job.target or None,
        "correlation_id": job.correlation_id,
        "attempt": job.attempt,
        "progress": _progress(job, running, still_growing=still_growing),
        "estimate": to_json(job.estimate),
        "result": _with(job.result, ("effective", "before", "after")),
        "error": _with(job.error, ("kind", "message", "hint")),
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
    }
    if job.phase is Phase.ORCHESTRATION:
        document["outcome"] = job.outcome or None
        document["children"] = _children(job.stats)
        document["ineffective"], document["deferred_often"] = job.stats.ineffective, job.stats.often
        document["control"] = _control(job)
        document["blocking_seconds"] = None  # of all below it, which are not looked at here
    return document


def run_document(job: Job, children_of: Callable[[str], Sequence[Job]]) -> Document:
    """A job with its child jobs, in order, under `jobs`; each parent among them carries its own `jobs`.

    `children_of` gives the direct children of a parent by its id, in order, as `Reader.children` does.
    """
    document, _ = _tree(job, children_of)
    return document


def plan_document(plan: Plan) -> Document:
    """A plan: what would be done to one database, with the thresholds in force and one entry under `jobs` per child."""
    return {
        "id": plan.id,
        "name": plan.name,
        "created_at": _time(plan.created_at),
        "target": plan.facts.target,
        "engine": plan.facts.engine,
        "engine_version": plan.facts.version,
        "bytes": plan.facts.bytes,
        "surveyed_at": _time(plan.facts.surveyed_at),
        "step": plan.step or None,
        "lane": plan.lane,
        "operations": [operation.value for operation in plan.operations],
        "policy": plan.policy.name,
        "settings": to_json(plan.settings),
        "jobs": [_item(item) for item in plan.items],
        "notices": _notices(plan.notices),
    }


def run_plan_document(run: RunPlan) -> Document:
    """Plans of several databases as one run: a tree like the run's own, each plan under `jobs`."""
    return {
        "id": run.id,
        "name": run.name,
        "created_at": _time(run.created_at),
        "lane": run.lane,
        "idle": run.idle,
        "jobs": [plan_document(plan) for plan in run.plans],
        "notices": _notices(run.problems),
    }


def event_document(recorded: Recorded) -> Document:
    """One event, as a line of `watch --json`."""
    return {
        "seq": recorded.seq,
        "at": _time(recorded.at),
        "event": recorded.event.name,
        "job_id": recorded.job_id,
        "parent_id": recorded.parent_id,
        "correlation_id": recorded.correlation_id,
        "data": recorded.event.data(),
    }


def progress_of(job: Job, running: Iterable[Job] = (), *, still_growing: bool = False) -> Progress:
    """How far a job is: a parent by its children, a child by its last report; a completed one is at its end."""
    if job.phase is Phase.ORCHESTRATION:
        return of_parent(job.stats, running, ended=job.status.ended, still_growing=still_growing)
    said = job.progress or {}
    progress = Progress(**{name: said[name] for name in Progress.__struct_fields__ if name in said})
    if job.status is JobStatus.COMPLETED:
        current = progress.current if progress.total is None else progress.total
        return replace(progress, current=current, fraction=1.0, source=Source.MEASURED)
    return progress


def _config(job: Job) -> Document:
    """What a job is configured with; of its hooks the program alone, since arguments are where people put tokens."""
    config: Document = to_json(job.config)
    if hooks := config.get("hooks"):
        config["hooks"] = {
            name: value[:1] if isinstance(value, list) and name != "environment" else value
            for name, value in hooks.items()
        }
    return config


def _tree(job: Job, children_of: Callable[[str], Sequence[Job]]) -> tuple[Document, Job]:
    """The document, and the job with its progress filled in, which its own parent's progress is made of."""
    if job.phase is not Phase.ORCHESTRATION:
        return job_document(job), job
    found = [_tree(child, children_of) for child in children_of(job.id) if child.id != job.id]
    children = [child for _, child in found]
    running = [child for child in children if child.status is JobStatus.RUNNING]
    growing = any(child.type == JobType.DATABASE_DISCOVERY and not child.status.ended for child in children)
    progress = progress_of(job, running, still_growing=growing)
    document = job_document(job, running=running, still_growing=growing)
    document["jobs"] = [child for child, _ in found]
    document["blocking_seconds"] = together(blocking_of(child) for child in document["jobs"])
    return document, replace(job, progress=to_json(progress))


def blocking_of(document: Mapping[str, Any]) -> float | None:
    """For how many seconds others had to wait for a job of this document, or for all below it; None: nobody looked."""
    kept = document if "jobs" in document else document["result"] or {}
    return cast("float | None", kept.get("blocking_seconds"))


def together(seconds: Iterable[float | None]) -> float | None:
    """The sum of what is known; None where nothing is."""
    known = [each for each in seconds if each is not None]
    return round(sum(known), 3) if known else None


def _progress(job: Job, running: Iterable[Job], *, still_growing: bool) -> Document:
    progress = progress_of(job, running, still_growing=still_growing)
    return {
        "current": progress.current,
        "total": progress.total,
        "unit": progress.unit or None,
        "fraction": progress.fraction,
        "source": str(progress.source),
        "stage": progress.stage or None,
    }


def act_document(entry: Entry) -> Document:
    """One entry of the audit trail; its seal is over exactly these texts and the seal before."""
    return {
        "seq": entry.seq,
        "at": rfc3339(datetime.fromisoformat(entry.at)),
        "who": entry.who,
        "what": entry.what,
        "on": entry.on or None,
        "target": entry.target or None,
        "outcome": entry.outcome,
        "detail": json.loads(entry.detail),
        "seal": entry.seal,
    }


def trail_document(ends: Ends, faults: Sequence[str]) -> Document:
    """Whether the audit trail is whole, and its newest seal, to be noted somewhere else."""
    newest = {"number": ends.last, "seal": ends.last_seal}
    return {"whole": not faults, "faults": list(faults), "pruned": ends.pruned, "newest": newest}


def _control(job: Job) -> Document:
    """What people asked of a parent while it goes; pause and limits are a run's."""
    return {
        "paused": job.paused,
        "stopping": job.stop_requested and not job.status.ended,
        "cancelling": job.cancel_requested and not job.status.ended,
        "at_a_time": job.at_a_time or None,
        "until": _time(job.until),
    }


def _children(stats: ChildStats) -> Document:
    return {"total": stats.total, **{status.value: getattr(stats, status.value) for status in JobStatus}}


def _with(said: Mapping[str, Any] | None, names: tuple[str, ...]) -> Document | None:
    """The mapping with these keys always there and first."""
    if said is None:
        return None
    return {**dict.fromkeys(names), **to_json(said)}


def _item(item: PlanItem) -> Document:
    return {
        "operation": item.operation.value,
        "object": item.object or None,
        "decision": item.decision.value,
        "reason": item.reason,
        "method": item.method or None,
        "estimate": to_json(item.estimate),
        "locks": item.locks or None,
        "space": [_space(need) for need in item.space],
        "evidence": to_json(item.evidence),
        "members": list(item.members),
        "place": item.place,
        "after": list(item.after),
        "notices": _notices(item.notices),
    }


def _space(need: SpaceNeed) -> Document:
    return {**to_json(need), "enough": need.enough}


def _notices(notices: Iterable[Notice]) -> list[Document]:
    return [to_json(notice) for notice in notices]


def _time(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None
