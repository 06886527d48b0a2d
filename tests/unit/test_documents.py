"""The one JSON of a job, and that what it is made of survives being stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace

from dbupkeep.codec import to_json
from dbupkeep.definitions import JobDefinition, Policy, Target
from dbupkeep.documents import event_document, job_document, plan_document, run_document, run_plan_document
from dbupkeep.events import JobFailed, JobStarted, Recorded
from dbupkeep.facts import DatabaseFacts, Notice
from dbupkeep.jobs import Job, JobStatus, JobType, Phase, count
from dbupkeep.operations import Operation
from dbupkeep.plans import Decision, Estimate, Plan, PlanItem, RunPlan, Source, SpaceNeed
from tests.unit.records import made

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

FIELDS = [
    *"id parent_id type phase name status reason config target correlation_id attempt progress estimate result".split(),
    *"error created_at started_at finished_at".split(),
]


def child(place: int, status: JobStatus = JobStatus.PENDING, **fields: Any) -> Job:
    fields = {"parent_id": "p", "type": JobType.DATABASE_MAINTENANCE_OPERATION, "phase": Phase.EXECUTION, **fields}
    return Job(
        id=f"c{place}", correlation_id="p", name=f"child {place}", created_at=NOON, status=status, place=place, **fields
    )


def parent(job_id: str, children: Sequence[Job], **fields: Any) -> Job:
    kind = fields.pop("type", JobType.DATABASE_MAINTENANCE_PARENT)
    return Job(
        id=job_id,
        parent_id=fields.pop("parent_id", job_id),
        correlation_id="p",
        type=kind,
        phase=Phase.ORCHESTRATION,
        name="parent",
        created_at=NOON,
        stats=count(children),
        **{"status": JobStatus.RUNNING, **fields},
    )


def lookup(tree: Mapping[str, Sequence[Job]]) -> Callable[[str], Sequence[Job]]:
    return lambda parent_id: tree.get(parent_id, ())


def test_a_child() -> None:
    job = child(
        1,
        JobStatus.COMPLETED,
        config={"operation": "vacuum"},
        target="sqlite:///srv/app.db",
        attempt=1,
        progress={"current": 990, "total": 1000, "unit": "pages", "fraction": 0.99, "source": "measured", "later": 1},
        estimate=to_json(Estimate(seconds=2.5, seconds_source=Source.HISTORY)),
        result={"effective": "yes", "after": {"bytes": 5}, "before": {"bytes": 9}, "reason": "4 bytes back"},
        started_at=NOON + timedelta(seconds=1),
        finished_at=NOON + timedelta(seconds=3, microseconds=1500),
    )
    document = job_document(job)
    assert list(document) == FIELDS
    assert json.loads(json.dumps(document)) == document
    assert document["progress"] == {
        "current": 1000, "total": 1000, "unit": "pages", "fraction": 1.0, "source": "measured", "stage": None
    }  # fmt: skip
    assert list(document["result"]) == ["effective", "before", "after", "reason"]
    assert (document["created_at"], document["finished_at"]) == ("2026-11-24T12:00:00.000Z", "2026-11-24T12:00:03.001Z")
    assert document["estimate"]["seconds"] == 2.5
    assert document["error"] is None


def test_what_nobody_knows_is_null() -> None:
    document = job_document(child(1))
    unknown = {name for name, value in document.items() if value is None}
    assert unknown == {"reason", "target", "estimate", "result", "error", "started_at", "finished_at"}
    assert document["progress"]["fraction"] is None
    assert document["progress"]["source"] == "unknown"


def test_a_failed_child_has_kind_message_and_hint_first() -> None:
    document = job_document(child(1, JobStatus.FAILED, error={"message": "no", "where": "here", "kind": "busy"}))
    assert document["error"] == {"kind": "busy", "message": "no", "hint": None, "where": "here"}
    assert list(document["error"])[:3] == ["kind", "message", "hint"]


def test_a_parent_with_its_children() -> None:
    children = [
        child(1, JobStatus.COMPLETED, weight=60),
        child(2, JobStatus.RUNNING, weight=40, progress={"fraction": 0.5}),
        child(3, JobStatus.SKIPPED),
    ]
    document = run_document(parent("p", children), lookup({"p": children}))
    assert list(document) == [
        *FIELDS,
        "outcome",
        "children",
        "ineffective",
        "deferred_often",
        "control",
        "blocking_seconds",
        "jobs",
    ]
    assert document["children"] == {
        "total": 3, "pending": 0, "running": 1, "completed": 1, "failed": 0, "cancelled": 0, "skipped": 1, "deferred": 0
    }  # fmt: skip
    assert [each["id"] for each in document["jobs"]] == ["c1", "c2", "c3"]
    assert document["progress"]["fraction"] == pytest.approx((60 + 1 + 20) / 101)
    assert (document["progress"]["current"], document["progress"]["total"]) == (2, 3)
    assert document["outcome"] is None
    assert "jobs" not in document["jobs"][0]


def test_a_run_is_a_tree_and_its_progress_is_made_of_its_parents() -> None:
    work = [child(1, JobStatus.RUNNING, weight=100, parent_id="a", progress={"fraction": 0.5})]
    maintenance = parent("a", work, parent_id="r")
    finding = child(2, JobStatus.RUNNING, parent_id="r", type=JobType.DATABASE_DISCOVERY)
    found = replace(finding, status=JobStatus.COMPLETED)

    def run(discovery: Job) -> dict[str, Any]:
        children = [discovery, maintenance]
        root = parent("r", children, type=JobType.MAINTENANCE_RUN)
        # A parent that were among its own children would go round for ever.
        return run_document(root, lookup({"r": [root, *children], "a": work}))

    assert run(finding)["progress"]["fraction"] is None
    document = run(found)
    assert [each["type"] for each in document["jobs"]] == ["database_discovery", "database_maintenance_parent"]
    assert document["jobs"][1]["jobs"][0]["id"] == "c1"
    assert document["jobs"][1]["progress"]["fraction"] == pytest.approx(0.5)
    assert document["progress"]["fraction"] == pytest.approx((1 + 50) / 101)


def test_an_ended_parent() -> None:
    document = job_document(parent("p", [child(1, JobStatus.FAILED)], status=JobStatus.FAILED, outcome="partial"))
    assert (document["outcome"], document["progress"]["fraction"]) == ("partial", 1.0)


def a_plan() -> Plan:
    item = PlanItem(
        operation=Operation.VACUUM,
        decision=Decision.RUN,
        reason="58 % of the file is free",
        method="in place",
        estimate=Estimate(seconds=40, seconds_source=Source.ESTIMATED, gain_bytes=1024, gain_source=Source.MEASURED),
        locks="writers wait",
        space=(SpaceNeed(purpose="journal", folder="/srv", needed=10, available=5),),
        notices=(Notice(code="long_reader", message="someone reads"),),
        place=0,
    )
    index = replace(item, operation=Operation.REINDEX, object="main.i", decision=Decision.SKIP, place=1, after=(0,))
    target = Target(name="app", url="sqlite:///srv/app.db")
    facts = DatabaseFacts(target="key", engine="sqlite", version="3.50", surveyed_at=NOON, bytes=4096)
    return Plan(
        id="plan", name="app", created_at=NOON, target=target, operations=(Operation.VACUUM, Operation.REINDEX),
        policy=Policy(), errors=JobDefinition(name="x", steps=()).errors, facts=facts,
        settings={"vacuum": {"free_share": 0.25}}, items=(item, index), notices=item.notices,
    )  # fmt: skip


def test_a_plan() -> None:
    document = plan_document(a_plan())
    assert json.loads(json.dumps(document)) == document
    assert (document["id"], document["name"], document["target"]) == ("plan", "app", "key")
    assert document["settings"] == {"vacuum": {"free_share": 0.25}}
    vacuum, reindex = document["jobs"]
    assert {"operation", "object", "decision", "reason", "estimate", "locks", "space", "method", "notices"} <= set(
        vacuum
    )
    assert (vacuum["operation"], vacuum["object"], vacuum["decision"]) == ("vacuum", None, "run")
    assert (reindex["object"], reindex["decision"], reindex["after"]) == ("main.i", "skip", [0])
    assert vacuum["space"] == [{"purpose": "journal", "folder": "/srv", "needed": 10, "available": 5, "enough": False}]
    assert vacuum["estimate"] == {
        "seconds": 40, "seconds_source": "estimated", "gain_bytes": 1024, "gain_source": "measured", "stall_seconds": None
    }  # fmt: skip
    assert document["notices"][0]["code"] == "long_reader"


def test_plans_of_a_run_are_a_tree() -> None:
    problem = Notice(code="not_a_database", message="x is none")
    run = RunPlan(id="r", name="srv", created_at=NOON, plans=(a_plan(), a_plan()), idle=7, problems=(problem,))
    document = run_plan_document(run)
    assert [len(plan["jobs"]) for plan in document["jobs"]] == [2, 2]
    assert (document["idle"], document["notices"][0]["code"]) == (7, "not_a_database")


def test_an_event() -> None:
    event = JobStarted(attempt=2, worker="w")
    recorded = Recorded(seq=7, at=NOON, job_id="c", parent_id="p", correlation_id="r", event=event)
    assert event_document(recorded) == {
        "seq": 7,
        "at": "2026-11-24T12:00:00.000Z",
        "event": "job_started",
        "job_id": "c",
        "parent_id": "p",
        "correlation_id": "r",
        "data": {"attempt": 2, "worker": "w"},
    }


@given(made(Plan))
def test_any_plan_has_a_document(plan: Plan) -> None:
    assert json.dumps(plan_document(plan))


def test_an_empty_field_of_an_event_is_left_out() -> None:
    assert JobFailed(error={"kind": "busy"}).data() == {"error": {"kind": "busy"}}
