"""Whether a planned item still fits the database. Pure."""

from __future__ import annotations

from dbupkeep.engines.postgresql import maintain, needs, words
from dbupkeep.facts import DatabaseFacts, ObjectFacts
from dbupkeep.operations import Operation
from dbupkeep.plans import PlanItem

_STILL_WORTH = 0.5
"""Work is worth its plan while at least this part of its reason is there."""

_GROWN = 2.0
_GROWN_BYTES = 64 * 1024 * 1024
"""Growth below either is ordinary life: estimates and space needs still hold roughly."""


def drift(item: PlanItem, facts: DatabaseFacts) -> str:
    """Say what changed since the plan so that the item no longer holds; empty when it does."""
    return _identity(item, facts) or _objects(item, facts)


def _identity(item: PlanItem, facts: DatabaseFacts) -> str:
    for name, what in (("system", "server"), ("database_oid", "database")):
        planned, now = item.evidence.get(name), facts.identity.get(name)
        if planned and now and planned != now:
            return f"it is another {what}: its identifier was {planned} at the time of the plan and is {now} now"
    planned_version, version = item.evidence.get("version_number"), facts.values.get("version_number")
    if planned_version is not None and int(planned_version) // 10000 != int(version or 0) // 10000:
        return f"the server was upgraded to {facts.version}"
    return "the server is a standby now" if facts.values.get("standby") else ""


def _objects(item: PlanItem, facts: DatabaseFacts) -> str:
    planned = maintain.names_of(item)
    now = {table.values.get("oid"): table for table in facts.objects}
    gone = [name for oid, name in planned.items() if oid not in now or now[oid].name != name]
    if gone:
        verb = "is" if len(gone) == 1 else "are"
        return f"{words.listed(gone)} {verb} gone, renamed, made anew, or not due any more"
    if item.operation not in (Operation.VACUUM, Operation.ANALYZE):
        return ""
    there = [now[oid] for oid in planned]
    return _growth(item, there) or _need(item, there)


def _growth(item: PlanItem, there: list[ObjectFacts]) -> str:
    planned, now = needs.number(item.evidence, "bytes"), float(sum(table.bytes or 0 for table in there))
    if planned and now > _GROWN * planned and now - planned > _GROWN_BYTES:
        return f"{item.object} grew from {words.size(planned)} to {words.size(now)} since the plan"
    return ""


def _need(item: PlanItem, there: list[ObjectFacts]) -> str:
    if item.options.get("forced"):
        return ""
    counter = "vacuums" if item.operation is Operation.VACUUM else "analyzes"
    planned, now = needs.number(item.evidence, counter), sum(needs.number(table.values, counter) for table in there)
    measures = ("dead", "inserted") if item.operation is Operation.VACUUM else ("modified",)
    was = sum(needs.number(item.evidence, name) for name in measures)
    left = sum(needs.number(table.values, name) for table in there for name in measures)
    if now > planned and left < _STILL_WORTH * was:
        return f"{item.object} was maintained since the plan: {was:,.0f} rows were to be looked at, {left:,.0f} are now"
    return ""
